"""Pictures in memory: pixels, alpha and metadata, without the file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BAND = 1 << 22
"""The number of pixels that are converted at once, so that a large picture is never copied as a whole."""
_SAMPLE = 1 << 16
"""The largest number of values that quantiles are computed from."""
_OUTLIERS = 200
"""At most one in so many values is an outlier."""
_DARKEST_WHITE = 1 / 16
"""The largest value from which on floats within [0, 1] are taken to have the range [0, 1]."""


class UnsupportedPictureError(ValueError):
    """An error for a file that is not damaged, but that daelab does not read."""


@dataclass(frozen=True)
class Picture:
    """A picture in memory: its pixels, its alpha, and everything else that its file stores."""

    pixels: Array
    """(H, W) grey, (H, W, 3) color or (H, W, 4) CMYK; uint8, uint16, another integer type, or float.

    An array file may hold several pictures of one size: (N, H, W, 3), or grey slices as (N, H, W, 1)."""
    alpha: Array | None = None
    """(H, W), of the type of the pixels. Denoising never changes it."""
    extra: tuple[Array, ...] = ()
    """The further bands of a TIFF, such as near infrared: each (H, W), of the type of the pixels."""
    info: dict[str, Any] = field(default_factory=dict)
    """The metadata that formats share: exif, icc_profile, xmp, comment (bytes), and dpi (x, y)."""
    kind: str = ""
    """"1" for black and white, "P" for a palette, else empty: the shape of the pixels says what they are."""
    form: str = ""
    """The format of the file that it was read from, such as "PNG"."""
    native: Any = None
    """The metadata as that format stores it, byte by byte: the chunks of a PNG, the tags of a TIFF."""
    encoding: dict[str, Any] = field(default_factory=dict)
    """How that file was encoded: the tables of a JPEG, or whether it was lossless or compressed."""
    note: str = ""
    """A remark on the reading for the user, such as "the first of 12 frames"."""
    more: tuple[Picture, ...] = ()
    """The further pages of a TIFF."""
    stored: int = 0
    """The number of samples of its page in the file that it was read from: pixels x samples. 0 if it was not read."""
    declared_range: tuple[float, float] | None = None
    """The values of black and white, if the file declares them."""

    @property
    def pages(self) -> tuple[Picture, ...]:
        """The picture itself and its further pages."""
        return (self, *self.more)

    @property
    def layers(self) -> tuple[Picture, ...]:
        """What is denoised on its own: each page, and after it each of its further bands as a grey picture."""
        bands = ([replace(page, pixels=band, extra=(), more=()) for band in page.extra] for page in self.pages)
        return tuple(layer for page, own in zip(self.pages, bands, strict=True) for layer in (page, *own))

    @property
    def size(self) -> tuple[int, int]:
        """The height and the width in pixels."""
        height, width = self.pixels.shape if self.pixels.ndim == 2 else self.pixels.shape[-3:-1]
        return height, width

    @property
    def samples(self) -> int:
        """The number of values per pixel, alpha and further bands included."""
        colors = 1 if self.pixels.ndim == 2 else self.pixels.shape[-1]
        return colors + (self.alpha is not None) + len(self.extra)

    @property
    def extrasamples(self) -> tuple[int, ...]:
        """What the samples beyond the colors are, in the order of the file: 1 or 2 for alpha, 0 for a band."""
        count = (self.alpha is not None) + len(self.extra)
        stored = tuple(kind if kind in (1, 2) else 0 for kind in self.encoding.get("extrasamples", ()))
        fits = len(stored) == count and any(stored) == (self.alpha is not None)
        return stored if fits else (2,) * (self.alpha is not None) + (0,) * len(self.extra)

    def with_pixels(self, pixels: Array) -> Picture:
        """Return the same picture with other pixels.

        Args:
            pixels: An array of a shape and type that `Picture.pixels` may have.
        """
        return replace(self, pixels=pixels)

    def with_layer_pixels(self, pixels: Sequence[Array]) -> Picture:
        """Return the same picture with other pixels on every page and in every further band.

        Args:
            pixels: One array for each of `layers`, of the same shape and type.
        """
        own = iter(pixels)
        pages = [
            replace(page, pixels=next(own), extra=tuple(next(own) for _ in page.extra), more=()) for page in self.pages
        ]
        assert next(own, None) is None
        return replace(pages[0], more=tuple(pages[1:]))

    def check_complete(self) -> None:
        """Check that no sample of the source is missing, before the picture is written.

        Raises:
            ValueError: A page has fewer samples than the file that it was read from.
        """
        for number, page in enumerate(self.pages, 1):
            samples = math.prod(page.size) * page.samples * (len(page.pixels) if page.pixels.ndim == 4 else 1)
            if samples < page.stored:
                raise ValueError(f"page {number} has {samples:,} of the {page.stored:,} samples of its source")

    def stripped(self) -> Picture:
        """Return the same picture without metadata."""
        return replace(self, info={}, native=None, more=tuple(page.stripped() for page in self.more))

    @property
    def hidden(self) -> npt.NDArray[np.bool_] | None:
        """(H, W), true where alpha hides a pixel altogether; None if no pixel is hidden."""
        hidden = None if self.alpha is None else self.alpha == 0
        return hidden if hidden is not None and hidden.any() else None

    def find_value_range(self) -> tuple[float, float]:
        """Return the values that stand for black and white, of the visible pixels; see `find_value_range`."""
        hidden = self.hidden
        return find_value_range(self.pixels if hidden is None else self.pixels[~hidden], self.declared_range)

    def colour(self) -> Picture:
        """Return the same picture as (H, W, 3) uint8.

        Grey becomes three equal channels, and CMYK becomes RGB without a color profile. Other types than uint8 are
        scaled by `find_value_range`.
        """
        pixels = _eight_bits(self.pixels, *self.find_value_range())
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            light = 255 - pixels.astype(np.uint32)
            pixels = ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)
        return self.with_pixels(np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels)

    def bands(self, rows: int = 0) -> Iterator[Array]:
        """Yield (h, W, samples) from top to bottom: the pixels, alpha, and the further bands.

        Args:
            rows: The height of a band; if 0, as many rows as have `BAND` pixels.
        """
        height, width = self.size
        rows = rows or max(1, BAND // width)
        for top in range(0, height, rows):
            part = self.pixels[top : top + rows]
            part = part[..., None] if part.ndim == 2 else part
            others = list(self.extra)
            if self.alpha is not None:
                # Where the file had it among its further samples, or before them.
                others.insert(next((at for at, kind in enumerate(self.extrasamples) if kind), 0), self.alpha)
            yield np.dstack([part, *(band[top : top + rows] for band in others)]) if others else part


def convert_resolution(across: float, down: float) -> tuple[float, float] | None:
    """Return a resolution that every format can hold, or None if no picture can have it.

    Args:
        across: Pixels per inch from left to right.
        down: Pixels per inch from top to bottom.
    """
    sides = float(across), float(down)
    return sides if all(0 < side < 2**16 for side in sides) else None


def find_value_range(values: Array, declared: tuple[float, float] | None = None) -> tuple[float, float]:
    """Return the values that stand for black and white: one rule for files, arrays and training.

    Eight bits always have their full range. Otherwise the declared range holds, if the values keep to it. Otherwise
    black is zero, or the smallest value if that is negative, and white follows from the largest value: that of the
    number of bits that integers use, at least eight; 1 for floats within [0, 1], unless they are nearly black; and the
    largest value itself for other floats and signed integers that are negative somewhere. Outliers are left out, such
    as the hot pixels of a sensor: at most half a percent of the values, and only if they lie farther from the others
    than these are apart.

    Args:
        values: Any shape; integers or floats.
        declared: The values of black and white that the file declares.

    Returns:
        The value of black, and the value of white, which is larger.

    Raises:
        ValueError: A value is NaN or infinite.
    """
    kind = values.dtype.kind
    if values.dtype == np.uint8:
        return 0.0, 255.0
    if not values.size:
        return 0.0, 1.0 if kind == "f" else 255.0
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(high - low):
        raise ValueError("the picture holds NaN or infinite values; replace them first")
    bottom, top = _find_quantiles(values)
    if declared is not None and declared[0] <= bottom and top <= declared[1]:
        return declared
    # Within [0, 1] but for outliers, whether or not these are far away.
    if kind == "f" and bottom >= 0 and _DARKEST_WHITE <= top <= 1:
        return 0.0, 1.0
    least, greatest = bottom - (top - bottom), top + (top - bottom)
    if low < least or high > greatest:
        low, high = _find_extremes(values, least, greatest)
    if low >= 0 and kind in "ui":
        return 0.0, float(_find_white(int(high)))
    low = min(low, 0.0)
    # A flat picture has no range of its own, and a range of zero would divide by zero.
    return low, high if high - low >= np.finfo(np.float32).tiny else low + max(1.0, abs(low))


def invert_grey(values: Array, declared_white: int = 0) -> Array:
    """Convert the values of a picture whose white is zero to the usual ones, or back.

    Args:
        values: The values, whose largest one may be black.
        declared_white: The value of black that the file declares; 0 if it declares none.
    """
    if values.dtype.kind == "u":
        greatest = int(values.max(initial=0))
        black = declared_white if declared_white >= greatest else _find_white(greatest)
        inverted: Array = values.dtype.type(black) - values
        return inverted
    low, high = find_value_range(values)
    # An outlier beyond the value range could exceed the limits of the type.
    limits = np.iinfo(values.dtype) if values.dtype.kind == "i" else np.finfo(values.dtype)
    return np.clip(low + high - values.astype(np.float64), limits.min, limits.max).astype(values.dtype)


def _find_white(greatest: int) -> int:
    """Return the largest integer of as many bits as `greatest` has, at least eight."""
    return int(2 ** max(8, greatest.bit_length()) - 1)


def _find_quantiles(values: Array) -> tuple[float, float]:
    """Return the values that no outlier lies between."""
    flat = values.reshape(-1)
    if flat.size > _SAMPLE:
        # Drawn at random, since even steps could meet the same few columns in every row.
        flat = flat[np.random.default_rng(0).integers(0, flat.size, _SAMPLE)]
    # One pixel has up to four values. A picture of a few pixels has no outliers.
    most = max(min(4, len(flat) // 16), len(flat) // _OUTLIERS)
    ordered = np.sort(flat)
    return float(ordered[most]), float(ordered[-1 - most])


def _find_extremes(values: Array, least: float, greatest: float) -> tuple[float, float]:
    """Return the smallest and the largest value from `least` to `greatest`."""
    flat, low, high = values.reshape(-1), greatest, least
    for start in range(0, flat.size, BAND):
        band = flat[start : start + BAND]
        inside = band[(band >= least) & (band <= greatest)]
        if inside.size:
            low, high = min(low, float(inside.min())), max(high, float(inside.max()))
    return low, high


def _eight_bits(pixels: Array, low: float, high: float) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    # In float64, since the difference of large integers would lose digits in float32.
    scaled: Array = pixels.astype(np.float32 if pixels.itemsize < 4 else np.float64)
    np.subtract(scaled, low, out=scaled)
    np.multiply(scaled, 255 / (high - low), out=scaled)
    eight: npt.NDArray[np.uint8] = np.nan_to_num(scaled).round().clip(0, 255).astype(np.uint8)
    return eight
