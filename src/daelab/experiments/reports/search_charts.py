"""Figures of a search: all runs over their fields, and the importance of each field."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daelab.experiments.reports.style import INK, MUTED, PALETTE, PAPER, apply_style, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POOR = "#B9C2CC"
"""The color of the worst run's line; that of good runs is the first color of the palette."""
_DECADES = 1.5
"""The number of decades above which an axis is logarithmic."""


def parallel_figure(fields: Mapping[str, Sequence[Any]], values: Sequence[float], value: str, path: Path) -> None:
    """Draw each run as a line through one axis for each field and a last axis for its value.

    Args:
        fields: The value of each run, by the title of the field. Numbers are placed by their size, and texts by the
            mean value of their runs.
        values: The value of each run; more is better.
        value: The title of the last axis.
        path: The file to write, `.png` or `.svg`.

    Raises:
        ValueError: There is no run or no field, the suffix is another, or matplotlib is not installed.
    """
    if not fields or not values:
        raise ValueError("a figure of parallel coordinates needs at least one field and one run")
    columns = [_Axis(title, cells, values) for title, cells in fields.items()]
    columns.append(_Axis(value, list(values), values, plain=True))
    best, low, high = max(range(len(values)), key=values.__getitem__), min(values), max(values)
    with apply_style():
        from matplotlib.colors import LinearSegmentedColormap

        colors = LinearSegmentedColormap.from_list("good", [_POOR, PALETTE[5], PALETTE[0]])
        fig = new_figure(max(5.0, 1.7 * len(columns) + 1.2), 4.4, "constrained")
        ax = fig.subplots()
        for run in sorted(range(len(values)), key=values.__getitem__):
            heights = [column.heights[run] for column in columns]
            share = (values[run] - low) / (high - low) if high > low else 1.0
            color = PALETTE[1] if run == best else colors(share)
            ax.plot(range(len(columns)), heights, color=color, linewidth=2.2 if run == best else 1.3, zorder=2 + share)
        for place, column in enumerate(columns):
            column.draw(ax, place)
        ax.set(xlim=(-0.25, len(columns) - 0.45), ylim=(-0.06, 1.06), yticks=[])
        ax.set_xticks(range(len(columns)), [column.title for column in columns])
        ax.tick_params(axis="x", length=0, pad=8)
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        save_figure(fig, path)


class _Axis:
    """An axis with the height of each run on it, from 0 to 1, and its marks."""

    def __init__(self, title: str, cells: Sequence[Any], values: Sequence[float], *, plain: bool = False) -> None:
        """Place the cells of all runs."""
        self.title = title
        numbers = [float(cell) for cell in cells if _number(cell)]
        if len(numbers) == len(cells) and len(set(numbers)) > 1:
            log = not plain and min(numbers) > 0 and math.log10(max(numbers) / min(numbers)) > _DECADES
            ends = [math.log(n) if log else n for n in (min(numbers), max(numbers))]
            self.heights = [((math.log(n) if log else n) - ends[0]) / (ends[1] - ends[0]) for n in numbers]
            places = sorted(set(zip(self.heights, numbers, strict=True)))
            if plain or len(places) > 8:
                places = [places[0], places[-1]]
            self.marks = [(height, f"{number:.2f}" if plain else f"{number:.4g}") for height, number in places]
            return
        # texts: those of the better runs are higher
        texts = [str(cell) for cell in cells]
        means = {text: statistics.fmean(v for v, t in zip(values, texts, strict=True) if t == text) for text in texts}
        order = sorted(means, key=means.__getitem__)
        at = {text: place / max(1, len(order) - 1) if len(order) > 1 else 0.5 for place, text in enumerate(order)}
        self.heights = [at[text] for text in texts]
        self.marks = [(height, text) for text, height in at.items()]

    def draw(self, ax: Axes, place: int) -> None:
        """Draw the axis and its marks over the lines."""
        from matplotlib.patheffects import withStroke

        ax.plot([place, place], [0, 1], color=MUTED, linewidth=0.8, zorder=4)
        taken = -math.inf
        for height, text in sorted(self.marks):
            ax.plot([place], [height], "_", color=INK, markersize=7, zorder=5)
            if height - taken < 0.035:
                continue
            taken = height
            # There are no lines to the left of the first axis.
            at, side = ((-7, 0), "right") if place == 0 else ((6, 0), "left")
            label = ax.annotate(text, (place, height), at, textcoords="offset points", ha=side, va="center", fontsize=8)
            label.set(zorder=6, path_effects=[withStroke(linewidth=3, foreground=PAPER)])


def _number(cell: Any) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool) and math.isfinite(cell)


def importance_figure(shares: Mapping[str, float], path: Path) -> None:
    """Draw a bar for each field with the share of the differences between runs that it explains.

    Args:
        shares: The share of each field, in [0, 1].
        path: The file to write, `.png` or `.svg`.

    Raises:
        ValueError: There is no field, the suffix is another, or matplotlib is not installed.
    """
    if not shares:
        raise ValueError("a figure of importances needs at least one field")
    names = sorted(shares, key=lambda name: (shares[name], name))
    with apply_style():
        fig = new_figure(6.5, 0.9 + 0.36 * len(names), "constrained")
        ax = fig.subplots()
        ax.barh(names, [shares[name] for name in names], color=PALETTE[0], height=0.6)
        for place, name in enumerate(names):
            ax.annotate(f"{shares[name]:.0%}", (shares[name], place), (5, 0), textcoords="offset points", va="center")
        ax.set(xlim=(0, 1.08), xlabel="share of the differences in PSNR that this field explains")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
        save_figure(fig, path)
