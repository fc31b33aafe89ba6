"""Time and memory against the size of the work: pixels, images, epochs, runs in the ledger, trials and workers.

Each size is a process of its own, which prepares the work, measures it, and says how much memory it had at most. The
slope is the exponent of the size in the CPU seconds between the two largest sizes: 1 is proportional to the size.

    python benchmarks/cost_by_size.py --data-root .data [--only pixels,trials] [--csv FILE]
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import text

from common import parser, pick_data, run_loop, show, table
from daelab.cli.process import limit_spinning
from daelab.training.callbacks.progress import SilentProgress
from daelab.training.recipe import parse_recipe

Work = Callable[[], object]
RECIPE: dict[str, Any] = {
    "spec": "model-b-35",
    "noise": "published-code",
    "data": {"train": 512, "val": 64},
    "training": {"batch": 64, "lr": 0.005, "precision": "float32"},
}


def denoise_pixels(megapixels: int, args: argparse.Namespace) -> Work:
    """Denoise a picture of so many megapixels, tile by tile."""
    from daelab.denoising.denoiser import Denoiser

    rows = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    picture = np.random.default_rng(0).integers(0, 256, (rows, round(megapixels * 1e6 / rows), 3), np.uint8)
    denoiser = Denoiser.load("model-c")
    denoiser(picture[:64, :64])
    return lambda: denoiser(picture)


def evaluate_images(count: int, args: argparse.Namespace) -> Work:
    """Evaluate Model-C on so many test images."""
    from daelab.experiments.evaluate_model import evaluate

    return lambda: evaluate("model-c", args.data, limit=count, data_root=args.data_root)


def train_epochs(count: int, args: argparse.Namespace) -> Work:
    """Train a small network for so many epochs of 512 images."""
    # The photographs have few test images, which every training ends with.
    data, training = {**RECIPE["data"], "name": "photos"}, {**RECIPE["training"], "epochs": count}
    recipe = parse_recipe({**RECIPE, "data": data, "training": training})
    return lambda: run_loop(recipe, args.data_root, SilentProgress())


def double_rows(url: str, tables: dict[str, str], count: int) -> None:
    """Copy the rows of tables until there are `count`: numbers go on, and names get the number of the copy.

    Args:
        url: The URL of a SQLite database.
        tables: The column of each table that must differ in each copy, by the name of the table; the first counts.
        count: The wanted number of rows of the first table.
    """
    from sqlalchemy import create_engine

    first = next(iter(tables))
    with create_engine(url).begin() as connection:
        while (rows := connection.execute(text(f"SELECT count(*) FROM {first}")).scalar_one()) < count:
            fresh = min(rows, count - rows)
            for name, key in tables.items():
                info = connection.execute(text(f"PRAGMA table_info({name})")).mappings()
                columns = [column["name"] for column in info if not column["pk"]]
                values = [
                    f"{key} || '-{rows}'"
                    if column == key == "name"
                    else f"{column} + {rows}"
                    if column == key
                    else column
                    for column in columns
                ]
                first_rows = f"WHERE {key} <= {fresh}" if key == "trial_id" else f"ORDER BY rowid LIMIT {fresh}"
                into, source = ", ".join(columns), ", ".join(values)
                connection.execute(text(f"INSERT INTO {name} ({into}) SELECT {source} FROM {name} {first_rows}"))


def list_ledger(count: int, args: argparse.Namespace) -> Work:
    """Record a run in a ledger with so many rows, and list all."""
    from daelab.runs.ledger import Ledger

    url = f"sqlite:///{args.folder / 'ledger.db'}"
    recipe = parse_recipe({**RECIPE, "data": {"name": "photos"}}).model_dump(mode="json")
    Ledger(url).record("run", status="finished", epochs=10, val_loss=0.003, val_psnr=25.0, recipe=recipe, seconds=9.0)
    double_rows(url, {"runs": "name"}, count)

    def work() -> None:
        ledger = Ledger(url)
        ledger.record("another", status="running")
        ledger.mark_dead_runs()
        assert len(ledger.list_runs()) == count + 1

    return work


def take_trial(count: int, args: argparse.Namespace) -> Work:
    """Open a study with so many finished trials, show its best point, and take one more trial."""
    from daelab.experiments.search.search_space import parse_search_space
    from daelab.experiments.search.study import Study

    space = parse_search_space(
        {
            **RECIPE,
            "data": {"name": "photos"},
            "training": {"lr": {"low": 0.001, "high": 0.01}},
            "explore": {"sampler": "random", "minutes": 60},
        }
    )
    url = f"sqlite:///{args.folder / 'study.db'}"
    study = Study("study", url).create(space)
    trial = study.take(space)
    assert trial is not None
    for name, dimension in space.dimensions().items():
        dimension.suggest(trial, name)
    study.finish(trial, space, {"psnr": 25.0})
    study.study.set_user_attr("repeats", {str(number): 1 for number in range(count)})
    tables = ("trial_params", "trial_values", "trial_user_attributes", "trial_system_attributes")
    double_rows(url, {"trials": "number", **dict.fromkeys(tables, "trial_id")}, count)

    def work() -> None:
        opened = Study("study", url).open()
        assert len(opened.rows()) == count
        opened.best()
        assert opened.take(opened.space) is not None

    return work


def denoise_with_workers(count: int, args: argparse.Namespace) -> Work:
    """Denoise eight pictures with so many workers."""
    from PIL import Image

    from daelab.cli import app

    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (args.side, args.side, 3), np.uint8)
        Image.fromarray(pixels).save(args.folder / f"{number}.png")
    words = [
        "denoise",
        str(args.folder),
        "--model",
        "photo-s",
        "--workers",
        str(count),
        "--out",
        str(args.folder / "out"),
    ]
    return lambda: app(words, standalone_mode=False)


@dataclass(frozen=True)
class Axis:
    """A quantity on which the cost may depend."""

    prepare: Callable[[int, argparse.Namespace], Work]
    what: str
    """What is done, as a row of the table says it."""
    sizes: tuple[int, ...]


AXES = {
    "pixels": Axis(denoise_pixels, "megapixels of a picture, denoised with Model-C", (1, 3, 10, 30, 100)),
    "images": Axis(evaluate_images, "test images, evaluated", (100, 300, 1000, 3000)),
    "epochs": Axis(train_epochs, "epochs of 512 images, trained", (1, 3, 10, 30)),
    "rows": Axis(list_ledger, "runs in the ledger: record one, list all", (100, 1000, 10_000, 100_000)),
    "trials": Axis(take_trial, "trials of a study: show the best, take one more", (10, 100, 1000, 10_000)),
    "workers": Axis(denoise_with_workers, "workers that denoise the same eight pictures", (1, 2, 4)),
}


def options() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = parser(__doc__)
    found.add_argument("--only", help=f"the axes to measure, of {','.join(AXES)}")
    found.add_argument("--sizes", help="sizes to measure in place of the usual ones: 1,2")
    found.add_argument("--side", type=int, default=384, help="of the pictures for the workers, in pixels")
    found.add_argument("--csv", type=Path, help="also write the table that `make docs` draws")
    found.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    found.add_argument("--one", help=argparse.SUPPRESS)
    return found


def measure_one(args: argparse.Namespace) -> None:
    """Measure one size in this process and print what it took."""
    axis, _, size = args.one.partition("=")
    work = AXES[axis].prepare(int(size), args)
    began, cpu_began = time.perf_counter(), time.process_time()
    work()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    # Linux counts in kilobytes, macOS in bytes.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    found = {"axis": axis, "size": int(size), "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak}
    print("\n" + json.dumps(found))


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every size of every axis, each in a process and a folder of its own."""
    # As the command line does.
    limit_spinning()
    rows = []
    for name in (args.only or ",".join(AXES)).split(","):
        sizes = AXES[name].sizes if args.sizes is None else tuple(map(int, args.sizes.split(",")))
        for size in sizes:
            with tempfile.TemporaryDirectory(prefix="daelab-bench-") as folder:
                command = [sys.executable, __file__, *sys.argv[1:], "--data", args.data, "--folder", folder]
                environment = {
                    **os.environ,
                    "DAELAB_RUNS": f"{folder}/runs",
                    "DAELAB_LEDGER": f"sqlite:///{folder}/l.db",
                }
                answer = subprocess.run(
                    [*command, "--one", f"{name}={size}"], stdout=subprocess.PIPE, check=True, env=environment
                )
            rows.append(json.loads(answer.stdout.splitlines()[-1]))
            print(f"{name} {size:,}: {rows[-1]['seconds']:.2f} s", file=sys.stderr)
    return rows


def compute_slope(points: list[tuple[float, float]]) -> float:
    """Return the exponent of the size in the cost between the two largest sizes; 0 for one size.

    The smallest sizes measure what is the same for all.

    >>> compute_slope([(1, 7), (10, 3), (100, 300)])
    2.0
    """
    if len(points) < 2:
        return 0.0
    (small, before), (large, after) = points[-2:]
    return math.log(after / before) / math.log(large / small)


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return each axis with its sizes, its costs and their slopes."""
    axes = {}
    for name in dict.fromkeys(row["axis"] for row in rows):
        mine = [row for row in rows if row["axis"] == name]
        axes[name] = {
            "what": AXES[name].what,
            "sizes": [row["size"] for row in mine],
            "seconds": [row["seconds"] for row in mine],
            "cpu_seconds": [row["cpu_seconds"] for row in mine],
            "peak_mb": [row["peak_mb"] for row in mine],
            "slope": compute_slope([(row["size"], row["cpu_seconds"]) for row in mine]),
        }
    return {"axes": axes}


def human(found: dict[str, Any]) -> str:
    """Format the document for people."""
    lines = [["axis", "from", "to", "CPU seconds", "", "peak MB", "", "slope"]]
    for name, axis in found["axes"].items():
        sizes, seconds, peaks = axis["sizes"], axis["cpu_seconds"], axis["peak_mb"]
        ends = [f"{sizes[0]:,}", f"{sizes[-1]:,}", f"{seconds[0]:.2f}", f"{seconds[-1]:.2f}"]
        lines.append([name, *ends, f"{peaks[0]:,.0f}", f"{peaks[-1]:,.0f}", f"{axis['slope']:.2f}"])
    return table(lines)


def main() -> None:
    """Run the benchmark, or one of its measurements."""
    args = options().parse_args()
    if args.one:
        measure_one(args)
        return
    args.data = pick_data(args)
    rows = measure(args)
    if args.csv:
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        with args.csv.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(
                {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()}
                for row in rows
            )
    found = summarize(rows)
    show(found, human(found), args.json)


if __name__ == "__main__":
    main()
