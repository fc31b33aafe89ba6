"""The base classes of noises: a noise is a frozen value that is applied to a batch and prints as text.

Images are (N, C, H, W) float32 in [0, 1].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import wraps
from inspect import isabstract
from typing import Any, ClassVar

import torch
from torch import Tensor

from daelab._util.plugins import PluginTable
from daelab.noise.random_streams import BatchStream, RandomStream


@dataclass(frozen=True)
class LevelRange:
    """A range `low..high`, from which each image draws its own level uniformly."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Raise a ValueError if the range runs backwards."""
        if not self.low <= self.high:
            raise ValueError(f"the range {self} runs backwards; write the smaller number first")

    def __str__(self) -> str:
        """Return the text form, with as few digits as restore the numbers."""
        return f"{self.low:g}..{self.high:g}" if _fits_six_digits(self) else f"{self.low!r}..{self.high!r}"


Level = float | LevelRange


class Noise(ABC):
    """A description of noise. `str(noise)` is its text form, which `parse_noise` reads back."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Let the methods that add noise check what they return, since the class may be that of a plugin."""
        super().__init_subclass__(**options)
        for name in {"apply", "apply_after"} & vars(cls).keys():
            setattr(cls, name, _check_result(vars(cls)[name]))

    @abstractmethod
    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Add noise to images.

        Args:
            x: Images (N, C, H, W), float32 in [0, 1].
            stream: The source of random numbers for these N images.

        Returns:
            Noisy images of the same shape, float32 in [0, 1]. Only `awgn` leaves that range.
        """

    def __call__(self, x: Tensor, seed: int | None = None) -> Tensor:
        """Add noise to an image or to images, such as in a transform of a PyTorch data set.

        Args:
            x: (C, H, W) or (N, C, H, W), float32 in [0, 1], on any device.
            seed: The seed. Default: it is drawn from PyTorch's global generator.

        Returns:
            Noisy images of the same shape.
        """
        seed = int(torch.randint(2**62, ())) if seed is None else seed
        images = x if x.ndim == 4 else x[None]
        return self.apply(images, BatchStream(len(images), seed, x.device)).view_as(x)

    def apply_after(self, noisy: Tensor, clean: Tensor, stream: RandomStream) -> Tensor:
        """Add noise to images that already have noise, as a later step of a chain.

        Args:
            noisy: The images after the earlier steps (N, C, H, W).
            clean: The images before the first step (N, C, H, W), float32 in [0, 1].
            stream: The source of random numbers for these N images.

        Returns:
            Images as from `apply`.
        """
        return self.apply(noisy, stream)

    @abstractmethod
    def formula(self) -> str:
        """Return the text form without preset names."""

    def options(self) -> tuple[Noise, ...]:
        """List the noises that an image chooses from: this one alone, unless it is a mixture."""
        return (self,)

    def component(self, stream: RandomStream) -> Tensor:
        """Draw which of `options` each image gets.

        Args:
            stream: A fresh source of random numbers; `apply` with an equal source makes the same choices.

        Returns:
            (N,) int64 on the CPU, positions in `options`.
        """
        return torch.zeros(len(stream), dtype=torch.int64)

    def __str__(self) -> str:
        """Return the name of the equal preset, or the text form."""
        return find_preset(self) or self.formula()


def _check_result(apply: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the method of a noise, which then raises a ValueError if the noisy images do not fit the clean ones."""

    @wraps(apply)
    def apply_checked(self: Noise, x: Tensor, *others: Any) -> Tensor:
        # PyTorch counts in-place changes, except of tensors of its inference mode.
        version = None if x.is_inference() else x._version
        noisy = apply(self, x, *others)
        if not isinstance(noisy, Tensor) or _describe_images(noisy) != _describe_images(x):
            result = _describe_images(noisy) if isinstance(noisy, Tensor) else type(noisy).__name__
            raise ValueError(f"noise {self} makes {result} of images that are {_describe_images(x)}; correct its code")
        if version is not None and x._version != version:
            raise ValueError(f"noise {self} changes the clean images in place; let its code work on a copy")
        return noisy

    return apply_checked


def _describe_images(x: Tensor) -> str:
    return f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')} on {x.device}"


class Term(Noise):
    """A single noise, whose fields are its levels in the order of its text form."""

    name: ClassVar[str]
    """The name in the text form."""
    bounds: ClassVar[dict[str, tuple[float, float]]] = {}
    """The lowest and the highest value of a level, by field name. Other levels may be any finite number."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a level is outside its bounds."""
        for field in fields(self):  # type: ignore[arg-type]
            level = getattr(self, field.name)
            ends = get_level_bounds(level)
            low, high = self.bounds.get(field.name, (-math.inf, math.inf))
            if not all(math.isfinite(end) and low <= end <= high for end in ends):
                valid = f"between {low:g} and {high:g}" if high < math.inf else f"at least {low:g}"
                valid = valid if low > -math.inf and all(map(math.isfinite, ends)) else "a finite number"
                raise ValueError(f"{self.name}: {field.name} must be {valid}, not {_format_level(level)}")

    def levels(self) -> tuple[Level, ...]:
        """List the values of the fields, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]

    def formula(self) -> str:
        """Return the text form, such as `gaussian(0.2, 0.05)`."""
        inner = ", ".join(_format_level(level) for level in self.levels())
        return f"{self.name}({inner})" if inner else self.name


def list_terms() -> PluginTable[type[Term]]:
    """List the classes of single noises by the name in their text form, with those of installed plugins."""
    kinds: dict[str, type[Term]] = {}
    for kind in _list_subclasses(Term):  # type: ignore[type-abstract]
        if not isabstract(kind):
            # Of two kinds of one name the first is kept, so that other code cannot change what daelab's noises are.
            kinds.setdefault(kind.name, kind)
    return PluginTable("noises", kinds)


def _list_subclasses(base: type[Term]) -> Iterator[type[Term]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _list_subclasses(kind)


def draw_level(level: Level, x: Tensor, stream: RandomStream) -> float | Tensor:
    """Draw a level for each image.

    Args:
        level: A number, or a range.
        x: The images (N, ...) that the level is for.
        stream: The source of random numbers. A level that is a single number needs none.

    Returns:
        The number, or for a range (N, 1, 1, 1), one number per image, to broadcast over `x`.
    """
    if not isinstance(level, LevelRange):
        return level
    shape = (1,) * (x.ndim - 1)
    return stream.uniform(*shape) * (level.high - level.low) + level.low


def get_level_bounds(level: Level) -> tuple[float, float]:
    """Return the lowest and the highest value of a level.

    Args:
        level: A number, or a range.

    Returns:
        (lowest, highest), which are equal for a number.
    """
    return (level.low, level.high) if isinstance(level, LevelRange) else (level, level)


def _format_level(level: Level) -> str:
    if isinstance(level, LevelRange):
        return str(level)
    return f"{level:g}" if float(f"{level:g}") == level else repr(float(level))


def _fits_six_digits(level: LevelRange) -> bool:
    return float(f"{level.low:g}") == level.low and float(f"{level.high:g}") == level.high


PRESETS: dict[str, Noise] = {}
"""The noises that have names of their own. `grammar` fills the table from the formulas in `presets`."""


def find_preset(noise: Noise) -> str | None:
    """Find the preset that equals a noise.

    Args:
        noise: The noise.

    Returns:
        The name of the preset, or None.
    """
    return next((name for name, preset in PRESETS.items() if preset == noise), None)
