"""Images per second that Model-C trains with, beside the textbook loop of `plain_loop.py`.

The two take turns in one run, each in a process of its own that lives throughout (the package's
loop changes how its process keeps memory), and in each round the machine's matrix products are
timed as well. Whatever slows the machine down meets all three; the numbers are medians of rounds.

    python benchmarks/train_speed.py --data-root .data [--precision float32] [--compile] [--validation]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from statistics import median
from types import TracebackType
from typing import Any

import torch

from common import (
    NO_END,
    TRAIN,
    VAL,
    Stop,
    parser,
    pick_data,
    pictures,
    run_loop,
    show,
    synchronise,
    table,
    whole_batches,
)
from daelab._util.hardware import choose_device, choose_precision
from daelab.cli.process import limit_spinning
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.training.callbacks.progress import SilentProgress
from daelab.training.recipe import Recipe, parse_recipe
from plain_loop import PlainLoop

FLOPS = 6 * ARCHITECTURE_PRESETS["model-c"].macs()
"""To train on an image: 2 per multiply-accumulate, forward once and backward twice."""
DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}

Commands = Iterator[int]
Reply = Callable[[dict[str, float]], None]


def options() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = parser(__doc__)
    found.add_argument("--precision", choices=["auto", "float32", "bf16"], default="auto")
    found.add_argument("--compile", action="store_true", help="torch.compile the package's loop")
    found.add_argument("--validation", action="store_true", help="measure the validation pass too")
    found.add_argument("--batch", type=int, default=128)
    found.add_argument("--rounds", type=int, default=7)
    found.add_argument("--steps", type=int, default=30, help="of the package's loop, each round")
    found.add_argument("--plain-steps", type=int, default=12, help="of the textbook loop, each round")
    # on a virtual machine, memory that is touched for the first time stalls for milliseconds a megabyte
    found.add_argument("--warm-up", type=int, default=60, help="steps of each loop before the first round")
    found.add_argument("--images", type=int, default=40_000, help="to train on, at most")
    found.add_argument("--peak-size", type=int, default=2_048, help="rows of the matrices")
    found.add_argument("--worker", choices=list(WORKERS), help=argparse.SUPPRESS)
    return found


# The processes that are measured: each reads a number of steps per line, and answers with a line of JSON.


def training_recipe(args: argparse.Namespace, train: int, val: int) -> Recipe:
    """Return the textbook loop as a recipe: Model-C, Adam at 0.005, the published code's noise."""
    return parse_recipe(
        {
            "spec": "model-c",
            "noise": "published-code",
            "data": {"name": args.data, "train": train, "val": val},
            "training": {
                "epochs": NO_END,
                "batch": args.batch,
                "lr": 0.005,
                "precision": args.precision,
                "compile": args.compile,
            },
        }
    )


class Commanded(SilentProgress):
    """Lets the package's own loop run as many steps as are asked for; an epoch's end stops the clock."""

    def __init__(self, commands: Commands, reply: Reply, batch: int) -> None:
        """Take the stream of commands and the function that answers them."""
        self.commands, self.reply, self.batch = commands, reply, batch

    def start(self, run: str, epochs: int, steps: int, facts: dict[str, str], seconds: float = math.inf) -> None:
        """Wait for the first command."""
        self.steps = steps
        self._next()

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        """Count a step; answer after the last of a command."""
        self.left -= 1
        if self.left == 0:
            synchronise()
            seconds = time.perf_counter() - self.began
            self.reply({"images": self.asked * self.batch, "seconds": seconds})
            self._next()
        if step == self.steps:
            self.paused = time.perf_counter()

    def epoch(self, row: dict[str, float], best: object) -> None:
        """Leave the pause between two epochs out of the time."""
        self.began += time.perf_counter() - self.paused

    def _next(self) -> None:
        asked = next(self.commands, None)
        if asked is None:
            raise Stop
        self.asked = self.left = asked
        self.began = time.perf_counter()


def daelab_worker(args: argparse.Namespace, commands: Commands, reply: Reply) -> None:
    """Train with the package's loop as commands arrive."""
    train = whole_batches(min(args.images, TRAIN[args.data]), args.batch)
    run_loop(training_recipe(args, train, args.batch), args.data_root, Commanded(commands, reply, args.batch))


def plain_worker(args: argparse.Namespace, commands: Commands, reply: Reply) -> None:
    """Train with the textbook loop as commands arrive."""
    count = whole_batches(min(args.images, TRAIN[args.data]), args.batch)
    loop = PlainLoop(pictures(args.data, args.data_root, count).images, args.batch)
    for steps in commands:
        images, seconds = loop.run(steps)
        reply({"images": images, "seconds": seconds})


class Epochs(SilentProgress):
    """Collects what each epoch's row says of training and validation, in seconds per image."""

    def __init__(self, commands: Commands, reply: Reply, train: int, val: int) -> None:
        """Take the first command and the sizes of the data."""
        self.wanted, self.reply = next(commands), reply
        self.sizes = train, val
        self.rows: list[tuple[float, float]] = []

    def epoch(self, row: dict[str, float], best: object) -> None:
        """Keep the time of a step and of a validation image; answer after the last round."""
        train, val = self.sizes
        step = 1 / row["images_per_second"]
        self.rows.append((step, (row["seconds"] - train * step) / val))
        if len(self.rows) <= self.wanted:  # the first one warms up
            return
        steps, passes = zip(*self.rows[1:], strict=True)
        self.reply({"training": median(steps), "validation": median(passes)})
        raise Stop


def validation_worker(args: argparse.Namespace, commands: Commands, reply: Reply) -> None:
    """Epochs of the real loop, a quarter of the paper's in size; validation as a quarter of the training."""
    train = whole_batches(min(args.images, TRAIN[args.data], 10_240), args.batch)
    val = min(train // 4, VAL[args.data])
    run_loop(training_recipe(args, train, val), args.data_root, Epochs(commands, reply, train, val))


WORKERS = {"daelab": daelab_worker, "plain": plain_worker, "validation": validation_worker}


def serve(args: argparse.Namespace) -> None:
    """Be a worker: numbers from stdin, answers to stdout; whatever else is printed goes to stderr."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)

        def reply(found: dict[str, float]) -> None:
            print(json.dumps(found), file=answers, flush=True)

        WORKERS[args.worker](args, map(int, iter(sys.stdin.readline, "")), reply)


# The process that asks them in turn.


class Worker:
    """A worker process; it computes only while it is asked."""

    def __init__(
        self, kind: str, arguments: list[str], script: str = __file__, environment: dict[str, str] | None = None
    ) -> None:
        """Start the process of a worker, with some variables of the environment changed."""
        self.kind = kind
        command = [sys.executable, script, *arguments, "--worker", kind]
        # As the command line does. It holds for all that are compared.
        limit_spinning()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
        )

    def __enter__(self) -> Worker:
        """Return the worker."""
        return self

    def ask(self, steps: int) -> dict[str, float]:
        """Let the worker train a number of steps and return its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        answer = ""
        try:
            print(steps, file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            pass
        if not answer:
            raise SystemExit(f"the {self.kind} worker ended with {self.process.wait()}; see above")
        found: dict[str, float] = json.loads(answer)
        return found

    def images_per_second(self, steps: int) -> float:
        """Let the worker train a number of steps and return its speed."""
        found = self.ask(steps)
        return found["images"] / found["seconds"]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process; kill it after an error."""
        if error is not None:
            self.process.kill()
        self.process.communicate()


def peak(precision: str, size: int, device: torch.device, tries: int = 3) -> float:
    """GFLOP/s of the best of a few products of square matrices."""
    a, b = (torch.randn(size, size, device=device).to(DTYPES[precision]) for _ in range(2))
    out = torch.empty_like(a)
    seconds = []
    for _ in range(tries + 1):
        synchronise()
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        synchronise()
        seconds.append(time.perf_counter() - began)
    return float(2 * size**3 / min(seconds[1:]) / 1e9)


def measure(args: argparse.Namespace, arguments: list[str]) -> list[dict[str, float]]:
    """Measure in rounds; every other round has the loops in reverse order, so that a drift cancels."""
    device, rounds = choose_device(), []
    used = dict.fromkeys(("float32", choose_precision(args.precision, device)))
    steps = {"daelab": args.steps, "plain": args.plain_steps}
    with ExitStack() as stack:
        workers = {kind: stack.enter_context(Worker(kind, arguments)) for kind in steps}
        for worker in workers.values():
            worker.ask(args.warm_up)
        for number in range(args.rounds):
            order = list(steps) if number % 2 == 0 else list(steps)[::-1]
            found = {kind: workers[kind].images_per_second(steps[kind]) for kind in order}
            # Only what the loops use: a CPU without bf16 would take minutes for a product in emulation.
            peaks = {f"peak_{kind}": peak(kind, args.peak_size, device) for kind in used}
            rounds.append({"daelab": found["daelab"], "plain": found["plain"], **peaks})
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
    return rounds


def validation(args: argparse.Namespace, arguments: list[str]) -> dict[str, float]:
    """Measure the validation pass as a share of an epoch of 40,000 and 10,000 images."""
    with Worker("validation", arguments) as worker:
        found = worker.ask(max(args.rounds // 2, 1))
    train, val = 40_000 * found["training"], 10_000 * found["validation"]
    return {
        "training_ms_per_image": 1e3 * found["training"],
        "validation_ms_per_image": 1e3 * found["validation"],
        "share_of_epoch": val / (train + val),
    }


def summary(args: argparse.Namespace, rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Medians over the rounds."""
    precision = choose_precision(args.precision, choose_device())
    share = [FLOPS * found["daelab"] / (1e9 * found[f"peak_{precision}"]) for found in rounds]
    return {
        "ratio": median(found["daelab"] / found["plain"] for found in rounds),
        "images_per_second": median(found["daelab"] for found in rounds),
        "plain_images_per_second": median(found["plain"] for found in rounds),
        "precision": precision,
        "share_of_peak": median(share),
        "peak_gflops": {
            kind: median(found[f"peak_{kind}"] for found in rounds) for kind in dict.fromkeys(("float32", precision))
        },
        "mflop_per_image": FLOPS / 1e6,
        "batch": args.batch,
        "compile": args.compile,
        "data": args.data,
        "device": choose_device().type,
        "threads": torch.get_num_threads(),
        "rounds": rounds,
    }


def human(found: dict[str, Any]) -> str:
    """Format the summary as text."""
    compiled = ", compiled" if found["compile"] else ""
    peaks = found["peak_gflops"]
    plain_share = found["plain_images_per_second"] * FLOPS / 1e9 / peaks["float32"]
    rows = [["loop", "precision", "images/s", "ms per step", "share of the peak"]]
    for name, precision, speed, share in (
        ("daelab", found["precision"] + compiled, found["images_per_second"], found["share_of_peak"]),
        ("plain", "float32", found["plain_images_per_second"], plain_share),
    ):
        rows.append([name, precision, f"{speed:,.0f}", f"{1e3 * found['batch'] / speed:.1f}", f"{share:.0%}"])
    lines = [
        f"Model-C, batch {found['batch']}, {found['data']}, {found['device']}, {found['threads']} threads, "
        f"medians of {len(found['rounds'])} rounds",
        "",
        table(rows),
        "",
        f"ratio {found['ratio']:.2f} (median of the rounds' ratios)",
        f"peak of matrix products: {', '.join(f'{kind} {value:,.0f} GFLOP/s' for kind, value in peaks.items())}; "
        f"training takes {found['mflop_per_image']:.1f} MFLOP per image",
    ]
    if "validation" in found:
        spent = found["validation"]
        lines.append(
            f"an epoch of 40,000 and 10,000 images: {spent['training_ms_per_image']:.3f} ms per image trained on, "
            f"{spent['validation_ms_per_image']:.3f} validated on; validation takes {spent['share_of_epoch']:.1%}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark, or one of its workers."""
    args = options().parse_args()
    if args.worker:
        serve(args)
        return
    args.data = pick_data(args)
    arguments = [*sys.argv[1:], "--data", args.data]
    found = summary(args, measure(args, arguments))
    if args.validation:
        found["validation"] = validation(args, arguments)
    show(found, human(found), args.json)


if __name__ == "__main__":
    main()
