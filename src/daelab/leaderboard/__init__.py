"""Every model on the same noisy pixels: how well, at what cost, and whether a lead is more than chance.

boards.py   what each data set's leaderboard shows
row.py      a model's cost and scores, and its lead over another
kept.py     rows that were measured before
measure.py  models -> rows
tables.py   rows -> tables, and `write`: CSV, JSON, a page
"""

from daelab.leaderboard.boards import BOARDS, Board
from daelab.leaderboard.measure import Request, contenders, measure
from daelab.leaderboard.row import Lead, Row, lead
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
