"""Classifiers that score images: macro F1 of clean, noisy and denoised ones.

f1.py        macro F1, full-set and by batches of four; confusion matrices
recipe.py    a judge's training as data
network.py   the classifier of ours; whitening; test-time augmentation
file.py      a judge of ours in one file
loop.py      train(recipe, data, folder); resume
state.py     a training between two steps, and its checkpoint
judge.py     Judge: images -> classes, whatever is behind it
outside.py   the user's own: ONNX, module:factory
vit.py       the paper's vision transformer
table.py     JUDGES, and `load`
scores.py    what a judge says of clean, noisy and denoised images
"""

from daelab.judge import recipe
from daelab.judge.f1 import confusion, macro_f1, macro_f1_batch4, per_class, recovered
from daelab.judge.file import Card, JudgeFile
from daelab.judge.judge import Judge
from daelab.judge.loop import Progress, Silent, Stopped, train
from daelab.judge.network import ConvNet
from daelab.judge.recipe import JudgeRecipe
from daelab.judge.scores import JudgeScores
from daelab.judge.table import JUDGES, load, network_of, shipped

__all__ = [
    "JUDGES",
    "Card",
    "ConvNet",
    "Judge",
    "JudgeFile",
    "JudgeRecipe",
    "JudgeScores",
    "Progress",
    "Silent",
    "Stopped",
    "confusion",
    "load",
    "macro_f1",
    "macro_f1_batch4",
    "network_of",
    "per_class",
    "recipe",
    "recovered",
    "shipped",
    "train",
]
