"""Optimizers, and the averages of weights that are kept beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from daelab.training.recipe import TrainingConfig


def make_optimizer(
    parameters: nn.Module | Iterable[dict[str, Any]], training: TrainingConfig, *, fused: bool = True
) -> torch.optim.Optimizer:
    """Return the optimizer of a recipe.

    Args:
        parameters: The network, or groups of parameters with options of their own. A group's `scale` multiplies the
            learning rate that the engine sets.
        training: The optimizer's name and its numbers.
        fused: Update all tensors in one kernel, which is faster and rounds differently.

    Raises:
        ValueError: The network has no weights.
    """
    values = _group_parameters(parameters, training) if isinstance(parameters, nn.Module) else list(parameters)
    if not values:
        raise ValueError("the network has no weights to train; register them as nn.Parameter or as layers")
    if training.optimiser == "sgd":
        return torch.optim.SGD(
            values,
            training.lr,
            momentum=training.momentum,
            nesterov=training.momentum > 0,
            weight_decay=training.weight_decay,
            fused=fused,
        )
    kinds: dict[str, Callable[..., torch.optim.Optimizer]]
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "muon": Muon}
    return kinds[training.optimiser](
        values,
        training.lr,
        betas=training.betas,
        amsgrad=training.amsgrad,
        weight_decay=training.weight_decay,
        fused=fused,
    )


def _group_parameters(network: nn.Module, training: TrainingConfig) -> list[Any]:
    """Return the parameters, in two groups if biases and norms have a learning rate of their own."""
    parameters = list(network.parameters())
    if training.vector_lr is None or not parameters:
        return parameters
    vectors = [parameter for parameter in parameters if parameter.ndim < 2]
    others = [parameter for parameter in parameters if parameter.ndim >= 2]
    return [{"params": others, "scale": 1.0}, {"params": vectors, "scale": training.vector_lr}]


class Muon(torch.optim.AdamW):
    """The optimizer Muon (Jordan et al., 2024) for weights of convolutions, and AdamW for all other parameters.

    The other parameters are biases, norms and depthwise weights. The weight of a convolution is read as a matrix of its
    first axis and all others. Its step is Nesterov's momentum with all singular values brought close to one, scaled to
    the size of an AdamW step at the same rate (Liu et al., 2025), so that `lr` means the same for all weights.
    """

    MOMENTUM = 0.95

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters once.

        Args:
            closure: Not supported; only there because PyTorch's optimizers take it.
        """
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.ndim == 4 and weight.shape[1] > 1 and weight.grad is not None:
                    by_shape.setdefault(weight.shape, []).append(weight)
            for weights in by_shape.values():
                self._update_matrices(weights, group["lr"], group["weight_decay"])
        super().step()

    def _update_matrices(self, weights: list[Tensor], rate: float, decay: float) -> None:
        """Update weights of one shape; a GPU computes their directions together, as each alone is too small for it."""
        directions = []
        for weight in weights:
            # AdamW looks for its count of steps wherever there is a state
            state = self.state[weight]
            if not state:
                state.update(step=torch.zeros(()), momentum=torch.zeros_like(weight))
            state["step"] += 1
            gradient = cast(Tensor, weight.grad)
            state["momentum"].lerp_(gradient, 1 - self.MOMENTUM)
            directions.append(torch.lerp(gradient, state["momentum"], self.MOMENTUM).flatten(1))
            # AdamW skips parameters without a gradient
            weight.grad = None
        # The root mean square of AdamW's steps is about 0.2 (Liu et al., 2025).
        length = 0.2 * max(directions[0].shape) ** 0.5
        if weights[0].device.type == "cpu":
            steps = [orthogonalize(direction) for direction in directions]
        else:
            steps = list(orthogonalize(torch.stack(directions)))
        # The decay is separate from the gradient, as in AdamW.
        torch._foreach_mul_(weights, 1 - rate * decay)
        for weight, step in zip(weights, steps, strict=True):
            weight.sub_(step.view(weight.shape), alpha=rate * length)


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return about U V^T for a matrix U S V^T, by the Newton-Schulz iteration of Jordan et al. (2024).

    Args:
        matrix: A matrix (M, N), or a stack of them (K, M, N).
        steps: Iterations; after five the singular values lie between 0.7 and 1.2.
    """
    # With the shorter side first, the squares below are as small as possible.
    tall = matrix.shape[-2] > matrix.shape[-1]
    x: Tensor = matrix.mT if tall else matrix
    # The iteration needs singular values of at most one. The small term keeps a zero gradient from dividing by zero.
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


class AveragedWeights(Protocol):
    """A second set of weights that follows the network during training."""

    network: nn.Module
    """The network that is validated and kept."""

    def update(self, step: int) -> None:
        """Follow the network after a step.

        Args:
            step: Steps done since the beginning, from 1.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a checkpoint stores."""

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what a checkpoint stores.

        Args:
            tensors: Tensors by the names that `state_dict` gives.
        """


class WeightAverage:
    """An exponential moving average of a network: of its weights and of the statistics of its norms.

    Args:
        network: The network that is trained.
        decay: The share of the average that each step keeps, from 0 to below 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Begin at the present weights of the network."""
        self.decay = decay
        self.network = deepcopy(network).eval().requires_grad_(False)
        self._pairs = self._floats(self.network), self._floats(network)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the network; early in a training it is the average of few steps.

        Args:
            step: Steps done since the beginning, from 1.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(*self._pairs, 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors of the averaged network."""
        return self.network.state_dict()

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace the average.

        Args:
            tensors: The tensors of a network, by name.
        """
        self.network.load_state_dict(tensors)

    @staticmethod
    def _floats(network: nn.Module) -> list[Tensor]:
        # The norms count their batches in integers, which cannot be averaged.
        return [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]


class Lookahead:
    """Slow weights that the fast ones return to every few steps (Zhang et al., 2019).

    The network itself is validated and kept: at a synthesis it becomes the slow weights.

    Args:
        network: The network that is trained: the fast weights.
        every: Steps from one synthesis to the next.
        decay: The share of the slow weights that a synthesis keeps at the end of the training. It grows with the cube
            of the progress, and the last synthesis keeps the slow weights alone.
        steps: Steps of the whole training.
    """

    def __init__(self, network: nn.Module, every: int, decay: float, steps: int) -> None:
        """Begin at the present weights of the network."""
        self.network, self.every, self.decay, self.steps = network, every, decay, steps
        self._slow = {name: t.clone() for name, t in network.state_dict().items() if t.is_floating_point()}

    def update(self, step: int) -> None:
        """Synthesize slow and fast weights where it is time.

        Args:
            step: Steps done since the beginning, from 1.
        """
        if step == self.steps:
            self._synthesize(1.0)
        elif step % self.every == 0:
            self._synthesize(self.decay * (step / self.steps) ** 3)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the slow weights and statistics, by their names in the network."""
        return dict(self._slow)

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace the slow weights and statistics.

        Args:
            tensors: Tensors by their names in the network.
        """
        for name, slow in self._slow.items():
            slow.copy_(tensors[name])

    def _synthesize(self, decay: float) -> None:
        fast = self.network.state_dict()
        for name, slow in self._slow.items():
            slow.lerp_(fast[name], 1 - decay)
            fast[name].copy_(slow)
