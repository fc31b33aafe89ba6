"""The state of a training between two steps, and its checkpoint: a safetensors file that resumes it exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from daelab._util.config import ConfigDocument, FileHeader
from daelab._util.distributed import run_on_first
from daelab._util.tensor_file import explain_misfit, read_tensors, write_tensors
from daelab.training.optimizers import AveragedWeights

CHECKPOINT_FORMAT = 1
_CLASSIFIER_FORMAT = "judge_checkpoint"
"""The header field by which a classifier's checkpoint of version 0.1.0 is known."""


@dataclass
class BestEpoch:
    """The epoch with the lowest validation loss so far."""

    epoch: int = 0
    """The number of the epoch, from 1; 0 while there is none."""
    val_loss: float = float("inf")
    """The validation loss, as the recipe's loss measures it."""
    val_psnr: float = float("-inf")
    """The mean PSNR of the validation images, in dB."""


class CheckpointHeader(FileHeader):
    """The header of a checkpoint: everything beside its tensors."""

    checkpoint: int
    recipe_sha256: str
    step: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0)]
    epoch_seconds: Annotated[float, Field(ge=0)]
    rows: list[dict[str, int | float]]
    best: BestEpoch | None


@dataclass
class TrainingState:
    """The state of a training between two steps.

    No random state is part of it: the order of the images and all noise follow from the seed, the epoch and the step.
    """

    network: nn.Module
    """The network that the optimizer changes."""
    optimizer: torch.optim.Optimizer
    """The optimizer of the network's parameters."""
    sums: Tensor
    """float64 sums over the images of this epoch so far, on the device: the loss, and what else the task counts."""
    average: AveragedWeights | None = None
    """A second set of weights, or None."""
    step: int = 0
    """Steps done since the beginning."""
    seconds: float = 0.0
    """Seconds spent in finished epochs, without interruptions."""
    epoch_seconds: float = 0.0
    """Seconds spent in steps of the present epoch."""
    rows: list[dict[str, float]] = field(default_factory=list)
    """The rows of metrics.csv: one for each finished epoch."""
    best: BestEpoch = field(default_factory=BestEpoch)
    """The best epoch so far."""

    @property
    def kept(self) -> nn.Module:
        """The network that is validated and saved: the average of the weights if there is one."""
        return self.average.network if self.average else self.network

    def save(self, path: Path, recipe: ConfigDocument) -> None:
        """Write the checkpoint atomically.

        Args:
            path: The file.
            recipe: The recipe of the training; only it can resume the checkpoint.
        """
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.average:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            for key, value in values.items():
                if isinstance(value, Tensor):
                    # The spelling is part of the file format.
                    tensors[f"optimiser.{number}.{key}"] = value
        header = {
            "checkpoint": CHECKPOINT_FORMAT,
            "recipe_sha256": recipe.sha256,
            "step": self.step,
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
            "rows": self.rows,
            # Before the first epoch the best loss is infinite, which JSON cannot hold.
            "best": vars(self.best) if self.best.epoch else None,
        }
        write_tensors(path, tensors | {"loss_sum": self.sums}, header)

    def restore(self, path: Path, recipe: ConfigDocument) -> None:
        """Replace the state by that of a checkpoint, which the first process reads for all.

        Args:
            path: The checkpoint.
            recipe: The recipe of the training.

        Raises:
            ValueError: The file is damaged, or belongs to another recipe.
        """
        fields, tensors = run_on_first(lambda: _convert_classifier_checkpoint(*read_tensors(path)))
        if fields.get("checkpoint") != CHECKPOINT_FORMAT:
            raise ValueError(f"{path}: not a checkpoint of this version of daelab")
        header = CheckpointHeader.parse(path, fields)
        if header.recipe_sha256 != recipe.sha256:
            raise ValueError(f"{path}: belongs to another recipe; a run resumes with its own recipe.toml")
        with explain_misfit(path):
            self.network.load_state_dict(_select("network.", tensors))
            if self.average:
                self.average.load_state_dict(_select("average.", tensors))
            self._restore_optimizer(_select("optimiser.", tensors))
            # A checkpoint may lie in the middle of an epoch, whose training loss continues from these sums.
            self.sums.copy_(tensors["loss_sum"])
        self.step, self.seconds = header.step, header.seconds
        self.epoch_seconds, self.rows = header.epoch_seconds, [{**row} for row in header.rows]
        self.best = header.best or BestEpoch()

    def _restore_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        values: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            number, _, key = name.partition(".")
            parameter = parameters[int(number)]
            if tensor.shape == parameter.shape:
                # The file is contiguous, but the fused kernels pair numbers in the parameter's order in memory.
                tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
            values.setdefault(int(number), {})[key] = tensor
        # The file holds no groups: their options follow from the recipe, and the engine sets the rates at each step.
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": values, "param_groups": groups})


def _convert_classifier_checkpoint(
    header: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Bring a classifier's checkpoint of version 0.1.0 into the one format; leave any other as it is."""
    if header.get(_CLASSIFIER_FORMAT) != 1:
        return header, tensors
    fields = {key: value for key, value in header.items() if key != _CLASSIFIER_FORMAT}
    renamed = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        prefixes = {
            "slow": f"average.{rest}",
            "momentum": f"optimiser.{rest}.momentum_buffer",
            "sums": "loss_sum",
        }
        renamed[prefixes.get(kind, name)] = tensor
    return fields | {"checkpoint": CHECKPOINT_FORMAT, "best": None}, renamed


def _select(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
