"""Search a space of recipes, on one machine or many, and compare what came of it. Needs Optuna (extra `search`).

space.py       a space: a recipe in which fields may be lists or ranges; how it is searched
dimensions.py  a choice, a range, and where they stand
kinds.py       samplers, pruners, goals by name
storage.py     where studies are kept
rows.py        trials as they stand, and the best points
study.py       a space and its trials in a database that workers share, without a leader
worker.py      one worker: trials become runs like any other
search.py      begin or go on; several workers on this machine; how long still
compare.py     runs -> what differs, what came of it, and what is worth nothing
spread.py      how far runs lie apart that differ by their seed alone
page.py        the same as figures and a page
"""

from daelab.explore.compare import Compared, Point, Run, compare
from daelab.explore.page import check, write
from daelab.explore.rows import Row
from daelab.explore.search import Interrupted, Request, Watcher, search
from daelab.explore.space import Search, Space, load, parse, shipped, text
from daelab.explore.spread import spread, too_close
from daelab.explore.study import Study

__all__ = [
    "Compared",
    "Interrupted",
    "Point",
    "Request",
    "Row",
    "Run",
    "Search",
    "Space",
    "Study",
    "Watcher",
    "check",
    "compare",
    "load",
    "parse",
    "search",
    "shipped",
    "spread",
    "text",
    "too_close",
    "write",
]
