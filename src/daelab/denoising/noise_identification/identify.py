"""What noise is in a picture, and what to do about it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from daelab.denoising.noise_identification.families import (
    FAMILIES,
    TITLES,
    UNTOUCHED_FAMILIES,
    NoiseEffect,
    was_trained_for,
)
from daelab.denoising.noise_identification.features import extract_patches
from daelab.denoising.noise_identification.network import SURE, NoiseIdentifier, load_noise_identifier
from daelab.models.model_file import read_model_metadata
from daelab.models.registry import list_shipped_models, shorten_model_name
from daelab.noise.grammar import parse_noise


@dataclass(frozen=True)
class IdentifiedNoise:
    """What the inspector says of a picture."""

    family: str
    """The likeliest, of `FAMILIES`."""
    probabilities: dict[str, float]
    """Of each family."""
    effect: NoiseEffect
    """Level, gain and offset of the noise."""
    models: tuple[str, ...]
    """The shipped models that were trained for such noise, the best first."""
    sigma: float | None
    """scikit-image's estimate of zero-mean noise; None where it is not installed, or gives none."""

    @property
    def confidence(self) -> float:
        """The probability of `family`."""
        return self.probabilities[self.family]

    @property
    def choice(self) -> str | None:
        """The model that `daelab denoise` takes where none is named; None: it leaves the picture as it is.

        That is where it does not look surely noisy, or no model was trained for its noise: to lose a
        little of a clean picture is worse than to leave a little noise.
        """
        noisy = 1 - sum(self.probabilities[name] for name in UNTOUCHED_FAMILIES)
        return self.models[0] if self.models and noisy >= NOISY else None

    @property
    def strength(self) -> float:
        """How far to go with `choice`: from 0, the picture as it came, to 1.

        Half-way where the noise is faint: what a model takes from fine texture may be more than such noise,
        and of two errors that are about as large and hardly alike, the mean is smaller than either.
        """
        if self.choice is None:
            return 0.0
        return 0.5 if self.effect.level < FAINT else 1.0

    @property
    def advice(self) -> str:
        """One line: what to do."""
        if self.family in UNTOUCHED_FAMILIES:
            return f"{TITLES[self.family]}: leave it" if self.confidence >= SURE else _DOUBT
        if not self.models:
            return "no shipped model was trained for this; one trained for other noise would do harm"
        if self.choice is None:
            return _DOUBT
        names = " or ".join(self.models)
        unsure = "" if self.confidence >= SURE else "; not sure which noise it is, so compare before and after"
        return f"{names} was trained for such noise{unsure}"

    @property
    def why(self) -> str:
        """One line: the reason for `choice`."""
        if self.choice is not None:
            half = "; faint, so by half" if self.strength < 1 else ""
            return f"{self}{half}{'' if self.confidence >= SURE else '; compare before and after'}"
        return str(self) if self.family in UNTOUCHED_FAMILIES and self.confidence >= SURE else f"{self}: {self.advice}"

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
            "choice": self.choice,
            "strength": self.strength,
            "advice": self.advice,
        }

    def __str__(self) -> str:
        said = f"{TITLES[self.family]}, {self.confidence:.0%} sure"
        if self.family in UNTOUCHED_FAMILIES:
            return said
        effect = self.effect
        return f"{said}; level {effect.level:.3f}, gain {effect.gain:.2f}, offset {effect.offset:+.2f}"


NOISY = 0.95
"""The probability of noise from which a picture is denoised where no model is named.

Of crops of clean photographs 32 pixels a side, 3 of 68 seem so noisy, of 128 none; of those under awgn(15), all.
"""
FAINT = 0.02
"""The level below which a picture is denoised by half; some 5 steps of 255."""
_DOUBT = "may be clean: leave it, or look closely"


def identify_noise(image: npt.ArrayLike, inspector: NoiseIdentifier | None = None) -> IdentifiedNoise:
    """Estimate the noise in a picture.

    Args:
        image: (H, W), (H, W, 3); uint8, uint16, or floats in [0, 1]; any size. A large one is sampled.
        inspector: the one that ships where none is given.

    Raises:
        ValueError: another shape, type or range.
    """
    inspector = inspector or load_noise_identifier()
    x, white = _pixels(image)
    probabilities, values = inspector.estimator.estimate(extract_patches(x).float().div_(white)[None])
    found = dict(zip(FAMILIES, probabilities[0].tolist(), strict=True))
    family = max(found, key=lambda name: found[name])
    level, gain, offset = values[0].tolist()
    effect = NoiseEffect(0.0, 1.0, 0.0) if family in UNTOUCHED_FAMILIES else NoiseEffect(level, gain, offset)
    models = () if family in UNTOUCHED_FAMILIES else _models(found, effect)
    return IdentifiedNoise(family, found, effect, models, _sigma(x, white))


def _pixels(image: npt.ArrayLike) -> tuple[torch.Tensor, int]:
    """(3, H, W) of the type that came, without a copy of a large picture; and what stands for white."""
    given = np.asarray(image)
    if given.ndim not in (2, 3) or (given.ndim == 3 and given.shape[2] != 3) or 0 in given.shape:
        raise ValueError(f"an image must be (H, W) or (H, W, 3), not {given.shape}")
    whites = {"uint8": 255, "uint16": 65535}
    white = whites.get(given.dtype.name, 1)
    if white == 1 and not (np.issubdtype(given.dtype, np.floating) and given.min() >= 0 and given.max() <= 1):
        raise ValueError(f"an image must be uint8, uint16, or floats in [0, 1], not {given.dtype}")
    if given.dtype.name not in (*whites, "float32", "float64"):
        given = given.astype(np.float32)
    elif not (given.flags.writeable and given.dtype.isnative and min(given.strides) >= 0):  # torch takes no other
        given = given.astype(given.dtype.newbyteorder("="))
    x = torch.from_numpy(given)
    return (x.expand(3, -1, -1) if x.ndim == 2 else x.permute(2, 0, 1)), white


def _models(probabilities: dict[str, float], effect: NoiseEffect) -> tuple[str, ...]:
    """The shipped models that have, more likely than not, been trained on such pictures; the highest PSNR first.

    By all families that may be meant: which of the paper's types it is, is often less sure than that it is one.
    """
    found = []
    for name, path in list_shipped_models().items():
        card = read_model_metadata(path)
        trained = parse_noise(card.noise or "none")
        share = sum(p for family, p in probabilities.items() if p > 0.01 and was_trained_for(trained, family, effect))
        if card.noise and share > 0.5:
            found.append((-(card.psnr or 0), card.spec.macs(), shorten_model_name(name)))
    return tuple(name for _, _, name in sorted(found))


def _sigma(x: torch.Tensor, white: int) -> float | None:
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
    middle = x[:, top : top + _MIDDLE, left : left + _MIDDLE].float().div(white).numpy()
    sigma = float(restoration.estimate_sigma(middle, average_sigmas=True, channel_axis=0))
    return sigma if np.isfinite(sigma) else None


_MIDDLE = 1024
