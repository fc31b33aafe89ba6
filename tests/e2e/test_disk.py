"""A full disk, a read-only folder, missing data or memory that runs out gives one line, and nothing is lost."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from daelab._util.tensor_file import read_tensors
from daelab.datasets.registry import load_dataset
from daelab.runs.folder import RunFolder, get_run_folder
from daelab.runs.ledger import Ledger
from daelab.training.recipe import parse_recipe
from daelab.training.tasks.denoising import fit_denoiser

Run = Callable[..., Any]
ROOM = 400
"""KiB of the disk that gets full."""
FULL = "No space left on device"
RECIPE = """
data.name = "npz:{data}"
spec.stages = [4, 4]
training = {{epochs = 3, batch = 8, precision = "float32"}}
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small file system in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}k", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, leave: int = 0) -> None:
    """Fill the disk except for some KiB."""
    free = shutil.disk_usage(disk).free // 1024
    (disk / "filler").write_bytes(bytes(1024 * (free - leave)))


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daelab.experiments.reports.style.find_spec", lambda name: None)


@pytest.fixture
def mine(tmp_path: Path, pictures_file: Path) -> Path:
    """Write a recipe of three epochs."""
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE.format(data=pictures_file))
    return path


def one_line(answer: Any) -> str:
    """Return the only line on stderr, after a check of exit code 2 and no traceback."""
    assert answer.code == 2, answer.err
    lines = [line for line in answer.err.splitlines() if line.startswith("daelab: ")]
    assert len(lines) == 1, answer.err
    assert answer.err.rstrip().endswith(lines[0])
    assert "Traceback" not in answer.err
    return str(lines[0])


def state(run: RunFolder) -> dict[str, Any]:
    """Return everything of a run that must not change."""
    _, best = read_tensors(run.best)
    header, last = read_tensors(run.checkpoint)
    rows = [{key: value for key, value in row.items() if "second" not in key} for row in run.read_metrics()]
    return {"rows": rows, "step": header["step"], **{n: t.numpy().tobytes() for n, t in (best | last).items()}}


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory, pictures_file: Path) -> dict[str, Any]:
    """Return the state of the same training on a disk with enough room."""
    root = tmp_path_factory.mktemp("runs")
    fields = tomllib.loads(RECIPE.format(data=pictures_file))
    return state(
        fit_denoiser(parse_recipe(fields), "a", runs_root=root, ledger=Ledger(f"sqlite:///{root}/ledger.db")).run
    )


def fill_before(name: str, time: int, disk: Path, patch: pytest.MonkeyPatch) -> None:
    """Fill the disk right before a file of this name is written for the `time`-th time."""
    written: list[str] = []
    find = os.path.realpath

    def full(path: Any, **options: Any) -> Any:
        written.extend([name] * (str(path).endswith(f"/{name}")))
        if len(written) == time and not (disk / "filler").exists():
            fill(disk)
        return find(path, **options)

    # the first thing that is done for a file that is written
    patch.setattr("daelab._util.files.os.path.realpath", full)


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("recipe.toml", 1),
        ("best.safetensors", 1),
        ("samples.npz", 1),
        ("checkpoint.safetensors", 1),
        ("checkpoint.safetensors", 2),
        ("metrics.csv", 1),
        ("metrics.csv", 3),
    ],
)
def test_a_training_whose_disk_gets_full_says_so_and_resumes_exactly(
    name: str,
    time: int,
    run: Run,
    disk: Path,
    mine: Path,
    untouched: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("DAELAB_RUNS", str(disk))
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    with monkeypatch.context() as patch:
        fill_before(name, time, disk, patch)
        answer = run("train", mine, "--name", "a", "--ledger", ledger)
    assert one_line(answer) == f"daelab: {disk}/a/{name}: {FULL}"
    row = Ledger(ledger).get_run("a")
    assert (row["status"], row["reason"]) == ("failed", f"{disk}/a/{name}: {FULL}")
    assert row["epochs_done"] == time - 1
    assert not list((disk / "a").glob(".*"))
    (disk / "filler").unlink()
    again = ("--resume", "a") if (disk / "a" / "recipe.toml").exists() else (mine, "--name", "a")
    answer = run("train", *again, "--ledger", ledger)
    assert answer.code == 0, answer.err
    assert state(get_run_folder("a")) == untouched
    assert Ledger(ledger).get_run("a")["status"] == "finished"


def test_a_ledger_whose_disk_gets_full(
    run: Run, disk: Path, mine: Path, untouched: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = f"sqlite:///{disk}/ledger.db"
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_metrics", _then(RunFolder.write_metrics, lambda: fill(disk)))
        answer = run("train", mine, "--name", "a", "--ledger", ledger)
    line = one_line(answer)
    assert line.startswith(
        f"daelab: the training is done and its files are in runs/a, but not its row in the ledger {ledger}: "
        "database or disk is full; write it with: "
    )
    assert line.endswith("daelab train --resume a")
    (disk / "filler").unlink()
    assert Ledger(ledger).get_run("a")["status"] == "running"  # nobody could write otherwise; see `mark_dead_runs`
    assert run("train", "--resume", "a", "--ledger", ledger).code == 0
    assert state(get_run_folder("a")) == untouched


def _then(what: Callable[..., object], after: Callable[[], object]) -> Callable[..., object]:
    def both(*args: Any) -> None:
        what(*args)
        after()

    return both


COMMANDS: dict[str, tuple[str, ...]] = {
    "best.safetensors": ("evaluate", "model-c", "--data", "photos", "--limit", "1", "--save", "{}/best.safetensors"),
    "a.png": ("denoise", "noisy.png", "--model", "model-b-35", "--out", "{}/a.png"),
    "a.tif": ("denoise", "noisy.png", "--model", "model-b-35", "--out", "{}/a.tif"),
    "a.jpg": ("noise", "noisy.png", "--noise", "type-1", "--out", "{}/a.jpg"),
    "a.npy": ("noise", "noisy.png", "--noise", "type-1", "--out", "{}/a.npy"),
}


@pytest.mark.parametrize("broken", ["full", "read-only"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_result_that_cannot_be_written(name: str, broken: str, run: Run, disk: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 130, 3), dtype=np.uint8)
    Image.fromarray(noise).save("noisy.png")
    if broken == "full":
        fill(disk)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    answer = run(*(word.format(disk) for word in COMMANDS[name]))
    line = one_line(answer)
    if broken == "full":
        assert line == f"daelab: {disk}/{name}: {FULL}"
    else:
        # A folder that cannot be written to is noticed before the work begins.
        assert str(disk) in line
        assert re.search("Read-only|cannot be written|Permission denied", line)
    assert {path.name for path in disk.iterdir()} <= {"filler"}
    if name == "best.safetensors" and broken == "full":
        assert "PSNR" in answer.out  # what was measured is not lost


def test_a_folder_of_pictures_goes_on_where_there_is_room_again(run: Run, disk: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 130, 3), dtype=np.uint8)
    for name in ("a", "b"):
        Image.fromarray(noise).save(f"{name}.png")
    words = ("denoise", "a.png", "b.png", "--model", "model-b-35", "--out", disk / "clean")
    (disk / "clean").mkdir()
    fill(disk)
    answer = run(*words)
    assert answer.code == 1
    assert answer.err.splitlines() == [f"daelab: {disk}/clean/{name}.png: {FULL}" for name in ("a", "b")]
    (disk / "filler").unlink()
    assert run(*words).out.splitlines()[-1] == "2 done, 0 done before, 0 failed"


def test_a_folder_of_runs_that_is_read_only(run: Run, disk: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAELAB_RUNS", str(disk))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    line = one_line(run("train", mine, "--name", "a"))
    assert line == f"daelab: ledger sqlite:///{disk}/ledger.db: unable to open database file"


def test_data_that_vanished(run: Run, mine: Path, pictures_file: Path, tmp_path: Path) -> None:
    data = tmp_path / "images.npz"
    shutil.copy(pictures_file, data)
    mine.write_text(RECIPE.format(data=data))
    assert run("train", mine, "--name", "a", "--epochs", "1").code == 0
    before = {path.name: path.read_bytes() for path in Path("runs/a").iterdir()}
    data.unlink()
    assert one_line(run("train", "--resume", "a")) == f"daelab: npz: the file {data} does not exist"
    assert {path.name: path.read_bytes() for path in Path("runs/a").iterdir()} == before


def test_pictures_that_vanish_in_the_middle(run: Run, mine: Path, tmp_path: Path) -> None:
    album = tmp_path / "album"
    album.mkdir()
    for number in range(12):
        Image.fromarray(np.full((16, 16, 3), 20 * number, np.uint8)).save(album / f"{number}.png")
    images = load_dataset(f"folder:{album}", crop=16, memory_budget=0).train
    for path in album.iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"no picture .*album/\d+\.png; remove or replace it"):
        images.batch(np.arange(1))


MEMORY = """
import resource, sys
from pathlib import Path
import torch, daelab.cli, daelab.experiments.train, daelab.training.engine
room = int(sys.argv.pop(1)) << 20
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + room, taken + room))
daelab.cli.main()
"""


def test_a_process_out_of_memory(mine: Path, tmp_path: Path) -> None:
    """Memory runs out in the validation of the second epoch, when the first checkpoint exists."""
    large = ["--set", "spec.stages=[128, 128]", "--set", "training.batch=54"]
    words = [sys.executable, "-c", MEMORY, "80", "train", str(mine), "--name", "a", *large]
    environment = os.environ | {"DAELAB_RUNS": str(tmp_path / "runs"), "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if line.startswith("daelab: ")]
    assert lines == ["daelab: out of memory; use a smaller batch (training.batch), or close other programs"], (
        done.stderr
    )
    assert done.returncode == 2
    row = Ledger(f"sqlite:///{tmp_path}/runs/ledger.db").get_run("a")
    assert row["status"] == "failed"
    assert "memory" in row["reason"].lower()
