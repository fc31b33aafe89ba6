"""Noises that are made of other noises: one after the other, or one of several for each image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from daelab.noise.base import Noise, find_preset
from daelab.noise.random_streams import RandomStream


@dataclass(frozen=True)
class Chain(Noise):
    """A chain of noises, applied one after the other: `a > b`. The result is clipped after each but `awgn`."""

    steps: tuple[Noise, ...]

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Apply each step in order; see `Noise.apply`."""
        for step in self.steps:
            x = step.apply(x, stream)
        return x

    def formula(self) -> str:
        """Return the text form, such as `awgn(25) > quantised`."""
        return " > ".join(_format_operand(step, (Chain, Mixture)) for step in self.steps)


@dataclass(frozen=True)
class Mixture(Noise):
    """A mixture of noises, of which each image draws one uniformly: `a | b`."""

    choices: tuple[Noise, ...]

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Apply to each image the noise that it drew; see `Noise.apply`."""
        picks = stream.pick(len(self.choices))
        noisy = torch.empty_like(x)
        for number, choice in enumerate(self.choices):
            # a choice that no image drew is still applied, to no image, so that every batch uses the stream alike
            index = torch.nonzero(picks == number).flatten()
            place = index.to(x.device, non_blocking=True)
            noisy[place] = choice.apply(x[place], stream.take(index))
        return noisy

    def options(self) -> tuple[Noise, ...]:
        """List the choices."""
        return self.choices

    def component(self, stream: RandomStream) -> Tensor:
        """Draw the choice of each image; see `Noise.component`."""
        return stream.pick(len(self.choices))

    def formula(self) -> str:
        """Return the text form, such as `awgn(25) | poisson(30)`."""
        return " | ".join(_format_operand(choice, (Mixture,)) for choice in self.choices)

    def __str__(self) -> str:
        """Return the text form with presets by their names: `awgn(0..55) | real`."""
        names = (find_preset(choice) or _format_operand(choice, (Mixture,)) for choice in self.choices)
        return find_preset(self) or " | ".join(names)


def _format_operand(noise: Noise, brackets: tuple[type[Noise], ...]) -> str:
    return f"({noise.formula()})" if isinstance(noise, brackets) else noise.formula()
