"""A package that adds one row to each of daelab's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daelab.datasets.arrays import make_dataset
from daelab.datasets.base import Dataset, DatasetSource
from daelab.evaluation.classifiers.classifier import Classifier
from daelab.evaluation.metrics import Metric
from daelab.models.architectures.external import ExternalArchitecture
from daelab.noise.base import Level, Term, draw_level
from daelab.noise.random_streams import RandomStream
from daelab.training.callbacks.trackers import TrackerKind


class Residual(nn.Module):
    """A network that adds what a few layers compute."""

    def __init__(self, *layers: nn.Module) -> None:
        """Chain the layers."""
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to the same shape."""
        return x + self.layers(x)


@dataclass(frozen=True)
class Plain(ExternalArchitecture):
    """Two convolutions: `spec = { kind = "plain", width = 8 }` in a recipe."""

    kind = "plain"
    halo = 2  # each of the two layers reaches one pixel
    width: int = 16

    def build(self) -> nn.Module:
        """Return the network."""
        first, last = nn.Conv2d(3, self.width, 3, padding=1), nn.Conv2d(self.width, 3, 3, padding=1)
        return Residual(first, nn.ReLU(), last)


@dataclass(frozen=True)
class Ribbons(Term):
    """Rows that are brighter or darker: `ribbons(0.1)`."""

    name = "ribbons"
    height: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Add the same normal number to all pixels of a row."""
        rows = stream.normal(1, x.shape[2], 1).to(x.device)
        return (x + draw_level(self.height, x, stream) * rows).clamp(0, 1)


def huber(image: Tensor, clean: Tensor) -> Tensor:
    """Return the Huber loss."""
    return F.huber_loss(image, clean, delta=0.1)


def measure_largest_error(image: Tensor, clean: Tensor) -> Tensor:
    """Return the largest error of a pixel of each image."""
    return (image - clean).abs().flatten(1).amax(1).double()


LARGEST_ERROR = Metric("largest_error", "largest error", measure_largest_error, direction="lower")


def load_ramps(_source: DatasetSource) -> Dataset:
    """Make 40 images of brightness that grows from left to right."""
    starts, places = np.arange(40)[:, None, None, None], np.arange(32)[None, None, :, None]
    images = np.broadcast_to(starts + 4 * places, (40, 32, 32, 3))
    return make_dataset(images.astype(np.uint8), "ramps", ["dark"] * 20 + ["bright"] * 20)


def load_brightness(_path: Path | None, device: torch.device) -> Classifier:
    """Return a classifier that tells dark images from bright ones."""

    def score(x: Tensor) -> Tensor:
        mean = x.to(device).flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], 1)

    return Classifier("brightness", score, ("dark", "bright"), "compares the mean with one half")


class TextFile:
    """A tracker that writes a line for each epoch into the run's folder."""

    def __init__(self, _place: object, run: object, _recipe: object, _first: int) -> None:
        """Choose the file."""
        self.path: Path = run.path / "epochs.txt"  # type: ignore[attr-defined]

    def epoch(self, row: Mapping[str, float], _best: object) -> None:
        """Write a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{row['epoch']}\n")

    def end(self, _status: str, _best: object) -> None:
        """Do nothing."""


TEXT_FILE = TrackerKind(TextFile, "daelab_example", "")
