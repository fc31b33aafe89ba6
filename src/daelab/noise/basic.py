"""The noises of the paper and of textbooks. Each clips its result to [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from daelab.noise.base import Level, Term, draw_level, get_level_bounds
from daelab.noise.random_streams import RandomStream


@dataclass(frozen=True)
class Clean(Term):
    """The absence of noise: the images stay as they are."""

    name = "none"

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Return the images, clipped to [0, 1]; see `Noise.apply`."""
        return x.clamp(0, 1)


@dataclass(frozen=True)
class Gaussian(Term):
    """The paper's Type-I noise (section 3.1): clip(x + n), n ~ N(mean, std)."""

    name = "gaussian"
    bounds = {"std": (0.0, math.inf)}  # noqa: RUF012
    mean: Level
    std: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Add normal noise; see `Noise.apply`."""
        return (x + _draw_normal(self.mean, self.std, x, stream)).clamp_(0, 1)


@dataclass(frozen=True)
class Multiplicative(Term):
    """The paper's Type-II noise (section 3.1): clip(x + x * n), n ~ N(mean, std)."""

    name = "multiplicative"
    bounds = {"std": (0.0, math.inf)}  # noqa: RUF012
    mean: Level
    std: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Add normal noise in proportion to the value; see `Noise.apply`."""
        return _draw_normal(self.mean, self.std, x, stream).mul_(x).add_(x).clamp_(0, 1)


@dataclass(frozen=True)
class Speckle(Term):
    """Speckle noise: clip(x + x * n), n ~ N(0, std)."""

    name = "speckle"
    bounds = {"std": (0.0, math.inf)}  # noqa: RUF012
    std: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Add zero-mean normal noise in proportion to the value; see `Noise.apply`."""
        return _draw_normal(0.0, self.std, x, stream).mul_(x).add_(x).clamp_(0, 1)


@dataclass(frozen=True)
class Uniform(Term):
    """Uniform noise: clip(x + n), n uniform in [low, high)."""

    name = "uniform"
    low: Level
    high: Level

    def __post_init__(self) -> None:
        """Raise a ValueError if `low` may be above `high`."""
        super().__post_init__()
        if get_level_bounds(self.low)[1] > get_level_bounds(self.high)[0]:
            raise ValueError(f"uniform: low must not be above high, as in {self.formula()}")

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Add uniform noise; see `Noise.apply`."""
        low, high = draw_level(self.low, x, stream), draw_level(self.high, x, stream)
        return (x + stream.uniform(*x.shape[1:]) * (high - low) + low).clamp_(0, 1)


@dataclass(frozen=True)
class SaltAndPepper(Term):
    """Salt-and-pepper noise: each value becomes 0 or 1 with probability p / 2 each (as scikit-image's `s&p`)."""

    name = "salt-and-pepper"
    bounds = {"p": (0.0, 1.0)}  # noqa: RUF012
    p: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Replace random values with 0 or 1; see `Noise.apply`."""
        return _replace_values(self.p, x, x.shape[1:], stream)


@dataclass(frozen=True)
class SaltAndPepperPixels(Term):
    """Salt-and-pepper noise of whole pixels: each pixel becomes black or white with probability p / 2 each."""

    name = "salt-and-pepper-pixels"
    bounds = {"p": (0.0, 1.0)}  # noqa: RUF012
    p: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Replace random pixels with black or white; see `Noise.apply`."""
        return _replace_values(self.p, x, (1, *x.shape[2:]), stream)


@dataclass(frozen=True)
class Poisson(Term):
    """Photon noise: clip(Poisson(x * peak) / peak), with `peak` photons at white."""

    name = "poisson"
    bounds = {"peak": (1e-3, 1e6)}  # noqa: RUF012
    peak: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Replace each value with a photon count; see `Noise.apply`."""
        peak = draw_level(self.peak, x, stream)
        return (stream.poisson(x.clamp(0, 1) * peak) / peak).clamp_(0, 1)


def _replace_values(p: Level, x: Tensor, shape: Sequence[int], stream: RandomStream) -> Tensor:
    """Replace values with 0 or 1 with probability p, by a draw for each value of `shape`, which broadcasts to x."""
    share = draw_level(p, x, stream)
    u = stream.uniform(*shape)
    return torch.where(u < share, (u < share / 2).to(x.dtype), x.clamp(0, 1))


def _draw_normal(mean: Level, std: Level, x: Tensor, stream: RandomStream) -> Tensor:
    # the levels are drawn first, so that they do not depend on the size of the images
    mean_, std_ = draw_level(mean, x, stream), draw_level(std, x, stream)
    return stream.normal(*x.shape[1:]).mul_(std_).add_(mean_)
