"""What a folder's random crops cost, beside images of the same size that lie ready in one array.

Both are read through the training's own feed, in turns, in one process; the noises of photographs and the
augmentation are timed on the same batches. Ratios are medians over the rounds.

    python benchmarks/crops_speed.py [--pictures 64] [--crop 64]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common import parser, show, table
from daelab.datasets.base import ImageSet
from daelab.datasets.registry import load_dataset
from daelab.noise.base import PRESETS
from daelab.noise.random_streams import BatchStream
from daelab.training.loader import BatchLoader, flip_randomly, rotate_randomly

CPU = torch.device("cpu")


def seconds(work: Callable[[], object]) -> float:
    """Processor time, which other work on the machine does not lengthen."""
    began = time.process_time()
    work()
    return time.process_time() - began


def drain(batches: Iterable[Tensor]) -> list[Tensor]:
    """Return all batches as a list."""
    return list(batches)


def written(folder: Path, pictures: int) -> None:
    """Pictures of CBSD68's size; what they show costs nothing."""
    rng = np.random.default_rng(0)
    for i in range(pictures):
        Image.fromarray(rng.integers(0, 256, (321, 481, 3), dtype=np.uint8)).save(folder / f"{i}.bmp")


def main() -> None:
    """Measure, print."""
    options = parser(__doc__)
    options.add_argument("--pictures", type=int, default=64)
    options.add_argument("--crops", type=int, default=32, help="of each picture in an epoch")
    options.add_argument("--crop", type=int, default=64, help="side of a crop")
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--rounds", type=int, default=5)
    args = options.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="daelab-bench-") as folder:
        written(Path(folder), args.pictures)
        train = load_dataset(f"folder:{folder}", crop=args.crop).train
        cropped = train.take(np.repeat(np.arange(len(train)), args.crops))
        feed = BatchLoader(cropped, args.batch, 0, CPU)
        batches = drain(feed.epoch(0))  # decodes every picture
    ready = torch.cat(batches).mul(255).round().to(torch.uint8).numpy()
    resident = BatchLoader(ImageSet("ready", ready, cropped.labels, cropped.classes), args.batch, 0, CPU)
    draws = BatchStream(args.batch, 0)
    works: dict[str, Callable[[], object]] = {
        "images that lie ready": lambda: drain(resident.epoch(0)),
        "random crops": lambda: drain(feed.epoch(0)),
        "flips and turns": lambda: [
            rotate_randomly(flip_randomly(x, draws.generator), draws.generator) for x in batches
        ],
        "the noise real": lambda: [PRESETS["real"].apply(x, BatchStream(len(x), 0)) for x in batches],
        "the noise camera-pipeline": lambda: [
            PRESETS["camera-pipeline"].apply(x, BatchStream(len(x), 0)) for x in batches
        ],
    }
    rounds = [{name: seconds(work) for name, work in works.items()} for _ in range(args.rounds)]
    reference = "images that lie ready"
    found = {
        name: {
            "images_per_second": len(cropped) / max(median(times[name] for times in rounds), 1e-9),
            "ratio": median(times[reference] / max(times[name], 1e-9) for times in rounds),
        }
        for name in works
    }
    rows = [["", "images/s, one core", "ratio"]]
    rows += [[name, f"{row['images_per_second']:,.0f}", f"{row['ratio']:.3f}"] for name, row in found.items()]
    show({"crop": args.crop, "batch": args.batch, "works": found}, table(rows), args.json)


if __name__ == "__main__":
    main()
