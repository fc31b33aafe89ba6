"""What a run leaves behind.

folder.py   a run's folder: recipe, environment, metrics, checkpoint, best model
ledger.py   one row per run, in one database for all; the paper's log in and out
"""

from daelab.runs.folder import (
    METRIC_COLUMNS,
    RunFolder,
    environment,
    folder,
    free_name,
    root,
    write_environment,
)
from daelab.runs.ledger import PAPER_COLUMNS, SCHEMA, STATUSES, Ledger, now

__all__ = [
    "METRIC_COLUMNS",
    "PAPER_COLUMNS",
    "SCHEMA",
    "STATUSES",
    "Ledger",
    "RunFolder",
    "environment",
    "folder",
    "free_name",
    "now",
    "root",
    "write_environment",
]
