"""Where the time of a training step goes: the operators that take most of it, for any recipe.

python benchmarks/profile_step.py paper/38 --data-root .data [--set training.precision=float32] [--shapes]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from common import NO_END, Stop, parser, pick_data, run_loop, show, synchronise, table
from daelab._util.hardware import choose_device, choose_precision
from daelab.training.callbacks.progress import SilentProgress
from daelab.training.recipe import Recipe, load_recipe

WARM_UP = 3
"""Steps before anything is measured."""


class Profiled(SilentProgress):
    """Times some steps of the package's own loop, then profiles as many, then ends it."""

    def __init__(self, steps: int, shapes: bool) -> None:
        """Set how many steps to time and to profile."""
        self.steps = steps
        activities = [ProfilerActivity.CPU]
        if choose_device().type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self.profile = profile(activities=activities, record_shapes=shapes)

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        """Start and stop the timer and the profiler."""
        if step == WARM_UP:
            synchronise()
            self.began = time.perf_counter()
        elif step == WARM_UP + self.steps:
            synchronise()
            self.seconds = (time.perf_counter() - self.began) / self.steps
            self.profile.start()
        elif step == WARM_UP + 2 * self.steps:
            synchronise()
            self.profile.stop()
            raise Stop


def bench_recipe(args: argparse.Namespace) -> Recipe:
    """Return the recipe with just as many images as the steps need."""
    found = load_recipe(args.recipe, args.set)
    stays = args.data == "auto" and found.data.name != "cifar10"
    name = found.data.name if stays else pick_data(args)
    images = found.training.batch * (WARM_UP + 2 * args.steps)
    overrides = (f"data.train={images}", "data.val=64", "data.replacement=false", f"training.epochs={NO_END}")
    return load_recipe(args.recipe, [*args.set, f"data.name={name}", *overrides])


def operators(profiled: profile, steps: int, shapes: bool) -> list[dict[str, Any]]:
    """Time in each operator itself, without what it calls, per step; the longest first."""
    on_gpu = choose_device().type == "cuda"
    rows = []
    for event in profiled.key_averages(group_by_input_shape=shapes):
        spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        row = {"operator": event.key, "calls": event.count / steps, "ms": spent / 1e3 / steps}
        rows.append(row | ({"shapes": str(event.input_shapes)} if shapes else {}))
    total = sum(row["ms"] for row in rows) or 1.0
    rows = [row | {"share": row["ms"] / total} for row in rows]
    return sorted(rows, key=lambda row: -row["ms"])


def human(found: dict[str, Any]) -> str:
    """Format the table of operators and the figures above it."""
    rows = [["operator", "calls", "ms", "share"]]
    for row in found["operators"]:
        shapes = f" {row['shapes']}" if "shapes" in row else ""
        rows.append([row["operator"] + shapes, f"{row['calls']:g}", f"{row['ms']:.2f}", f"{row['share']:.1%}"])
    return (
        f"{found['recipe']}: batch {found['batch']}, {found['precision']} on {found['device']}, "
        f"{found['threads']} threads; {found['ms_per_step']:.1f} ms per step, not profiled\n\n{table(rows)}"
    )


def main() -> None:
    """Run the profiler and print its table."""
    options = parser(__doc__)
    options.add_argument("recipe", nargs="?", default="paper/38", help="name of a shipped recipe, or a file")
    options.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    options.add_argument("--steps", type=int, default=5, help="to time, and as many again to profile")
    options.add_argument("--top", type=int, default=25, help="operators to show")
    options.add_argument("--shapes", action="store_true", help="tell the shapes of the inputs apart")
    args = options.parse_args()
    wanted = bench_recipe(args)
    watch = Profiled(args.steps, args.shapes)
    run_loop(wanted, args.data_root, watch)
    device = choose_device()
    found = {
        "recipe": args.recipe,
        "batch": wanted.training.batch,
        "precision": choose_precision(wanted.training.precision, device),
        "device": device.type,
        "threads": torch.get_num_threads(),
        "ms_per_step": 1e3 * watch.seconds,
        "steps": args.steps,
        "operators": operators(watch.profile, args.steps, args.shapes)[: args.top],
    }
    show(found, human(found), args.json)


if __name__ == "__main__":
    main()
