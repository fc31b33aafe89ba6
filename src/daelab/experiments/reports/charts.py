"""Figures of numbers: class balance, training curves, confusion matrices, quality against cost."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from daelab.evaluation.metrics import METRICS
from daelab.experiments.reports.style import INK, MUTED, PALETTE, PAPER, apply_style, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
_MOST_WITH_TRAINING_LOSS = 4
"""The largest number of runs whose training losses are drawn; with more, they would hide the validation losses."""


def class_balance_figure(counts: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Draw the number of images of each class in each split as grouped bars (the paper's Figure 2).

    Args:
        counts: The number of images by split and class; a class that a split lacks counts as 0.
        path: The file to write, `.png` or `.svg`.

    Raises:
        ValueError: There is no split or no class, the suffix is another, or matplotlib is not installed.
    """
    classes = list(dict.fromkeys(itertools.chain.from_iterable(counts.values())))
    if not classes:
        raise ValueError("a figure of class balance needs at least one split with at least one class")
    bar = 0.8 / len(counts)
    crowded = len(classes) > 12 or max(map(len, classes)) > 11
    with apply_style():
        from matplotlib.ticker import MaxNLocator

        fig = new_figure(min(16.0, max(6.5, 0.85 * len(classes))), 3.6, "constrained")
        ax = fig.subplots()
        for k, (split, by_class) in enumerate(counts.items()):
            left = [i - 0.4 + bar * (k + 0.5) for i in range(len(classes))]
            label = f"{split} ({sum(by_class.values()):,} images)"
            heights = [by_class.get(name, 0) for name in classes]
            ax.bar(left, heights, bar * 0.92, label=label, color=PALETTE[k % len(PALETTE)])
        step = math.ceil(len(classes) / 60)
        ax.set_xticks(range(0, len(classes), step), classes[::step])
        if crowded:
            ax.tick_params(axis="x", rotation=90 if len(classes) > 24 else 35)
            for tick in ax.get_xticklabels():
                tick.set(horizontalalignment="right", rotation_mode="anchor")
        ax.tick_params(axis="x", length=0)
        ax.grid(axis="x", visible=False)
        ax.set(xlim=(-0.6, len(classes) - 0.4), ylabel="images")
        ax.yaxis.set_major_formatter("{x:,.0f}")
        ax.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
        fig.legend(loc="outside upper left", ncols=min(3, len(counts)))
        save_figure(fig, path)


def curves_figure(
    rows: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, groups: Mapping[str, str] | None = None
) -> None:
    """Draw the loss and the validation PSNR of runs by epoch (the paper's Figure 4).

    The axis of the loss is logarithmic, unless a loss is negative, as the loss `psnr` is. If a run was scored with a
    classifier, a third panel shows the macro F1.

    Args:
        rows: The rows of each run's `metrics.csv`, by the name of the run. The columns `epoch`, `train_loss`,
            `val_loss`, `val_psnr` (dB) and `val_f1` are read. A missing, empty or infinite value leaves a gap.
        path: The file to write, `.png` or `.svg`.
        groups: The group of each run, such as the seeds of a recipe; a group has one color and one name.

    Raises:
        ValueError: There is no run, the suffix is another, or matplotlib is not installed.
    """
    if not rows:
        raise ValueError("a figure of curves needs at least one run")
    named = {run: groups[run] if groups else run for run in rows}
    places = {name: place for place, name in enumerate(dict.fromkeys(named.values()))}
    with apply_style():
        classified = any("val_f1" in row for table in rows.values() for row in table)
        fig = new_figure(12.0 if classified else 9.0, 3.8, "constrained")
        loss, psnr, *f1 = fig.subplots(1, 3 if classified else 2)
        with_training = len(rows) <= _MOST_WITH_TRAINING_LOSS
        losses = [_column(table, key) for table in rows.values() for key in ("train_loss", "val_loss")]
        least = -math.inf if any(value < 0 for column in losses for value in column) else 0.0
        shown: set[str] = set()
        for run, table in rows.items():
            k = places[named[run]]
            color = PALETTE[k % len(PALETTE)]
            dash = _DASHES[k // len(PALETTE) % len(_DASHES)]
            epochs = _column(table, "epoch")
            _line(psnr, epochs, _column(table, "val_psnr"), color=color, linestyle=dash)
            for ax in f1:
                scored = [row for row in table if "val_f1" in row]
                _line(ax, _column(scored, "epoch"), _column(scored, "val_f1"), color=color, linestyle=dash)
            if with_training:
                _line(loss, epochs, _column(table, "train_loss", above=least), color=color, alpha=0.45)
            label = (
                "_" if named[run] in shown else named[run]
            )  # matplotlib leaves labels with an underscore out of the legend
            shown.add(named[run])
            _line(loss, epochs, _column(table, "val_loss", above=least), color=color, linestyle=dash, label=label)
        if len(rows) == 1:
            _mark_best(loss, epochs, _column(table, "val_loss", above=least), min)
            _mark_best(psnr, epochs, _column(table, "val_psnr"), max)
        loss.set(title="loss (pale: training)" if with_training else "validation loss")
        psnr.set(title=f"validation {METRICS['psnr'].axis}")
        if least == 0.0:
            set_log_scale(loss)
        for ax in f1:
            ax.set(title=f"{METRICS['macro_f1'].title} of the classifier on denoised images")
        for ax in (loss, psnr, *f1):
            _epoch_axis(ax)
        fig.legend(loc="outside upper left", ncols=3 if max(map(len, places)) > 24 else 5)
        save_figure(fig, path)


def confusion_figure(matrices: Mapping[str, NDArray[np.int64]], classes: Sequence[str], path: Path) -> None:
    """Draw confusion matrices side by side, as shares of the true class, on one scale.

    Args:
        matrices: The (K, K) counts by title; rows are the true classes and columns the predicted ones.
        classes: The K names of the classes.
        path: The file to write, `.png` or `.svg`.

    Raises:
        ValueError: There is no matrix, the suffix is another, or matplotlib is not installed.
    """
    if not matrices:
        raise ValueError("a figure of confusion matrices needs at least one")
    side = max(2.6, 0.36 * len(classes))
    with apply_style():
        from matplotlib.colors import LinearSegmentedColormap

        colors = LinearSegmentedColormap.from_list("shares", [PAPER, PALETTE[5], PALETTE[0], "#003350"])
        fig = new_figure((side + 0.15) * len(matrices) + 1.2, side + 0.9, "constrained")
        for place, (ax, (title, matrix)) in enumerate(
            zip(fig.subplots(1, len(matrices), squeeze=False)[0], matrices.items(), strict=True)
        ):
            shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
            shown = ax.imshow(shares, vmin=0, vmax=1, cmap=colors)
            _cells(ax, shares)
            ax.set(title=title, xlabel="predicted class")
            ax.grid(visible=False)
            ax.spines[:].set_visible(False)
            ax.tick_params(length=0)
            ax.set_xticks(range(len(classes)), classes, rotation=90)
            ax.set_yticks(range(len(classes)), classes if place == 0 else [])
        fig.axes[0].set_ylabel("true class")
        fig.colorbar(shown, ax=fig.axes, shrink=0.7, format=lambda value, _: f"{value:.0%}", label="share of the class")
        save_figure(fig, path)


def pareto_figure(points: Mapping[str, tuple[float, float]], cost: str, value: str, path: Path) -> None:
    """Draw values over costs on a logarithmic axis; a line joins the points that no other point beats in both.

    Args:
        points: The cost, of which less is better, and the value, of which more is better, by name.
        cost: The label of the horizontal axis.
        value: The label of the vertical axis.
        path: The file to write, `.png` or `.svg`.

    Raises:
        ValueError: There is no point, the suffix is another, or matplotlib is not installed.
    """
    if not points:
        raise ValueError("a figure of values over costs needs at least one point")
    with apply_style():
        fig = new_figure(8.0, 4.6, "constrained")
        ax = fig.subplots()
        front = pareto_front(points)
        ax.plot(*zip(*(points[name] for name in front), strict=True), color=PALETTE[0], linewidth=1.2, zorder=2)
        for name, (x, y) in points.items():
            color = PALETTE[0] if name in front else MUTED
            ax.plot([x], [y], "o", markersize=5.5, color=color, zorder=3)
        set_log_scale(ax, "x")
        ax.set(xlabel=cost, ylabel=value)
        ax.margins(x=0.12, y=0.12)
        _name_points(fig, ax, points, front)
        save_figure(fig, path)


_BELOW, _RIGHT, _LEFT = ((0, -11), "center"), ((6, -3), "left"), ((-6, -3), "right")
_ABOVE_LEFT, _BELOW_RIGHT = ((-5, 4), "right"), ((5, -11), "left")


def _name_points(fig: Figure, ax: Axes, points: Mapping[str, tuple[float, float]], front: Sequence[str]) -> None:
    """Write the name of each point beside it, at a place without another name or point if there is one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(fig).get_renderer()  # type: ignore[no-untyped-call]
    fig.draw_without_rendering()
    taken = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in ax.transData.transform(list(points.values()))]
    for name in sorted(points, key=lambda name: name not in front):
        # The line of the front never runs above and to the left of its points. The name of the first point is below
        # and to the right, since the axis is to its left.
        first = _BELOW_RIGHT if name == front[0] else _ABOVE_LEFT if name in front else _RIGHT
        places = (first, _RIGHT, _LEFT, _BELOW, first)
        for number, (at, side) in enumerate(places, 1):
            text = ax.annotate(name, points[name], at, textcoords="offset points", ha=side, fontsize=7.5)
            box = text.get_window_extent(renderer)
            if number == len(places) or not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def trade_figure(points: Mapping[str, tuple[float, Mapping[str, float]]], label: str, value: str, path: Path) -> None:
    """Draw several values of each name, such as one for each classifier, over another value.

    Args:
        points: By name, the value of the horizontal axis, and the values of the vertical axis by series.
        label: The label of the horizontal axis.
        value: The label of the vertical axis.
        path: The file to write, `.png` or `.svg`.

    Raises:
        ValueError: There is no point, the suffix is another, or matplotlib is not installed.
    """
    if not points:
        raise ValueError("a figure of values over values needs at least one point")
    series = next(iter(points.values()))[1]
    with apply_style():
        fig = new_figure(8.0, 4.6, "constrained")
        ax = fig.subplots()
        for name, (x, values) in points.items():
            ax.plot([x, x], [min(values.values()), max(values.values())], color=MUTED, linewidth=0.8, zorder=1)
            ax.annotate(name, (x, max(values.values())), (0, 6), textcoords="offset points", rotation=55, fontsize=7.5)
        for title, marker, color in zip(series, itertools.cycle("osD^"), itertools.cycle(PALETTE), strict=False):
            ys = [values[title] for _, values in points.values()]
            ax.plot([x for x, _ in points.values()], ys, marker, color=color, markersize=5.5, label=title)
        ax.set(xlabel=label, ylabel=value)
        ax.margins(x=0.08, y=0.3)
        ax.legend(loc="lower right")
        save_figure(fig, path)


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names of the points that no other point beats in both cost and value, by ascending cost.

    Args:
        points: The cost, of which less is better, and the value, of which more is better, by name.

    >>> pareto_front({"a": (1, 20), "b": (2, 19), "c": (3, 25)})
    ['a', 'c']
    """
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front


def _cells(ax: Axes, shares: NDArray[np.float64]) -> None:
    """Write the share in percent into each cell of at least one percent."""
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.01:
            # Not INK and PAPER, which a dark page exchanges, while the colors of these cells stay the same.
            color = "#FDFDFD" if share > 0.45 else "#101316"
            ax.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6.5, color=color)


def _line(ax: Axes, epochs: list[float], values: list[float], **how: Any) -> None:
    """Draw one curve, with dots if it has few values."""
    ax.plot(epochs, values, marker="o" if len(_finite(values)) <= 20 else None, markersize=3.5, **how)


def _mark_best(ax: Axes, epochs: list[float], values: list[float], best: Callable[..., float]) -> None:
    """Mark the best epoch of the only run with a ring, and write its value."""
    points = zip(epochs, values, strict=True)
    known = {epoch: value for epoch, value in points if math.isfinite(epoch + value)}
    if not known:
        return
    epoch = best(known, key=known.__getitem__)
    ax.plot([epoch], [known[epoch]], "o", markersize=8, fillstyle="none", color=INK, zorder=5)
    ax.set_title(f"best {known[epoch]:.4g} at epoch {epoch:g}", loc="right", fontsize=9, color=MUTED)


def _epoch_axis(ax: Axes) -> None:
    """Set up the axis of epochs: whole numbers, a single epoch in the middle, and a text if there are no values."""
    from matplotlib.ticker import MaxNLocator

    ax.set(xlabel="epoch")
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    left, right = ax.get_xlim()
    if right - left < 2:
        ax.set_xlim((left + right) / 2 - 1, (left + right) / 2 + 1)
    if not any(np.isfinite(line.get_xydata()).all(axis=1).any() for line in ax.lines):
        ax.text(0.5, 0.5, "no values yet", transform=ax.transAxes, ha="center", color=MUTED)
        ax.set(yticks=[], xticks=[])


def set_log_scale(ax: Axes, which: Literal["x", "y"] = "y") -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2 and 5, since most losses span less than a decade.

    Args:
        ax: The axes.
        which: The axis to change, `x` or `y`.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.9g}"))
    axis.set_minor_locator(NullLocator())


def _column(table: Sequence[Mapping[str, Any]], key: str, above: float = -math.inf) -> list[float]:
    """Return a column as floats; NaN for values that are not finite or not above `above`."""
    values = []
    for row in table:
        cell = row.get(key)
        value = math.nan if cell is None or cell == "" else float(cell)
        values.append(value if math.isfinite(value) and value > above else math.nan)
    return values


def _finite(values: Iterable[Any]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
