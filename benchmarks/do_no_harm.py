"""Whether `daelab denoise` without --model ever makes a photograph worse: PSNR before and after, by kind of noise.

    python benchmarks/do_no_harm.py --data-root DIR            # the whole of CBSD68
    python benchmarks/do_no_harm.py --data photos --every 3    # the bundled photographs, every third

Pictures are files of 8 bits, so each is known to a rounding: its error counts 1/12 of a step squared more than what
is seen, and a clean one has 58.9 dB before anything is done to it. Exit code 1 where any picture loses more than
`LOSS`.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

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

Bytes = npt.NDArray[np.uint8]
LOSS = 0.1
"""dB that a picture may lose."""
SIDE = 320
"""Of the bundled photographs, the middle of so many pixels at most."""
NOISES = (
    "none",
    *(f"awgn({sigma}) > quantised" for sigma in (5, 15, 25, 50)),
    *("camera(0.0005, 0.001)", "camera(0.003, 0.003)", "camera(0.01, 0.005)", "camera(0.02, 0.02)"),
    *(f"jpeg({quality})" for quality in (30, 50, 70, 90)),
    # beyond what is promised: what a camera writes, and what the paper's models were made for
    *("demosaicked(0.005, 0.005) > jpeg(90)", "salt-and-pepper(0.02)", "type-1", "type-2"),
)


@dataclass
class Row:
    """What became of the pictures under a noise."""

    noise: str
    changes: list[float] = field(default_factory=list)
    """dB of each."""
    noisy: list[float] = field(default_factory=list)
    """dB of each before."""
    models: Counter[str] = field(default_factory=Counter)
    """How often each was chosen."""
    families: Counter[str] = field(default_factory=Counter)
    """What inspecting said."""

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
            "models": dict(self.models),
            "families": dict(self.families),
        }


def main() -> None:
    """Measure, print, and say by the exit code whether it holds."""
    args = options().parse_args()
    for path in args.model:
        ship(path)
    pictures = list(photographs(args))
    chosen = AutomaticDenoiser()
    rows = []
    for noise in args.noise or NOISES:
        rows.append(measured(noise, pictures, chosen))
        print(f"{noise}: worst {rows[-1].worst:+.2f} dB", file=sys.stderr, flush=True)
    broken = [row.noise for row in rows if row.worst < -LOSS]
    found = {"pictures": len(pictures), "loss": LOSS, "broken": broken, "rows": [row.to_dict() for row in rows]}
    show(found, text(rows) + f"\n\nlost more than {LOSS} dB under: {', '.join(broken) or 'nothing'}", args.json)
    sys.exit(1 if broken else 0)


def options() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    found.add_argument("--data", choices=["cbsd68", "photos"], default="cbsd68")
    found.add_argument("--data-root", type=Path, metavar="DIR", help="where cbsd68 is")
    found.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th picture")
    found.add_argument("--noise", action="append", help="only this; repeat for more")
    found.add_argument("--model", type=Path, action="append", default=[], metavar="FILE", help="as if it shipped")
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


def ship(path: Path) -> None:
    """Let a model's file be one of those that ship."""
    shipped = list_shipped_models() | {path.stem: path}
    for module in (registry, identify):
        module.list_shipped_models = lambda: shipped


def photographs(args: argparse.Namespace) -> Iterator[Bytes]:
    """(H, W, 3) each."""
    if args.data == "photos":
        for photo in PHOTOS[:: args.every]:
            pixels = read_picture(f"photo:{photo.name}").colour().pixels
            top, left = (max(0, side - SIDE) // 2 for side in pixels.shape[:2])
            yield np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE])
        return
    test = load_dataset("cbsd68", args.data_root, train=False).test
    for place in range(0, len(test), args.every):
        yield test.batch(np.array([place]))[0].transpose(1, 2, 0)


def measured(text: str, pictures: list[Bytes], chosen: AutomaticDenoiser) -> Row:
    """Every picture under a noise, and by what is chosen for it."""
    row, noise = Row(text), parse_noise(text)
    for place, clean in enumerate(pictures):
        noisy = make_noisy(clean, noise, 0, place)
        denoised = denoise_image(noisy, chosen)
        (seen,) = denoised.noises
        before, after = psnr(noisy, clean), psnr(denoised.pixels, clean)
        row.noisy.append(before)
        row.changes.append(after - before)
        row.models[seen.choice or LEFT_UNCHANGED] += 1
        row.families[seen.family] += 1
    return row


def psnr(image: Bytes, clean: Bytes) -> float:
    """dB, of two pictures that are known to a rounding."""
    error = np.mean((image.astype(np.float64) - clean) ** 2) + 1 / 12
    return float(10 * np.log10(255**2 / error))


def text(rows: list[Row]) -> str:
    """Format the rows as a table."""
    head = ["noise", "before, dB", "mean change", "worst", "chosen"]
    cells = [
        [
            row.noise,
            f"{np.mean(row.noisy):.2f}",
            f"{np.mean(row.changes):+.2f}",
            f"{row.worst:+.2f}",
            ", ".join(f"{count} {name}" for name, count in row.models.most_common()),
        ]
        for row in rows
    ]
    return table([head, *cells])


if __name__ == "__main__":
    main()
