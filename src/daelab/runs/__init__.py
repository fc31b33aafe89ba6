"""What a run leaves behind.

folder.py   a run's folder: recipe, environment, metrics, checkpoint, best model
ledger.py   one row per run, in one database for all; the paper's log in and out
process.py  whether the process of a run is still there
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
from daelab.runs.process import here

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
    "here",
    "now",
    "root",
    "write_environment",
]
