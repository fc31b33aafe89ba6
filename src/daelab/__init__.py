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

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daelab.datasets.noisy_pairs import NoisyPairs
    from daelab.datasets.registry import load_dataset
    from daelab.denoising.automatic import denoise, load_model
    from daelab.denoising.denoiser import Denoiser
    from daelab.denoising.noisy_images import identify_file_noise as identify_noise
    from daelab.denoising.pipeline import denoise_file
    from daelab.denoising.stacks import denoise_stack, denoise_zarr
    from daelab.experiments.adapt import adapt
    from daelab.experiments.evaluate_model import ModelEvaluation, evaluate
    from daelab.experiments.explore import compare, explore
    from daelab.experiments.train import train
    from daelab.models.architectures.external import ExternalArchitecture
    from daelab.noise.base import Noise
    from daelab.noise.grammar import parse_noise
    from daelab.training.recipe import Recipe

__version__: str
__all__ = [
    "Denoiser",
    "ExternalArchitecture",
    "ModelEvaluation",
    "Noise",
    "NoisyPairs",
    "Recipe",
    "adapt",
    "compare",
    "denoise",
    "denoise_file",
    "denoise_stack",
    "denoise_zarr",
    "evaluate",
    "explore",
    "identify_noise",
    "load_dataset",
    "load_model",
    "parse_noise",
    "train",
]
_PLACES = {
    "Denoiser": "denoising.denoiser",
    "ModelEvaluation": "experiments.evaluate_model",
    "ExternalArchitecture": "models.architectures.external",
    "Noise": "noise.base",
    "NoisyPairs": "datasets.noisy_pairs",
    "Recipe": "training.recipe",
    "adapt": "experiments.adapt",
    "compare": "experiments.explore",
    "denoise": "denoising.automatic",
    "denoise_file": "denoising.pipeline",
    "denoise_stack": "denoising.stacks",
    "denoise_zarr": "denoising.stacks",
    "evaluate": "experiments.evaluate_model",
    "explore": "experiments.explore",
    "identify_noise": "denoising.noisy_images",
    "load_dataset": "datasets.registry",
    "load_model": "denoising.automatic",
    "parse_noise": "noise.grammar",
    "train": "experiments.train",
}


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, and even the version some time, so they wait until one of these is used
    if name == "__version__":
        from importlib.metadata import version

        return version("daelab")
    if name not in _PLACES:
        raise AttributeError(f"module 'daelab' has no attribute {name!r}")
    attribute = "identify_file_noise" if name == "identify_noise" else name
    return getattr(import_module(f"daelab.{_PLACES[name]}"), attribute)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
