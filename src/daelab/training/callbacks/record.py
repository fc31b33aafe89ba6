"""What a training writes into its folder and the ledger, and tells; of several processes the first one's business."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from daelab._util.distributed import LostProcessError
from daelab._util.files import write_text
from daelab._util.hardware import collect_versions
from daelab.errors import describe_error
from daelab.models.model_file import ModelMetadata, save_model
from daelab.runs.folder import RunFolder, write_environment
from daelab.runs.ledger import Ledger, get_utc_time
from daelab.runs.process_lock import describe_process
from daelab.training.checkpoint import BestEpoch, TrainingState
from daelab.training.recipe import Recipe
from daelab.training.validation import NoisyValidationSet


class TrainingProgress(Protocol):
    """What a training tells whoever watches."""

    def start(self, run: str, epochs: int, steps: int, facts: dict[str, str], seconds: float = math.inf) -> None:
        """Before the first step: the run's name, epochs, steps per epoch, what is trained how, and its time left."""

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        """After a step; both count from 1."""

    def epoch(self, row: dict[str, float], best: BestEpoch) -> None:
        """After an epoch: its row of metrics.csv, and the best epoch so far."""


class SilentProgress:
    """Tells nobody."""

    def start(self, run: str, epochs: int, steps: int, facts: dict[str, str], seconds: float = math.inf) -> None: ...
    def step(self, epoch: int, step: int, images_per_second: float) -> None: ...
    def epoch(self, row: dict[str, float], best: BestEpoch) -> None: ...


class TrainingInterrupted(Exception):
    """A signal ended the training after a batch; the state is saved."""

    def __init__(self, run: str, signum: int, command: str = "train") -> None:
        super().__init__(f"interrupted and saved; go on with: daelab {command} --resume {run}")
        self.signum = signum


def classify_end(error: BaseException) -> str:
    """The ledger's word for a training that an error ended."""
    return "interrupted" if isinstance(error, TrainingInterrupted | LostProcessError | KeyboardInterrupt) else "failed"


@dataclass
class RunRecord:
    """The books of a run: its folder, its row of the ledger, and whoever watches."""

    recipe: Recipe
    run: RunFolder
    sizes: tuple[int, int]
    """Images to train and to validate on."""
    precision: str
    device: torch.device
    ledger: Ledger
    progress: TrainingProgress

    @contextmanager
    def opened(self, state: TrainingState) -> Iterator[None]:
        """Write what is known before the first step, and at the end how it ended."""
        self.ledger.settle()
        self.ledger.record(self.run.name, status="running", reason="", **describe_process(), **self._row())
        try:
            write_text(self.run.recipe, self.recipe.to_toml())
            write_environment(self.run)
            yield
        except BaseException as error:
            why = describe_error(error).partition("\n")[0]
            # the ledger may lie on the very disk that is full: what went wrong first is what is told
            with suppress(ValueError):
                self.ledger.record(self.run.name, status=classify_end(error), reason=why, finished=get_utc_time())
            raise
        self.ledger.record(self.run.name, status="finished", finished=get_utc_time(), seconds=state.seconds)

    def start(self, steps: int, facts: dict[str, str], seconds: float) -> None:
        """Tell what is trained; `seconds` are left of the recipe's minutes."""
        self.progress.start(self.run.name, self.recipe.training.epochs, steps, facts, seconds)

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        """Tell of a step; both count from 1."""
        self.progress.step(epoch, step, images_per_second)

    def best(self, state: TrainingState, validation: NoisyValidationSet, denoise: Any) -> None:
        """Write the network of the last epoch as the best so far, and what it makes of a few images."""
        train, val = self.sizes
        row = state.rows[-1]
        card = ModelMetadata(
            spec=self.recipe.spec,
            name=self.run.name,
            noise=str(self.recipe.noise),
            data={"name": self.recipe.data.name, "train": train, "val": val, "seed": self.recipe.seed},
            metrics={key: value for key, value in row.items() if key == "epoch" or key.startswith("val_")},
            training={
                "precision": self.precision,
                "device": self.device.type,
                "threads": torch.get_num_threads(),
            },
            recipe=self.recipe.to_dict(),
            recipe_sha256=self.recipe.sha256,
            versions=collect_versions(),
        )
        save_model(self.run.best, state.kept, card)
        validation.write_samples(self.run.path / "samples.npz", denoise)

    def checkpoint(self, state: TrainingState) -> None:
        """Write the checkpoint; a state that is no number is never saved over one that is."""
        if bool(state.loss_sum.isfinite()):
            state.save(self.run.checkpoint, self.recipe)

    def rows(self, state: TrainingState) -> None:
        """Write the rows so far into metrics.csv, and what they come to into the ledger."""
        self.run.write_metrics(state.rows)
        best = state.rows[state.best.epoch - 1]
        self.ledger.record(
            self.run.name,
            epochs_done=len(state.rows),
            val_loss=best["val_loss"],
            val_psnr=best["val_psnr_batch"],
            val_psnr_image=best["val_psnr"],
            val_f1=next((seen["val_f1"] for seen in (best, *reversed(state.rows)) if "val_f1" in seen), None),
            seconds=state.seconds,
            images_per_second=state.rows[-1]["images_per_second"],
        )

    def epoch(self, state: TrainingState) -> None:
        """Tell of the last epoch."""
        self.progress.epoch(state.rows[-1], state.best)

    def _row(self) -> dict[str, Any]:
        recipe = self.recipe
        training, adam = recipe.training, recipe.training.optimiser != "sgd"
        return {
            "batch_size": training.batch,
            "learning_rate": training.lr,
            "epochs": training.epochs,
            "amsgrad": training.amsgrad,
            "train_size": self.sizes[0],
            "val_size": self.sizes[1],
            "weight_decay": training.weight_decay,
            # the paper's log gives 0.0 where there are no betas
            "beta_1": training.betas[0] if adam else 0.0,
            "beta_2": training.betas[1] if adam else 0.0,
            "comments": recipe.note,
            "architecture": str(recipe.to_dict()["spec"]),
            "parameters": recipe.spec.parameters,
            "noise": str(recipe.noise),
            "optimiser": training.optimiser,
            "seed": recipe.seed,
            "precision": self.precision,
            "folder": str(self.run.path.resolve()),
            "recipe": recipe.to_dict(),
            "recipe_sha256": recipe.sha256,
        }


class NullRecord(RunRecord):
    """Of the processes that write and tell nothing."""

    def __init__(self) -> None: ...

    @contextmanager
    def opened(self, state: TrainingState) -> Iterator[None]:
        yield

    def start(self, steps: int, facts: dict[str, str], seconds: float) -> None: ...
    def step(self, epoch: int, step: int, images_per_second: float) -> None: ...
    def best(self, state: TrainingState, validation: NoisyValidationSet, denoise: Any) -> None: ...
    def checkpoint(self, state: TrainingState) -> None: ...
    def rows(self, state: TrainingState) -> None: ...
    def epoch(self, state: TrainingState) -> None: ...
