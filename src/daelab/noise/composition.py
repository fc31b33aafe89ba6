"""Noises that are made of other noises: one after the other, or one of several for each image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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
        return self.apply_after(x, x, stream)

    def apply_after(self, noisy: Tensor, clean: Tensor, stream: RandomStream) -> Tensor:
        """Apply each step in order; see `Noise.apply_after`."""
        for step in self.steps:
            noisy = step.apply_after(noisy, clean, stream)
        return noisy

    def formula(self) -> str:
        """Return the text form, such as `awgn(25) > quantised`."""
        return " > ".join(_format_operand(step, (Chain, Mixture)) for step in self.steps)


@dataclass(frozen=True)
class Mixture(Noise):
    """A mixture of noises, of which each image draws one uniformly: `a | b`."""

    choices: tuple[Noise, ...]

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Apply to each image the noise that it drew; see `Noise.apply`."""
        return self.apply_after(x, x, stream)

    def apply_after(self, noisy: Tensor, clean: Tensor, stream: RandomStream) -> Tensor:
        """Apply to each image the noise that it drew; see `Noise.apply_after`."""
        picks = stream.pick(len(self.choices))
        result = torch.empty_like(noisy)
        for number, choice in enumerate(self.choices):
            # a choice that no image drew is still applied, to no image, so that every batch uses the stream alike
            # computed by numpy, since the choices are on the host and a GPU is not to be waited for
            index = torch.from_numpy(np.flatnonzero(picks.numpy() == number))
            place = index.to(noisy.device, non_blocking=True)
            result[place] = choice.apply_after(noisy[place], clean[place], stream.take(index))
        return result

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
