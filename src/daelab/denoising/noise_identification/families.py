"""The kinds of noise that the inspector tells apart, and which trained model is made for what it found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from daelab.noise.base import LevelRange, Noise
from daelab.noise.basic import Clean, Gaussian, Multiplicative, Poisson, SaltAndPepper
from daelab.noise.camera import Awgn, Camera, Chroma, Correlated, Demosaicked, Grain, Jpeg, Quantised
from daelab.noise.composition import Chain, Mixture
from daelab.noise.grammar import parse_noise
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
"""Name -> the noise that the inspector learns it from: the paper's four types, and what other pictures have."""
TITLES = {
    "clean": "looks clean",
    "awgn": "zero-mean Gaussian noise",
    "type-1": "Gaussian noise with an offset (type-1)",
    "type-2": "multiplicative noise (type-2)",
    "type-1+2": "Gaussian, then multiplicative noise (type-1+2)",
    "type-2+1": "multiplicative, then Gaussian noise (type-2+1)",
    "salt-and-pepper": "salt and pepper",
    "poisson": "Poisson noise",
    "camera": "a sensor's noise (camera)",
    "processed": "noise that was smoothed, by a camera or a scan",
    "jpeg": "compressed, without noise",
}
UNTOUCHED_FAMILIES = ("clean", "jpeg")
"""What is left as it is: there is no noise in it, and a denoiser would take some of the picture."""


def make_family_mixture() -> Noise:
    """All families, each image drawing one."""
    return parse_noise(" | ".join(f"({text})" for text in FAMILIES.values()))


def classify_noise(noise: Noise) -> str | None:
    """The family of a single noise, in a file of any kind; None for one that the inspector does not know."""
    steps = noise.steps if isinstance(noise, Chain) else (noise,)
    kinds = tuple(type(step) for step in steps)
    if len(kinds) > 1 and kinds[-1] in (Quantised, Mixture):  # a mixture: of files, as in `real`
        kinds = kinds[:-1]
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
    (Poisson,): "poisson",
    (Awgn,): "awgn",
    (Camera,): "camera",
    (Demosaicked,): "processed",
    (Camera, Chroma): "processed",
    (Correlated,): "processed",
    (Grain,): "processed",
    (Mixture,): "processed",  # of those
    (Jpeg,): "jpeg",
    (Awgn, Jpeg): "jpeg",
}
_ALIKE = {
    "poisson": ("poisson", "camera"),
    "type-1": ("type-1", "awgn"),
    "type-1+2": ("type-1+2", "type-2+1"),
    "type-2+1": ("type-1+2", "type-2+1"),
}
"""Family -> those whose models fit it too, where brightness and strength are right.

A camera counts photons; a small offset is not to be told from a brighter picture; nor which noise came first.
"""


def _middle(level: float | LevelRange) -> float:
    return (level.low + level.high) / 2 if isinstance(level, LevelRange) else level


@dataclass(frozen=True)
class NoiseEffect:
    """What noise does to a picture: noisy is about gain * clean + offset, give or take `level`."""

    level: float
    """Standard deviation of what is left, in units of white."""
    gain: float
    offset: float

    @property
    def shift(self) -> float:
        """How much brighter a middle grey becomes."""
        return self.gain * 0.5 + self.offset - 0.5


def measure_effects(clean: Tensor, noisy: Tensor) -> Tensor:
    """(N, 3): level, gain and offset of each image, by least squares, as they are after clipping.

    Where a picture is flat, a gain cannot be told from an offset, and is taken for 1.
    """
    x, y = clean.flatten(1).double(), noisy.flatten(1).double()
    mx, my = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    spread = (x - mx).square().mean(1, keepdim=True)
    gain = (((x - mx) * (y - my)).mean(1, keepdim=True) + _FLAT) / (spread + _FLAT)
    offset = my - gain * mx
    level = (y - gain * x - offset).square().mean(1, keepdim=True).sqrt()
    return torch.cat([level, gain, offset], dim=1).float()


_FLAT = 1e-4


def was_trained_for(noise: Noise, kind: str, effect: NoiseEffect) -> bool:
    """Whether a model trained under `noise` has seen such pictures: this family, about as bright and as strong.

    What lies between the extremes of a noise with ranges fits.
    """
    for option in _leaves(noise):
        if classify_noise(option) in _ALIKE.get(kind, (kind,)):
            low, high = _extremes(option)
            bright = low.shift - _BRIGHTNESS <= effect.shift <= high.shift + _BRIGHTNESS
            if bright and low.level / _STRENGTH - _FAINT <= effect.level <= high.level * _STRENGTH:
                return True
    return False


def _leaves(noise: Noise) -> Iterator[Noise]:
    """The components of a mixture, and of those in it."""
    for option in noise.options():
        yield from (option,) if option is noise else _leaves(option)


@cache
def _extremes(noise: Noise) -> tuple[NoiseEffect, NoiseEffect]:
    """The least and the most that it does to a grey ramp, tried many times; all of it in level and offset."""
    ramp = torch.linspace(0, 1, 256).expand(64, 3, 4, 256)
    found = measure_effects(ramp, noise.apply(ramp, BatchStream(len(ramp), 0)).clamp(0, 1))
    level, shift = found[:, 0], found[:, 1] * 0.5 + found[:, 2] - 0.5
    return NoiseEffect(float(level.min()), 1.0, float(shift.min())), NoiseEffect(
        float(level.max()), 1.0, float(shift.max())
    )


_BRIGHTNESS = 0.1
"""A picture this much brighter or darker than a model was trained for is another noise."""
_STRENGTH = 2.0
"""As is one of so many times the strength."""
_FAINT = 0.01
"""The inspector's levels are off by about this much, and of faint noise they may come out as nothing."""
