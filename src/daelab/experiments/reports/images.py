"""Figures of pictures: the effect of noises, and the results of denoisers."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daelab.experiments.reports.style import CHANNELS, apply_style, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS_A_ROW = 5
"""The largest number of panels in a row."""
_MOST_PIXELS = 320
"""The longest side that is drawn, in pixels. A larger picture is subsampled, which keeps its noise."""


def noise_figure(clean: NDArray[Any], noisy: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Draw a picture under several noises, with the distribution of each channel below.

    It is the paper's Figure 1, and with `{"noisy": ..., "denoised": ...}` its Figure 7. All distributions share both
    axes. The values strictly between 0 and 1 determine their height; a higher peak of clipped values at 0 or 1 is cut
    off, and its share is written above.

    Args:
        clean: The picture, (height, width, 3), uint8 or float in [0, 1].
        noisy: The noisy pictures of the same shape, by the text form of the noise.
        path: The file to write, `.png` or `.svg`.

    Raises:
        ValueError: A shape or range is wrong, the suffix is another, or matplotlib is not installed.
    """
    panels = {"clean": _unit(clean)} | {text: _unit(picture) for text, picture in noisy.items()}
    shape = panels["clean"].shape
    for text, picture in panels.items():
        if picture.shape != shape or len(shape) != 3 or shape[2] != 3:
            raise ValueError(
                f"{text!r} has shape {picture.shape}; expected the shape (height, width, 3) of the clean picture"
            )
    bins = 64 if shape[0] * shape[1] > 64 * 64 else 32
    shares = {text: _shares(picture, bins) for text, picture in panels.items()}
    # The end bins hold the clipped values, which would flatten everything else.
    top = 1.15 * max(max(float(share[:, 1:-1].max()) for share in shares.values()), 1.5 / bins)
    lines = math.ceil(len(panels) / _PANELS_A_ROW)
    columns = math.ceil(len(panels) / lines)
    tall = min(2.0, max(0.6, shape[0] / shape[1]))
    with apply_style():
        fig = new_figure(2.2 * columns + 0.5, (2.1 * tall + 2.0) * lines + 0.3, "constrained")
        grid = fig.subplots(2 * lines, columns, squeeze=False, height_ratios=[2.1 * tall, 1.15] * lines)
        for ax in grid.flat:
            ax.set_visible(False)
        for i, (text, picture) in enumerate(panels.items()):
            row, column = 2 * (i // columns), i % columns
            _picture(grid[row, column], picture, title=textwrap.fill(text, 30))
            _distribution(grid[row + 1, column], shares[text], picture, top)
            if column == 0:
                grid[row + 1, column].set_ylabel("share of pixels")
            grid[row + 1, column].tick_params(labelleft=column == 0)
        fig.legend(*grid[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        save_figure(fig, path)


def samples_figure(
    clean: NDArray[Any],
    noisy: NDArray[Any],
    denoised: NDArray[Any],
    path: Path,
    titles: Sequence[str] | None = None,
) -> None:
    """Draw N samples as clean, noisy and denoised pictures, each with its PSNR. Pixels are drawn as squares.

    Args:
        clean: The N pictures, (N, 3, height, width) or (N, height, width, 3), uint8 or float in [0, 1].
        noisy: The noisy pictures, of the same shape.
        denoised: The denoised pictures, of the same shape.
        path: The file to write, `.png` or `.svg`.
        titles: A title for each sample, such as its class.

    Raises:
        ValueError: A shape, range or number of titles is wrong, the suffix is another, or matplotlib is not installed.
    """
    strips = {"clean": clean, "noisy": noisy, "denoised": denoised}
    rows = {name: _batch(strip) for name, strip in strips.items()}
    if len({batch.shape for batch in rows.values()}) > 1:
        raise ValueError(f"samples differ in shape: {[batch.shape for batch in rows.values()]}")
    first = next(iter(rows.values()))
    count, height, width, _ = first.shape
    if titles is not None and len(titles) != count:
        raise ValueError(f"{len(titles)} titles for {count} samples")
    side, tall = 1.2, min(2.0, max(0.5, height / width))  # the width of a picture in inches, and its proportion
    with apply_style():
        fig = new_figure(side * count + 0.9, len(rows) * (side * tall + 0.2) + 0.2, "compressed")
        grid = fig.subplots(len(rows), count, squeeze=False)
        for r, (name, batch) in enumerate(rows.items()):
            for i, picture in enumerate(batch):
                _picture(grid[r, i], picture)
                if r == 0 and titles is not None:
                    grid[r, i].set_title(textwrap.shorten(titles[i], 18, placeholder="…"), fontsize=9, loc="center")
                if r > 0:
                    grid[r, i].set_xlabel(format_psnr(first[i], picture), labelpad=2)
            grid[r, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
        save_figure(fig, path)


def _picture(ax: Axes, picture: NDArray[np.float64], title: str = "") -> None:
    """Draw a picture without ticks, with square pixels."""
    step = math.ceil(max(picture.shape[:2]) / _MOST_PIXELS)
    pixels = np.rint(picture[::step, ::step] * 255).astype(np.uint8)
    ax.set_visible(True)
    ax.imshow(pixels, interpolation="none")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)
    if title:
        ax.set_title(title, fontsize=9, loc="center")


def _distribution(ax: Axes, shares: NDArray[np.float64], picture: NDArray[np.float64], top: float) -> None:
    """Draw the distributions of the channels as steps, with the shares of clipped pixels above."""
    edges = np.linspace(0.0, 1.0, shares.shape[1] + 1)
    ax.set_visible(True)
    for share, (name, color) in zip(shares, CHANNELS.items(), strict=True):
        ax.stairs(share, edges, color=color, fill=True, alpha=0.12)
        ax.stairs(share, edges, color=color, linewidth=1.2, label=name)
    ax.set(xlim=(-0.02, 1.02), ylim=(0.0, top), xlabel="pixel value")
    ax.set_xticks([0.0, 0.5, 1.0], ["0", "0.5", "1"])
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    at_0, at_1 = _clipped(picture, 0.0), _clipped(picture, 1.0)
    if at_0 and at_1:
        at_0 += "\n"  # one line higher, so that the two texts do not overlap
    ax.set_title(at_0, loc="left", fontsize=7.5, pad=3)
    ax.set_title(at_1, loc="right", fontsize=7.5, pad=3)


def _clipped(picture: NDArray[np.float64], end: float) -> str:
    """Describe the share of each channel at an end of the range; return an empty text below one percent."""
    shares = [float(np.mean(picture[..., c] == end)) for c in range(3)]
    if max(shares) < 0.01:
        return ""
    return f"at {end:g}: " + " ".join(f"{c} {share:.0%}" for c, share in zip("RGB", shares, strict=True))


def _shares(picture: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Return the share of each channel's pixels in each bin of [0, 1], (3, bins)."""
    counts = [np.histogram(picture[..., c], bins=bins, range=(0.0, 1.0))[0] for c in range(3)]
    shares: NDArray[np.float64] = np.stack(counts) / (picture.shape[0] * picture.shape[1])
    return shares


def format_psnr(clean: NDArray[Any], picture: NDArray[Any]) -> str:
    """Return the PSNR of a picture as text: `27.3 dB`, or `identical`.

    Args:
        clean: The clean picture, uint8 or float in [0, 1].
        picture: The other picture, of the same shape.
    """
    mse = float(np.mean((_unit(clean) - _unit(picture)) ** 2))
    return f"{-10 * math.log10(mse):.1f} dB" if mse > 1e-12 else "identical"


def _batch(pictures: NDArray[Any]) -> NDArray[np.float64]:
    """Convert pictures to (N, height, width, 3) floats in [0, 1]."""
    pictures = np.asarray(pictures)
    if pictures.ndim == 4 and len(pictures) and pictures.shape[1] == 3:
        pictures = pictures.transpose(0, 2, 3, 1)
    if pictures.ndim != 4 or not len(pictures) or pictures.shape[3] != 3:
        raise ValueError(f"samples have shape {pictures.shape}; expected (N, 3, H, W) or (N, H, W, 3), N >= 1")
    return _unit(pictures)


def _unit(pictures: NDArray[Any]) -> NDArray[np.float64]:
    """Convert values to floats in [0, 1]; floats slightly outside are clipped."""
    pictures = np.asarray(pictures)
    if pictures.dtype == np.uint8:
        return pictures / 255.0
    if not np.issubdtype(pictures.dtype, np.floating):
        raise ValueError(f"pictures are {pictures.dtype}; expected uint8, or float in [0, 1]")
    low, high = float(pictures.min(initial=0.0)), float(pictures.max(initial=1.0))
    if not (low >= -1.0 and high <= 2.0):
        raise ValueError(f"float pictures have values from {low:g} to {high:g}; expected [0, 1]")
    return np.clip(pictures.astype(np.float64), 0.0, 1.0)
