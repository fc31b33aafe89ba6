"""The ledger as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daelab.experiments.fields import shorten_architecture
from daelab.experiments.reports.table import Table


def make_ledger_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the runs of the ledger with their status and scores, one a row.

    Args:
        rows: The rows of the ledger.
    """
    shown = [
        [
            row["name"],
            row["status"],
            shorten_architecture(str(row["architecture"] or "")),
            f"{row['epochs_done']}/{row['epochs']}",
            _format_number(row["val_loss"], 6),
            _format_number(row["val_psnr_image"], 2),
            _format_number(row["val_psnr"], 2),
            _format_number(row["images_per_second"], 0),
        ]
        for row in rows
    ]
    columns = ["run", "status", "architecture", "epochs", "validation loss", "PSNR, dB", "batch PSNR, dB", "images/s"]
    return Table("runs", columns, shown)


def _format_number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
