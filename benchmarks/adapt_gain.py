"""How much of the gain of training with clean pictures `daelab adapt` reaches with noisy pictures alone.

    taskset -c 0 python benchmarks/adapt_gain.py --data-root DIR --json > docs/results/adapt-gain.json    # 25 minutes

Both trainings begin with the same shipped model, take the same time, and differ only in their pictures: the noisy
versions of photographs of cbsd432 alone, or the clean photographs, to which new noise is added in each step. All are
tested on CBSD68. The share is the gain in PSNR of the first over that of the second.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from common import show, table
from daelab.datasets.registry import load_dataset
from daelab.denoising.noisy_images import make_noisy
from daelab.experiments.adapt import adapt
from daelab.experiments.evaluate_model import evaluate
from daelab.experiments.train import train
from daelab.noise.grammar import parse_noise
from daelab.runs.ledger import Ledger
from daelab.training.recipe import load_recipe, parse_recipe

SIDE = 320
"""The side of the middle of a photograph that is taken, in pixels."""
TESTED_ON = {"cbsd432": "cbsd68", "photos": "photos"}


def main() -> None:
    """Train twice, test three models, and print the table."""
    args = options().parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix="daelab-bench-") as folder:
        os.environ["DAELAB_RUNS"] = str(Path(folder) / "runs")
        found = measure(args, Path(folder))
    titles = {"noisy": "noisy", "start": f"{args.start} as it is", "adapted": "adapted", "clean": "with clean pictures"}
    rows = [[titles[name], f"{psnr:.2f}", str(found["steps"].get(name, ""))] for name, psnr in found["psnr"].items()]
    human = table([["denoised by", "PSNR, dB", "steps"], *rows])
    show(found, f"{human}\n\nshare of the gain: {found['share']:.2f}", args.json)


def options() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", choices=list(TESTED_ON), default="cbsd432", help="photographs to train on")
    parser.add_argument("--data-root", metavar="DIR", help="folder that holds cbsd68, and cbsd432 or train beside it")
    parser.add_argument("--noise", default="salt-and-pepper(0.2)", help="noise of the pictures")
    parser.add_argument("--start", default="photo-s", help="shipped model to begin with")
    parser.add_argument("--minutes", type=float, default=10.0, help="time of each training")
    parser.add_argument("--pictures", type=int, default=108, help="number of photographs to train on")
    parser.add_argument("--limit", type=int, help="number of test pictures; default: all")
    parser.add_argument("--threads", type=int, default=1, help="number of threads")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the document that `--json` prints."""
    write_pictures(args, folder)
    how: dict[str, Any] = {"ledger": Ledger(f"sqlite:///{folder / 'ledger.db'}"), "report": False}
    adapted = adapt(folder / "noisy", args.start, minutes=args.minutes, name="adapted", **how).training
    fields = load_recipe(adapted.run.recipe, trusted=True).to_dict()
    data = fields["data"] | {"name": f"folder:{folder / 'clean'}"}
    clean = train(parse_recipe(fields | {"data": data, "noise": args.noise}), "clean", **how)
    models = {"start": args.start, "adapted": adapted.run.best, "clean": clean.run.best}
    psnr: dict[str, float] = {}
    for name, model in models.items():
        test = evaluate(model, TESTED_ON[args.data], args.noise, data_root=args.data_root, limit=args.limit)
        values = test.scores.overall.metrics["psnr"]
        psnr |= {"noisy": values.noisy, name: values.denoised}
    batch = fields["training"]["batch"]
    steps = {
        name: round(sum(row["images_per_second"] * row["seconds"] for row in done.rows) / batch)
        for name, done in (("adapted", adapted), ("clean", clean))
    }
    return {
        "noise": args.noise,
        "start": args.start,
        "minutes": args.minutes,
        "pictures": args.pictures,
        "data": args.data,
        "test": TESTED_ON[args.data],
        "steps": steps,
        "psnr": psnr,
        "share": (psnr["adapted"] - psnr["start"]) / (psnr["clean"] - psnr["start"]),
    }


def write_pictures(args: argparse.Namespace, folder: Path) -> None:
    """Write photographs and their noisy versions as PNG files, evenly spaced over the data set."""
    images = load_dataset(args.data, args.data_root, crop=SIDE).train
    noise = parse_noise(args.noise)
    for name in ("clean", "noisy"):
        (folder / name).mkdir()
    for place in np.linspace(0, len(images) - 1, args.pictures).astype(np.int64):
        clean = images.batch(np.array([place]))[0].transpose(1, 2, 0)
        for name, pixels in (("clean", clean), ("noisy", make_noisy(clean, noise, index=int(place)))):
            Image.fromarray(pixels).save(folder / name / f"{place}.png")


if __name__ == "__main__":
    main()
