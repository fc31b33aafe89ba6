"""The paper by one command: measure what it claims, beside ours, and write a report.

paper.py     what the paper says, as data
measure.py   every model under a noise, with a judge; seconds per epoch
study.py     the paper's decisive comparisons, run again, short
checks.py    tolerances
tables.py    what was measured -> tables
sections.py  -> the parts of the report, with figures
build.py     `reproduce`: all of it
"""

from daelab.reproduce.build import Found, Request, Watcher, reproduce
from daelab.reproduce.checks import Check

__all__ = ["Check", "Found", "Request", "Watcher", "reproduce"]
