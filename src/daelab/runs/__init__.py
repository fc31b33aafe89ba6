"""What a run leaves behind.

folder.py   a run's folder: recipe, environment, metrics, checkpoint, best model
ledger.py   one row per run, in one database for all; the paper's log in and out
database.py the database: SQLite or PostgreSQL, and turns for those who share it
process.py  whether the process of a run is still there
"""

from daelab.runs.database import alone, driven, hidden, place, take_turns
from daelab.runs.folder import (
    METRIC_COLUMNS,
    RunFolder,
    environment,
    folder,
    free_name,
    of_group,
    root,
    write_environment,
)
from daelab.runs.ledger import PAPER_COLUMNS, SCHEMA, STATUSES, Ledger, now
from daelab.runs.process import died, here

__all__ = [
    "METRIC_COLUMNS",
    "PAPER_COLUMNS",
    "SCHEMA",
    "STATUSES",
    "Ledger",
    "RunFolder",
    "alone",
    "died",
    "driven",
    "environment",
    "folder",
    "free_name",
    "here",
    "hidden",
    "now",
    "of_group",
    "place",
    "root",
    "take_turns",
    "write_environment",
]
