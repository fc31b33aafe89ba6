"""The kinds of noise that the inspector tells apart, and which trained model is made for what it found."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from daelab.noise import BatchDraws, Chain, Noise, parse
from daelab.noise.kinds import Clean, Gaussian, Multiplicative, Poisson, Range, SaltAndPepper

FAMILIES: dict[str, str] = {
    "clean": "none",
    "awgn": "gaussian(0, 0.01..0.3)",
    "type-1": "gaussian(0.08..0.4, 0.01..0.15)",
    "type-2": "multiplicative(0.2..1, 0.1..0.6)",
    "type-1+2": "gaussian(0.08..0.3, 0.02..0.1) > multiplicative(0.1..0.4, 0.05..0.25)",
    "type-2+1": "multiplicative(0.1..0.4, 0.05..0.25) > gaussian(0.08..0.3, 0.02..0.1)",
    "salt-and-pepper": "salt-and-pepper(0.01..0.4)",
    "poisson": "poisson(5..200)",
}
"""Name -> the noise that the inspector learns it from. The paper's four types, and three that other pictures have."""
TITLES = {
    "clean": "looks clean",
    "awgn": "zero-mean Gaussian noise",
    "type-1": "Gaussian noise with an offset (type-1)",
    "type-2": "multiplicative noise (type-2)",
    "type-1+2": "Gaussian, then multiplicative noise (type-1+2)",
    "type-2+1": "multiplicative, then Gaussian noise (type-2+1)",
    "salt-and-pepper": "salt and pepper",
    "poisson": "Poisson noise",
}


def mixture() -> Noise:
    """All families, each image drawing one."""
    return parse(" | ".join(f"({text})" for text in FAMILIES.values()))


def family(noise: Noise) -> str | None:
    """The family of a single noise; None for one that the inspector does not know."""
    if isinstance(noise, Gaussian):
        return "awgn" if _middle(noise.mean) == 0 else "type-1"
    if isinstance(noise, Chain):
        return _CHAINS.get(tuple(type(step) for step in noise.steps))
    return _SINGLES.get(type(noise))


_SINGLES: dict[type[Noise], str] = {
    Clean: "clean",
    Multiplicative: "type-2",
    SaltAndPepper: "salt-and-pepper",
    Poisson: "poisson",
}
_CHAINS: dict[tuple[type[Noise], ...], str] = {
    (Gaussian, Multiplicative): "type-1+2",
    (Multiplicative, Gaussian): "type-2+1",
}


def _middle(level: float | Range) -> float:
    return (level.low + level.high) / 2 if isinstance(level, Range) else level


@dataclass(frozen=True)
class Effect:
    """What noise does to a picture: noisy is about gain * clean + offset, give or take `level`."""

    level: float
    """Standard deviation of what is left, in units of white."""
    gain: float
    offset: float

    @property
    def shift(self) -> float:
        """How much brighter a middle grey becomes."""
        return self.gain * 0.5 + self.offset - 0.5


def effects(clean: Tensor, noisy: Tensor) -> Tensor:
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


def fits(noise: Noise, kind: str, effect: Effect) -> bool:
    """Whether a model trained under `noise` has seen such pictures: this family, about as bright and as strong.

    A noise with ranges is tried on a grey ramp many times, and what lies between its extremes fits.
    """
    ramp = torch.linspace(0, 1, 256).expand(64, 3, 4, 256)
    for option in noise.options():
        if family(option) == kind:
            found = effects(ramp, option.apply(ramp, BatchDraws(len(ramp), 0)))
            level, shift = found[:, 0], found[:, 1] * 0.5 + found[:, 2] - 0.5
            bright = shift.min() - _BRIGHTNESS <= effect.shift <= shift.max() + _BRIGHTNESS
            strong = level.min() / _STRENGTH <= effect.level <= level.max() * _STRENGTH
            if bright and strong:
                return True
    return False


_BRIGHTNESS = 0.1
"""A picture this much brighter or darker than a model was trained for is another noise."""
_STRENGTH = 2.0
"""As is one of so many times the strength."""
