"""The ledger, the curves and the leaderboard, without anything that says where they lie."""

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
"""Where `daelab leaderboard --out leaderboard` writes it."""
SHOWN_COLUMNS = (
    *("name", "status", "reason", "comments", "started", "finished", "epochs_done", "epochs"),
    *("val_loss", "val_psnr_image", "val_psnr", "val_f1", "seconds", "images_per_second"),
    *("architecture", "parameters", "noise", "train_size", "val_size", "seed", "precision"),
    *("optimiser", "learning_rate", "batch_size", "weight_decay"),
)
"""Of the ledger's rows, those that are shown: neither folders, hosts, processes nor whole recipes."""


class RunStore:
    """What there is to read of runs.

    Args:
        ledger: URL of the database; as `Ledger` where it is None.
        leaderboard: a CSV file.
    """

    def __init__(self, ledger: str | None = None, leaderboard: Path = LEADERBOARD_FILE) -> None:
        self.url, self._leaderboard = ledger, leaderboard
        self._ledger: Ledger | None = None

    def rows(self) -> list[dict[str, Any]]:
        """Every run, in the order of the first record.

        Raises:
            ValueError: the ledger cannot be read.
        """
        if self._ledger is None:
            # looking on makes no ledger where there is none yet
            if self.url is None and "DAELAB_LEDGER" not in os.environ and not (get_runs_root() / "ledger.db").exists():
                return []
            self._ledger = Ledger(self.url)
        self._ledger.settle()
        found = [{key: _said(row[key]) for key in SHOWN_COLUMNS} for row in self._ledger.rows()]
        return [row | {"architecture": _architecture(row["architecture"])} for row in found]

    def run(self, name: str) -> dict[str, Any]:
        """One run, and its rows of `metrics.csv` so far.

        Raises:
            LookupError: the ledger has no such run.
        """
        found = next((row for row in self.rows() if row["name"] == name), None)
        if found is None:
            raise LookupError(f"no run {name}")
        try:
            curve = get_run_folder(name).read_metrics()
        except (ValueError, OSError):  # one that was imported has no folder, and any name
            curve = []
        return {"run": found, "curve": curve}

    def leaderboard(self) -> dict[str, Any]:
        """Its columns and its rows, as text; none where there is no such file."""
        try:
            with self._leaderboard.open(newline="", encoding="utf-8") as file:
                columns, *rows = [row for row in csv.reader(file) if row] or [[]]
        except (OSError, UnicodeDecodeError, csv.Error):
            return {"columns": [], "rows": []}
        return {"columns": columns, "rows": [row for row in rows if len(row) == len(columns)]}


def _said(value: Any) -> Any:
    return shorten_paths(value) if isinstance(value, str) else value


def _architecture(text: str | None) -> str | None:
    """A spec without a name by its stages: those of the paper's kind by their widths.

    >>> _architecture("{'stages': [{'width': 8, 'down': True}, {'width': 16, 'down': False}], 'norm': 'none'}")
    '8, 16-; norm none'
    """
    if not (text or "").startswith("{"):
        return text
    try:
        spec = ast.literal_eval(text or "")
        stages = ", ".join(f"{stage['width']}{'' if stage['down'] else '-'}" for stage in spec["stages"])
        return stages + ("" if spec["norm"] == "batch" else f"; norm {spec['norm']}")
    except (ValueError, SyntaxError, LookupError, TypeError):
        return text


def shorten_paths(text: str) -> str:
    """A text in which of every absolute path only the last part is left.

    >>> shorten_paths("/home/me/pictures/cat.png: broken; data folder:/data/set, 3/4 done")
    '…/cat.png: broken; data folder:…/set, 3/4 done'
    """
    return re.sub(r"(?<![\w.])(?:[A-Za-z]:)?[/\\](?:[^\s/\\:;,'\"]+[/\\])*(?=[^\s/\\:;,'\"])", "…/", text)
