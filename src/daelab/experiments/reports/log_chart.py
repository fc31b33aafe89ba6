"""The figure of a log of tests in their order, with the best result so far (the paper's 38 tests)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from daelab.evaluation.metrics import METRICS
from daelab.experiments.reports.charts import set_log_scale
from daelab.experiments.reports.style import INK, MUTED, PALETTE, apply_style, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^vP"


@dataclass(frozen=True)
class LoggedTest:
    """A test of a log."""

    number: int
    """The number of the test."""
    family: str
    """The family of the test; a family has one color and one marker."""
    loss: float | None
    """The validation loss; None if the network did not learn."""
    psnr: float | None
    """The validation batch PSNR in dB; None if the network did not learn."""


def log_figure(tests: Sequence[LoggedTest], path: Path) -> None:
    """Draw the validation loss and PSNR of tests, colored by family, with the best result so far as a line.

    A test that did not learn is a cross at the edge of the worst values.

    Args:
        tests: The tests, at least one.
        path: The file to write, `.png` or `.svg`.

    Raises:
        ValueError: There is no test, the suffix is another, or matplotlib is not installed.
    """
    if not tests:
        raise ValueError("a figure of tests needs at least one")
    batch_psnr = METRICS["psnr_batch"]
    with apply_style():
        fig = new_figure(9.0, 5.6, "constrained")
        top, bottom = fig.subplots(2, 1, sharex=True)
        _panel(top, tests, [test.loss for test in tests], lower_is_better=True)
        _panel(bottom, tests, [test.psnr for test in tests], lower_is_better=False)
        top.set(title="validation loss (MSE, logarithmic; lower is better)")
        set_log_scale(top)
        bottom.set(
            title=f"validation {batch_psnr.title} ({batch_psnr.unit}; {batch_psnr.direction} is better)", xlabel="test"
        )
        bottom.set_xticks([test.number for test in tests], [str(test.number) for test in tests], fontsize=7.5)
        bottom.set_xlim(tests[0].number - 0.7, tests[-1].number + 0.7)
        handles, labels = top.get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside upper left", ncols=4)
        save_figure(fig, path)


def _panel(ax: Axes, tests: Sequence[LoggedTest], values: Sequence[float | None], *, lower_is_better: bool) -> None:
    known = [value for value in values if value is not None]
    if not known:
        ax.text(0.5, 0.5, "no values", transform=ax.transAxes, ha="center", color=MUTED)
        return
    worst = max(known) * 1.12 if lower_is_better else min(known) - 0.5
    numbers = np.array([test.number for test in tests])
    best = np.array([math.nan if value is None else value for value in values])
    running = np.fmin.accumulate(best) if lower_is_better else np.fmax.accumulate(best)
    ax.plot(numbers, running, drawstyle="steps-post", color=MUTED, linewidth=1.0, label="best so far")
    families = dict.fromkeys(test.family for test in tests)
    for place, family in enumerate(families):
        points = [(t.number, v) for t, v in zip(tests, values, strict=True) if t.family == family and v is not None]
        x, y = zip(*points, strict=True) if points else ((), ())
        color, marker = PALETTE[place % len(PALETTE)], _MARKERS[place % len(_MARKERS)]
        ax.plot(x, y, marker, color=color, markersize=5.5, label=family)
    lost = [test.number for test, value in zip(tests, values, strict=True) if value is None]
    if lost:
        ax.plot(lost, [worst] * len(lost), "x", color=INK, markersize=6, label="did not learn")
