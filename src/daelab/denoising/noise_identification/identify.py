"""Identification of the noise in a picture, and the choice of a model to denoise it."""

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
    """The identified noise of a picture."""

    family: str
    """The most probable family, a name of `FAMILIES`."""
    probabilities: dict[str, float]
    """The probability of each family."""
    effect: NoiseEffect
    """The level, the gain and the offset of the noise."""
    models: tuple[str, ...]
    """The names of the shipped models that were trained for such noise, the best first."""
    sigma: float | None
    """scikit-image's estimate of the standard deviation of zero-mean noise; None if it is not available."""

    @property
    def confidence(self) -> float:
        """The probability of `family`."""
        return self.probabilities[self.family]

    @property
    def choice(self) -> str | None:
        """The model that `daelab denoise` uses by default; None if the picture stays unchanged.

        A picture stays unchanged if it may be clean, or if no model was trained for its noise: to remove detail from a
        clean picture is worse than to leave a little noise.
        """
        noisy = 1 - sum(self.probabilities[name] for name in UNTOUCHED_FAMILIES)
        return self.models[0] if self.models and noisy >= NOISY else None

    @property
    def strength(self) -> float:
        """The strength of denoising with `choice`, from 0, the unchanged picture, to 1.

        It is 0.5 if the noise is faint: a model may remove more fine texture than there is noise, and the mean of two
        errors of about the same size that are hardly correlated is smaller than either.
        """
        if self.choice is None:
            return 0.0
        return 0.5 if self.effect.level < FAINT else 1.0

    @property
    def advice(self) -> str:
        """One line of advice on what to do."""
        if self.family in UNTOUCHED_FAMILIES:
            return f"{TITLES[self.family]}: leave it unchanged" if self.confidence >= SURE else _DOUBT
        if not self.models:
            return "no shipped model was trained for this noise, and a model for other noise would damage the picture"
        if self.choice is None:
            return _DOUBT
        names = " or ".join(self.models)
        unsure = (
            "" if self.confidence >= SURE else "; the noise is not certain, so compare the picture before and after"
        )
        return f"{names} was trained for such noise{unsure}"

    @property
    def why(self) -> str:
        """One line with the reason for `choice`."""
        if self.choice is not None:
            half = "; the noise is faint, so at half strength" if self.strength < 1 else ""
            return f"{self}{half}{'' if self.confidence >= SURE else '; compare the picture before and after'}"
        return str(self) if self.family in UNTOUCHED_FAMILIES and self.confidence >= SURE else f"{self}: {self.advice}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
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
        """Return the family with its probability and the effect of the noise."""
        family = f"{TITLES[self.family]}, {self.confidence:.0%} sure"
        if self.family in UNTOUCHED_FAMILIES:
            return family
        effect = self.effect
        return f"{family}; level {effect.level:.3f}, gain {effect.gain:.2f}, offset {effect.offset:+.2f}"


NOISY = 0.95
"""The probability of noise above which a picture is denoised by default.

Of 68 clean crops of photographs, 3 reach it at a side of 32 pixels and none at 128; all of those under awgn(15) do.
"""
FAINT = 0.02
"""The noise level below which a picture is denoised at half strength: about 5 steps of 255."""
_DOUBT = "may be clean: leave it unchanged, or compare the picture before and after"


def identify_noise(image: npt.ArrayLike, inspector: NoiseIdentifier | None = None) -> IdentifiedNoise:
    """Identify the noise in a picture.

    Args:
        image: (H, W) or (H, W, 3); uint8, uint16, or floats in [0, 1]; of any size. A large one is sampled.
        inspector: The trained noise identifier. Default: the shipped one.

    Raises:
        ValueError: The shape, the type or the range is another.
    """
    inspector = inspector or load_noise_identifier()
    x, white = _pixels(image)
    probabilities, values = inspector.estimator.estimate(extract_patches(x).float().div_(white)[None])
    shares = dict(zip(FAMILIES, probabilities[0].tolist(), strict=True))
    family = max(shares, key=lambda name: shares[name])
    level, gain, offset = values[0].tolist()
    # The estimated effect means nothing for a family without noise.
    effect = NoiseEffect(0.0, 1.0, 0.0) if family in UNTOUCHED_FAMILIES else NoiseEffect(level, gain, offset)
    models = () if family in UNTOUCHED_FAMILIES else _find_models(shares, effect)
    return IdentifiedNoise(family, shares, effect, models, _sigma(x, white))


def _pixels(image: npt.ArrayLike) -> tuple[torch.Tensor, int]:
    """Return (3, H, W) of the given type, without a copy of a large picture, and the value of white."""
    given = np.asarray(image)
    if given.ndim not in (2, 3) or (given.ndim == 3 and given.shape[2] != 3) or 0 in given.shape:
        raise ValueError(f"an image must be (H, W) or (H, W, 3), not {given.shape}")
    whites = {"uint8": 255, "uint16": 65535}
    white = whites.get(given.dtype.name, 1)
    if white == 1 and not (np.issubdtype(given.dtype, np.floating) and given.min() >= 0 and given.max() <= 1):
        raise ValueError(f"an image must be uint8, uint16, or floats in [0, 1], not {given.dtype}")
    if given.dtype.name not in (*whites, "float32", "float64"):
        given = given.astype(np.float32)
    elif not (
        given.flags.writeable and given.dtype.isnative and min(given.strides) >= 0
    ):  # torch accepts no other arrays
        given = given.astype(given.dtype.newbyteorder("="))
    x = torch.from_numpy(given)
    return (x.expand(3, -1, -1) if x.ndim == 2 else x.permute(2, 0, 1)), white


def _find_models(probabilities: dict[str, float], effect: NoiseEffect) -> tuple[str, ...]:
    """Return the shipped models that were more probably than not trained on such pictures, the highest PSNR first.

    All families count by their probability: that the noise is one of the paper's types is often more certain than
    which of them it is.
    """
    models = []
    for name, path in list_shipped_models().items():
        card = read_model_metadata(path)
        trained = parse_noise(card.noise or "none")
        share = sum(p for family, p in probabilities.items() if p > 0.01 and was_trained_for(trained, family, effect))
        if card.noise and share > 0.5:
            # Models of the same PSNR are ordered by their cost, and then by name.
            models.append((-(card.psnr or 0), card.spec.macs(), shorten_model_name(name)))
    return tuple(name for _, _, name in sorted(models))


def _sigma(x: torch.Tensor, white: int) -> float | None:
    """Estimate the standard deviation of zero-mean Gaussian noise with scikit-image, mean over the channels."""
    try:
        # This estimate is for comparison only, so a missing package is no error.
        importlib.import_module("pywt")
        restoration = importlib.import_module("skimage.restoration")
    except ImportError:
        return None
    if min(x.shape[1:]) < 8:
        return None
    # the middle of a large picture is enough, and scikit-image would copy all of it
    height, width = x.shape[1:]
    top, left = max(0, height - _MIDDLE) // 2, max(0, width - _MIDDLE) // 2
    middle = x[:, top : top + _MIDDLE, left : left + _MIDDLE].float().div(white).numpy()
    sigma = float(restoration.estimate_sigma(middle, average_sigmas=True, channel_axis=0))
    # JSON has no NaN.
    return sigma if np.isfinite(sigma) else None


_MIDDLE = 1024
"""The side in pixels of the part of a picture that scikit-image gets."""
