"""The help and the example of every command, and the completion in the shell."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from daelab._util.files import list_shipped_configs
from daelab.cli import app, main
from daelab.cli.help import (
    EPILOG,
    HelpfulCommand,
    complete_classifiers,
    complete_models,
    complete_recipes,
    complete_spaces,
)
from daelab.experiments.search.search_space import list_search_spaces
from daelab.models.registry import list_shipped_models
from daelab.training.recipe import list_recipes

ROOT = Path(__file__).parents[2]


def commands(group: Any, *words: str) -> Iterator[tuple[str, Any]]:
    """Return each command with the words that call it."""
    for name, one in group.commands.items():
        yield from commands(one, *words, name) if hasattr(one, "commands") else [(" ".join((*words, name)), one)]


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_an_example_that_is_a_command(name: str, parsed: Callable[..., Any], capsys: Any) -> None:
    command = COMMANDS[name]
    assert isinstance(command, HelpfulCommand)
    # `daelab explore SPACE` is short for `daelab explore run SPACE`
    assert f"{command.example} ".startswith(f"daelab {name.removesuffix(' run')} ")
    parsed(*shlex.split(command.example.partition(" > ")[0])[1:])
    with pytest.raises(SystemExit) as ended:
        typer.main.get_command(app)([*name.split(), "--help"], "daelab")
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert said.startswith(f"Usage: daelab {name} ")
    assert said.endswith(f"\nExample:\n  {command.example}\n")
    assert "Example: " not in said


@pytest.mark.parametrize("name", COMMANDS)
def test_everything_that_a_command_takes_is_explained(name: str) -> None:
    for one in COMMANDS[name].params:
        assert one.help, f"daelab {name}: {one.name} has no help"
        assert one.help.endswith((".", "!")), f"daelab {name}: {one.name}"


def read_help(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what `daelab NAME --help` prints on 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        typer.main.get_command(app)([*name.split(), "--help"], "daelab")
    assert not ended.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_plain_text_of_80_columns(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = read_help(name, monkeypatch, capsys)
    assert "\x1b" not in text
    rest = text.partition("\n\n")[2]
    for line in rest.partition("\nExample:\n")[0].splitlines():
        assert len(line) <= 80, line


def test_help_groups_options_under_headings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = read_help("serve", monkeypatch, capsys)
    sections = {part.partition(":\n")[0]: part for part in text.split("\n\n")}
    assert list(sections)[-5:] == ["Network", "Limits", "Performance", "Options", "Example"]
    assert "--allow-host NAME" in sections["Network"]
    assert "--max-body SIZE" in sections["Limits"]
    assert "--help" in sections["Options"]


def test_help_lists_every_command_under_a_heading(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = read_help("", monkeypatch, capsys)
    for name in {words.split()[0] for words in COMMANDS}:
        assert f"\n  {name} " in text
    assert "\nCommands:\n" not in text
    assert "..." not in text.partition("\n\n")[2], "a first sentence is too long for its line"


def test_help_keeps_words_in_brackets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "[RECIPE.toml]" in read_help("train", monkeypatch, capsys)
    assert "NAME[=WHERE]" in read_help("train", monkeypatch, capsys)


def test_help_names_every_variable_of_the_environment() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    assert set(re.findall(r"^  (DAELAB_[A-Z]+) ", EPILOG, re.MULTILINE)) == set(re.findall(r"DAELAB_[A-Z]+", source))


Completed = Callable[[str], list[str]]


@pytest.fixture
def completed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Completed:
    """Return what bash offers at the end of a line, in a folder with one run."""
    (tmp_path / "runs/mine-1").mkdir(parents=True)
    (tmp_path / "runs/mine-1/recipe.toml").touch()
    monkeypatch.setattr(sys, "argv", ["daelab"])
    monkeypatch.setenv("_DAELAB_COMPLETE", "complete_bash")

    def complete(line: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out.split()

    return complete


@pytest.mark.parametrize(
    "line, wanted",
    [
        ("daelab lea", ["leaderboard"]),
        ("daelab ledger ex", ["export"]),
        ("daelab denoise --str", ["--strength", "--strip"]),
        ("daelab denoise --model mine", ["mine-1"]),
        ("daelab train --recipe paper/37", ["paper/37"]),
        ("daelab train --resume ", ["mine-1"]),
        ("daelab train-judge --recipe judge/ph", ["judge/photos"]),
        ("daelab explore run explore/dep", ["explore/depth"]),
    ],
)
def test_the_shell_completes(line: str, wanted: list[str], completed: Completed) -> None:
    assert sorted(completed(line)) == wanted


def test_completion_does_not_wait_for_torch(tmp_path: Path) -> None:
    told = {"_DAELAB_COMPLETE": "complete_bash", "COMP_WORDS": "daelab denoise --model m", "COMP_CWORD": "3"}
    code = "import sys; sys.argv = ['daelab']; import atexit; atexit.register(lambda: print('torch' in sys.modules)); "
    code += "from daelab.cli import main; main()"
    environment = os.environ | told
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "model-c.published-code" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_every_name_that_ships_is_completed() -> None:
    assert set(list_shipped_models()) <= set(complete_models(""))
    assert set(complete_recipes("")) == set(list_recipes())
    assert set(complete_classifiers("")) == set(list_shipped_configs("judge"))
    assert set(complete_spaces("")) == set(list_search_spaces())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    monkeypatch.setattr(sys, "argv", ["daelab", "--show-completion", shell])
    with pytest.raises(SystemExit) as ended:
        main()
    script = capsys.readouterr().out
    assert not ended.value.code
    assert f"_DAELAB_COMPLETE=complete_{shell}" in script
    if found := shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([found, "-n", tmp_path / "script"], check=True)
