"""explore and compare as a user types them. Killed workers lose nothing."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import postgres

pytest.importorskip("optuna")
pytestmark = pytest.mark.usefixtures("forked")

SPACE = """
note = "Two networks, two seeds each"

[spec]
stages = [8, 16]
depth = {{ low = 1, high = 2 }}

[data]
name = "npz:{file}"

[training]
epochs = {epochs}
batch = 1
lr = 0.01
precision = "float32"

[explore]
sampler = "grid"
seeds = 2
"""


@pytest.fixture
def space(tmp_path: Path, pictures_file: Path) -> Callable[[int], Path]:
    def write(epochs: int) -> Path:
        path = tmp_path / "small.toml"
        path.write_text(SPACE.format(file=pictures_file, epochs=epochs))
        return path

    return write


def test_a_search_from_the_command_line(run: Any, space: Callable[[int], Path], tmp_path: Path) -> None:
    words = ("explore", space(1), "--trials", "2", "--set", "training.batch=30")
    done = run(*words)
    assert done.code == 0, done.err
    assert "study small: 2 trials of" in done.err
    assert "2/2  small-1  spec.depth=2 seed 0  finished  PSNR" in done.err
    assert "study small of" in done.out
    assert "next: daelab evaluate small-" in done.out
    found = json.loads(run("explore", "status", "small", "--json").out)
    assert (found["finished"], found["waiting"], len(found["trials"])) == (2, 0, 2)
    assert json.loads(run("explore", "best", "small", "--json").out) == found["best"]
    assert run("explore", "status", "small").out.startswith("study small of")
    assert "every worker stops at the end of its epoch" in run("explore", "stop", "small").out
    listed = [row["name"] for row in json.loads(run("ledger", "list", "--json").out)]
    assert listed == ["small-0", "small-1"]
    assert run("models", "small-0").code == 0
    compared = run("compare", "--study", "small", "--plot", "out")
    assert "Best: stages" in compared.out
    assert (tmp_path / "out" / "compare.html").is_file()
    found = json.loads(run("compare", "small-0", "small-1", "--json").out)
    assert found["fields"] == ["spec.stages"]
    again = run("explore", "--name", "small", "--resume", "--trials", "3")
    assert again.code == 0
    assert "3/3  small-2  spec.depth=1 seed 1  finished" in again.err


def test_the_spaces_are_listed(run: Any) -> None:
    assert (
        run("explore", "spaces").out.count("explore/") == len(json.loads(run("explore", "spaces", "--json").out)) >= 6
    )


MISTAKES = {
    "no space": (("explore", "--trials", "3"), "name a search space, such as explore/depth, or use --resume"),
    "unknown space": (("explore", "explore/deep"), "no space file explore/deep; did you mean 'explore/"),
    "a wrong field": (("explore", "explore/depth", "--set", "training.lrr=1"), "unknown recipe key 'training.lrr'"),
    "no epochs": (("explore", "explore/depth", "--epochs", "0"), "training.epochs"),
    "no trials": (("explore", "explore/depth", "--trials", "0"), "explore.trials"),
    "no minutes": (("explore", "explore/depth", "--minutes", "0"), "explore.minutes"),
    "no workers": (("explore", "explore/depth", "--workers", "0"), "--workers is 0; write a number from 1 to 256"),
    "a storage": (("explore", "explore/depth", "--storage", "x"), "storage x: this is not the URL of a database"),
    "nothing to resume": (("explore", "explore/depth", "--resume"), "there is no study in sqlite:"),
    "status of nothing": (("explore", "status", "depth"), "there is no study in sqlite:"),
    "one run": (("compare", "a"), "name two runs or more to compare"),
    "unknown run": (("compare", "a", "b"), "unknown run 'a'"),
    "runs and a study": (("compare", "a", "--study", "b"), "give either runs or --study STUDY, not both"),
    "one picture": (("compare", "photo:cat"), "give at least one picture to compare with photo:cat"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line(case: str, run: Any) -> None:
    words, message = MISTAKES[case]
    done = run(*words)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


# Workers that are killed


def server() -> Any:
    if not (shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))):
        pytest.skip("PostgreSQL is not installed: Debian's package is `postgresql`")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed: pip install 'daelab[postgres]'")
    return postgres.server()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with server() if request.param == "postgresql" else nullcontext(f"sqlite:///{tmp_path}/shared.db") as found:
        yield found


WAITING = """
import time
from pathlib import Path
from daelab.training.engine import Trainer

def finish(trainer, record):
    finish_epoch(trainer, record)
    while Path({hold!r}).exists():
        time.sleep(0.02)

finish_epoch, Trainer._finish_epoch = Trainer._finish_epoch, finish
if __name__ == "__main__":
    from daelab.cli import main

    main()
"""
"""The command, in which trainings wait after an epoch as long as a file exists. Its workers import it too."""


def test_a_killed_worker_loses_nothing(
    url: str, space: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from daelab.experiments.search.study import Study
    from daelab.runs.folder import get_run_folder

    trials, hold, script = 2, tmp_path / "hold", tmp_path / "waiting.py"
    hold.touch()
    script.write_text(WAITING.format(hold=str(hold)))
    if url.startswith("postgresql"):  # SQLite's workers are started as they are everywhere
        fork = multiprocessing.get_context("fork")
        monkeypatch.setattr(multiprocessing, "get_context", lambda _: fork)
    command = [sys.executable, script, "explore", space(3), "--trials", trials, "--workers", 2, "--storage", url]
    command += ["--set", "training.batch=10"]
    with (tmp_path / "err").open("w+") as err:
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=err, text=True)
        victim = _victim(lambda: Study("small", url).open(), process)
        os.kill(victim.owner["pid"], signal.SIGKILL)
        hold.unlink()
        out, _ = process.communicate(timeout=200)
        err.seek(0)
        said = err.read()
    assert process.returncode == 0, said
    assert "was killed (exit status -9); its trial will be resumed" in said
    assert f"{trials} finished" in out
    study = Study("small", url).open()
    rows = study.rows()
    found = {(row.seed, row.point["spec.depth"]) for row in rows}
    assert found == {(0, depth) for depth in range(1, 3)}
    assert len(rows) == trials
    assert {row.state for row in rows} == {"finished"}
    # the very trial was gone on with, from its checkpoint, by the other worker
    again = next(row for row in rows if row.number == victim.number)
    assert (again.run, again.point) == (victim.run, victim.point)
    assert again.owner["pid"] != victim.owner["pid"]
    for row in rows:
        assert [epoch["epoch"] for epoch in get_run_folder(row.run).read_metrics()] == [1, 2, 3]
    assert {row["status"] for row in study.ledger.list_runs()} == {"finished"}


def _victim(opened: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Return a trial that is half done, once both workers are training."""
    study = None
    for _ in range(1200):
        assert process.poll() is None
        try:
            study = study or opened()
        except ValueError:  # it is not there yet
            time.sleep(0.5)
            continue
        running = [row for row in study.rows() if row.state == "running" and row.owner]
        middle = [row for row in running if 1 <= row.epochs <= 2]
        if len({row.owner["pid"] for row in running}) == 2 and middle:
            return middle[0]
        time.sleep(0.1)
    raise AssertionError("the workers never began")


def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(space: Callable[[int], Path], tmp_path: Path) -> None:
    from daelab.experiments.search.study import Study

    command = [sys.executable, "-m", "daelab", "explore", str(space(400))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def rows() -> Any:
        return Study("small").open().rows()

    for _ in range(600):
        assert process.poll() is None
        if (tmp_path / "runs" / "small-0" / "checkpoint.safetensors").is_file():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    last = err.splitlines()[-1]
    assert last.startswith("daelab: interrupted and saved: 0 of 2 trials are done; resume with: ")
    assert last.endswith("daelab explore --name small --resume")
    assert "Traceback" not in err
    assert {row.state for row in rows()} == {"waiting"}
