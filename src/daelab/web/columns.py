"""The columns of runs, curves and leaderboards as the page shows them: their titles, decimals and units."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from daelab.evaluation.metrics import METRICS, Metric

_PSNR, _BATCH_PSNR, _F1 = METRICS["psnr"], METRICS["psnr_batch"], METRICS["macro_f1"]


def _column(
    key: str, title: str, digits: int | None = None, *, better: str = "", log: bool = False, also: str = ""
) -> dict[str, Any]:
    """Describe a column. `digits` is the number of decimals, and None for texts and numbers of any size.

    `also` holds further names that the filter of the page understands, and `log` asks for a logarithmic axis.
    """
    title = title[0].upper() + title[1:]
    return {"key": key, "title": title, "digits": digits, "better": better, "log": log, "also": also.split()}


def _of_metric(key: str, metric: Metric, also: str = "") -> dict[str, Any]:
    return _column(key, metric.heading, metric.digits, better=metric.direction, also=also)


RUN_COLUMNS = (
    _column("name", "Run"),
    _column("status", "Status"),
    _column("architecture", "Architecture"),
    _column("noise", "Noise"),
    _column("parameters", "Parameters", 0),
    _column("epochs_done", "Epochs", 0),
    _column("val_loss", "Validation loss", 6, better="lower", also="loss"),
    _of_metric("val_psnr_image", _PSNR, "psnr"),
    _of_metric("val_psnr", _BATCH_PSNR, "psnr_batch"),
    _of_metric("val_f1", _F1, "f1"),
    _column("learning_rate", "Learning rate", also="lr rate"),
    _column("images_per_second", "Images/s", 0, better="higher", also="speed"),
    _column("started", "Started"),
    _column("finished", "Finished"),
    _column("epochs", "Planned epochs", 0),
    _column("seconds", "Time of training", also="time"),
    _column("train_size", "Training images", 0),
    _column("val_size", "Validation images", 0),
    _column("batch_size", "Batch size", also="batch"),
    _column("weight_decay", "Weight decay"),
    _column("optimiser", "Optimizer", also="optimizer"),
    _column("precision", "Precision"),
    _column("seed", "Seed"),
    _column("comments", "Note", also="note"),
    _column("reason", "Reason"),
)
"""The columns of the ledger. The page shows them in this order."""

CURVE_COLUMNS = (
    _of_metric("val_psnr", _PSNR),
    _column("val_loss", "Validation loss", 6, better="lower", log=True),
    _column("train_loss", "Training loss", 6, better="lower", log=True),
    _of_metric("val_psnr_batch", _BATCH_PSNR),
    _of_metric("val_f1", _F1),
    _column("learning_rate", "Learning rate", log=True),
    _column("images_per_second", "Images/s", 0, better="higher"),
)
"""The columns of `metrics.csv` that are drawn as curves."""

_BOARD_COLUMNS = {
    column["key"]: column
    for column in (
        _column("model", "Model"),
        _column("noise", "Noise"),
        *(_of_metric(metric.name, metric) for metric in METRICS.values()),
        _column("images", "Test images", 0),
        _column("parameters", "Parameters", 0, better="lower"),
        _column("macs_per_pixel", "MACs per pixel", 0, better="lower"),
        _column("bytes", "Size in bytes", 0, better="lower"),
        _column("images_per_second", "Images/s", 1, better="higher"),
    )
}
_UNSEEN = re.compile(r"(.*_(low|high)|.*sha256|seed|seen|mse)")
"""The columns of `leaderboard.csv` that the page leaves out: hashes, interval ends, and what all rows share."""


def describe_columns() -> dict[str, Any]:
    """Return the columns of runs and of curves, and the metrics by name."""
    return {
        "runs": list(RUN_COLUMNS),
        "curves": list(CURVE_COLUMNS),
        "metrics": {metric.name: _of_metric(metric.name, metric) for metric in METRICS.values()},
    }


def describe_board_columns(names: Iterable[str]) -> list[dict[str, Any]]:
    """Return the columns of a leaderboard that the page shows.

    Args:
        names: The names of all its columns.
    """
    shown = [name for name in names if not _UNSEEN.fullmatch(name)]
    # The scores follow the model, since a phone shows few columns at a time.
    return [_describe_board_column(name) for name in sorted(shown, key=lambda name: name == "images")]


def _describe_board_column(name: str) -> dict[str, Any]:
    kind, _, classifier = name.partition("_")
    if classifier and kind == "f1":
        return _column(name, f"{_F1.title}, {classifier}", _F1.digits, better="higher")
    if classifier and kind == "recovered":
        return _column(name, f"Recovered F1, {classifier}", _F1.digits, better="higher")
    return _BOARD_COLUMNS.get(name) or _column(name, name or "-")
