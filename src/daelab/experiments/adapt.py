"""Adapt a model to noisy pictures alone, without clean ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from daelab.datasets.base import DatasetSource
from daelab.datasets.image_folder import load_image_folder
from daelab.datasets.neighbors import measure_correlation
from daelab.experiments.train import train
from daelab.models.model_file import read_model_metadata
from daelab.models.registry import find_model_file
from daelab.runs.folder import choose_run_name
from daelab.training.engine import TrainingResult
from daelab.training.recipe import parse_recipe

_INDEPENDENT = 0.2
"""The largest correlation of neighboring pixels at which noise counts as independent."""
_LOOKED_AT = 16


@dataclass(frozen=True)
class AdaptedModel:
    """A model that was adapted to noisy pictures."""

    training: TrainingResult
    """The training, whose run holds the model."""
    correlation: float | None
    """The measured correlation of the noise of neighboring pixels; None if it could not be measured."""

    @property
    def warning(self) -> str:
        """A line that says whether the pictures contradict what the method assumes; empty if they do not."""
        if self.correlation is None or self.correlation <= _INDEPENDENT:
            return ""
        return (
            f"the noise of neighboring pixels is correlated ({self.correlation:.2f}), but the method assumes "
            "independent noise, so the model leaves a part of it; use pictures that were not resized or saved as JPEG"
        )


def adapt(
    folder: str | Path, start: str | Path = "photo-s", *, minutes: float = 10.0, name: str | None = None, **options: Any
) -> AdaptedModel:
    """Train a model further on a folder of noisy pictures alone (Neighbor2Neighbor; Huang et al., 2021).

    The method assumes that the noise has mean zero and is independent from pixel to pixel; the second is measured.

    Args:
        folder: The folder of noisy pictures.
        start: The model to begin from: the name of a shipped model, or a model file.
        minutes: The time of the training.
        name: The name of the run. Default: `adapt-N`.
        **options: Further options of `train`.

    Raises:
        ValueError: There is no such folder, or its pictures are too few or too small.
        FileNotFoundError: There is no such model.
    """
    spec = read_model_metadata(find_model_file(start)).spec
    crop = 64
    fields = {
        "note": f"{start} adapted to the noisy pictures of {folder}",
        "spec": spec.to_dict(),
        "noise": "none",
        "data": {"name": f"neighbors:{folder}", "crop": crop, "crops": 16},
        "training": {
            "start": str(start),
            "minutes": minutes,
            "epochs": 10_000,
            "batch": 16,
            "lr": 2e-4,
            "schedule": "cosine",
            "ema": 0.99,
            "flips": True,
            "turns": True,
        },
    }
    recipe = parse_recipe(fields)
    pictures = load_image_folder(DatasetSource(path=Path(folder).expanduser(), crop=2 * crop)).train
    correlation = measure_correlation(pictures.batch(np.arange(min(len(pictures), _LOOKED_AT))))
    return AdaptedModel(train(recipe, name or choose_run_name("adapt"), **options), correlation)
