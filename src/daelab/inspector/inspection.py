"""What noise is in a picture, and what to do about it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from daelab import modelfile
from daelab.inspector.estimator import SURE, InspectorFile, load
from daelab.inspector.families import FAMILIES, TITLES, Effect, fits
from daelab.inspector.features import patches
from daelab.noise import parse


@dataclass(frozen=True)
class Inspection:
    """What the inspector says of a picture."""

    family: str
    """The likeliest, of `FAMILIES`."""
    probabilities: dict[str, float]
    """Of each family."""
    effect: Effect
    """Level, gain and offset of the noise."""
    models: tuple[str, ...]
    """The shipped models that were trained for such noise."""
    sigma: float | None
    """scikit-image's estimate of zero-mean noise; None where it is not installed, or gives none."""

    @property
    def confidence(self) -> float:
        """The probability of `family`."""
        return self.probabilities[self.family]

    @property
    def advice(self) -> str:
        """One line: what to do."""
        if self.family == "clean":
            return "looks clean: leave it" if self.confidence >= SURE else "may be clean: leave it, or look closely"
        if not self.models:
            return "no shipped model was trained for this; one trained for other noise would do harm"
        names = " or ".join(self.models)
        unsure = "" if self.confidence >= SURE else "; not sure, so compare before and after"
        return f"{names} was trained for such noise{unsure}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "family": self.family,
            "confidence": self.confidence,
            "probabilities": self.probabilities,
            "level": self.effect.level,
            "gain": self.effect.gain,
            "offset": self.effect.offset,
            "sigma_scikit_image": self.sigma,
            "models": list(self.models),
            "advice": self.advice,
        }

    def __str__(self) -> str:
        said = f"{TITLES[self.family]}, {self.confidence:.0%} sure"
        if self.family == "clean":
            return said
        effect = self.effect
        return f"{said}; level {effect.level:.3f}, gain {effect.gain:.2f}, offset {effect.offset:+.2f}"


def inspect(image: npt.ArrayLike, inspector: InspectorFile | None = None) -> Inspection:
    """Estimate the noise in a picture.

    Args:
        image: (H, W), (H, W, 3); uint8, uint16, or floats in [0, 1]; any size. A large one is sampled.
        inspector: the one that ships where none is given.

    Raises:
        ValueError: another shape, type or range.
    """
    inspector = inspector or load()
    x = _pixels(image)
    probabilities, values = inspector.estimator.estimate(patches(x)[None])
    found = dict(zip(FAMILIES, probabilities[0].tolist(), strict=True))
    family = max(found, key=lambda name: found[name])
    level, gain, offset = values[0].tolist()
    effect = Effect(0.0, 1.0, 0.0) if family == "clean" else Effect(level, gain, offset)
    models = () if family == "clean" else _models(found, effect)
    return Inspection(family, found, effect, models, _sigma(x))


def _pixels(image: npt.ArrayLike) -> torch.Tensor:
    """(3, H, W) float32 in [0, 1]."""
    given = np.asarray(image)
    if given.ndim not in (2, 3) or (given.ndim == 3 and given.shape[2] != 3) or 0 in given.shape:
        raise ValueError(f"an image must be (H, W) or (H, W, 3), not {given.shape}")
    whites = {"uint8": 255, "uint16": 65535}
    white = whites.get(given.dtype.name, 1)
    if white == 1 and not (np.issubdtype(given.dtype, np.floating) and given.min() >= 0 and given.max() <= 1):
        raise ValueError(f"an image must be uint8, uint16, or floats in [0, 1], not {given.dtype}")
    x = torch.from_numpy(np.ascontiguousarray(given, np.float32) / np.float32(white))
    return x.expand(3, -1, -1) if x.ndim == 2 else x.permute(2, 0, 1)


def _models(probabilities: dict[str, float], effect: Effect) -> tuple[str, ...]:
    """The shipped models that have, more likely than not, been trained on such pictures; the largest first.

    By all families that may be meant: which of the paper's types it is, is often less sure than that it is one.
    """
    cards = {name: modelfile.read_card(path) for name, path in modelfile.shipped().items()}
    found = []
    for name, card in cards.items():
        trained = parse(card.noise or "none")
        share = sum(p for family, p in probabilities.items() if p > 0.01 and fits(trained, family, effect))
        if card.noise and share > 0.5:
            found.append((-card.spec.macs(), modelfile.short(name)))
    return tuple(name for _, name in sorted(found))


def _sigma(x: torch.Tensor) -> float | None:
    """scikit-image's `estimate_sigma`, mean over the channels: of Gaussian noise of mean zero."""
    try:
        importlib.import_module("pywt")
        restoration = importlib.import_module("skimage.restoration")
    except ImportError:
        return None
    if min(x.shape[1:]) < 8:
        return None
    # of the middle, where a picture is large: it takes the whole as it is
    height, width = x.shape[1:]
    top, left = max(0, height - _MIDDLE) // 2, max(0, width - _MIDDLE) // 2
    middle = x[:, top : top + _MIDDLE, left : left + _MIDDLE].numpy()
    sigma = float(restoration.estimate_sigma(middle, average_sigmas=True, channel_axis=0))
    return sigma if np.isfinite(sigma) else None


_MIDDLE = 1024
