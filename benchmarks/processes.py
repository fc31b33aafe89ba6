"""What a second process on a second core gains a training, and a model of where it goes on GPUs.

Measured: Model-C's images per second by one process pinned to one core, by two that share each batch, pinned to one
core each, and by two such trainings that know nothing of each other, which is all that the cores have to give; they
take turns in one run, and ratios are medians over the rounds. It needs two idle cores.
Modelled: a step's time from the numbers in `MACHINES`, which are assumptions and not measurements: the larger of
computing and launching kernels, the exchanges of gradients, norms and pixels, and the making of batches.

    python benchmarks/processes.py [--cores 0,1] [--rounds 5] [--precision float32] [--model-only]
    python benchmarks/processes.py --curves RUN OTHER      how far two runs' curves are apart
"""

from __future__ import annotations

import argparse
import math
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch

import torch

from common import NO_END, Stop, parser, pick_data, run_loop, show, synchronise, table
from daelab._util.distributed import LostProcessError, join_group
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.runs.folder import get_run_folder
from daelab.training.callbacks.progress import SilentProgress
from daelab.training.recipe import parse_recipe

SPEC = ARCHITECTURE_PRESETS["model-c"]
GRADIENT_BYTES = 4 * SPEC.parameters
NORMS = sum(layer.norm == "batch" for layer in SPEC.layers())
IMAGE_BYTES = 2 * 4 * 3 * 32 * 32
"""Of a clean and a noisy image, float32, as a process gives it to another."""


@dataclass(frozen=True)
class Machine:
    """What a step is made of on some processes; all of it assumed."""

    processes: int
    flops: float = 100e12
    """Per second that the convolutions reach on one GPU; a quarter of what an H100 gives in bf16."""
    launching: float = 2.5e-3
    """Seconds in which the host launches the kernels of a step: below it a smaller batch gains nothing."""
    bandwidth: float = 200e9
    """Bytes per second that an exchange reaches between two processes."""
    latency: float = 15e-6
    """Seconds of the smallest exchange, times log2 of the processes where there are more than one."""
    noise: float = 300_000
    """Images per second that one GPU makes noisy."""
    decode: float = 4 * 1500
    """Pictures of 100 kB per second that a process's workers decode."""


MACHINES = {
    "1 GPU": Machine(1),
    "8 GPUs, one node": Machine(8),
    "64 nodes of 8 GPUs": Machine(512, bandwidth=40e9),
}


def modelled(machine: Machine, batch: int) -> dict[str, Any]:
    """Model a step: its parts in ms, images per second, the bottleneck, and the share of a linear gain."""
    count, hops = machine.processes, math.log2(machine.processes)
    mine = batch / count
    parts = {"computing": mine * 6 * SPEC.macs() / machine.flops, "launching": machine.launching}
    exchange = {
        "gradients": 2 * (count - 1) / count * GRADIENT_BYTES / machine.bandwidth + 2 * hops * machine.latency,
        "norms": 2 * NORMS * hops * machine.latency,
        "pixels": (count > 1) * (mine * IMAGE_BYTES / machine.bandwidth + machine.latency),
    }
    # the gradients travel while others are computed, the norms' sums do not
    step = max(parts.values()) + exchange["norms"] + exchange["pixels"]
    step = max(step, exchange["gradients"])
    making = {"noise": mine / machine.noise, "decoding": mine / machine.decode}
    waits = {**parts, **exchange, "noise": making["noise"]}
    return {
        "processes": count,
        "batch": batch,
        "step_ms": 1e3 * (step + making["noise"]),
        "images_per_second": batch / (step + making["noise"]),
        "parts_ms": {name: 1e3 * seconds for name, seconds in {**parts, **exchange, **making}.items()},
        "binds": max(waits, key=lambda name: waits[name]),
        "decoding_binds": making["decoding"] > step,
    }


def model() -> list[dict[str, Any]]:
    """Each machine, at the recipe's batch of 128 and at 128 for each process."""
    rows = [
        {"machine": name, **modelled(machine, batch)}
        for name, machine in MACHINES.items()
        for batch in sorted({128, 128 * machine.processes})
    ]
    for row in rows:
        row["gain"] = row["images_per_second"] / rows[0]["images_per_second"]
    return rows


class Timed(SilentProgress):
    """Ends the training after a warm-up and the steps that are timed."""

    def __init__(self, warm_up: int, steps: int) -> None:
        """Set how many steps to leave out and how many to time."""
        self.left, self.warm_up = warm_up + steps, steps
        self.began = 0.0

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        """Count a step; end the training after the last."""
        self.left -= 1
        if self.left == self.warm_up:
            synchronise()
            self.began = time.perf_counter()
        if self.left == 0:
            self.seconds = time.perf_counter() - self.began
            raise Stop


def worker(args: argparse.Namespace) -> None:
    """Be one of the processes, pinned to a core; the first says how many images a second all of them trained on."""
    os.sched_setaffinity(0, {args.worker})
    torch.set_num_threads(1)
    wanted = parse_recipe(
        {
            "spec": "model-c",
            "data": {"name": args.data, "train": args.batch * 8, "val": args.batch},
            "training": {"epochs": NO_END, "batch": args.batch, "lr": 0.001, "precision": args.precision},
        }
    )
    watch = Timed(args.warm_up, args.steps)
    # the first times its steps and is gone
    with suppress(LostProcessError), join_group():
        run_loop(wanted, args.data_root, watch)
    if watch.began:
        print(args.steps * args.batch / watch.seconds)


def measured(args: argparse.Namespace, *groups: list[int]) -> float:
    """Images per second of trainings at once, each by as many processes as its group has cores, each pinned to one."""
    started = [start(args, cores) for cores in groups]
    said = [[process.communicate()[0] for process in group] for group in started]
    if code := max(group[0].returncode for group in started):
        raise SystemExit(code)
    return sum(float(first) for first, *_ in said)


def start(args: argparse.Namespace, cores: list[int]) -> list[subprocess.Popen[str]]:
    """Start the processes of one training and return them in order of rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    options = [
        word
        for name in ("batch", "steps", "warm_up")
        for word in (f"--{name.replace('_', '-')}", str(vars(args)[name]))
    ]
    options += ["--precision", args.precision, "--data", args.data]
    options += ["--data-root", args.data_root] if args.data_root else []
    started = []
    for rank, core in enumerate(cores):
        group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": len(cores), "LOCAL_WORLD_SIZE": len(cores)}
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {**os.environ, **{key: str(value) for key, value in group.items()}, **place}
        command = [sys.executable, __file__, *options, "--worker", str(core)]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    return started


def apart(names: list[str]) -> dict[str, Any]:
    """How far the second run is from the first, after the first epoch and after the last that both have."""
    ours, theirs = (get_run_folder(name).read_metrics() for name in names)
    found: dict[str, Any] = {}
    for epoch in (1, min(len(ours), len(theirs))):
        one, two = ours[epoch - 1], theirs[epoch - 1]
        relative = {name: two[name] / one[name] - 1 for name in ("train_loss", "val_loss")}
        found[str(epoch)] = {**relative, "val_psnr": two["val_psnr"] - one["val_psnr"]}
    return found


def main() -> None:
    """Measure, model, print."""
    options = parser(__doc__)
    options.add_argument("--cores", default="0,1", help="of the two processes; the first is that of the one")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--warm-up", type=int, default=30)
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--precision", choices=["auto", "float32", "bf16"], default="auto")
    options.add_argument("--model-only", action="store_true", help="measure nothing")
    options.add_argument("--curves", nargs=2, metavar="RUN", help="compare two runs; measure nothing")
    options.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.worker is not None:
        worker(args)
        return
    if args.curves:
        rows = [["epoch", "train loss", "val loss", "PSNR, dB"]]
        curves = apart(args.curves)
        for epoch, row in curves.items():
            rows.append([epoch, f"{row['train_loss']:+.1e}", f"{row['val_loss']:+.1e}", f"{row['val_psnr']:+.3f}"])
        show(curves, table(rows), args.json)
        return
    args.data = pick_data(args)
    found: dict[str, Any] = {"gradient_bytes": GRADIENT_BYTES, "norms": NORMS, "model": model()}
    head = []
    if not args.model_only:
        cores = [int(core) for core in args.cores.split(",")]
        each = [[core] for core in cores]
        rounds = [(measured(args, each[0]), measured(args, cores), measured(args, *each)) for _ in range(args.rounds)]
        names = ("one", "shared", "apart")
        found |= {name: median(values) for name, values in zip(names, zip(*rounds, strict=True), strict=True)}
        found |= {f"{name}_ratio": median(turn[k] / turn[0] for turn in rounds) for k, name in enumerate(names)}
        found |= {"efficiency": median(shared / apart for _, shared, apart in rounds), "precision": args.precision}
        said = (
            "1 process, 1 core",
            f"{len(cores)} processes, 1 core each",
            f"{len(cores)} trainings apart, 1 core each",
        )
        head = [[f"batch {args.batch}, {args.precision}", "images/s", "ratio"]]
        head += [
            [what, f"{found[name]:,.0f}", f"{found[f'{name}_ratio']:.2f}"]
            for what, name in zip(said, names, strict=True)
        ]
    rows = [["modelled, not measured", "batch", "step, ms", "images/s", "gain", "binds"]]
    for row in found["model"]:
        numbers = [
            f"{row['batch']:,}",
            f"{row['step_ms']:.2f}",
            f"{row['images_per_second']:,.0f}",
            f"{row['gain']:.1f}",
        ]
        binds = row["binds"] + (", decoding if streamed" if row["decoding_binds"] else "")
        rows.append([row["machine"], *numbers, binds])
    show(found, "\n\n".join(table(part) for part in (head, rows) if part), args.json)


if __name__ == "__main__":
    main()
