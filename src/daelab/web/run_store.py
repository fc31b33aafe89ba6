"""The runs and the leaderboard that the page shows, without paths, hosts and process ids."""

from __future__ import annotations

import csv
import logging
import math
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from daelab._util.text import fit_line, hide_passwords
from daelab.errors import describe_error
from daelab.experiments.fields import shorten_architecture
from daelab.experiments.leaderboard.tables import CROPS_FOLDER
from daelab.runs.database import DatabaseError
from daelab.runs.folder import get_run_folder, get_runs_root
from daelab.runs.ledger import Ledger
from daelab.web.columns import RUN_COLUMNS, describe_board_columns

LEADERBOARD_FILE = Path("leaderboard/leaderboard.csv")
"""The file that `daelab leaderboard --out leaderboard` writes."""
_TEXTS = (
    *("name", "status", "reason", "comments", "started", "finished"),
    *("architecture", "noise", "precision", "optimiser"),
)
"""The shown columns of the ledger that hold texts. No folders, hosts, processes or whole recipes are shown."""

_PATIENCE = 1.0
"""Seconds that a request waits for another one that reads the ledger."""
_FRESH = 1.0
"""Seconds for which what was read of the ledger serves further requests."""
_LONGEST_TEXT = 2000
_SLASH = r"(?:/|\\(?!u[\da-f]{4}|x[\da-f]{2}))"
"""A slash, or a backslash that does not begin an escape sequence."""
_PATH = re.compile(
    # the start: an absolute path, or the first folder of a relative one, which is not a number
    rf"(?:(?<![\w./\\])(?:[A-Za-z]:{_SLASH}|(?:~\w*)?/|\\\\)|(?<![\w.-])(?![\d-]*{_SLASH})[\w.-]++{_SLASH})"
    # further folders, and what must follow: the name of the file
    rf"(?:[^/\\:;,'\"\n]*{_SLASH})*(?=[^\s/\\:;,'\"])"
)
"""The folders of a path, up to its last part."""

log = logging.getLogger("daelab.web")


class RunsUnavailable(Exception):
    """An error for a ledger that cannot be read. Its own message may name files and hosts, and goes to the log."""


class RunStore:
    """A reader of the ledger, of the training curves, and of the leaderboard."""

    def __init__(self, ledger: str | None = None, leaderboard: Path = LEADERBOARD_FILE) -> None:
        """Read from a ledger and a leaderboard file; both may be missing.

        Args:
            ledger: Database URL of the ledger, or None for the default one.
            leaderboard: CSV file of the leaderboard.
        """
        self.url, self.leaderboard_file = ledger, leaderboard
        self._ledger: Ledger | None = None
        self._lock = threading.Lock()
        self._seen: dict[int, Any] = {}
        self._shown: dict[int, tuple[int, dict[str, Any]]] = {}
        """The shown rows by their number in the ledger, each with the count of the change that it came with."""
        self._series, self._count, self._read_at = secrets.token_hex(4), 0, -math.inf

    @contextmanager
    def reading(self) -> Iterator[Ledger | None]:
        """Yield the ledger to one request at a time, or None if there is no ledger yet.

        Raises:
            RunsUnavailable: The ledger cannot be read, or another request waits for it.
        """
        # A ledger that another program has locked may hold one thread of the server, but not all.
        if not self._lock.acquire(timeout=_PATIENCE):
            raise RunsUnavailable
        try:
            yield self.open_ledger()
        except (ValueError, OSError) as error:
            log.error("%s", fit_line(hide_passwords(describe_error(error))))
            raise RunsUnavailable from None
        finally:
            self._lock.release()

    def open_ledger(self) -> Ledger | None:
        """Return the ledger, or None if there is no ledger yet.

        Raises:
            ValueError: The ledger cannot be read. The message names it.
            OSError: Its folder cannot be made.
        """
        # opening a ledger creates it, and a visitor of the page must not create files
        default = self.url is None and "DAELAB_LEDGER" not in os.environ
        if self._ledger is None and (not default or (get_runs_root() / "ledger.db").exists()):
            self._ledger = Ledger(self.url)
        return self._ledger

    def list_changes(self, since: str = "") -> dict[str, Any]:
        """Return the runs that were added or changed since an earlier answer, in the order of their first record.

        Args:
            since: The `version` of that answer. If it is empty or too old, all runs are returned.

        Returns:
            The runs, the version of this answer, and whether these are all runs.

        Raises:
            RunsUnavailable: The ledger cannot be read, or another request waits for it.
        """
        with self.reading() as ledger:
            if ledger is not None and time.monotonic() - self._read_at >= _FRESH:
                self._update(ledger)
                self._read_at = time.monotonic()
            series, _, count = since.partition(".")
            known = int(count) if series == self._series and count.isdecimal() else 0
            runs = [row for changed, row in self._shown.values() if changed > known]
            return {"runs": runs, "version": f"{self._series}.{self._count}", "whole": not known}

    def _update(self, ledger: Ledger) -> None:
        """Take over what has changed in the ledger. A value of a wrong type is shown as missing."""
        # Otherwise a run whose process was killed would be shown as running.
        with suppress(ValueError):  # the ledger may be read-only
            ledger.mark_dead_runs()
        changed = ledger.list_changed_runs(self._seen)
        if not self._shown.keys() <= self._seen.keys():
            # Rows were removed, which is rare: everybody gets all runs again.
            self._series = secrets.token_hex(4)
            self._shown = {number: self._shown[number] for number in self._seen if number in self._shown}
        self._count += bool(changed)
        self._shown |= {row["id"]: (self._count, _show_row(row)) for row in changed}

    def read_row(self, name: str) -> dict[str, Any]:
        """Return the row of a run in the ledger, with everything that visitors must not see.

        Args:
            name: The name of the run.

        Raises:
            LookupError: The ledger has no such run.
            RunsUnavailable: The ledger cannot be read, or another request waits for it.
        """
        with self.reading() as ledger:
            try:
                if ledger is not None:
                    return ledger.get_run(name)
            except DatabaseError:
                raise
            except ValueError:
                pass
        raise LookupError(f"no run {name}")

    def run(self, name: str, after: float = 0) -> dict[str, Any]:
        """Return a run and its rows of `metrics.csv`.

        Args:
            name: The name of the run.
            after: The last epoch that is known already; only later ones are returned.

        Raises:
            LookupError: The ledger has no such run.
            RunsUnavailable: The ledger cannot be read, or another request waits for it.
        """
        row = _show_row(self.read_row(name))
        try:
            curve = get_run_folder(name).read_metrics()
        except (ValueError, OSError):  # an imported run has no folder, and its name may be no valid folder name
            curve = []
        later = [epoch for epoch in curve if not epoch.get("epoch", math.inf) <= after]
        return {"run": row, "curve": [{key: get_number(value) for key, value in epoch.items()} for epoch in later]}

    def leaderboard(self) -> dict[str, Any]:
        """Return the columns, rows and crops of the leaderboard, or no rows if there is no such file."""
        try:
            text = self.leaderboard_file.read_text(encoding="utf-8", errors="replace")
        except (OSError, ValueError):
            text = ""
        # Each line is read by itself, so that a damaged one hides no other.
        columns, *rows = [row for row in map(_read_cells, text.splitlines()) if row] or [[]]
        return {
            "columns": columns,
            # A row of another length does not fit the columns, and it is left out.
            "rows": [row for row in rows if len(row) == len(columns)],
            "shown": describe_board_columns(columns),
            "crops": {name: sorted(files) for name, files in self.list_crops().items()},
        }

    def list_crops(self) -> dict[str, dict[str, Path]]:
        """Return the pictures of the leaderboard: the file of each model, by the name of the crop."""
        folders = sorted(self.leaderboard_file.with_name(CROPS_FOLDER).glob("*/"))
        return {folder.name: {file.stem: file for file in folder.glob("*.png")} for folder in folders}


def _read_cells(line: str) -> list[str]:
    try:
        return [fit_line(cell) for cell in next(csv.reader([line]), [])]
    except csv.Error:
        return []


def _show_row(row: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {column["key"]: get_number(row.get(column["key"])) for column in RUN_COLUMNS}
    shown |= {key: _show_text(row.get(key)) for key in _TEXTS}
    architecture = row.get("architecture")
    # A run of another version may have none.
    return shown | {"architecture": _show_text(architecture and shorten_architecture(str(architecture)))}


def _show_text(value: object) -> str | None:
    return None if value is None else make_public(str(value))


def get_number(value: object) -> float | None:
    """Return a number that JSON can hold, or None for another value.

    Args:
        value: A value that was read from a file.
    """
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


@lru_cache(maxsize=4096)  # most runs share their noise, architecture and status
def make_public(text: str) -> str:
    """Return a text as one short line that visitors may see: without passwords, and without the folders of paths.

    Args:
        text: Any text.
    """
    if len(text) > 2 * _LONGEST_TEXT:
        text = f"{text[:_LONGEST_TEXT]} ... {text[-_LONGEST_TEXT:]}"
    # Shortened at the end, since half of a password or path would not be recognized.
    return fit_line(shorten_paths(hide_passwords(text)))


def shorten_paths(text: str) -> str:
    """Return a text in which only the last part of every path is left.

    A path begins with a slash, a drive, `~`, or a part with a letter, and its folders may contain spaces. Fractions
    such as 3/4 are kept.

    Args:
        text: Any text.

    >>> shorten_paths("/home/me/my pictures/cat.png: broken; data folder:/data/set, 3/4 done")
    '…/cat.png: broken; data folder:…/set, 3/4 done'
    >>> shorten_paths("'runs/big one/best.safetensors' is damaged, see ../log/a.txt")
    "'…/best.safetensors' is damaged, see …/a.txt"
    """
    return _PATH.sub("…/", text)
