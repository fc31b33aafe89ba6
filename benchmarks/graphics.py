"""Graphics and textures without noise, made in code. A denoiser must leave every one of them as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Bytes = npt.NDArray[np.uint8]
_TEXT = "the quick brown fox jumps over a lazy dog while 1234 crates of figs, plums & 56 jars wait (at noon)"
_WORDS = _TEXT.split()


def _text(draw: ImageDraw.ImageDraw, rng: np.random.Generator, box: tuple[int, ...], size: int, fill: Any) -> None:
    font = ImageFont.load_default(size)
    for top in range(box[1], box[3] - size, int(1.35 * size)):
        draw.text((box[0], top), " ".join(rng.choice(_WORDS, max(1, (box[2] - box[0]) // (5 * size // 2)))), fill, font)


def _colour(rng: np.random.Generator, low: int = 0, high: int = 256) -> tuple[int, ...]:
    return tuple(int(value) for value in rng.integers(low, high, 3))


def screenshot(rng: np.random.Generator, side: int) -> Image.Image:
    """Return windows with text, buttons and icons on a gradient."""
    image = gradient(rng, side)
    draw = ImageDraw.Draw(image)
    for _ in range(3):
        left, top = (int(at) for at in rng.integers(0, side * 2 // 3, 2))
        box = (left, top, left + int(rng.integers(side // 3, side)), top + int(rng.integers(side // 3, side)))
        draw.rounded_rectangle(box, 6, _colour(rng, 225), _colour(rng, 90, 200))
        draw.rectangle((box[0], box[1], box[2], box[1] + 18), _colour(rng, 120, 220))
        _text(draw, rng, (box[0] + 8, box[1] + 24, box[2], box[3]), int(rng.integers(10, 15)), _colour(rng, 0, 80))
        draw.ellipse((box[0] + 4, box[1] + 4, box[0] + 14, box[1] + 14), _colour(rng))
    return image


def terminal(rng: np.random.Generator, side: int) -> Image.Image:
    """Return coloured text on black."""
    image = Image.new("RGB", (side, side), _colour(rng, 0, 40))
    draw, size = ImageDraw.Draw(image), int(rng.integers(10, 15))
    for top in range(4, side, size + 4):
        _text(draw, rng, (4, top, int(rng.integers(side // 4, side)), top + size + 1), size, _colour(rng, 100))
    return image


def pixel_art(rng: np.random.Generator, side: int) -> Image.Image:
    """Return a few colours in large square pixels."""
    palette = rng.integers(0, 256, (int(rng.integers(6, 24)), 3))
    count = -(-side // int(rng.integers(2, 9)))
    small = Image.fromarray(rng.random((count // 4 + 1, count // 4 + 1)).astype(np.float32))
    field = np.asarray(small.resize((count, count), Image.Resampling.BICUBIC)) + 0.15 * rng.random((count, count))
    index = (field.clip(0, 0.999) * len(palette)).astype(int)
    return Image.fromarray(palette[index].astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)


def sprites(rng: np.random.Generator, side: int) -> Image.Image:
    """Return scattered single pixels of few colours, as a game without scaling draws stars and tiles."""
    tile = rng.integers(0, 5, (16, 16))
    index = np.tile(tile, (side // 16 + 1, side // 16 + 1))[:side, :side]
    index[rng.random((side, side)) < 0.02] = 5
    return Image.fromarray(rng.integers(0, 256, (6, 3)).astype(np.uint8)[index])


def line_art(rng: np.random.Generator, side: int) -> Image.Image:
    """Return smooth black lines on white."""
    image = Image.new("RGB", (2 * side, 2 * side), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(40):
        points = [tuple(at) for at in rng.integers(0, 2 * side, (2, 2)).tolist()]
        draw.line(points, "black", int(rng.integers(1, 6)))
        box = np.sort(rng.integers(0, 2 * side, (2, 2)), axis=0).flatten().tolist()
        draw.arc(box, *rng.integers(0, 360, 2).tolist(), "black", int(rng.integers(1, 6)))
    return image.resize((side, side), Image.Resampling.LANCZOS)


def halftone(rng: np.random.Generator, side: int) -> Image.Image:
    """Return dots whose size follows a smooth brightness."""
    tone = np.asarray(gradient(rng, side).convert("L"), np.float64) / 255
    rows, columns = np.mgrid[:side, :side] * (np.pi / rng.uniform(2, 5))
    angle = rng.uniform(0, np.pi / 2)
    u, v = columns * np.cos(angle) + rows * np.sin(angle), rows * np.cos(angle) - columns * np.sin(angle)
    dots = np.where((np.cos(u) + np.cos(v)) / 4 + 0.5 < tone, 255, 0).astype(np.uint8)
    return Image.fromarray(dots).convert("RGB")


def dithered(rng: np.random.Generator, side: int) -> Image.Image:
    """Return error diffusion of a smooth picture to few colours, as in a GIF."""
    palette = Image.new("P", (1, 1))
    palette.putpalette(rng.integers(0, 256, 3 * int(rng.integers(4, 33))).astype(np.uint8).tobytes())
    return gradient(rng, side).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB")


def black_and_white(rng: np.random.Generator, side: int) -> Image.Image:
    """Return error diffusion to black and white."""
    return gradient(rng, side).convert("1").convert("RGB")


def scanned_text(rng: np.random.Generator, side: int) -> Image.Image:
    """Return soft black text on paper that is a little uneven."""
    image = Image.new("RGB", (2 * side, 2 * side), (int(rng.integers(235, 252)),) * 3)
    _text(ImageDraw.Draw(image), rng, (16, 12, 2 * side, 2 * side), int(rng.integers(20, 30)), _colour(rng, 10, 50))
    image = image.rotate(rng.uniform(-1, 1), Image.Resampling.BICUBIC, fillcolor=(242, 242, 242))
    return image.resize((side, side), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))


def gradient(rng: np.random.Generator, side: int) -> Image.Image:
    """Return a smooth mixture of four colours."""
    corners = Image.fromarray(rng.integers(0, 256, (2, 2, 3)).astype(np.uint8))
    return corners.resize((side, side), Image.Resampling.BICUBIC)


def plot(rng: np.random.Generator, side: int) -> Image.Image:
    """Return curves and points with axes and labels, anti-aliased."""
    image = Image.new("RGB", (2 * side, 2 * side), "white")
    draw = ImageDraw.Draw(image)
    for at in range(60, 2 * side, 80):
        draw.line((60, at, 2 * side - 20, at), (220, 220, 220), 2)
        _text(draw, rng, (10, at, 60, at + 22), 20, "black")
    draw.rectangle((60, 20, 2 * side - 20, 2 * side - 60), None, "black", 2)
    for _ in range(4):
        x, fill = np.linspace(60, 2 * side - 20, 80), _colour(rng)
        y = side + rng.uniform(0.2, 0.9) * side * np.sin(x / rng.uniform(20, 200) + rng.uniform(0, 6))
        draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill, 4)
        for cx, cy in zip(x[::4], y + rng.normal(0, 40, 80), strict=False):
            draw.ellipse((cx - 6, cy - 6, cx + 6, cy + 6), fill)
    return image.resize((side, side), Image.Resampling.LANCZOS)


def _scatter(rng: np.random.Generator, side: int, radius: tuple[float, float], long: float, hue: Any) -> Image.Image:
    """Return shaded ellipses that cover each other, from far to near."""
    image = Image.new("RGB", (3 * side, 3 * side), tuple(int(0.4 * value) for value in hue))
    draw = ImageDraw.Draw(image)
    for _ in range(int(2.2 * side * side / radius[1] ** 2)):
        x, y = rng.uniform(0, 3 * side, 2)
        size, angle, light = 3 * rng.uniform(*radius), rng.uniform(0, np.pi), rng.uniform(0.45, 1.1)
        turn = np.linspace(0, 2 * np.pi, 14)
        dx, dy = size * np.cos(turn), size / long * np.sin(turn)
        px, py = x + dx * np.cos(angle) - dy * np.sin(angle), y + dx * np.sin(angle) + dy * np.cos(angle)
        fill = tuple(int(min(255, light * value + rng.uniform(-12, 12))) for value in hue)
        draw.polygon(list(zip(px.tolist(), py.tolist(), strict=True)), fill)
    return image.resize((side, side), Image.Resampling.BOX)


def sand(rng: np.random.Generator, side: int) -> Image.Image:
    """Return a ground of small grains."""
    return _scatter(rng, side, (1.5, float(rng.uniform(2.5, 4))), 1.3, (205, 180, 140))


def foliage(rng: np.random.Generator, side: int) -> Image.Image:
    """Return leaves over leaves."""
    return _scatter(rng, side, (2.0, float(rng.uniform(5, 12))), 2.2, (95, 150, 60))


GRAPHICS: dict[str, Callable[[np.random.Generator, int], Image.Image]] = {
    "screenshot": screenshot,
    "terminal": terminal,
    "pixel art": pixel_art,
    "sprites": sprites,
    "line art": line_art,
    "halftone": halftone,
    "dithered": dithered,
    "black and white": black_and_white,
    "scanned text": scanned_text,
    "gradient": gradient,
    "plot": plot,
    "sand": sand,
    "foliage": foliage,
}
"""The functions that draw each kind of graphics, with a generator of random numbers and the side in pixels."""


def make_graphics(kind: str, seed: int, side: int = 256) -> Bytes:
    """Return one picture, (side, side, 3) uint8.

    Args:
        kind: A name of `GRAPHICS`.
        seed: The seed.
        side: The side in pixels.
    """
    # The name counts too, so that each kind has its own numbers.
    rng = np.random.default_rng([seed, *kind.encode()])
    return np.array(GRAPHICS[kind](rng, side).convert("RGB"))
