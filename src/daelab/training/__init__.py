"""fit(recipe): the one loop; resume.

    loop.py       fit: epochs of steps, validation, checkpoints
    record.py     what is written into the run's folder and the ledger, and told
    feed.py       batches that depend on (seed, step) alone
    every.py      how often a checkpoint is written
    look.py       the validation images after an epoch, and a judge of them
    state.py      what a training is at a step; its checkpoint
    optimise.py   optimisers, schedules, moving average

Who watches a training fills the protocol `Progress`; nothing here prints.
"""

from daelab.machine import best_device, choose_precision, keep_memory
from daelab.training.every import Every, parse_every
from daelab.training.loop import Trained, begun, fit, noted_signals, resume_recipe
from daelab.training.record import Interrupted, Progress, Silent

__all__ = [
    "Every",
    "Interrupted",
    "Progress",
    "Silent",
    "Trained",
    "begun",
    "best_device",
    "choose_precision",
    "fit",
    "keep_memory",
    "noted_signals",
    "parse_every",
    "resume_recipe",
]
