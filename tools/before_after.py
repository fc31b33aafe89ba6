"""Draw the pictures of the README and the handbook that show photographs before and after denoising.

    python tools/before_after.py                     write docs/images/before-after/
    python tools/before_after.py --out DIR

Noise is added to bundled photographs that anybody may show, and the default denoises them, as for any picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from daelab._util.files import replace_file
from daelab.denoising.automatic import load_model
from daelab.denoising.noisy_images import make_noisy
from daelab.image_io.read import read_picture
from daelab.noise.grammar import parse_noise

Bytes = npt.NDArray[np.uint8]
FOLDER = Path(__file__).parents[1] / "docs" / "images" / "before-after"
LARGEST_FILE = 150_000
"""The largest size of a file in bytes."""
GAP = 6
"""The white pixels between two pictures."""


@dataclass(frozen=True)
class Example:
    """A part of a photograph, its noise, and the settings whose results are shown beside it."""

    photo: str
    noise: str
    place: tuple[int, int]
    """The top and the left side of the part, in pixels."""
    size: tuple[int, int]
    """The height and the width of the part, in pixels."""
    settings: tuple[Mapping[str, Any], ...] = ({},)
    """The options of each result."""
    enlarged: int = 1
    """The factor by which the part is enlarged, without smoothing."""
    result_alone: bool = field(default=False)
    """Whether the noisy part is left out."""


_PHONE = "raw(0.012, 0.01, 0.001, 2, 1.7, 0.7, 0.2) > quantised"
EXAMPLES = {
    "cat": Example("cat", "camera(0.012, 0.01) > jpeg(90)", (0, 80), (300, 356)),
    "astronaut": Example("astronaut", _PHONE, (0, 90), (300, 356)),
    "coffee": Example("coffee", "camera(0.005, 0.005) > jpeg(85)", (60, 120), (300, 356)),
    "settings": Example(
        "cat",
        "camera(0.012, 0.01) > quantised",
        (90, 120),
        (110, 118),
        ({}, {"detail": 0.7}, {"strength": 0.6, "chroma": 1.0}),
        enlarged=2,
        result_alone=True,
    ),
}


def main() -> None:
    """Draw every example."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--out", type=Path, default=FOLDER, help="folder of the pictures")
    folder = options.parse_args().out
    for name, example in EXAMPLES.items():
        path = folder / f"{name}.webp"
        save(draw(example), path)
        print(f"{path}: {path.stat().st_size / 1000:.0f} KB")


def draw(example: Example) -> Bytes:
    """Return the noisy part of a photograph and the results, side by side."""
    clean = read_picture(f"photo:{example.photo}").colour().pixels
    noisy = make_noisy(clean, parse_noise(example.noise), 0)
    denoiser = load_model("automatic")
    pictures = [] if example.result_alone else [noisy]
    pictures += [denoiser(noisy, **settings) for settings in example.settings]
    (top, left), (height, width) = example.place, example.size
    parts = [picture[top : top + height, left : left + width] for picture in pictures]
    parts = [part.repeat(example.enlarged, 0).repeat(example.enlarged, 1) for part in parts]
    white = np.full((len(parts[0]), GAP, 3), 255, np.uint8)
    return np.concatenate([piece for part in parts for piece in (white, part)][1:], axis=1)


def save(pixels: Bytes, path: Path) -> None:
    """Write a picture as WebP, as well as the largest size allows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for quality in (88, 80, 70, 60):
        with replace_file(path) as part:
            Image.fromarray(pixels).save(part, "WEBP", quality=quality, method=6)
        if path.stat().st_size <= LARGEST_FILE:
            return
    raise ValueError(f"{path}: it has {path.stat().st_size:,} bytes even at the lowest quality; draw a smaller part")


if __name__ == "__main__":
    main()
