"""Kill trainings with SIGKILL at random moments, resume them, and compare with one that was left alone.

    python benchmarks/kill_stress.py --kills 200

Each kill takes a training of its own: it is killed, everything it left is read, and it is resumed to its end.
Exact: weights and metrics.csv (but for its two columns of timings) are then byte for byte those of the training
that was left alone. Torn: a file that carries its final name and cannot be read.
The moments: after a time drawn at random; in a step; while a checkpoint is being written, or before it has its
name; between the checkpoint, metrics.csv and the ledger.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: a forked process has no thread pool

import numpy as np
import torch

from daelab._util import hardware, tensor_file
from daelab._util.tensor_file import read_tensors
from daelab.runs.folder import RunFolder
from daelab.runs.ledger import Ledger
from daelab.training.callbacks.progress import SilentProgress
from daelab.training.recipe import Recipe, load_recipe, parse_recipe
from daelab.training.tasks.denoising import fit_denoiser

TIMINGS = ("seconds", "images_per_second")
EPOCHS = 4


def main() -> None:
    """Kill, resume, compare, count."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--json", action="store_true")
    args = options.parse_args()
    torch.set_num_threads(1)
    hardware.KEEPS_FREED_MEMORY = False
    with tempfile.TemporaryDirectory() as folder:
        found = run_stress_test(args.kills, args.seed, Path(folder), show=not args.json)
    text = "\n".join(f"{key:<10}{value}" for key, value in found.items())
    print(json.dumps(found) if args.json else text)
    raise SystemExit(0 if found["exact"] == found["kills"] and not found["torn"] else 1)


def run_stress_test(kills: int, seed: int, root: Path, *, show: bool) -> dict[str, Any]:
    """Kill, resume and compare; return the numbers of kills, exact runs, torn files, and kills by moment."""
    wanted = _recipe(root)
    # here, so that what PyTorch does once per process is done, and each child inherits it
    _train(wanted, root, "warm-up", resume=False)
    began = time.perf_counter()
    assert _child(lambda: _train(wanted, root, "left-alone", resume=False)) == 0
    length = time.perf_counter() - began
    reference, rng = _state(root / "left-alone"), random.Random(seed)
    exact = torn = 0
    spread: Counter[str] = Counter()
    for number in range(kills):
        name, moment = f"killed-{number}", rng.choice(MOMENTS)
        count, after = rng.randrange(1, EPOCHS + 1), rng.uniform(0, 0.9 * length)
        status = _child(
            lambda name=name, moment=moment, count=count: _train(
                wanted, root, name, resume=False, moment=moment, count=count
            ),
            after if moment == "any time" else None,
        )
        spread[moment if status == -signal.SIGKILL else "it was over before"] += 1
        torn += _torn(root / name)
        begun = (root / name / "recipe.toml").is_file()
        assert _child(lambda name=name, begun=begun: _train(wanted, root, name, resume=begun)) == 0
        exact += _state(root / name) == reference
        if show:
            print(f"\r{number + 1}/{kills}: {exact} exact, {torn} torn", end="", file=sys.stderr, flush=True)
    if show:
        print(file=sys.stderr)
    return {"kills": kills, "exact": exact, "torn": torn, "seed": seed, "moments": dict(sorted(spread.items()))}


def _recipe(root: Path) -> Recipe:
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 16, 16), dtype=np.uint8)
    np.savez(root / "images.npz", images=images)
    training = {"epochs": EPOCHS, "batch": 8, "lr": 0.01, "ema": 0.9, "flips": True, "schedule": "cosine"}
    data = {"name": f"npz:{root / 'images.npz'}"}
    return parse_recipe({"data": data, "spec": {"stages": [4, 4]}, "training": training | {"precision": "float32"}})


def _child(work: Callable[[], object], kill_after: float | None = None) -> int:
    """Do the work in a process of its own; its exit status, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _train(wanted: Recipe, root: Path, name: str, *, resume: bool, moment: str = "", count: int = 0) -> None:
    ledger = Ledger(f"sqlite:///{root / name}.db")
    progress = SilentProgress()
    if moment in PATCHES:
        PATCHES[moment](count, progress, ledger)
    fit_denoiser(
        wanted, name, resume=resume, runs_root=root, ledger=ledger, progress=progress, device=torch.device("cpu")
    )


def _die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _at(count: int, what: Callable[..., Any], then: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls `what`, and `then` instead at the `count`-th call."""
    calls = 0

    def patched(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return then(*args, **kwargs) if calls == count else what(*args, **kwargs)

    return patched


def _in_a_step(count: int, progress: SilentProgress, ledger: Ledger) -> None:
    progress.step = _at(7 * count, lambda *_: None, _die)  # type: ignore[method-assign]


def _half_a_checkpoint(count: int, progress: SilentProgress, ledger: Ledger) -> None:
    def half(tensors: Any, part: Path, metadata: Any) -> None:
        saved(tensors, part, metadata=metadata)
        with part.open("r+b") as file:
            file.truncate(part.stat().st_size // 2)
        _die()

    saved = tensor_file.save_file
    tensor_file.save_file = _at(count, saved, half)


def _before_its_name(count: int, progress: SilentProgress, ledger: Ledger) -> None:
    tensor_file.load_file = _at(count, tensor_file.load_file, _die)


def _before_the_metrics(count: int, progress: SilentProgress, ledger: Ledger) -> None:
    RunFolder.write_metrics = _at(count, RunFolder.write_metrics, _die)  # type: ignore[method-assign]


def _before_the_ledger(count: int, progress: SilentProgress, ledger: Ledger) -> None:
    ledger.record = _at(count + 1, ledger.record, _die)  # type: ignore[method-assign]


PATCHES: dict[str, Callable[[int, SilentProgress, Ledger], None]] = {
    "in a step": _in_a_step,
    "half a checkpoint": _half_a_checkpoint,
    "before its name": _before_its_name,
    "before the metrics": _before_the_metrics,
    "before the ledger": _before_the_ledger,
}
MOMENTS = ["any time", "any time", *PATCHES]


def _state(folder: Path) -> dict[str, Any]:
    """Everything that must be the same."""
    _, best = read_tensors(folder / "best.safetensors")
    header, last = read_tensors(folder / "checkpoint.safetensors")
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [{key: cell for key, cell in row.items() if key not in TIMINGS} for row in csv.DictReader(file)]
    tensors = {
        f"{kind} {name}": t.numpy().tobytes()
        for kind, part in (("best", best), ("last", last))
        for name, t in part.items()
    }
    return {"rows": rows, "step": header["step"], **tensors}


def _torn(folder: Path) -> int:
    """Files with their final name that cannot be read."""
    readers: dict[str, Callable[[Path], object]] = {
        ".safetensors": read_tensors,
        ".toml": load_recipe,
        ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
        ".csv": lambda path: RunFolder(path.parent).read_metrics(),
        ".npz": lambda path: dict(np.load(path)),
    }
    torn = 0
    for path in folder.glob("[!.]*"):
        try:
            readers[path.suffix](path)
        except Exception as error:
            print(f"\n{path} is torn: {error}", file=sys.stderr)
            torn += 1
    return torn


if __name__ == "__main__":
    main()
