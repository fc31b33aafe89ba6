"""Every model on the same noisy pixels: how well, at what cost, and whether a lead is more than chance.

boards.py   what each data set's leaderboard shows
measure.py  models -> rows
tables.py   rows -> tables, and `write`: CSV, JSON, a page
"""

from daelab.leaderboard.boards import BOARDS, Board
from daelab.leaderboard.measure import Lead, Request, Row, contenders, lead, measure
from daelab.leaderboard.tables import COLUMNS, check, ranking, records, speed, unseen, write

__all__ = [
    "BOARDS",
    "COLUMNS",
    "Board",
    "Lead",
    "Request",
    "Row",
    "check",
    "contenders",
    "lead",
    "measure",
    "ranking",
    "records",
    "speed",
    "unseen",
    "write",
]
