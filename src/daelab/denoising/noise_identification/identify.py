"""Identification of the noise in a picture, and the choice of a model to denoise it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from daelab.denoising.blending import limit_change
from daelab.denoising.noise_identification.families import (
    BRIGHTNESS_FAMILIES,
    FAMILIES,
    TITLES,
    UNTOUCHED_FAMILIES,
    NoiseEffect,
    covers_family,
    includes_telephone_noise,
    was_trained_for,
)
from daelab.denoising.noise_identification.features import extract_patches
from daelab.denoising.noise_identification.gain import GainEstimator, cut_tiles, load_gain_estimator
from daelab.denoising.noise_identification.graphics import is_graphic
from daelab.denoising.noise_identification.network import NoiseIdentifier, load_noise_identifier
from daelab.models.model_file import read_model_metadata
from daelab.models.registry import list_shipped_models, shorten_model_name
from daelab.noise.base import Noise
from daelab.noise.grammar import parse_noise

_Array = npt.NDArray[Any]


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
    fitting: str | None = None
    """The model for noise that changes the brightness, if the picture holds such noise for certain."""
    photo: str | None = None
    """The best shipped model for photographs, which leaves the brightness as it is."""
    expected_gain: float = 0.0
    """The estimated gain in PSNR by denoising as a photograph, in dB."""
    deviation: float = 0.0
    """The estimated standard deviation of the noise, in 8-bit steps."""
    drawn: bool = False
    """Whether the picture is no photograph, but graphics."""
    forced: bool = False
    """Whether the picture is denoised in any case."""

    @property
    def confidence(self) -> float:
        """The probability of `family`."""
        return self.probabilities[self.family]

    @property
    def choice(self) -> str | None:
        """The model that `daelab denoise` uses by default; None if the picture stays unchanged.

        The expected gain decides, and not the family: to remove detail from a clean picture is worse than to leave a
        little noise.
        """
        if self.fitting is not None:
            return self.fitting
        return self.photo if self.forced or self._is_advised else None

    @property
    def strength(self) -> float:
        """The strength of denoising with `choice`: 1, or 0 if the picture stays unchanged."""
        return 0.0 if self.choice is None else 1.0

    @property
    def advice(self) -> str:
        """One line of advice on what to do."""
        if self.choice is None:
            return f"{self._reason}. Leave it as it is{self._other}."
        if self.fitting is not None:
            return f"{self.fitting} was trained for such noise."
        gain = (
            f"the expected gain is {self.expected_gain:.1f} dB"
            if self.expected_gain >= 0.05
            else "it should gain a little"
        )
        return f"Denoise it with {self.choice}; {gain}."

    @property
    def why(self) -> str:
        """What was found and what was done, in one line."""
        if self.choice is None:
            return f"{self._reason}. Left as it is{self._other}."
        return f"{self}. Denoised with {self.choice}{'' if self._is_advised else ', as --force asks'}."

    @property
    def details(self) -> str:
        """The family with its probability, and how the noise changes the brightness."""
        family = f"{TITLES[self.family]}, {self.confidence:.0%} sure"
        if self.family in UNTOUCHED_FAMILIES:
            return family
        return f"{family}; contrast times {self.effect.gain:.2f}, offset {self.effect.offset:+.2f}"

    @property
    def _is_advised(self) -> bool:
        """Whether a model is chosen without force too."""
        promising = self.photo is not None and self.expected_gain >= GAIN and not self.drawn
        return self.fitting is not None or promising

    @property
    def _other(self) -> str:
        """What else could be done with a picture that stays unchanged."""
        # Noise of few photons gives few colors too, as in graphics.
        noisy = self.expected_gain >= GAIN and self.family not in UNTOUCHED_FAMILIES
        if self._reason == FAINTLY_NOISY or (self.drawn and self.photo is not None and noisy):
            return "; use --force to denoise it anyway"
        return ""

    @property
    def _reason(self) -> str:
        """The reason why the picture stays unchanged, as a sentence without its end."""
        if self.drawn:
            return GRAPHIC
        if self.photo is None and self.family not in UNTOUCHED_FAMILIES:
            return UNKNOWN
        if self.photo is not None and self.expected_gain >= FAINT:
            return FAINTLY_NOISY
        return CLEAN

    def limit_change(self, source: _Array, denoised: _Array, strength: float = 1.0) -> _Array:
        """Return a denoised picture with no more removed than the noise that was found, unless it was forced.

        Args:
            source: The picture; uint8, uint16 or floats in [0, 1].
            denoised: The denoised picture, of the same shape and type.
            strength: The strength that it was denoised with.
        """
        # A model that changes the brightness changes more than noise.
        if self.forced or self.fitting is not None:
            return denoised
        return limit_change(source, denoised, self.deviation, strength)

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
            "sigma": self.deviation,
            "expected_gain": self.expected_gain,
            "graphics": self.drawn,
            "models": list(self.models),
            "choice": self.choice,
            "strength": self.strength,
            "advice": self.advice,
        }

    def __str__(self) -> str:
        """Return the noise in words, such as "Camera noise, about 12 of 255"."""
        if not self._is_advised:
            return self._reason
        family, level = TITLES[self.family], self.deviation
        if self.fitting is not None:
            level = 255 * self.effect.level
        elif self.family in (*UNTOUCHED_FAMILIES, *BRIGHTNESS_FAMILIES):
            family = "Noise"
        return f"{family}, {f'about {round(level)}' if level >= 1 else 'less than 1'} of 255"


CLEAN = "Looks clean"
FAINTLY_NOISY = "Noise found, but too faint to be sure"
GRAPHIC = "Graphics, not a photograph"
UNKNOWN = "No shipped model was trained for this noise, and another model would damage the picture"
NOISY = 0.95
"""The probability above which a picture holds noise that changes its brightness."""
GAIN = -0.2
"""The expected gain in dB above which a picture is denoised by default.

It lies below zero because the estimated gain is that of photo-s; photo-m gains more. Of 20 pairs of real photographs
for validation, 16 noisy ones reach it and no clean one; the highest of these has -1.1. Of 36 training photographs
without added noise, one reaches it, and of the same as JPEG of quality 70 to 95, one each.
"""
HEAVY = 20.0
"""The standard deviation of noise, in 8-bit steps, from which a model for the noise of telephones is chosen."""
LEAST_SHARE = 0.01
"""The probability above which a family counts when models are looked for."""
STRONG = 40.0
"""The standard deviation of noise, in 8-bit steps, from which the noise identifier estimates it better.

The gain estimator was trained on weaker noise.
"""
FAINT = -0.6
"""The expected gain in dB above which a picture counts as faintly noisy."""


def identify_noise(
    image: npt.ArrayLike, inspector: NoiseIdentifier | None = None, estimator: GainEstimator | None = None
) -> IdentifiedNoise:
    """Identify the noise in a picture, and choose a model.

    Args:
        image: (H, W) or (H, W, 3); uint8, uint16, or floats in [0, 1]; of any size. A large one is sampled.
        inspector: The trained noise identifier. Default: the shipped one.
        estimator: The trained gain estimator. Default: the shipped one.

    Raises:
        ValueError: The shape, the type or the range is another.
    """
    inspector, estimator = inspector or load_noise_identifier(), estimator or load_gain_estimator()
    x, white = _pixels(image)
    probabilities, values = inspector.estimator.estimate(extract_patches(x).float().div_(white)[None])
    shares = dict(zip(FAMILIES, probabilities[0].tolist(), strict=True))
    family = max(shares, key=lambda name: shares[name])
    level, gain, offset = values[0].tolist()
    # The estimated effect means nothing for a family without noise.
    effect = NoiseEffect(0.0, 1.0, 0.0) if family in UNTOUCHED_FAMILIES else NoiseEffect(level, gain, offset)
    tiles = cut_tiles(x)
    expected, deviation = estimator.estimate(tiles.float().div(white))
    centered = sum(shares[name] for name in FAMILIES if name not in (*BRIGHTNESS_FAMILIES, *UNTOUCHED_FAMILIES))
    if centered >= NOISY and 255 * effect.level >= max(deviation, STRONG):
        deviation = 255 * effect.level
    drawn = is_graphic(tiles)
    models = () if family in UNTOUCHED_FAMILIES or drawn else _find_models(shares, effect)
    photo = _find_photo_model(is_heavy(family, deviation)) or (models[0] if models else None)
    fitting = None
    if models and sum(shares[name] for name in BRIGHTNESS_FAMILIES) >= NOISY:
        fitting = models[0]
    elif photo and expected >= GAIN and not drawn:
        models = tuple(dict.fromkeys((photo, *models)))
    return IdentifiedNoise(family, shares, effect, models, _sigma(x, white), fitting, photo, expected, deviation, drawn)


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


def rank_shipped_models() -> list[tuple[str, Noise]]:
    """Return the shipped models with their training noise: the highest PSNR first, then the lowest cost.

    Models that take the noise level are left out: they are for users who know it.
    """
    models = []
    for name, path in list_shipped_models().items():
        psnr, multiplications, noise = _read_rank(path)
        if noise:
            models.append((-psnr, multiplications, shorten_model_name(name), noise))
    return [(name, noise) for _, _, name, noise in sorted(models, key=lambda model: model[:3])]


@functools.cache
def _read_rank(path: Path) -> tuple[float, int, Noise | None]:
    """Return the PSNR, the cost and the training noise of a shipped model. They are read once for all pictures."""
    card = read_model_metadata(path)
    noise = parse_noise(card.noise) if card.noise and not card.spec.conditioned else None
    return card.psnr or 0, card.spec.macs(), noise


def suits_photographs(noise: Noise) -> bool:
    """Return whether a model of this training noise was trained for every noise of photographs.

    Args:
        noise: The noise that it was trained under.
    """
    return all(covers_family(noise, family) for family in ("awgn", "camera", "processed"))


def suits_telephones(noise: Noise) -> bool:
    """Return whether a model of this training noise was also trained for the heavy noise of telephones.

    Args:
        noise: The noise that it was trained under.
    """
    return suits_photographs(noise) and includes_telephone_noise(noise)


def is_heavy(family: str, deviation: float) -> bool:
    """Return whether noise calls for a model for telephones, which also removes dust and dead pixels better.

    Args:
        family: The family of the noise.
        deviation: Its standard deviation in 8-bit steps.
    """
    return family == "salt-and-pepper" or deviation >= HEAVY


def _find_photo_model(heavy: bool) -> str | None:
    """Return the shipped model of the highest PSNR that was trained for every noise of photographs."""
    models = [(name, noise) for name, noise in rank_shipped_models() if suits_photographs(noise)]
    first = [name for name, noise in models if heavy and suits_telephones(noise)]
    return next(iter([*first, *(name for name, _ in models)]), None)


def _find_models(probabilities: dict[str, float], effect: NoiseEffect) -> tuple[str, ...]:
    """Return the shipped models that were more probably than not trained on such pictures, the highest PSNR first.

    All families count by their probability: that the noise is one of the paper's types is often more certain than
    which of them it is.
    """
    likely = {family: share for family, share in probabilities.items() if share > LEAST_SHARE}
    return tuple(
        name
        for name, noise in rank_shipped_models()
        if sum(share for family, share in likely.items() if was_trained_for(noise, family, effect)) > 0.5
    )


def _sigma(x: torch.Tensor, white: int) -> float | None:
    """Estimate the standard deviation of zero-mean Gaussian noise as scikit-image does, mean over the channels.

    It is `skimage.restoration.estimate_sigma`: the median of the finest diagonal wavelet coefficients (Donoho and
    Johnstone, 1994). The import of scikit-image would take half as long as that of torch.
    """
    try:
        # This estimate is for comparison only, so a missing package is no error.
        import pywt
    except ImportError:
        return None
    if min(x.shape[1:]) < 8:
        return None
    # the middle of a large picture is enough
    height, width = x.shape[1:]
    top, left = max(0, height - _MIDDLE) // 2, max(0, width - _MIDDLE) // 2
    middle = x[:, top : top + _MIDDLE, left : left + _MIDDLE].float().div(white).numpy()
    details = [abs(detail[detail != 0]) for detail in pywt.dwt2(middle, "db2")[1][2]]
    if not all(len(detail) for detail in details):  # a flat channel has none
        return None
    return float(np.mean([np.median(detail) for detail in details])) / _NORMAL_QUARTILE


_NORMAL_QUARTILE = 0.6744897501960817
"""The upper quartile of the standard normal distribution."""
_MIDDLE = 1024
"""The side in pixels of the part of a picture from which the standard deviation is estimated."""
