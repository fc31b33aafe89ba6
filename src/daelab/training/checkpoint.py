"""Everything that a training is at a step, and its checkpoint: a safetensors file that resumes it exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from daelab._util.config import FileHeader
from daelab._util.distributed import run_on_first
from daelab._util.tensor_file import explain_misfit, read_tensors, write_tensors
from daelab.models.build import build_network
from daelab.models.layers import Network
from daelab.training.loader import derive_seed
from daelab.training.objective import load_named_model
from daelab.training.optimizers import WeightAverage, make_optimizer
from daelab.training.recipe import Recipe

CHECKPOINT_FORMAT = 1


@dataclass
class BestEpoch:
    """The epoch with the lowest validation loss so far."""

    epoch: int = 0
    val_loss: float = float("inf")
    val_psnr: float = float("-inf")


class CheckpointHeader(FileHeader):
    """What a checkpoint says beside its tensors."""

    checkpoint: int
    recipe_sha256: str
    step: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0)]
    epoch_seconds: Annotated[float, Field(ge=0)]
    rows: list[dict[str, int | float]]
    best: BestEpoch | None


@dataclass
class TrainingState:
    """A training between two steps. The order of images and all noise follow from (seed, step)."""

    network: Network
    average: WeightAverage | None
    optimiser: torch.optim.Optimizer
    loss_sum: Tensor
    """float64 scalar on the device: training loss of this epoch so far, times images."""
    step: int = 0
    """Steps done since the beginning."""
    seconds: float = 0.0
    """Time spent so far, interruptions left out."""
    epoch_seconds: float = 0.0
    """Of which in training steps of this epoch."""
    rows: list[dict[str, float]] = field(default_factory=list)
    """Of metrics.csv: one per finished epoch."""
    best: BestEpoch = field(default_factory=BestEpoch)

    @property
    def kept(self) -> Network:
        """The network that is validated and kept: the average where there is one."""
        return self.average.network if self.average else self.network

    def begin_from(self, model: str) -> None:
        """Take on a model's weights, before the first step; what the network has more of stays as it is.

        Raises:
            ValueError: there is none, or it is of an architecture from which the recipe's does not grow.
        """
        network, card = load_named_model("training.start", model)
        if not self.network.spec.grown_from(card.spec):
            raise ValueError(
                f"training.start: {model} is of another architecture than the recipe's spec; "
                "a U-Net may have more blocks than it, all else is to be the same"
            )
        self.network.load_state_dict(self.network.state_dict() | network.state_dict())
        if self.average:
            self.average.network.load_state_dict(self.network.state_dict())

    def save(self, path: Path, recipe: Recipe) -> None:
        """Write the checkpoint, whole or not at all."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.average:
            tensors |= {f"average.{name}": t for name, t in self.average.network.state_dict().items()}
        for number, values in self.optimiser.state_dict()["state"].items():
            for key, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"optimiser.{number}.{key}"] = value
        header = {
            "checkpoint": CHECKPOINT_FORMAT,
            "recipe_sha256": recipe.sha256,
            "step": self.step,
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
            "rows": self.rows,
            "best": vars(self.best) if self.rows else None,
        }
        write_tensors(path, tensors | {"loss_sum": self.loss_sum}, header)

    def restore(self, path: Path, recipe: Recipe) -> None:
        """Take on what a checkpoint holds; of several processes the first one reads it.

        Raises:
            ValueError: it is damaged, or of another recipe.
        """
        found, tensors = run_on_first(lambda: read_tensors(path))
        if found.get("checkpoint") != CHECKPOINT_FORMAT:
            raise ValueError(f"{path}: not a checkpoint of this version of daelab")
        header = CheckpointHeader.parse(path, found)
        if header.recipe_sha256 != recipe.sha256:
            raise ValueError(f"{path}: belongs to another recipe; a run resumes with its own recipe.toml")
        with explain_misfit(path):
            self.network.load_state_dict(_under("network.", tensors))
            if self.average:
                self.average.network.load_state_dict(_under("average.", tensors))
            self._restore_optimiser(_under("optimiser.", tensors))
            self.loss_sum.copy_(tensors["loss_sum"])
        self.step, self.seconds = header.step, header.seconds
        self.epoch_seconds, self.rows = header.epoch_seconds, [{**row} for row in header.rows]
        self.best = header.best or BestEpoch()

    def _restore_optimiser(self, tensors: dict[str, Tensor]) -> None:
        parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        values: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            number, _, key = name.partition(".")
            parameter = parameters[int(number)]
            if tensor.shape == parameter.shape:
                # in the parameter's order in memory: the fused kernels pair the numbers as they lie
                tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
            values.setdefault(int(number), {})[key] = tensor
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": values, "param_groups": groups})


def create_training_state(recipe: Recipe, device: torch.device) -> TrainingState:
    """The state before the first step: weights from the recipe's seed."""
    network = build_network(recipe.spec, derive_seed(recipe.seed, "weights"))
    network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = WeightAverage(network, recipe.training.ema) if recipe.training.ema else None
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    return TrainingState(network, average, make_optimizer(network, recipe.training), loss_sum)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
