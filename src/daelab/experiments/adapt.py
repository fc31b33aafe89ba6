"""Adapt a model to noisy pictures alone, without clean ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from daelab.datasets.base import DatasetSource
from daelab.datasets.image_folder import load_image_folder
from daelab.datasets.neighbors import measure_correlation
from daelab.denoising.named_models import find_model, load_named_network, load_storable_network
from daelab.errors import make_unknown_name_error
from daelab.experiments.train import train
from daelab.models.architectures.base import Architecture
from daelab.models.external import split_model_name
from daelab.models.registry import find_shipped_model
from daelab.runs.folder import choose_run_name
from daelab.training.engine import TrainingResult
from daelab.training.losses import LOSSES
from daelab.training.recipe import parse_recipe
from daelab.training.self_supervised import SelfSupervisedLoss

_INDEPENDENT = 0.2
"""The largest correlation of neighboring pixels at which noise counts as independent."""
_LOOKED_AT = 16
_EPOCH = 1600
"""The number of crops of an epoch, where a folder has no more pictures than that."""
_CROP = 64
"""The side in pixels of the images that the network sees, whatever a method makes of them."""


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


def _find_loss(name: str) -> SelfSupervisedLoss:
    """Return a loss of noisy images alone."""
    losses = {key: loss for key, loss in LOSSES.items() if isinstance(loss, SelfSupervisedLoss)}
    if name not in losses:
        raise make_unknown_name_error("loss of noisy images alone", name, losses)
    return losses[name]


def _find_start(name: str | Path) -> tuple[Architecture, str]:
    """Return the architecture of the model to begin from, and the name that a recipe has for it."""
    if split_model_name(name)[0] is not None:
        return load_named_network(name)[1].spec, str(name)
    spec = load_storable_network(name)[1].spec
    return spec, str(name if find_shipped_model(str(name)) else find_model(name))


def adapt(
    folder: str | Path,
    start: str | Path = "photo-s",
    *,
    minutes: float = 10.0,
    loss: str | None = None,
    name: str | None = None,
    **options: Any,
) -> AdaptedModel:
    """Train a model further on a folder of noisy pictures alone (Neighbor2Neighbor; Huang et al., 2021).

    The method assumes that the noise is independent from pixel to pixel, which is measured, and that it leaves the
    median of a pixel in its place. With a `loss`, the mean takes the place of the median.

    Args:
        folder: The folder of noisy pictures.
        start: The model to begin from: any name that `load_model` takes.
        minutes: The time of the training.
        loss: The name of a loss of noisy images alone. Default: the absolute error between pairs of neighbors, which
            is `neighbor2neighbor` without its second term, and robust against outliers.
        name: The name of the run. Default: `adapt-N`.
        **options: Further options of `train`.

    Raises:
        ValueError: There is no such folder, its pictures are too few or too small, or the loss is not one of these.
        FileNotFoundError: There is no such model.
    """
    data: dict[str, Any]
    if loss is None:
        side, data = 2 * _CROP, {"name": f"neighbors:{folder}", "crop": _CROP}
    else:
        side = _find_loss(loss).shrinks * _CROP
        data = {"name": f"folder:{folder}", "crop": side}
    spec, origin = _find_start(start)
    pictures = load_image_folder(DatasetSource(path=Path(folder).expanduser(), crop=side)).train
    # An epoch is always finished, so it must be short even if the folder is large.
    data["crops"] = max(1, min(16, _EPOCH // len(pictures)))
    fields = {
        "note": f"{start} adapted to the noisy pictures of {folder}",
        "spec": spec.to_dict(),
        "noise": "none",
        "data": data,
        "loss": loss or "l1",
        "training": {
            "start": origin,
            "minutes": minutes,
            "epochs": 10_000,
            "batch": 16,
            "lr": 0.01,
            "optimiser": "muon",
            "schedule": "cosine",
            "warmup": 0.03,
            "ema": 0.99,
            "flips": True,
            "turns": True,
        },
    }
    recipe = parse_recipe(fields)
    correlation = measure_correlation(pictures.batch(np.arange(min(len(pictures), _LOOKED_AT))))
    return AdaptedModel(train(recipe, name or choose_run_name("adapt"), **options), correlation)
