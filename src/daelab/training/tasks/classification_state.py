"""What a judge's training is at a step, its checkpoint, its optimiser and its rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from daelab._util.config import FileHeader
from daelab._util.tensor_file import explain_misfit, read_tensors, write_tensors
from daelab.evaluation.classifiers.network import ConvNet
from daelab.evaluation.classifiers.recipe import ClassifierRecipe, ClassifierTrainingConfig

CLASSIFIER_CHECKPOINT_FORMAT = 1


class ClassifierCheckpointHeader(FileHeader):
    """What a checkpoint says beside its tensors."""

    judge_checkpoint: int
    recipe_sha256: str
    step: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0)]
    epoch_seconds: Annotated[float, Field(ge=0)]
    rows: list[dict[str, int | float]]


@dataclass
class ClassifierTrainingState:
    """A training between two steps."""

    network: ConvNet
    optimiser: torch.optim.Optimizer
    slow: dict[str, Tensor]
    """Lookahead's weights and statistics, by their names in the network."""
    sums: Tensor
    """float64 (2,): loss times images, and images judged right, of this epoch so far."""
    step: int = 0
    seconds: float = 0.0
    """Spent in finished epochs."""
    epoch_seconds: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)

    def save(self, path: Path, recipe: ClassifierRecipe) -> None:
        """Write the checkpoint, whole or not at all."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"slow.{name}": tensor for name, tensor in self.slow.items()}
        for number, values in self.optimiser.state_dict()["state"].items():
            if values.get("momentum_buffer") is not None:
                tensors[f"momentum.{number}"] = values["momentum_buffer"]
        header = {
            "judge_checkpoint": CLASSIFIER_CHECKPOINT_FORMAT,
            "recipe_sha256": recipe.sha256,
            "step": self.step,
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
            "rows": self.rows,
        }
        write_tensors(path, tensors | {"sums": self.sums}, header)

    def restore(self, path: Path, recipe: ClassifierRecipe) -> None:
        """Take on what a checkpoint holds.

        Raises:
            ValueError: it is damaged, or of another recipe.
        """
        found, tensors = read_tensors(path)
        if found.get("judge_checkpoint") != CLASSIFIER_CHECKPOINT_FORMAT:
            raise ValueError(f"{path}: not a judge's checkpoint of this version of daelab")
        header = ClassifierCheckpointHeader.parse(path, found)
        if header.recipe_sha256 != recipe.sha256:
            raise ValueError(f"{path}: belongs to another recipe; a run resumes with its own recipe.toml")
        with explain_misfit(path):
            self._restore_tensors(tensors)
        self.step, self.seconds, self.rows = header.step, header.seconds, [{**row} for row in header.rows]
        self.epoch_seconds = header.epoch_seconds

    def _restore_tensors(self, tensors: dict[str, Tensor]) -> None:
        self.network.load_state_dict(_under("network.", tensors))
        for name, tensor in _under("slow.", tensors).items():
            self.slow[name].copy_(tensor)
        learnt = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        momenta = {}
        for number, tensor in _under("momentum.", tensors).items():
            # the file is contiguous, and a fused step reads memory in order: it must lie as the weights do
            laid = torch.empty_like(learnt[int(number)]).copy_(tensor)
            momenta[int(number)] = {"momentum_buffer": laid}
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": momenta, "param_groups": groups})
        self.sums.copy_(tensors["sums"])

    def synthesise(self, decay: float) -> None:
        """Lookahead (Zhang et al., 2019): slow weights move towards the fast ones, which begin anew from them."""
        fast = self.network.state_dict()
        for name, slow in self.slow.items():
            slow.lerp_(fast[name], 1 - decay)
            fast[name].copy_(slow)


def classifier_learning_rate(training: ClassifierTrainingConfig, progress: float) -> float:
    """The share of the peak rate at a progress in [0, 1]: up along a line, down along a line."""
    if progress < training.peak:
        return training.start_lr + (1 - training.start_lr) * progress / training.peak
    return training.final_lr + (1 - training.final_lr) * (1 - progress) / (1 - training.peak)


def make_classifier_optimizer(network: ConvNet, training: ClassifierTrainingConfig) -> torch.optim.Optimizer:
    """Nesterov SGD in two groups: the biases of norms, and all other weights that learn."""
    biases = [p for name, p in network.named_parameters() if "norm" in name and name.endswith("bias")]
    chosen = {id(p) for p in biases}
    others = [p for p in network.parameters() if p.requires_grad and id(p) not in chosen]
    groups = [
        {"params": values, "scale": training.lr * scale, "weight_decay": training.weight_decay / scale}
        for values, scale in ((others, 1.0), (biases, training.bias_scale))
    ]
    return torch.optim.SGD(groups, training.lr, momentum=training.momentum, nesterov=training.momentum > 0, fused=True)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
