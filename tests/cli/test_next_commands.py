"""A printed command can be pasted into the shell: it names the program, the data, the runs and the ledger."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from daelab.cli import console
from daelab.cli.console import format_command, print_error
from daelab.experiments.fields import name_evaluation, name_model
from daelab.training.recipe import parse_recipe


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Prepare a shell without variables of daelab, in which `daelab` is on the path."""
    for name in ("DAELAB_RUNS", "DAELAB_DATA", "DAELAB_LEDGER", "DAELAB_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    program = tmp_path / "bin" / "daelab"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr(sys, "argv", ["daelab"])
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("typed", "variables", "printed"),
    [
        ("daelab", {}, "daelab"),
        ("bin/daelab train", {}, "daelab"),  # the same file as on the path
        (".venv/bin/daelab", {}, ".venv/bin/daelab"),
        ("daelab train --data-root .data", {}, "env DAELAB_DATA=.data daelab"),
        ("daelab train --data-root=.data", {}, "env DAELAB_DATA=.data daelab"),
        ("daelab train --data-root 'my data'", {"DAELAB_DATA": "x"}, "env 'DAELAB_DATA=my data' daelab"),
        ("daelab train", {"DAELAB_RUNS": "demo/runs"}, "env DAELAB_RUNS=demo/runs daelab"),
        ("daelab train --ledger sqlite:///a.db", {}, "env DAELAB_LEDGER=sqlite:///a.db daelab"),
        ("daelab explore --storage sqlite:///a.db", {}, "env DAELAB_LEDGER=sqlite:///a.db daelab"),
        ("daelab train --ledger postgresql://me:secret@host/db", {}, "daelab"),  # no password is printed
        ("daelab train", {"DAELAB_DEVICE": "auto"}, "daelab"),
        ("daelab train", {"DAELAB_DEVICE": "cuda:1"}, "env DAELAB_DEVICE=cuda:1 daelab"),
    ],
)
def test_pasted(typed: str, variables: dict[str, str], printed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", shlex.split(typed))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert format_command("evaluate", "a run") == f"{printed} evaluate 'a run'"


def test_of_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(Path(console.__file__).parents[1] / "__main__.py"), "train"])
    assert shlex.split(format_command("evaluate", "a")) == [sys.executable, "-m", "daelab", "evaluate", "a"]


def test_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_find_program", lambda: ["daelab"])
    monkeypatch.setenv("DAELAB_RUNS", "runs")
    with monkeypatch.context() as windows:
        windows.setattr(os, "name", "nt")
        command = format_command("denoise", r"C:\my pictures\a.png")
    assert command == r'daelab denoise "C:\my pictures\a.png"'


def test_the_advice_of_an_error_is_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAELAB_RUNS", "my/runs")
    print_error("interrupted and saved; go on with: daelab train --resume a")
    print_error("photo: daelab with: daelab")
    assert capsys.readouterr().err.splitlines() == [
        "daelab: interrupted and saved; go on with: env DAELAB_RUNS=my/runs daelab train --resume a",
        "daelab: photo: daelab with: daelab",
    ]


SIZES = {"kind": "module", "factory": "mynets:Small", "multiple": 1, "halo": 2}


@pytest.mark.parametrize(
    ("fields", "arguments"),
    [
        ({"spec": "mynets:Small"}, ["mynets:Small@small"]),
        ({"spec": SIZES, "data": {"name": "photos"}}, ["mynets:Small@small", "--data", "photos"]),
        ({"spec": "model-c", "data": {"name": "cbsd432"}}, ["small", "--data", "cbsd68"]),
        ({}, ["small"]),
    ],
)
def test_the_evaluation_of_a_users_network_names_its_code(fields: dict[str, Any], arguments: list[str]) -> None:
    for one in fields, parse_recipe(fields).to_dict():
        assert name_evaluation("small", one) == arguments
        assert name_model("small", one) == arguments[0]
