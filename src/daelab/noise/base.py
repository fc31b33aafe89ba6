"""What every noise is: a frozen value that is applied to a batch and prints as text.

Images are (N, C, H, W) float32 in [0, 1].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from daelab.noise.random_streams import RandomStream


@dataclass(frozen=True)
class LevelRange:
    """A level that each image draws for itself, uniformly: `low..high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"the range {self} runs backwards; write the smaller number first")

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}" if _short(self) else f"{self.low!r}..{self.high!r}"


Level = float | LevelRange


class Noise(ABC):
    """A recipe for noise. `str(noise)` is its text; `noise.parse` reads it back."""

    @abstractmethod
    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        """Noisy images, of the shape of `x` (N, C, H, W), float32 in [0, 1]; only `awgn` reaches outside."""

    @abstractmethod
    def formula(self) -> str:
        """The text form written out, without preset names."""

    def options(self) -> tuple[Noise, ...]:
        """The components that an image draws from: one, unless it is a mixture."""
        return (self,)

    def component(self, draws: RandomStream) -> Tensor:
        """(N,) int64 on the CPU: which of `options` each image gets from fresh `draws`."""
        return torch.zeros(len(draws), dtype=torch.int64)

    def __str__(self) -> str:
        return find_preset(self) or self.formula()


class Term(Noise):
    """A single noise with levels as its fields, in the order of its text form."""

    name: ClassVar[str]
    bounds: ClassVar[dict[str, tuple[float, float]]] = {}

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            level = getattr(self, field.name)
            both = get_level_bounds(level)
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


def list_terms() -> dict[str, type[Term]]:
    """Every single noise, by the name in its text form."""
    return {kind.name: kind for kind in Term.__subclasses__()}


def draw_level(level: Level, x: Tensor, draws: RandomStream) -> float | Tensor:
    """A number, or for a range one number per image, (N, 1, 1, 1) to broadcast over `x`."""
    if not isinstance(level, LevelRange):
        return level
    shape = (1,) * (x.ndim - 1)
    return draws.uniform(*shape) * (level.high - level.low) + level.low


def get_level_bounds(level: Level) -> tuple[float, float]:
    """The lowest and the highest that a level can be."""
    return (level.low, level.high) if isinstance(level, LevelRange) else (level, level)


def _level_text(level: Level) -> str:
    if isinstance(level, LevelRange):
        return str(level)
    return f"{level:g}" if float(f"{level:g}") == level else repr(float(level))


def _short(level: LevelRange) -> bool:
    return float(f"{level.low:g}") == level.low and float(f"{level.high:g}") == level.high


PRESETS: dict[str, Noise] = {}
"""The noises that have a name of their own. `grammar` fills the table from the formulas in `presets`."""


def find_preset(noise: Noise) -> str | None:
    """Return the name of the preset that equals a noise, or None."""
    return next((name for name, preset in PRESETS.items() if preset == noise), None)
