"""Noises as frozen values: what each does to a batch, and how it prints.

Images are (N, C, H, W) float32 in [0, 1]; every noise clips its result to [0, 1], but for
`awgn` (see `photographic`), which may reach outside, as the literature's protocol has it.
To add a noise: a frozen dataclass here, and it is parsed, printed, applied and tested.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from daelab.noise.draws import Draws


@dataclass(frozen=True)
class Range:
    """A level that each image draws for itself, uniformly: `low..high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"the range {self} runs backwards; write the smaller number first")

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}" if _short(self) else f"{self.low!r}..{self.high!r}"


Level = float | Range


class Noise(ABC):
    """A recipe for noise. `str(noise)` is its text; `noise.parse` reads it back."""

    @abstractmethod
    def apply(self, x: Tensor, draws: Draws) -> Tensor:
        """Noisy images, of the shape of `x` (N, C, H, W), float32 in [0, 1]; only `awgn` reaches outside."""

    @abstractmethod
    def formula(self) -> str:
        """The text form written out, without preset names."""

    def options(self) -> tuple[Noise, ...]:
        """The components that an image draws from: one, unless it is a mixture."""
        return (self,)

    def component(self, draws: Draws) -> Tensor:
        """(N,) int64 on the CPU: which of `options` each image gets from fresh `draws`."""
        return torch.zeros(len(draws), dtype=torch.int64)

    def __str__(self) -> str:
        from daelab.noise.text import preset_of

        return preset_of(self) or self.formula()


class Term(Noise):
    """A single noise with levels as its fields, in the order of its text form."""

    name: ClassVar[str]
    bounds: ClassVar[dict[str, tuple[float, float]]] = {}

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            level = getattr(self, field.name)
            both = ends(level)
            low, high = self.bounds.get(field.name, (-math.inf, math.inf))
            if not all(math.isfinite(end) and low <= end <= high for end in both):
                wanted = f"between {low:g} and {high:g}" if high < math.inf else f"at least {low:g}"
                wanted = wanted if low > -math.inf and all(map(math.isfinite, both)) else "a finite number"
                raise ValueError(f"{self.name}: {field.name} must be {wanted}, not {_level_text(level)}")

    def levels(self) -> tuple[Level, ...]:
        """The values of the fields, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]

    def formula(self) -> str:
        inner = ", ".join(_level_text(level) for level in self.levels())
        return f"{self.name}({inner})" if inner else self.name


@dataclass(frozen=True)
class Clean(Term):
    """No noise: the images as they are."""

    name = "none"

    def apply(self, x: Tensor, draws: Draws) -> Tensor:
        return x.clamp(0, 1)


@dataclass(frozen=True)
class Gaussian(Term):
    """clip(x + n), n ~ N(mean, std): the paper's Type-I (section 3.1)."""

    name = "gaussian"
    bounds = {"std": (0.0, math.inf)}  # noqa: RUF012
    mean: Level
    std: Level

    def apply(self, x: Tensor, draws: Draws) -> Tensor:
        return (x + _normal(self.mean, self.std, x, draws)).clamp_(0, 1)


@dataclass(frozen=True)
class Multiplicative(Term):
    """clip(x + x * n), n ~ N(mean, std): the paper's Type-II (section 3.1)."""

    name = "multiplicative"
    bounds = {"std": (0.0, math.inf)}  # noqa: RUF012
    mean: Level
    std: Level

    def apply(self, x: Tensor, draws: Draws) -> Tensor:
        return _normal(self.mean, self.std, x, draws).mul_(x).add_(x).clamp_(0, 1)


@dataclass(frozen=True)
class Speckle(Term):
    """clip(x + x * n), n ~ N(0, std)."""

    name = "speckle"
    bounds = {"std": (0.0, math.inf)}  # noqa: RUF012
    std: Level

    def apply(self, x: Tensor, draws: Draws) -> Tensor:
        return _normal(0.0, self.std, x, draws).mul_(x).add_(x).clamp_(0, 1)


@dataclass(frozen=True)
class Uniform(Term):
    """clip(x + n), n uniform in [low, high)."""

    name = "uniform"
    low: Level
    high: Level

    def __post_init__(self) -> None:
        super().__post_init__()
        if ends(self.low)[1] > ends(self.high)[0]:
            raise ValueError(f"uniform: low must not be above high, as in {self.formula()}")

    def apply(self, x: Tensor, draws: Draws) -> Tensor:
        low, high = drawn(self.low, x, draws), drawn(self.high, x, draws)
        return (x + draws.uniform(*x.shape[1:]) * (high - low) + low).clamp_(0, 1)


@dataclass(frozen=True)
class SaltAndPepper(Term):
    """Each value becomes 0 or 1, with probability p / 2 each (as scikit-image's `s&p`)."""

    name = "salt-and-pepper"
    bounds = {"p": (0.0, 1.0)}  # noqa: RUF012
    p: Level

    def apply(self, x: Tensor, draws: Draws) -> Tensor:
        p = drawn(self.p, x, draws)
        u = draws.uniform(*x.shape[1:])
        return torch.where(u < p, (u < p / 2).to(x.dtype), x.clamp(0, 1))


@dataclass(frozen=True)
class Poisson(Term):
    """clip(Poisson(x * peak) / peak): photon counts, `peak` of them at white."""

    name = "poisson"
    bounds = {"peak": (1e-3, 1e6)}  # noqa: RUF012
    peak: Level

    def apply(self, x: Tensor, draws: Draws) -> Tensor:
        peak = drawn(self.peak, x, draws)
        return (draws.poisson(x.clamp(0, 1) * peak) / peak).clamp_(0, 1)


@dataclass(frozen=True)
class Chain(Noise):
    """One noise after the other, clipped after each but `awgn`: `a > b`."""

    steps: tuple[Noise, ...]

    def apply(self, x: Tensor, draws: Draws) -> Tensor:
        for step in self.steps:
            x = step.apply(x, draws)
        return x

    def formula(self) -> str:
        return " > ".join(_inside(step, (Chain, Mixture)) for step in self.steps)


@dataclass(frozen=True)
class Mixture(Noise):
    """Each image draws one of the choices, uniformly: `a | b`."""

    choices: tuple[Noise, ...]

    def apply(self, x: Tensor, draws: Draws) -> Tensor:
        drawn = draws.pick(len(self.choices))
        noisy = torch.empty_like(x)
        for number, choice in enumerate(self.choices):
            # a choice that no image drew is applied to none, so that every batch draws alike after it
            index = torch.nonzero(drawn == number).flatten()
            place = index.to(x.device, non_blocking=True)
            noisy[place] = choice.apply(x[place], draws.take(index))
        return noisy

    def options(self) -> tuple[Noise, ...]:
        return self.choices

    def component(self, draws: Draws) -> Tensor:
        return draws.pick(len(self.choices))

    def formula(self) -> str:
        return " | ".join(_inside(choice, (Mixture,)) for choice in self.choices)

    def __str__(self) -> str:
        """`awgn(0..55) | real`: a choice that is a preset goes by its name."""
        from daelab.noise.text import preset_of

        return preset_of(self) or " | ".join(preset_of(one) or _inside(one, (Mixture,)) for one in self.choices)


def terms() -> dict[str, type[Term]]:
    """Every single noise, by the name in its text form."""
    return {kind.name: kind for kind in Term.__subclasses__()}


def drawn(level: Level, x: Tensor, draws: Draws) -> float | Tensor:
    """A number, or for a range one number per image, (N, 1, 1, 1) to broadcast over `x`."""
    if not isinstance(level, Range):
        return level
    shape = (1,) * (x.ndim - 1)
    return draws.uniform(*shape) * (level.high - level.low) + level.low


def _normal(mean: Level, std: Level, x: Tensor, draws: Draws) -> Tensor:
    # the levels are drawn first, so that they do not depend on the pictures' size
    mean_, std_ = drawn(mean, x, draws), drawn(std, x, draws)
    return draws.normal(*x.shape[1:]).mul_(std_).add_(mean_)


def ends(level: Level) -> tuple[float, float]:
    """The lowest and the highest that a level can be."""
    return (level.low, level.high) if isinstance(level, Range) else (level, level)


def _level_text(level: Level) -> str:
    if isinstance(level, Range):
        return str(level)
    return f"{level:g}" if float(f"{level:g}") == level else repr(float(level))


def _short(level: Range) -> bool:
    return float(f"{level.low:g}") == level.low and float(f"{level.high:g}") == level.high


def _inside(noise: Noise, brackets: tuple[type[Noise], ...]) -> str:
    return f"({noise.formula()})" if isinstance(noise, brackets) else noise.formula()
