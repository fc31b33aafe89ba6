"""What memory a training takes that streams its pictures from disk, as the set grows tenfold.

Small pictures are generated into a folder that goes away; for each size a process of its own trains on them for an
epoch with `data.buffer`, and says its peak resident memory and that of its largest decoding process.

    python benchmarks/streaming_memory.py [--pictures 200000] [--buffer 4096]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from common import parser, run_loop, show, table
from daelab.training.callbacks.progress import SilentProgress
from daelab.training.recipe import parse_recipe

SIDE = 32


def written(folder: Path, pictures: int) -> None:
    """Pictures of coloured noise, a thousand to a sub-folder; each another."""
    rng = np.random.default_rng(0)
    for i in range(pictures):
        if i % 1000 == 0:
            (folder / f"{i // 1000}").mkdir()
            pixels = rng.integers(0, 256, (1000, SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels[i % 1000]).save(folder / f"{i // 1000}" / f"{i}.png", compress_level=1)


class Epoch(SilentProgress):
    """Keeps what the one epoch's row says."""

    def epoch(self, row: dict[str, float], best: object) -> None:
        """Keep the row of the epoch."""
        self.row = row


def trained(folder: str, args: argparse.Namespace) -> dict[str, float]:
    """One epoch in this process: megabytes at most, here and in the largest worker; images per second."""
    torch.set_num_threads(1)
    wanted = parse_recipe(
        {
            "spec": {"stages": [8]},
            "data": {"name": f"folder:{folder}", "crop": SIDE, "buffer": args.buffer, "val": args.validation},
            "training": {"epochs": 1, "batch": 256, "precision": "float32"},
        }
    )
    watch, began = Epoch(), time.perf_counter()
    run_loop(wanted, None, watch)
    kinds = {"megabytes": resource.RUSAGE_SELF, "worker_megabytes": resource.RUSAGE_CHILDREN}
    peaks = {name: resource.getrusage(who).ru_maxrss / 1024 for name, who in kinds.items()}
    return {**peaks, "images_per_second": watch.row["images_per_second"], "seconds": time.perf_counter() - began}


def measured(pictures: int, args: argparse.Namespace) -> dict[str, float]:
    """Train on a number of pictures in another process and return what it measured."""
    with tempfile.TemporaryDirectory(prefix="daelab-bench-") as folder:
        written(Path(folder), pictures)
        options = ["--buffer", str(args.buffer), "--validation", str(args.validation), "--folder", folder]
        done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return {"pictures": pictures, "set_megabytes": pictures * SIDE * SIDE * 3 / 1e6, **found}


def main() -> None:
    """Measure, print."""
    options = parser(__doc__)
    options.add_argument("--pictures", type=int, default=200_000, help="of the large set; the small one has a tenth")
    options.add_argument("--buffer", type=int, default=4096)
    options.add_argument("--validation", type=int, default=1000, help="pictures to validate on")
    options.add_argument("--folder", help=argparse.SUPPRESS)
    args = options.parse_args()
    if args.folder:
        print(json.dumps(trained(args.folder, args)))
        return
    sets = [measured(pictures, args) for pictures in (args.pictures // 10, args.pictures)]
    growth = {key: sets[1][key] / sets[0][key] for key in ("megabytes", "worker_megabytes")}
    found: dict[str, Any] = {"buffer": args.buffer, "sets": sets, "growth": growth}
    rows = [["pictures", "decoded, MB", "peak MB", "of a worker", "images/s"]]
    keys = ("set_megabytes", "megabytes", "worker_megabytes", "images_per_second")
    rows += [[f"{row['pictures']:,}", *(f"{row[key]:,.0f}" for key in keys)] for row in sets]
    rows += [["ratio", "10.00", f"{growth['megabytes']:.3f}", f"{growth['worker_megabytes']:.3f}", ""]]
    show(found, table(rows), args.json)


if __name__ == "__main__":
    main()
