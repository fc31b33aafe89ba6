"""What the scripts in this folder share: options, pictures, a table, and the real training loop, watched."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import torch

from daelab._util.hardware import has_native_bf16
from daelab.datasets.base import ImageSet
from daelab.datasets.cifar10 import find_cifar10
from daelab.datasets.registry import load_dataset
from daelab.runs.ledger import Ledger
from daelab.training.callbacks.progress import SilentProgress
from daelab.training.recipe import Recipe
from daelab.training.tasks.denoising import fit_denoiser

TRAIN = {"cifar10": 40_000, "photos": 5_000}
"""Images to train on: the paper's last split, and all that `photos` has."""
VAL = {"cifar10": 10_000, "photos": 500}
NO_END = 1_000_000
"""Epochs of a training that whoever watches it ends."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options that every script takes."""
    options = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    options.add_argument("--data-root", metavar="DIR", help="where CIFAR-10 is; nothing is downloaded")
    options.add_argument(
        "--data",
        choices=["auto", *TRAIN],
        default="auto",
        help="auto: CIFAR-10 where it is found, else the pictures that need no network",
    )
    options.add_argument("--json", action="store_true", help="print one JSON document")
    return options


def pick_data(args: argparse.Namespace) -> str:
    """Return the data set that `--data` means; exit with status 2 if CIFAR-10 is required and not found."""
    found = args.data == "photos" or find_cifar10(None if args.data_root is None else Path(args.data_root)) is not None
    if args.data == "cifar10" and not found:
        print("CIFAR-10 is nowhere; give its folder as --data-root, or take --data photos", file=sys.stderr)
        raise SystemExit(2)
    if args.data == "auto" and not found:
        print("CIFAR-10 is nowhere, so photos; speed depends on the pictures' size alone", file=sys.stderr)
        return "photos"
    return "cifar10" if args.data == "auto" else str(args.data)


def pictures(name: str, root: str | None, count: int) -> ImageSet:
    """Return the first `count` training images of a data set."""
    train = load_dataset(name, root, download=False).train
    assert isinstance(train, ImageSet)
    return ImageSet(train.name, train.images[:count], train.labels[:count], train.classes)


def whole_batches(images: int, batch: int) -> int:
    """As many of the images as make whole batches; at least one batch."""
    return max(images // batch, 1) * batch


def synchronise() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = (
        "  ".join(cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    )
    return "\n".join(line.rstrip() for line in aligned)


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_COMPUTE = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""
"""A program that computes without a pause until the process that started it is gone, even if that was killed."""


@contextmanager
def occupy_cores(count: int) -> Iterator[None]:
    """Let other processes compute without a pause meanwhile, each on whatever core the system gives it.

    Args:
        count: The number of processes; 0 leaves the machine as it is.
    """
    others = [subprocess.Popen([sys.executable, "-c", _COMPUTE]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def describe_machine() -> str:
    """Describe the kind of machine, on which ratios depend too: what the processor can do, and its threads."""
    capability = torch.backends.cpu.get_cpu_capability()
    bf16 = "with" if has_native_bf16(torch.device("cpu")) else "without"
    return f"{capability} {bf16} bf16, {torch.get_num_threads()} threads, torch {torch.__version__}"


def show(found: dict[str, Any], human: str, as_json: bool) -> None:
    """Print the one JSON document, or the same for people, with the kind of machine."""
    print(
        json.dumps({**found, "machine": describe_machine()}) if as_json else f"{human}\n\nmachine: {describe_machine()}"
    )


class Stop(Exception):
    """Raised by whoever watches a training, to end it."""


def run_loop(recipe: Recipe, data_root: str | None, watch: SilentProgress) -> None:
    """Train by a recipe with the package's own loop, in a folder that goes away, until `watch` stops it."""
    with tempfile.TemporaryDirectory(prefix="daelab-bench-") as folder, suppress(Stop):
        ledger = Ledger(f"sqlite:///{Path(folder) / 'ledger.db'}")
        fit_denoiser(recipe, "bench", runs_root=Path(folder), data_root=data_root, ledger=ledger, progress=watch)


def measure_load(seconds: float = 2.0) -> float:
    """Return how many cores other programs keep busy, on average over some seconds.

    The load average would still count what this program has computed in the minutes before.
    """
    return psutil.cpu_percent(seconds) / 100 * (psutil.cpu_count() or 1)
