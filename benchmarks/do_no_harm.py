"""Whether `daelab denoise` without --model decides well: what it harms, and what it misses, by kind of noise.

    python benchmarks/do_no_harm.py --data-root DIR            # the whole of CBSD68, and graphics
    python benchmarks/do_no_harm.py --data-root DIR --limit 20 --pairs PAIRS --kept results
    python benchmarks/do_no_harm.py --data photos --every 3    # the bundled photographs, every third

Harm is the largest loss in PSNR. Gain missed is what the best shipped model for photographs would have added to the
pictures, but the decision did not. Pictures are files of 8 bits, so each is known to a rounding: its error counts 1/12
of a step squared more than what is seen, and a clean one has 58.9 dB before anything is done to it. The truth of a
compressed picture is what was compressed; "untouched" tells whether it came back as it was. Exit code 1 where any
picture loses more than `LOSS`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from common import show, table
from daelab.datasets.registry import load_dataset
from daelab.denoising.automatic import LEFT_UNCHANGED, AutomaticDenoiser, denoise_image
from daelab.denoising.noise_identification import identify
from daelab.denoising.noisy_images import make_noisy
from daelab.image_io.bundled_photos import PHOTOS
from daelab.image_io.read import read_picture
from daelab.models import registry
from daelab.models.registry import list_shipped_models
from daelab.noise.grammar import parse_noise
from graphics import GRAPHICS, make_graphics

Bytes = npt.NDArray[np.uint8]
Pair = tuple[Bytes, Bytes]
"""A picture and its truth."""
LOSS = 0.2
"""dB that a picture may lose."""
SIDE = 320
"""Of the bundled photographs, the middle of so many pixels at most."""
NOISES = (
    "none",
    *(f"awgn({sigma}) > quantised" for sigma in (3, 5, 15, 25, 50)),
    *("camera(0.0005, 0.001)", "camera(0.003, 0.003)", "camera(0.01, 0.005)", "camera(0.02, 0.02)"),
    *("demosaicked(0.002, 0.002) > quantised", "demosaicked(0.005, 0.005) > jpeg(90)"),
    *("camera(0.001, 0.002) > chroma(6, 3) > quantised", "grain(0.04, 0.8) > quantised"),
    *(f"jpeg({quality})" for quality in (30, 50, 70, 85, 95)),
    *("awgn(10) > jpeg(80)", "camera(0.005, 0.005) > jpeg(90)"),
    *("awgn(20) > quantised, resized", "awgn(10) > quantised, sharpened", "none, sharpened"),
    *("salt-and-pepper(0.02)", "type-1", "type-2"),
)
"""The noises; after a comma, what is done to the noisy and to the clean picture."""
PAIRS, DRAWN = "real pairs", "graphics: "


@dataclass
class Row:
    """What became of the pictures of a kind."""

    noise: str
    changes: list[float] = field(default_factory=list)
    """dB of each."""
    missed: list[float] = field(default_factory=list)
    """dB of each that the best model would have added."""
    noisy: list[float] = field(default_factory=list)
    """dB of each before."""
    untouched: int = 0
    """The number of pictures that came back as they were."""
    models: Counter[str] = field(default_factory=Counter)
    """How often each was chosen."""
    families: Counter[str] = field(default_factory=Counter)
    """The families that were identified."""

    @property
    def worst(self) -> float:
        """The smallest change in PSNR, in dB; negative if a picture got worse."""
        return min(self.changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as `--json` prints it."""
        return {
            "noise": self.noise,
            "pictures": len(self.changes),
            "psnr_noisy": float(np.mean(self.noisy)),
            "mean_change": float(np.mean(self.changes)),
            "worst_change": self.worst,
            "gain_missed": float(np.mean(self.missed)),
            "untouched": self.untouched,
            "models": dict(self.models),
            "families": dict(self.families),
        }


def main() -> None:
    """Measure, print, and say by the exit code whether it holds."""
    args = options().parse_args()
    for path in args.model:
        ship(path)
    pictures = list(photographs(args))
    chosen = AutomaticDenoiser(precision="float32")
    kinds: dict[str, Callable[[], Iterator[Pair]]] = {
        noise: partial(noisy_pairs, noise, pictures) for noise in args.noise or NOISES
    }
    if args.pairs:
        kinds[PAIRS] = partial(real_pairs, args.pairs, clean=False)
        kinds[f"{PAIRS}, clean"] = partial(real_pairs, args.pairs, clean=True)
    for kind in () if args.noise else GRAPHICS:
        kinds[DRAWN + kind] = partial(drawn_pairs, kind)
    rows = []
    for name, pairs in kinds.items():
        rows.append(kept(args.kept, f"{name} {len(pictures)}", partial(measured, name, pairs, chosen)))
        print(f"{name}: worst {rows[-1]['worst_change']:+.2f} dB", file=sys.stderr, flush=True)
    broken = [row["noise"] for row in rows if row["worst_change"] < -LOSS]
    found = {"pictures": len(pictures), "loss": LOSS, "broken": broken, "rows": rows}
    head = f"{len(pictures)} pictures of {args.data}\n\n"
    show(found, head + text(rows) + f"\n\nlost more than {LOSS} dB under: {', '.join(broken) or 'nothing'}", args.json)
    sys.exit(1 if broken else 0)


def options() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    found.add_argument("--data", choices=["cbsd68", "photos"], default="cbsd68")
    found.add_argument("--data-root", type=Path, metavar="DIR", help="where cbsd68 is")
    found.add_argument("--pairs", metavar="DIR", help="also the pairs of real photographs in this folder")
    found.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th picture")
    found.add_argument("--limit", type=int, metavar="N", help="at most N pictures")
    found.add_argument("--kept", type=Path, metavar="DIR", help="keep each row, so that an interrupted run goes on")
    found.add_argument("--noise", action="append", help="only this; repeat for more")
    found.add_argument("--model", type=Path, action="append", default=[], metavar="FILE", help="as if it shipped")
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


def ship(path: Path) -> None:
    """Let a model's file be one of those that ship."""
    shipped = list_shipped_models() | {path.stem: path}
    for module in (registry, identify):
        module.list_shipped_models = lambda: shipped


def kept(folder: Path | None, name: str, measure: Callable[[], Row]) -> dict[str, Any]:
    """Return a row as a dictionary, from the folder if it was measured before with the same models."""
    if folder is None:
        return measure().to_dict()
    files = [*list_shipped_models().values(), *Path(registry.__file__).parent.glob("weights/inspector/*")]
    digest = hashlib.sha256(name.encode() + b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    path = folder / f"{digest}.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(measure().to_dict()), encoding="utf-8")
    row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return row


def photographs(args: argparse.Namespace) -> Iterator[Bytes]:
    """(H, W, 3) each."""
    if args.data == "photos":
        for photo in PHOTOS[:: args.every][: args.limit]:
            pixels = read_picture(f"photo:{photo.name}").colour().pixels
            top, left = (max(0, side - SIDE) // 2 for side in pixels.shape[:2])
            yield np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE])
        return
    test = load_dataset("cbsd68", args.data_root, train=False).test
    every = args.every if args.limit is None else max(args.every, len(test) // args.limit)
    for place in range(0, len(test), every)[: args.limit]:
        yield test.batch(np.array([place]))[0].transpose(1, 2, 0)


def noisy_pairs(name: str, pictures: list[Bytes]) -> Iterator[Pair]:
    """Each photograph under a noise."""
    noise, finish = name, ""
    for ending in ("resized", "sharpened"):
        if name.endswith(f", {ending}"):
            noise, finish = name.removesuffix(f", {ending}"), ending
    for place, clean in enumerate(pictures):
        noisy = make_noisy(clean, parse_noise(noise), 0, place)
        yield finished(noisy, finish), finished(clean, finish)


def finished(image: Bytes, finish: str) -> Bytes:
    """Finish a picture as its user did before."""
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    if finish == "resized":
        x = F.interpolate(x, scale_factor=0.7, mode="bicubic", antialias=True)
    elif finish == "sharpened":
        x = x + 0.7 * (x - F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1))
    return x[0].clamp(0, 255).round().byte().permute(1, 2, 0).numpy()


def real_pairs(folder: str, clean: bool) -> Iterator[Pair]:
    """Each real photograph with its truth, or the truth alone."""
    test = load_dataset(f"paired:{folder}", train=False).test
    for place in range(len(test)):
        pair = test.batch(np.array([place]))[0].transpose(1, 2, 0)
        truth = np.ascontiguousarray(pair[..., :3])
        yield (truth if clean else np.ascontiguousarray(pair[..., 3:])), truth


def drawn_pairs(kind: str) -> Iterator[Pair]:
    """Draw some graphics of a kind; the seeds are not those of the training."""
    for seed in range(4):
        image = make_graphics(kind, seed, 320)
        yield image, image


def measured(name: str, pairs: Callable[[], Iterator[Pair]], chosen: AutomaticDenoiser) -> Row:
    """Every picture of a kind, and by what is chosen for it."""
    row = Row(name)
    for noisy, clean in pairs():
        denoised = denoise_image(noisy, chosen)
        (seen,) = denoised.noises
        before, after = psnr(noisy, clean), psnr(denoised.pixels, clean)
        best = after
        if seen.choice is None and seen.photo is not None and not np.array_equal(noisy, clean):
            best = psnr(chosen.load(seen.photo)(noisy), clean)
        row.noisy.append(before)
        row.changes.append(after - before)
        row.missed.append(max(0.0, best - after))
        row.untouched += bool(np.array_equal(noisy, denoised.pixels))
        row.models[seen.choice or LEFT_UNCHANGED] += 1
        row.families[seen.family] += 1
    return row


def psnr(image: Bytes, clean: Bytes) -> float:
    """dB, of two pictures that are known to a rounding."""
    error = np.mean((image.astype(np.float64) - clean) ** 2) + 1 / 12
    return float(10 * np.log10(255**2 / error))


def text(rows: list[dict[str, Any]]) -> str:
    """Format the rows as a table."""
    head = ["noise", "before, dB", "mean change", "harm (worst)", "gain missed", "untouched", "chosen"]
    cells = [
        [
            row["noise"],
            f"{row['psnr_noisy']:.2f}",
            f"{row['mean_change']:+.2f}",
            f"{min(0.0, row['worst_change']):+.2f}",
            f"{row['gain_missed']:.2f}",
            f"{row['untouched']} of {row['pictures']}",
            ", ".join(f"{count} {name}" for name, count in Counter(row["models"]).most_common()),
        ]
        for row in rows
    ]
    return table([head, *cells])


if __name__ == "__main__":
    main()
