"""A workbench for denoising auto-encoders.

    noise/        noises as frozen values with a text form
    datasets/     image sets as uint8 arrays with labels; seeded splits
    image_io/     picture files: formats, bit depths, alpha, metadata
    models/       architectures as data, networks, model files, ONNX
    training/     recipes, the training engine and its tasks
    runs/         run folders, and the ledger of all runs
    evaluation/   metrics, confidence intervals, classifiers
    denoising/    denoisers for pictures of any size; noise identification; batches of files
    experiments/  search, comparison, leaderboard, the paper's reproduction, reports
    web/          the page and its HTTP API
    cli/          the command line, one module per command
    _util/        files, configuration tables, hardware, distributed processes

`tests/test_architecture.py` holds which package may import which.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daelab.denoising.denoiser import Denoiser, load_model
    from daelab.denoising.noisy_images import identify_file_noise as identify_noise
    from daelab.denoising.pipeline import denoise_file
    from daelab.experiments.evaluate_model import ModelEvaluation, evaluate
    from daelab.experiments.explore import compare, explore
    from daelab.experiments.train import train
    from daelab.noise.base import Noise
    from daelab.noise.grammar import parse_noise
    from daelab.training.recipe import Recipe

__version__ = metadata.version("daelab")
__all__ = [
    "Denoiser",
    "ModelEvaluation",
    "Noise",
    "Recipe",
    "compare",
    "denoise_file",
    "evaluate",
    "explore",
    "identify_noise",
    "load_model",
    "parse_noise",
    "train",
]
_PLACES = {
    "Denoiser": "denoising.denoiser",
    "ModelEvaluation": "experiments.evaluate_model",
    "Noise": "noise.base",
    "Recipe": "training.recipe",
    "compare": "experiments.explore",
    "denoise_file": "denoising.pipeline",
    "evaluate": "experiments.evaluate_model",
    "explore": "experiments.explore",
    "identify_noise": "denoising.noisy_images",
    "load_model": "denoising.denoiser",
    "parse_noise": "noise.grammar",
    "train": "experiments.train",
}


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, so it waits until one of these is used
    if name not in _PLACES:
        raise AttributeError(f"module 'daelab' has no attribute {name!r}")
    attribute = "identify_file_noise" if name == "identify_noise" else name
    return getattr(import_module(f"daelab.{_PLACES[name]}"), attribute)
