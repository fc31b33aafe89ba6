"""A workbench for denoising auto-encoders. The map, in the order in which data flows:

    errors.py       one shape for every "no such name" error
    files.py        files that are whole or absent
    tensorfile.py   tensors with a JSON header in one safetensors file
    settings.py     frozen tables read from TOML, checked whole: what recipes are made of
    machine.py      device, precision, an allocator that keeps its memory, onnxruntime
    processes.py    several processes as one: torchrun's group, work dealt out and put together
    data/           image sets -> uint8 NCHW arrays + labels; seeded splits
    noise/          noise recipes as frozen values; parse, print, apply
    spec/           a network as data: fields -> layer table; presets
    model/          spec -> nn.Module
    metrics.py      per-image MSE, PSNR, SSIM; intervals
    judge/          classifiers that score denoised images (macro F1)
    losses.py       name -> function
    evaluation.py   the one evaluation path; training validates with it
    recipe.py       a run as data: data + noise + spec + loss + optimiser + seed; TOML
    modelfile.py    one safe self-describing file per model; the paper's .pt files
    export.py       a model as an ONNX file, and back
    runs/           a run's folder, and the ledger of all runs
    training/       fit(recipe): the one loop; resume
    trackers.py     TensorBoard and MLflow, told of a training
    method.py       what cleans, and what a tile of it needs
    baselines.py    classical methods behind the same interface, tuned
    tiles.py        a picture of any size, tile by tile, equal to the whole
    denoiser.py     Denoiser.load(name)(image): any size, any of the usual types
    imagefiles/     a picture's file: formats, depths, alpha, metadata
    report/         runs and tables -> figures and pages; never trains
    inspector/      which noise is in a picture, and which model fits
    cleaning/       noisy files in, the same kind of files out, one or a folder
    explore/        search a space of recipes; compare runs
    api/            load, train, evaluate: what a Python user calls
    leaderboard/    every model on the same noisy pixels: quality, cost, and what a lead is worth
    reproduce/      the paper by one command: its tables and figures beside ours
    serving/        the web page and its HTTP API around the rooms above; no image maths of its own
    cli/            every command; no logic

A module imports only from those above it (tests/test_layers.py).
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daelab.api import Denoiser, Evaluated, Noise, Recipe, denoise_file, evaluate, load, train
    from daelab.noise import parse as noise

__version__ = metadata.version("daelab")
__all__ = ["Denoiser", "Evaluated", "Noise", "Recipe", "denoise_file", "evaluate", "load", "noise", "train"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, so it waits until one of these is used
    if name not in __all__:
        raise AttributeError(f"module 'daelab' has no attribute {name!r}")
    if name == "noise":
        return import_module("daelab.noise")
    return getattr(import_module("daelab.api"), name)
