"""Two processes give the results of one: the same batches and evaluations, and the same curve except for rounding."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import group_work as work
import numpy as np
import pytest
import torch
from forked import ForkedPopen
from PIL import Image

from daelab._util import work_sharing
from daelab._util.distributed import count_processes, detect_lost_process, get_rank, is_first_process, run_on_first
from daelab._util.work_sharing import select_share, slice_share
from daelab.cli import main
from daelab.runs.folder import get_run_folder
from daelab.runs.ledger import Ledger
from daelab.training.losses import LOSSES, parse_loss
from daelab.training.recipe import parse_recipe
from daelab.training.tasks.denoising import fit_denoiser, load_run_recipe

HERE = Path(__file__).parent
CLOSE = {
    "train judge": 3e-2,
    "train sgd": 1e-5,
    "train no norm": 1e-5,
    "train streamed": 2e-2,
    "train bf16": 5e-3,
    "train classifier": 1e-5,
}
"""How far losses may be apart, relatively; 0.01 for the rest: Adam and Muon make much of the rounding in gradients that
are zero but for it, those of the biases before a norm (docs/scaling.md)."""


def run_group(script: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a script in two processes with torchrun's variables and store; they fork, which spares them the imports."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    world = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "one", "TORCHELASTIC_USE_AGENT_STORE": True}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port, "OMP_NUM_THREADS": 1}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = []
        for rank in range(2):
            variables = {
                name: str(value) for name, value in {**world, **place, "RANK": rank, "LOCAL_RANK": rank}.items()
            }
            command = [sys.executable, str(script), *map(str, words)]
            started.append(ForkedPopen(command, stdout=out, stderr=err, env={**os.environ, **variables}))
        codes = [process.wait(300) for process in started]
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(words, max(codes, key=abs), out.read(), err.read())


@pytest.fixture(scope="session")
def album(pictures_file: Path) -> Path:
    """Return a folder of pictures, next to the file of pictures."""
    folder = pictures_file.parent / "album"
    if not folder.exists():
        folder.mkdir()
        for i in range(14):
            pixels = np.random.default_rng(i).integers(0, 256, (24, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="session")
def group(pictures_file: Path, album: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what two processes computed for every work."""
    out = tmp_path_factory.mktemp("group") / "found"
    done = run_group(HERE / "group_work.py", pictures_file, out)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = pickle.loads(out.read_bytes())
    return found


@pytest.mark.parametrize("name", [name for name in work.WORKS if not name.startswith("train")])
def test_what_is_put_together_is_what_one_process_makes(name: str, group: dict[str, Any], pictures_file: Path) -> None:
    alone = work.WORKS[name](pictures_file)
    if name == "norm":
        torch.testing.assert_close(group[name], alone, rtol=1e-5, atol=1e-5)
    elif name == "parts":
        for ours, theirs in zip(group[name], alone, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert [len(clean) for clean, _ in alone] == [8, 8, 8, 1]
    else:
        assert json.dumps(group[name]) == json.dumps(alone)


@pytest.mark.parametrize("name", [name for name in work.WORKS if name.startswith("train")])
def test_two_processes_train_as_one(name: str, group: dict[str, Any], pictures_file: Path) -> None:
    alone = work.WORKS[name](pictures_file)
    assert len(alone) == 2
    for ours, theirs in zip(group[name], alone, strict=True):
        assert ours.keys() == theirs.keys()
        for column in {"train_loss", "val_loss", "train_accuracy"} & ours.keys():
            assert ours[column] == pytest.approx(theirs[column], rel=CLOSE.get(name, 1e-2)), column
        assert ours["learning_rate"] == pytest.approx(theirs["learning_rate"], rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_a_mean_over_images(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    image, clean = (torch.rand(7, 3, 16, 16, generator=generator) for _ in range(2))
    loss = parse_loss(name)
    parted = (3 * loss(image[:3], clean[:3]) + 4 * loss(image[3:], clean[3:])) / 7
    # features are computed in bf16 where the machine does so natively
    torch.testing.assert_close(parted, loss(image, clean), rtol=1e-2 if name == "judge_features" else 1e-5, atol=1e-6)


# The command, and what ends it


def tiny(folder: Path, pictures: Path, epochs: int) -> Path:
    training = {"epochs": epochs, "batch": 16, "lr": 0.01, "precision": "float32", "optimiser": "sgd"}
    fields = {"spec": {"stages": [4]}, "data": {"name": f"npz:{pictures}"}, "training": training}
    path = folder / "tiny.toml"
    path.write_text(parse_recipe(fields).to_toml())
    return path


EPOCHS = 4
WAITING = """
import os, signal
from daelab.cli import main
from daelab.training.engine import Trainer

def finish(loop, record):
    finish_epoch(loop, record)
    if os.environ["RANK"] == "1":
        signal.pause()

finish_epoch, Trainer._finish_epoch = Trainer._finish_epoch, finish
main()
"""
"""The command, whose second process waits after an epoch until it is killed."""


def rows(name: str) -> int:
    return len(get_run_folder(name).read_metrics())


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 240
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def child_of_rank(agent: int, rank: int) -> int:
    """Return the process of a rank that torchrun, the agent, has started."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            words = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == agent and f"RANK={rank}".encode() in words:
            return int(path.name)
    return 0


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the processes of a group are found in /proc")
def test_a_killed_process_ends_the_run_cleanly_and_it_goes_on(tmp_path: Path, pictures_file: Path) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    command += ["waiting.py", "train", tiny(tmp_path, pictures_file, epochs=EPOCHS).name]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    variables = {**os.environ, "PYTHONWARNINGS": "ignore"}
    agent = ForkedPopen(command, **pipes, text=True, env=variables, cwd=tmp_path)
    # killed, torchrun starts all again, and they find their run; killed again, it is over
    for _ in range(2):
        before = rows("tiny-1")
        wait_for(lambda before=before: rows("tiny-1") > before, agent)  # type: ignore[misc]
        os.kill(child_of_rank(agent.pid, 1), signal.SIGKILL)
        wait_for(lambda: child_of_rank(agent.pid, 1) == 0, agent) if _ == 0 else agent.wait(120)
    _, said = agent.communicate()
    lines = [line for line in said.splitlines() if line.startswith("daelab: ")]
    assert len(lines) == 2, said
    for line in lines:
        assert line.startswith("daelab: another process of this training has gone; go on with: "), said
        assert line.endswith("daelab train --resume tiny-1"), said
    ledger = Ledger()
    assert [row["name"] for row in ledger.list_runs()] == ["tiny-1"]
    assert ledger.get_run("tiny-1")["status"] == "interrupted"
    assert "go on with" in ledger.get_run("tiny-1")["reason"]
    done = rows("tiny-1")
    assert done == 2
    again = fit_denoiser(load_run_recipe("tiny-1"), "tiny-1", resume=True)
    alone = fit_denoiser(load_run_recipe("tiny-1"), "alone")
    assert [row["epoch"] for row in again.rows] == list(range(1, EPOCHS + 1))
    for column in ("train_loss", "val_loss"):
        assert [row[column] for row in again.rows] == pytest.approx([row[column] for row in alone.rows], rel=1e-3)


def test_commands_speak_once_and_give_what_one_process_gives(
    tmp_path: Path, pictures_file: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy = tmp_path / "noisy"
    noisy.mkdir()
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (9 + i, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(noisy / f"{i}.png")
    words = ["evaluate", "model-b-35", "--data", f"npz:{pictures_file}", "--json"]
    code = "import os, sys\nfrom daelab.cli import main\nfor words in {!r}:\n    sys.argv = ['daelab', *words]\n    "
    code += "try: main()\n    except SystemExit as end: open({!r} + os.environ['RANK'], 'a').write(str(end.code))"
    clean = ["denoise", str(noisy), "--model", "model-b-35", "--out", str(tmp_path / "clean"), "--json"]
    wrong = ["train", "--recipe", "nonesuch"]
    script = tmp_path / "several.py"
    # Every process notes its exit codes in a file of its own: two that write to one stream may mix their letters.
    script.write_text(code.format([words, clean, wrong, ["models"]], str(tmp_path / "codes-")))
    done = run_group(script)
    decoder = json.JSONDecoder()
    evaluated, end = decoder.raw_decode(done.stdout)
    cleaned, _ = decoder.raw_decode(done.stdout[end:].lstrip())
    assert done.stdout.count('"model"') == 2, done.stderr
    monkeypatch.setattr(sys, "argv", ["daelab", *words])
    capfd.readouterr()
    with pytest.raises(SystemExit):
        main()
    assert evaluated == json.loads(capfd.readouterr().out)
    assert (cleaned["done"], cleaned["failed"]) == (5, 0)
    assert [Path(one["source"]).name for one in cleaned["pictures"]] == [f"{i}.png" for i in range(5)]
    assert len(list((tmp_path / "clean").iterdir())) == 5
    said = [line for line in done.stderr.splitlines() if line.startswith("daelab: ")]
    assert [line.partition(";")[0] for line in said] == [
        "daelab: no recipe file nonesuch",
        "daelab: models runs in one process",
    ]
    assert [(tmp_path / f"codes-{rank}").read_text() for rank in range(2)] == ["0022"] * 2


# Alone


def test_alone_nothing_is_shared() -> None:
    assert (get_rank(), count_processes(), is_first_process()) == (0, 1, True)
    assert list(select_share(range(3))) == [0, 1, 2]
    assert slice_share(7) == slice(0, 7)
    assert run_on_first(lambda: 5) == 5
    with pytest.raises(RuntimeError, match="gloo"), detect_lost_process("never said"):
        raise RuntimeError("gloo")  # alone there is nobody to lose


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("images", [0, 1, 7, 128])
def test_parts_cover_a_batch_without_overlap(images: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_sharing, "count_processes", lambda: count)
    places = [place for rank in range(count) for place in range(images)[slice_share(images, rank)]]
    assert places == list(range(images))
    sizes = [len(range(images)[slice_share(images, rank)]) for rank in range(count)]
    assert max(sizes) - min(sizes) <= 1
