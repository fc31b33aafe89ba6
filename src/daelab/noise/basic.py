"""The noises of the paper and of textbooks. Each clips its result to [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from daelab.noise.base import Level, Term, draw_level, get_level_bounds
from daelab.noise.random_streams import RandomStream


@dataclass(frozen=True)
class Clean(Term):
    """No noise: the images as they are."""

    name = "none"

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        return x.clamp(0, 1)


@dataclass(frozen=True)
class Gaussian(Term):
    """clip(x + n), n ~ N(mean, std): the paper's Type-I (section 3.1)."""

    name = "gaussian"
    bounds = {"std": (0.0, math.inf)}  # noqa: RUF012
    mean: Level
    std: Level

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        return (x + _normal(self.mean, self.std, x, draws)).clamp_(0, 1)


@dataclass(frozen=True)
class Multiplicative(Term):
    """clip(x + x * n), n ~ N(mean, std): the paper's Type-II (section 3.1)."""

    name = "multiplicative"
    bounds = {"std": (0.0, math.inf)}  # noqa: RUF012
    mean: Level
    std: Level

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        return _normal(self.mean, self.std, x, draws).mul_(x).add_(x).clamp_(0, 1)


@dataclass(frozen=True)
class Speckle(Term):
    """clip(x + x * n), n ~ N(0, std)."""

    name = "speckle"
    bounds = {"std": (0.0, math.inf)}  # noqa: RUF012
    std: Level

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        return _normal(0.0, self.std, x, draws).mul_(x).add_(x).clamp_(0, 1)


@dataclass(frozen=True)
class Uniform(Term):
    """clip(x + n), n uniform in [low, high)."""

    name = "uniform"
    low: Level
    high: Level

    def __post_init__(self) -> None:
        super().__post_init__()
        if get_level_bounds(self.low)[1] > get_level_bounds(self.high)[0]:
            raise ValueError(f"uniform: low must not be above high, as in {self.formula()}")

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        low, high = draw_level(self.low, x, draws), draw_level(self.high, x, draws)
        return (x + draws.uniform(*x.shape[1:]) * (high - low) + low).clamp_(0, 1)


@dataclass(frozen=True)
class SaltAndPepper(Term):
    """Each value becomes 0 or 1, with probability p / 2 each (as scikit-image's `s&p`)."""

    name = "salt-and-pepper"
    bounds = {"p": (0.0, 1.0)}  # noqa: RUF012
    p: Level

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        p = draw_level(self.p, x, draws)
        u = draws.uniform(*x.shape[1:])
        return torch.where(u < p, (u < p / 2).to(x.dtype), x.clamp(0, 1))


@dataclass(frozen=True)
class Poisson(Term):
    """clip(Poisson(x * peak) / peak): photon counts, `peak` of them at white."""

    name = "poisson"
    bounds = {"peak": (1e-3, 1e6)}  # noqa: RUF012
    peak: Level

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        peak = draw_level(self.peak, x, draws)
        return (draws.poisson(x.clamp(0, 1) * peak) / peak).clamp_(0, 1)


def _normal(mean: Level, std: Level, x: Tensor, draws: RandomStream) -> Tensor:
    # the levels are drawn first, so that they do not depend on the pictures' size
    mean_, std_ = draw_level(mean, x, draws), draw_level(std, x, draws)
    return draws.normal(*x.shape[1:]).mul_(std_).add_(mean_)
