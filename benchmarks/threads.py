"""Speed of training and denoising by the number of threads, on the machine as it is and with one more busy process.

One thread and the default take turns, each in a process of its own, so that whatever else runs on the machine meets
both; ratios are medians over the rounds. "default" is what `daelab` does: PyTorch's number of threads, one for each
core, which soon sleep when they wait for each other (`GOMP_SPINCOUNT`). "spinning" is the same without that setting.

    python benchmarks/threads.py --data-root .data [--others 0,1]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import ExitStack
from statistics import median
from typing import Any

import torch

import train_speed
from common import (
    TRAIN,
    count_cores,
    measure_load,
    occupy_cores,
    parser,
    pick_data,
    run_loop,
    show,
    table,
    whole_batches,
)
from daelab.cli.process import limit_spinning
from daelab.denoising.denoiser import Denoiser
from train_speed import Commanded, Commands, Reply, Worker, serve, training_recipe

WORKS = ("training", "denoising")
TILE = 256
"""The side of the picture that is denoised, in pixels."""


def list_settings(spinning: bool) -> dict[str, dict[str, str]]:
    """List the variables of the environment by the name of a setting."""
    limit_spinning()
    spin = {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "")}
    one = {"OMP_NUM_THREADS": "1", **spin}
    # What libgomp does by itself where there are no more threads than cores.
    return {"default": spin, "1": one, **({"spinning": {"GOMP_SPINCOUNT": "30000000000"}} if spinning else {})}


def options() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = parser(__doc__)
    found.add_argument("--others", default="0,1", help="numbers of other busy processes")
    found.add_argument("--work", choices=WORKS, help="measure only this")
    found.add_argument("--precision", choices=["auto", "float32", "bf16"], default="auto")
    found.add_argument("--batch", type=int, default=128)
    found.add_argument("--rounds", type=int, default=4)
    found.add_argument("--seconds", type=float, default=3.0, help="of each process in each round, about")
    found.add_argument("--warm-up", type=int, default=5, help="steps or pictures before the first round")
    found.add_argument("--spinning", action="store_true", help="measure PyTorch's own setting too; slow under load")
    found.add_argument("--worker", choices=WORKS, help=argparse.SUPPRESS)
    found.set_defaults(compile=False)
    return found


def training_worker(args: argparse.Namespace, commands: Commands, reply: Reply) -> None:
    """Train with the package's loop as commands arrive."""
    train = whole_batches(min(20 * args.batch, TRAIN[args.data]), args.batch)
    run_loop(training_recipe(args, train, args.batch), args.data_root, Commanded(commands, reply, args.batch))


def denoising_worker(args: argparse.Namespace, commands: Commands, reply: Reply) -> None:
    """Denoise a picture of random pixels as often as asked; the pixels make no difference to the time."""
    denoiser, picture = Denoiser.load("photo-s", "cpu"), torch.rand(1, 3, TILE, TILE)
    for count in commands:
        began = time.perf_counter()
        for _ in range(count):
            denoiser.batch(picture)
        reply({"images": count, "seconds": time.perf_counter() - began})


WORKERS = {"training": training_worker, "denoising": denoising_worker}


def measure(args: argparse.Namespace, arguments: list[str], work: str, others: int) -> dict[str, Any]:
    """Return each setting's speed and its ratio to the faster of one thread and the default."""
    settings = list_settings(args.spinning)
    rounds: dict[str, list[float]] = {name: [] for name in settings}
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(work, arguments, __file__, variables))
            for name, variables in settings.items()
        }
        stack.enter_context(occupy_cores(others))
        speeds = {name: worker.images_per_second(args.warm_up) for name, worker in workers.items()}
        unit = args.batch if work == "training" else 1
        steps = {name: max(1, round(args.seconds * speed / unit)) for name, speed in speeds.items()}
        for number in range(args.rounds):
            for name in list(workers)[:: 1 if number % 2 == 0 else -1]:
                rounds[name].append(workers[name].images_per_second(steps[name]))
            print(f"{work}, {others} others: round {number + 1} of {args.rounds}", file=sys.stderr)
    best = [max(pair) for pair in zip(rounds["1"], rounds["default"], strict=True)]
    return {
        name: {
            "per_second": median(speeds),
            "to_best": median(speed / other for speed, other in zip(speeds, best, strict=True)),
        }
        for name, speeds in rounds.items()
    }


def human(found: dict[str, Any]) -> str:
    """Format the document for people."""
    parts = []
    for work, loads in found["works"].items():
        for others, rows in loads.items():
            lines = [["threads", "images/s", "to the better of one and default"]]
            lines += [[name, f"{row['per_second']:,.1f}", f"{row['to_best']:.2f}"] for name, row in rows.items()]
            parts.append(f"{work}, {others} other busy processes\n\n{table(lines)}")
    return "\n\n".join(parts)


def main() -> None:
    """Run the benchmark, or one of its workers."""
    args = options().parse_args()
    if args.worker:
        train_speed.WORKERS.update(WORKERS)
        serve(args)
        return
    args.data = pick_data(args)
    arguments = [*sys.argv[1:], "--data", args.data]
    load = measure_load()
    works = {
        work: {others: measure(args, arguments, work, int(others)) for others in args.others.split(",")}
        for work in ([args.work] if args.work else WORKS)
    }
    found = {"cores": count_cores(), "load_before": load, "batch": args.batch, "works": works}
    show(found, human(found), args.json)


if __name__ == "__main__":
    main()
