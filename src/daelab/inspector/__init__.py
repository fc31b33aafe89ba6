"""Which noise is in a picture, and which model fits.

families.py    the kinds of noise that are told apart; what each does; whether a model fits
features.py    patches -> statistics
estimator.py   the small network over them, and its file
train.py       noisy pictures of clean ones, whose labels are known -> a trained inspector
inspect.py     a picture -> an `Inspection`
tables.py      what a trained inspector scored, as tables
"""

from daelab.inspector.estimator import SURE, InspectorFile, load, shipped
from daelab.inspector.families import FAMILIES, Effect
from daelab.inspector.inspection import Inspection, inspect
from daelab.inspector.tables import results_tables
from daelab.inspector.training import EXAMPLES, train

__all__ = [
    "EXAMPLES",
    "FAMILIES",
    "SURE",
    "Effect",
    "Inspection",
    "InspectorFile",
    "inspect",
    "load",
    "results_tables",
    "shipped",
    "train",
]
