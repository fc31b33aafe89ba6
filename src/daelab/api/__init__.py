"""What a Python user calls: load, train, evaluate. The commands call these too.

models.py        load a model, score it, write it as ONNX
trainings.py     train networks, judges and inspectors; write what ships
explorations.py  search spaces of recipes, compare runs
pictures.py      pictures under noise, and what noise is in them
"""

from daelab.api.explorations import compare, explore
from daelab.api.models import Evaluated, Exported, evaluate, evaluate_levels, export, load, load_half
from daelab.api.pictures import inspect, make_noisy, noise_file, noise_index, noisy_picture
from daelab.api.trainings import TrainedJudge, save_scored, train, train_inspector, train_judge
from daelab.cleaning import Cleaned, denoise_file
from daelab.denoiser import Denoiser, find
from daelab.noise import Noise
from daelab.recipe import Recipe

__all__ = [
    "Cleaned",
    "Denoiser",
    "Evaluated",
    "Exported",
    "Noise",
    "Recipe",
    "TrainedJudge",
    "compare",
    "denoise_file",
    "evaluate",
    "evaluate_levels",
    "explore",
    "export",
    "find",
    "inspect",
    "load",
    "load_half",
    "make_noisy",
    "noise_file",
    "noise_index",
    "noisy_picture",
    "save_scored",
    "train",
    "train_inspector",
    "train_judge",
]
