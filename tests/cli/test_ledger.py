"""The commands about runs show whatever the ledger holds, and report a wrong database in one clear line."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from daelab.cli import main
from daelab.cli.console import format_command
from daelab.runs.ledger import Ledger

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run a command in its own folder, and return the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["daelab", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return command


def test_infinities_and_nan_are_null_in_json(run: Run) -> None:
    Ledger().record("a", status="failed", val_loss=float("inf"), seconds=2.0, recipe={"training": {"lr": 1.0}})
    with sqlite3.connect(Ledger().url.removeprefix("sqlite:///")) as connection:
        connection.execute("""UPDATE runs SET recipe = '{"training": {"lr": NaN, "betas": [-Infinity, 0.5]}}'""")
    connection.close()
    for words in (("ledger", "list"), ("ledger", "show", "a")):
        code, out, err = run(*words, "--json")
        assert (code, err) == (0, "")
        found = json.loads(out, parse_constant=pytest.fail)
        row = found if isinstance(found, dict) else found[0]
        assert (row["val_loss"], row["seconds"]) == (None, 2.0)
        assert row["recipe"] == {"training": {"lr": None, "betas": [None, 0.5]}}
        assert run(*words)[0] == 0


def test_the_psnr_of_a_run_has_one_name_everywhere(run: Run) -> None:
    Ledger().record("a", status="finished", val_psnr=20.5, val_psnr_image=21.5)
    lines = dict(line.split(None, 1) for line in run("ledger", "show", "a")[1].splitlines())
    assert (lines["val_psnr"], lines["val_psnr_batch"]) == ("21.5", "20.5")
    assert "val_psnr_image" not in lines
    # The keys of the JSON document are those of the database.
    row = json.loads(run("ledger", "show", "a", "--json")[1])
    assert (row["val_psnr"], row["val_psnr_image"]) == (20.5, 21.5)


def test_a_spoilt_row_hides_no_other(run: Run) -> None:
    for name in ("a", "b"):
        Ledger().record(name, status="finished", val_loss=0.5, epochs=3)
    with sqlite3.connect(Ledger().url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE runs SET val_loss = 'low', recipe = '[', epochs = x'00' WHERE name = 'a'")
    connection.close()
    code, out, err = run("ledger", "list")
    assert (code, err) == (0, "")
    assert "0.500000" in out
    assert [row["name"] for row in json.loads(run("ledger", "list", "--json")[1])] == ["a", "b"]
    assert "unreadable in the ledger: epochs, val_loss, recipe." in run("ledger", "show", "a")[1]
    assert run("ledger", "export", "x.csv")[0] == 0


FORMS = "write sqlite:///FILE or postgresql://USER@HOST/NAME"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("ledger", "list", "--ledger", "frog://x"), f"ledger frog://x: unknown kind of database 'frog'; {FORMS}"),
        (("ledger", "list", "--ledger", "frog"), f"ledger frog: this is not the URL of a database; {FORMS}"),
        (("explore", "status", "x", "--storage", "frog"), f"storage frog: this is not the URL of a database; {FORMS}"),
        (
            ("explore", "list"),
            "unknown command or search space 'list'; did you mean 'stop'? Valid: best, explore/batch",
        ),
        (("explore", "frontier"), "unknown command or search space 'frontier'; did you mean 'explore/frontier'? Valid"),
        (("train", "--resume", "x", "--epochs", "3"), "--resume uses the run's own recipe; it cannot be combined with"),
    ],
)
def test_a_mistake_is_one_clear_line(words: tuple[str, ...], line: str, run: Run) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"daelab: {line}")
    assert err.count("\n") == 1


def test_reading_commands_create_no_ledger(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DAELAB_LEDGER", f"sqlite:///{tmp_path}/new/ledger.db")
    assert run("ledger", "list")[:2] == (
        0,
        f"no runs yet; start one with: {format_command('train', '--recipe', 'quick')}\n",
    )
    assert json.loads(run("ledger", "list", "--json")[1]) == []
    assert run("ledger", "show", "a")[2] == "daelab: unknown run 'a': there are no runs yet\n"
    assert run("ledger", "export", "a.csv")[2] == "daelab: there are no runs to export yet\n"
    assert list(tmp_path.iterdir()) == []
