"""Search a space of recipes, on one machine or many, and compare what came of it. Needs Optuna (extra `search`).

space.py       a space: a recipe in which fields may be lists or ranges; how it is searched
dimensions.py  a choice, a range, and where they stand
kinds.py       samplers, pruners, goals by name
study.py       a space and its trials in a database that workers share, without a leader
worker.py      one worker: trials become runs like any other
search.py      begin or go on; several workers on this machine; how long still
compare.py     runs -> what differs, what came of it, and what is worth nothing
spread.py      how far runs lie apart that differ by their seed alone
page.py        the same as figures and a page
"""

from daelab.explore.search import Interrupted, Request, Watcher, search
from daelab.explore.space import Search, Space, load, parse, shipped, text
from daelab.explore.study import Row, Study

__all__ = [
    "Interrupted",
    "Request",
    "Row",
    "Search",
    "Space",
    "Study",
    "Watcher",
    "load",
    "parse",
    "search",
    "shipped",
    "text",
]
