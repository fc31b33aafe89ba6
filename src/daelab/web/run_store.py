"""The runs and the leaderboard that the page shows, without paths, hosts and process ids."""

from __future__ import annotations

import ast
import csv
import os
import re
from pathlib import Path
from typing import Any

from daelab.runs.folder import get_run_folder, get_runs_root
from daelab.runs.ledger import Ledger

LEADERBOARD_FILE = Path("leaderboard/leaderboard.csv")
"""The file that `daelab leaderboard --out leaderboard` writes."""
SHOWN_COLUMNS = (
    *("name", "status", "reason", "comments", "started", "finished", "epochs_done", "epochs"),
    *("val_loss", "val_psnr_image", "val_psnr", "val_f1", "seconds", "images_per_second"),
    *("architecture", "parameters", "noise", "train_size", "val_size", "seed", "precision"),
    *("optimiser", "learning_rate", "batch_size", "weight_decay"),
)
"""The columns of the ledger that are shown: no folders, hosts, processes or whole recipes."""


class RunStore:
    """A reader of the ledger, of the training curves, and of the leaderboard."""

    def __init__(self, ledger: str | None = None, leaderboard: Path = LEADERBOARD_FILE) -> None:
        """Read from a ledger and a leaderboard file; both may be missing.

        Args:
            ledger: Database URL of the ledger, or None for the default one.
            leaderboard: CSV file of the leaderboard.
        """
        self.url, self._leaderboard = ledger, leaderboard
        self._ledger: Ledger | None = None

    def rows(self) -> list[dict[str, Any]]:
        """Return all runs in the order of their first record.

        Raises:
            ValueError: The ledger cannot be read.
        """
        if self._ledger is None:
            # opening a ledger creates it, and a visitor of the page must not create files
            if self.url is None and "DAELAB_LEDGER" not in os.environ and not (get_runs_root() / "ledger.db").exists():
                return []
            self._ledger = Ledger(self.url)
        # Otherwise a run whose process was killed would be shown as running.
        self._ledger.mark_dead_runs()
        rows = [{key: _hide_paths(row[key]) for key in SHOWN_COLUMNS} for row in self._ledger.list_runs()]
        return [row | {"architecture": _shorten_architecture(row["architecture"])} for row in rows]

    def run(self, name: str) -> dict[str, Any]:
        """Return a run and its rows of `metrics.csv` so far.

        Args:
            name: The name of the run.

        Raises:
            LookupError: The ledger has no such run.
        """
        row = next((row for row in self.rows() if row["name"] == name), None)
        if row is None:
            raise LookupError(f"no run {name}")
        try:
            curve = get_run_folder(name).read_metrics()
        except (ValueError, OSError):  # an imported run has no folder, and its name may be no valid folder name
            curve = []
        return {"run": row, "curve": curve}

    def leaderboard(self) -> dict[str, Any]:
        """Return the columns and rows of the leaderboard as text, or no rows if there is no such file."""
        try:
            with self._leaderboard.open(newline="", encoding="utf-8") as file:
                columns, *rows = [row for row in csv.reader(file) if row] or [[]]
        except (OSError, UnicodeDecodeError, csv.Error):
            return {"columns": [], "rows": []}
        # A row of another length does not fit the columns, and it is left out.
        return {"columns": columns, "rows": [row for row in rows if len(row) == len(columns)]}


def _hide_paths(value: Any) -> Any:
    return shorten_paths(value) if isinstance(value, str) else value


def _shorten_architecture(text: str | None) -> str | None:
    """Return an unnamed architecture as the widths of its stages, with a minus where a stage does not shrink the image.

    >>> _shorten_architecture("{'stages': [{'width': 8, 'down': True}, {'width': 16, 'down': False}], 'norm': 'none'}")
    '8, 16-; norm none'
    """
    if not (text or "").startswith("{"):
        return text
    try:
        # Only literals are evaluated, so the text cannot run code.
        spec = ast.literal_eval(text or "")
        stages = ", ".join(f"{stage['width']}{'' if stage['down'] else '-'}" for stage in spec["stages"])
        return stages + ("" if spec["norm"] == "batch" else f"; norm {spec['norm']}")
    except (ValueError, SyntaxError, LookupError, TypeError):
        return text


def shorten_paths(text: str) -> str:
    """Return a text in which only the last part of every absolute path is left.

    Args:
        text: Any text.

    >>> shorten_paths("/home/me/pictures/cat.png: broken; data folder:/data/set, 3/4 done")
    '…/cat.png: broken; data folder:…/set, 3/4 done'
    """
    return re.sub(r"(?<![\w.])(?:[A-Za-z]:)?[/\\](?:[^\s/\\:;,'\"]+[/\\])*(?=[^\s/\\:;,'\"])", "…/", text)
