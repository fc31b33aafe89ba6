"""The noise families that noise identification distinguishes, and the models that were trained for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from daelab.noise.base import LevelRange, Noise, get_level_bounds
from daelab.noise.basic import Clean, Gaussian, Multiplicative, Poisson, SaltAndPepper, SaltAndPepperPixels
from daelab.noise.camera import Awgn, Camera, Chroma, Correlated, Demosaicked, Grain, Jpeg, Quantised
from daelab.noise.composition import Chain, Mixture
from daelab.noise.grammar import parse_noise
from daelab.noise.pipeline import HotPixels, NoiseFilter, Raw
from daelab.noise.random_streams import BatchStream

FAMILIES: dict[str, str] = {
    "clean": "none",
    "awgn": "gaussian(0, 0.01..0.3)",
    "type-1": "gaussian(0.08..0.4, 0.01..0.15)",
    "type-2": "multiplicative(0.2..1, 0.1..0.6)",
    "type-1+2": "gaussian(0.08..0.3, 0.02..0.1) > multiplicative(0.1..0.4, 0.05..0.25)",
    "type-2+1": "multiplicative(0.1..0.4, 0.05..0.25) > gaussian(0.08..0.3, 0.02..0.1)",
    "salt-and-pepper": "salt-and-pepper(0.01..0.4)",
    "poisson": "poisson(5..200)",
    "camera": "camera(0.0002..0.02, 0..0.02)",
    "processed": "(demosaicked(0.0005..0.02, 0..0.02) | camera(0.001..0.01, 0..0.01) > chroma(3..12, 1..6) | "
    "correlated(5..35, 0.4..1.5) | grain(0.02..0.12, 0.4..1.5)) > (quantised | jpeg(40..95))",
    "jpeg": "jpeg(10..85)",
}
"""The noise families by name, each with the noise of its training: the paper's four types, and other kinds."""
TITLES = {
    "clean": "No noise",
    "awgn": "Gaussian noise",
    "type-1": "Gaussian noise with an offset (type-1)",
    "type-2": "Multiplicative noise (type-2)",
    "type-1+2": "Gaussian, then multiplicative noise (type-1+2)",
    "type-2+1": "Multiplicative, then Gaussian noise (type-2+1)",
    "salt-and-pepper": "Salt and pepper",
    "poisson": "Photon noise",
    "camera": "Camera noise",
    "processed": "Camera noise",
    "jpeg": "JPEG compression",
}
"""The name of each family, for people."""
BRIGHTNESS_FAMILIES = ("type-1", "type-2", "type-1+2", "type-2+1")
"""The families that change the brightness; a model for other noise cannot restore it."""
UNTOUCHED_FAMILIES = ("clean", "jpeg")
"""The families that stay unchanged: they hold no noise, and a denoiser would remove parts of the picture."""


def make_family_mixture() -> Noise:
    """Return the mixture of all families, of which each image draws one."""
    return parse_noise(" | ".join(f"({text})" for text in FAMILIES.values()))


def classify_noise(noise: Noise) -> str | None:
    """Return the family of a noise that is no mixture, or None if it belongs to none.

    Args:
        noise: The noise, optionally followed by the file's quantization or compression.
    """
    steps = noise.steps if isinstance(noise, Chain) else (noise,)
    kinds = tuple(type(step) for step in steps)
    if len(kinds) > 1 and kinds[-1] in (Quantised, Mixture):  # the mixture of file formats in `real`
        kinds = kinds[:-1]
    kinds = tuple(kind for kind in kinds if not issubclass(kind, NoiseFilter))
    if kinds == (Gaussian,) and isinstance(steps[0], Gaussian):
        return "awgn" if _middle(steps[0].mean) == 0 else "type-1"
    return _KINDS.get(kinds)


_KINDS: dict[tuple[type[Noise], ...], str] = {
    (Clean,): "clean",
    (Multiplicative,): "type-2",
    (Gaussian, Multiplicative): "type-1+2",
    (Multiplicative, Gaussian): "type-2+1",
    (SaltAndPepper,): "salt-and-pepper",
    (Awgn, SaltAndPepper): "salt-and-pepper",
    (SaltAndPepperPixels,): "salt-and-pepper",
    (Awgn, SaltAndPepperPixels): "salt-and-pepper",
    (Poisson,): "poisson",
    (Awgn,): "awgn",
    (Camera,): "camera",
    (Demosaicked,): "processed",
    (Demosaicked, HotPixels): "processed",
    (Raw,): "processed",
    (Raw, Jpeg): "processed",
    (Camera, Chroma): "processed",
    (Correlated,): "processed",
    (Grain,): "processed",
    (Mixture,): "processed",  # of processed noises
    (Jpeg,): "jpeg",
    (Awgn, Jpeg): "jpeg",
}
_ALIKE = {
    "poisson": ("poisson", "camera"),
    "type-1": ("type-1", "awgn"),
    "type-1+2": ("type-1+2", "type-2+1"),
    "type-2+1": ("type-1+2", "type-2+1"),
}
"""The families whose models also fit a family, if brightness and strength are right.

A camera counts photons, so Poisson noise is similar; a small offset looks like a brighter picture; and the order of two
noises cannot be identified.
"""


def _middle(level: float | LevelRange) -> float:
    return (level.low + level.high) / 2 if isinstance(level, LevelRange) else level


@dataclass(frozen=True)
class NoiseEffect:
    """The effect of noise on a picture: noisy = gain * clean + offset + a residual."""

    level: float
    """The standard deviation of the residual, for a range of [0, 1]."""
    gain: float
    """The factor of the clean pixels."""
    offset: float
    """The constant that is added to the pixels, for a range of [0, 1]."""

    @property
    def shift(self) -> float:
        """The change of brightness of a middle gray, for a range of [0, 1]."""
        return self.gain * 0.5 + self.offset - 0.5


def measure_effects(clean: Tensor, noisy: Tensor) -> Tensor:
    """Measure the noise level, the gain and the offset of each image by least squares.

    In a flat picture, a gain looks like an offset; then the gain is 1.

    Args:
        clean: (N, C, H, W) clean images in [0, 1].
        noisy: (N, C, H, W) their noisy images, after clipping.

    Returns:
        (N, 3) float32: level, gain and offset.
    """
    x, y = clean.flatten(1).double(), noisy.flatten(1).double()
    mx, my = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    spread = (x - mx).square().mean(1, keepdim=True)
    # The same constant above and below makes the gain of a flat picture 1.
    gain = (((x - mx) * (y - my)).mean(1, keepdim=True) + _FLAT) / (spread + _FLAT)
    offset = my - gain * mx
    level = (y - gain * x - offset).square().mean(1, keepdim=True).sqrt()
    return torch.cat([level, gain, offset], dim=1).float()


_FLAT = 1e-4
"""The variance of clean pixels below which a picture counts as flat."""


@dataclass(frozen=True)
class CoveredNoise:
    """The pictures that a training noise covers: of some families, and of about its brightness and strength."""

    families: tuple[str, ...]
    """The families."""
    shift: tuple[float, float]
    """The least and the greatest `NoiseEffect.shift`."""
    level: tuple[float, float]
    """The least and the greatest `NoiseEffect.level`."""

    def holds(self, effect: NoiseEffect) -> bool:
        """Return whether an effect lies within the limits.

        Args:
            effect: The effect of a picture's noise.
        """
        return self.shift[0] <= effect.shift <= self.shift[1] and self.level[0] <= effect.level <= self.level[1]


def list_covered(noise: Noise) -> tuple[CoveredNoise, ...]:
    """Return what each component of a training noise covers. A noise with ranges covers all between its extremes.

    Args:
        noise: The noise that a model was trained under.
    """
    return tuple(_measure_cover(option) for option in _leaves(noise) if _list_families(option))


def was_trained_for(noise: Noise, kind: str, effect: NoiseEffect) -> bool:
    """Return whether a training noise covers a picture: the same family, and about the same brightness and strength.

    Args:
        noise: The noise that a model was trained under.
        kind: The family of the picture's noise.
        effect: The effect of the picture's noise.
    """
    # Only the components of this family are measured, which takes time.
    return any(kind in _list_families(option) and _measure_cover(option).holds(effect) for option in _leaves(noise))


def covers_family(noise: Noise, kind: str) -> bool:
    """Return whether a noise, or a component of it, belongs to a family.

    Args:
        noise: The noise.
        kind: The family.
    """
    return any(classify_noise(option) == kind for option in _leaves(noise))


HEAVY_GAIN = 0.02
"""The gain of a sensor's noise that only telephones and the highest ISO numbers reach; see `Raw`."""


def includes_telephone_noise(noise: Noise) -> bool:
    """Return whether a noise, or a component of it, is a sensor's noise as strong as that of telephones.

    Args:
        noise: The noise.
    """
    return any(
        isinstance(step, Raw) and get_level_bounds(step.gain)[1] >= HEAVY_GAIN
        for option in _leaves(noise)
        for step in (option.steps if isinstance(option, Chain) else (option,))
    )


def _leaves(noise: Noise) -> Iterator[Noise]:
    """Yield the components of a mixture, and those of mixtures in it."""
    for option in noise.options():
        yield from (option,) if option is noise else _leaves(option)


@cache
def _list_families(noise: Noise) -> tuple[str, ...]:
    """Return the families of pictures that a noise without components may cover."""
    own = classify_noise(noise)
    return tuple(kind for kind in FAMILIES if own in _ALIKE.get(kind, (kind,)))


@cache
def _measure_cover(noise: Noise) -> CoveredNoise:
    low, high = _extremes(noise)
    shift = (low.shift - _BRIGHTNESS, high.shift + _BRIGHTNESS)
    return CoveredNoise(_list_families(noise), shift, (low.level / _STRENGTH - _FAINT, high.level * _STRENGTH))


def _extremes(noise: Noise) -> tuple[NoiseEffect, NoiseEffect]:
    """Return the smallest and the largest effect on a gray ramp over many draws, as level and offset."""
    ramp = torch.linspace(0, 1, 256).expand(64, 3, 4, 256)
    effects = measure_effects(ramp, noise.apply(ramp, BatchStream(len(ramp), 0)).clamp(0, 1))
    level, shift = effects[:, 0], effects[:, 1] * 0.5 + effects[:, 2] - 0.5
    return NoiseEffect(float(level.min()), 1.0, float(shift.min())), NoiseEffect(
        float(level.max()), 1.0, float(shift.max())
    )


_BRIGHTNESS = 0.1
"""The largest difference of brightness, for a range of [0, 1], at which a training noise covers a picture."""
_STRENGTH = 2.0
"""The largest ratio of noise levels at which a training noise covers a picture."""
_FAINT = 0.01
"""The typical error of an identified level; the level of faint noise may be estimated as 0."""
