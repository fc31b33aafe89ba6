"""Optimisers, learning-rate schedules and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from daelab.models.layers import Network
from daelab.training.recipe import TrainingConfig


def make_optimizer(network: nn.Module, training: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser of a recipe, fused: one kernel for all tensors."""
    parameters, lr = list(network.parameters()), training.lr
    if training.optimiser == "sgd":
        return torch.optim.SGD(
            parameters,
            lr,
            momentum=training.momentum,
            nesterov=training.momentum > 0,
            weight_decay=training.weight_decay,
            fused=True,
        )
    kinds: dict[str, Callable[..., torch.optim.Optimizer]]
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "muon": Muon}
    return kinds[training.optimiser](
        parameters,
        lr,
        betas=training.betas,
        amsgrad=training.amsgrad,
        weight_decay=training.weight_decay,
        fused=True,
    )


class Muon(torch.optim.AdamW):
    """Muon (Jordan et al., 2024) for the weights of convolutions, AdamW for the rest: biases, norms, depthwise weights.

    A convolution's weight is a matrix of its first axis and all the others. Its step is the momentum (Nesterov's)
    with all singular values made about one, scaled so that it is as large as AdamW's is at the same rate
    (Liu et al., 2025); so `lr` means the same for all weights.
    """

    MOMENTUM = 0.95

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.ndim != 4 or weight.shape[1] == 1 or weight.grad is None:
                    continue
                # AdamW looks for its count of steps wherever there is a state
                state = self.state[weight]
                if not state:
                    state.update(step=torch.zeros(()), momentum=torch.zeros_like(weight))
                state["step"] += 1
                state["momentum"].lerp_(weight.grad, 1 - self.MOMENTUM)
                towards = torch.lerp(weight.grad, state["momentum"], self.MOMENTUM).flatten(1)
                length = 0.2 * max(towards.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(orthogonalize(towards).view(weight.shape), alpha=group["lr"] * length)
                # done: AdamW passes over what has no gradient
                weight.grad = None
        super().step()


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """About U V^T for a matrix U S V^T, by Newton and Schulz's iteration: singular values within 0.7 and 1.2."""
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x


def _constant(_: float) -> float:
    return 1.0


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


def _one_cycle(progress: float, peak: float = 0.3) -> float:
    """Up to the top at `peak`, then down, both along a cosine (Smith and Topin, 2018)."""
    if progress < peak:
        return 0.04 + 0.96 * (1 - _cosine(progress / peak))
    return _cosine((progress - peak) / (1 - peak))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "one-cycle": _one_cycle,
}
"""Name -> share of the rate at a progress in [0, 1]."""


def compute_learning_rate(training: TrainingConfig, progress: float) -> float:
    """The rate at a progress in [0, 1] through the training."""
    if progress < training.warmup:
        return training.lr * max(progress / training.warmup, 1e-3)
    left = (progress - training.warmup) / (1 - training.warmup)
    share = SCHEDULES[training.schedule](min(left, 1.0))
    return training.lr * (training.final_lr + (1 - training.final_lr) * share)


class WeightAverage:
    """An exponential moving average of a network: weights and the statistics of its norms."""

    def __init__(self, network: Network, decay: float) -> None:
        self.decay = decay
        self.network = deepcopy(network).eval().requires_grad_(False)
        self._pairs = self._floats(self.network), self._floats(network)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the network after `step` steps; early on the average is a short one."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(*self._pairs, 1 - decay)

    @staticmethod
    def _floats(network: nn.Module) -> list[Tensor]:
        return [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
