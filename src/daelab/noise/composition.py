"""Noises made of others: one after the other, or one of several for each image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from daelab.noise.base import Noise, find_preset
from daelab.noise.random_streams import RandomStream


@dataclass(frozen=True)
class Chain(Noise):
    """One noise after the other, clipped after each but `awgn`: `a > b`."""

    steps: tuple[Noise, ...]

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        for step in self.steps:
            x = step.apply(x, draws)
        return x

    def formula(self) -> str:
        return " > ".join(_inside(step, (Chain, Mixture)) for step in self.steps)


@dataclass(frozen=True)
class Mixture(Noise):
    """Each image draws one of the choices, uniformly: `a | b`."""

    choices: tuple[Noise, ...]

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
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

    def component(self, draws: RandomStream) -> Tensor:
        return draws.pick(len(self.choices))

    def formula(self) -> str:
        return " | ".join(_inside(choice, (Mixture,)) for choice in self.choices)

    def __str__(self) -> str:
        """`awgn(0..55) | real`: a choice that is a preset goes by its name."""
        return find_preset(self) or " | ".join(find_preset(one) or _inside(one, (Mixture,)) for one in self.choices)


def _inside(noise: Noise, brackets: tuple[type[Noise], ...]) -> str:
    return f"({noise.formula()})" if isinstance(noise, brackets) else noise.formula()
