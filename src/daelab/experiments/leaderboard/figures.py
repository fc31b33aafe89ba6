"""Figures of a leaderboard: PSNR over cost, and recovered F1 over PSNR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from daelab.evaluation.metrics import METRICS
from daelab.experiments.reports.charts import pareto_figure, trade_figure

_TRADE_RANGE = 3.0
"""The largest distance to the best PSNR, in dB, at which a model is shown in the figure of recovered F1."""


@dataclass(frozen=True)
class LeaderboardPoint:
    """A model in the figures of a leaderboard."""

    name: str
    """The name of the model."""
    psnr: float
    """The mean PSNR over the ranked noises, in dB."""
    macs: float | None
    """The number of multiplications per pixel, or None for a classical method."""
    images_per_second: float
    """The speed of the model."""
    recovered: Mapping[str, float] = field(default_factory=dict)
    """The recovered F1 of each classifier, as a share of 1."""


def draw_leaderboard_figures(points: Sequence[LeaderboardPoint], out: Path) -> dict[str, Path]:
    """Draw the figures of a leaderboard as SVG files.

    Args:
        points: The models, without the row of the noisy images themselves.
        out: The folder of the figures.

    Returns:
        the path of each figure, by its caption.
    """
    costs = {
        "multiplications per pixel": {point.name: point.macs for point in points if point.macs},
        "milliseconds per image": {point.name: 1e3 / point.images_per_second for point in points},
    }
    figures = {}
    for label, cost in costs.items():
        pairs = {point.name: (cost[point.name], point.psnr) for point in points if point.name in cost}
        if pairs:
            path = out / f"psnr-over-{label.split()[0]}.svg"
            pareto_figure(pairs, label, METRICS["psnr"].axis, path)
            caption = (
                f"PSNR against {label}: points higher up and further left are better. The line joins the models that "
                "no other model beats in both."
            )
            figures[caption] = path
    trades = {point.name: point for point in points if point.recovered and point.macs}
    if trades:
        path = out / "recognised-over-psnr.svg"
        least = max(point.psnr for point in trades.values()) - _TRADE_RANGE
        percent = {
            name: (point.psnr, {classifier: 100 * share for classifier, share in point.recovered.items()})
            for name, point in trades.items()
            if point.psnr >= least
        }
        trade_figure(percent, METRICS["psnr"].axis, "recovered F1 (%)", path)
        caption = (
            "Recovered F1 of each classifier against PSNR, for the networks within 3 dB of the best. The recovered F1 "
            "is (F1 denoised - F1 noisy) / (F1 clean - F1 noisy). Images of models higher up are classified better; "
            "those of models further right are closer to the clean pixels. If the marks of two classifiers lie far "
            "apart, the model suits one of them better."
        )
        figures[caption] = path
    return figures
