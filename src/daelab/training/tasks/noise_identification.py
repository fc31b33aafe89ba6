"""The task of training the network that identifies noise, on clean pictures to which noise of every family is added."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from daelab._util.config import ConfigDocument
from daelab._util.hardware import collect_versions
from daelab.datasets.registry import load_dataset
from daelab.denoising.noise_identification.families import FAMILIES
from daelab.denoising.noise_identification.network import (
    SURE,
    TARGETS,
    NoiseEstimator,
    NoiseIdentifier,
    decode_effects,
    encode_effects,
)
from daelab.evaluation.f1 import confusion_matrix
from daelab.runs.folder import RunFolder
from daelab.runs.ledger import Ledger
from daelab.training.checkpoint import TrainingState
from daelab.training.checkpoint_schedule import CheckpointSchedule
from daelab.training.engine import TrainingOptions, run_training
from daelab.training.optimizers import make_optimizer
from daelab.training.recipe import TrainingConfig
from daelab.training.schedules import compute_one_cycle
from daelab.training.tasks.base import EpochScores, ProgressAt, TrainingTask
from daelab.training.tasks.noise_examples import (
    BATCH,
    CROP,
    ExampleCounter,
    ExampleProgress,
    NoiseExamples,
    join_examples,
    make_examples,
)

EXAMPLES = 60_000
"""Training examples, where no other number is given."""
TEST = 2_000
"""Examples from each data set's test part that score the finished network."""
EPOCHS = 60
"""Epochs of the training."""
TRAINING_BATCH = 256
"""Examples of a training step."""
LEARNING_RATE = 3e-3
"""The peak learning rate."""
_WEIGHTS = (0.5, 2.0, 4.0)
"""Weights of the errors in the level's logarithm, the gain and the offset, beside the cross entropy of the family."""


class NoiseIdentificationRecipe(ConfigDocument):
    """The recipe of a noise identification."""

    data: tuple[str, ...]
    """The data sets, whose examples are equally many."""
    examples: Annotated[int, Field(ge=BATCH)] = EXAMPLES
    """Training examples."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The seed of the examples, the weights and the order."""


def train_noise_identifier(
    names: Sequence[str],
    data_root: str | Path | None = None,
    *,
    examples: int = EXAMPLES,
    seed: int = 0,
    progress: ExampleProgress | None = None,
) -> NoiseIdentifier:
    """Train a noise identification, and score it on the test parts of the data sets.

    Args:
        names: The data sets, as `load_dataset` takes them.
        data_root: The folder of downloaded data sets.
        examples: Training examples, equally many from each data set.
        seed: The seed of the examples, the weights and the order.
        progress: A function that is called with (finished examples, all examples).

    Raises:
        ValueError: A data set is unknown or missing, or there are too few examples.
    """
    if examples < BATCH or not names:
        raise ValueError(f"a noise identification needs a data set and at least {BATCH} examples, not {examples}")
    sets = {name: load_dataset(name, data_root, crop=CROP) for name in names}
    each = -(-examples // (BATCH * len(sets))) * BATCH
    counter = ExampleCounter((each + min(TEST, each)) * len(sets), progress)
    parts = [
        make_examples(dataset.train, each, seed, f"train {place}", counter)
        for place, dataset in enumerate(sets.values())
    ]
    estimator = fit_estimator(join_examples(parts), seed, tuple(sets))
    tests = {}
    for place, (name, dataset) in enumerate(sets.items()):
        test = make_examples(dataset.test, min(TEST, each), seed, f"test {place}", counter)
        # The metadata must not tell where on the disk a folder was.
        label = f"folder of {len(dataset.train) + len(dataset.test):,}" if ":" in name else name
        tests[label] = score_estimator(estimator, test)
    metadata = {"examples": each * len(sets), "seed": seed, "test": tests, "versions": collect_versions()}
    return NoiseIdentifier(estimator, metadata)


def fit_estimator(examples: NoiseExamples, seed: int, names: tuple[str, ...] = ()) -> NoiseEstimator:
    """Train the network on examples, in a temporary run that leaves nothing behind.

    Args:
        examples: The training examples.
        seed: The seed of the weights and the order.
        names: The data sets that the examples are from.

    Raises:
        TrainingInterrupted: A signal ended the training.
    """
    recipe = NoiseIdentificationRecipe(data=names, examples=max(BATCH, len(examples.family)), seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingOptions(
            "noise-identification",
            runs_root=Path(folder),
            ledger=Ledger(f"sqlite:///{folder}/ledger.db"),
            device=torch.device("cpu"),
            # A temporary run is never resumed, so one checkpoint at the end is enough.
            checkpoint_every=CheckpointSchedule(EPOCHS),
        )
        result = run_training(recipe, lambda device: NoiseIdentificationTask(recipe, examples, device), options)
    return cast(NoiseEstimator, result.product)


class NoiseIdentificationBatch(NamedTuple):
    """The places of the examples of a step."""

    places: Tensor
    """The places (N,), int64."""
    size: int
    """N."""


class NoiseIdentificationTask(TrainingTask[NoiseIdentificationBatch]):
    """The training of a noise identification on examples that exist already.

    Args:
        recipe: The recipe.
        examples: The training examples.
        device: The device.
    """

    command: ClassVar[str] = ""

    def __init__(self, recipe: NoiseIdentificationRecipe, examples: NoiseExamples, device: torch.device) -> None:
        """Encode what the network is to predict."""
        self.recipe: NoiseIdentificationRecipe = recipe
        self.examples, self.device, self.precision = examples, device, "float32"
        self.targets = encode_effects(examples.effect)
        self.epochs, self.learning_rate = EPOCHS, LEARNING_RATE
        self.epoch_images = len(examples.family)
        self.steps = -(-self.epoch_images // TRAINING_BATCH)
        self._generator = torch.Generator().manual_seed(recipe.seed)
        self._orders = 0

    def create_state(self) -> TrainingState:
        """Return the state before the first step."""
        # The global generator of the caller stays as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            estimator = NoiseEstimator()
        estimator.mean.copy_(self.examples.seen.mean(0))
        # A feature that hardly varies must not lead to a division by zero.
        estimator.scale.copy_(self.examples.seen.std(0).clamp_min(1e-3))
        training = TrainingConfig(optimiser="adamw", lr=LEARNING_RATE, weight_decay=1e-2)
        # Not fused: the fused kernel rounds differently from the one that trained the shipped network.
        optimizer = make_optimizer(estimator, training, fused=False)
        return TrainingState(estimator, optimizer, torch.zeros((), dtype=torch.float64))

    def describe(self, state: TrainingState) -> dict[str, str]:
        """Return what is trained, for people.

        Args:
            state: Not used.
        """
        return {"examples": f"{self.epoch_images:,} ({', '.join(self.recipe.data)})"}

    def describe_for_ledger(self, state: TrainingState) -> dict[str, Any]:
        """Return the columns of the ledger that are known before the first step.

        Args:
            state: Not used.
        """
        return {
            "batch_size": TRAINING_BATCH,
            "learning_rate": LEARNING_RATE,
            "train_size": self.epoch_images,
            "optimiser": "adamw",
            "seed": self.recipe.seed,
        }

    def load_batches(self, epoch: int, start: int, progress_at: ProgressAt) -> Iterator[NoiseIdentificationBatch]:
        """Yield the batches of an epoch.

        Args:
            epoch: The epoch, from 0; not before that of an earlier call.
            start: The first step, from 0.
            progress_at: Not used.
        """
        # One generator draws the orders of all epochs: those of earlier epochs are drawn too when a run is resumed.
        order = torch.empty(0, dtype=torch.int64)
        while self._orders <= epoch:
            order = torch.randperm(self.epoch_images, generator=self._generator)
            self._orders += 1
        for places in torch.split(order, TRAINING_BATCH)[start:]:
            yield NoiseIdentificationBatch(places, len(places))

    def compute_losses(
        self, module: nn.Module, batch: NoiseIdentificationBatch, state: TrainingState, progress: float
    ) -> Iterator[Tensor]:
        """Yield the loss of a batch: cross entropy of the families, and weighted absolute errors of their effects.

        Args:
            module: The network.
            batch: The batch.
            state: The state of the training.
            progress: Not used.
        """
        scores, values = module(self.examples.seen[batch.places])
        errors = (values - self.targets[batch.places]).abs().mean(0)
        loss = F.cross_entropy(scores, self.examples.family[batch.places]) + (errors * torch.tensor(_WEIGHTS)).sum()
        yield loss
        state.sums += loss.detach() * batch.size

    def compute_learning_rate(self, step: int, progress: float) -> float:
        """Return the learning rate of a step.

        Args:
            step: The step, from 0.
            progress: Not used.
        """
        return compute_one_cycle(step, self.steps * self.epochs, LEARNING_RATE)[0]

    def set_rates(self, optimizer: torch.optim.Optimizer, step: int, progress: float) -> None:
        """Set the learning rate and the momentum of a step.

        Args:
            optimizer: The optimizer.
            step: The step, from 0.
            progress: The share of the training that is over, from 0 to 1.
        """
        rate, momentum = compute_one_cycle(step, self.steps * self.epochs, LEARNING_RATE)
        for group in optimizer.param_groups:
            group["lr"], group["betas"] = rate, (momentum, *group["betas"][1:])

    def score_epoch(self, state: TrainingState, last: bool) -> EpochScores:
        """Return the loss on the training examples; there is no validation.

        Args:
            state: The state of the training.
            last: Not used.
        """
        return EpochScores({"train_loss": float(state.sums) / self.epoch_images})

    def finish(self, state: TrainingState, run: RunFolder, report: Callable[[int, int], None]) -> NoiseEstimator:
        """Return the finished network.

        Args:
            state: The state at the end of the training.
            run: Not used.
            report: Not used.
        """
        return cast(NoiseEstimator, state.network).eval().requires_grad_(False)


def score_estimator(estimator: NoiseEstimator, examples: NoiseExamples) -> dict[str, Any]:
    """Return accuracy, confusion table and mean absolute errors of a network.

    Args:
        estimator: The network.
        examples: Examples that it was not trained on.
    """
    scores, values = estimator(examples.seen)
    predictions = scores.argmax(1)
    confidence = scores.softmax(1).amax(1)
    errors = (decode_effects(values) - examples.effect).abs().mean(0)
    table = confusion_matrix(examples.family.numpy(), predictions.numpy(), len(FAMILIES))
    correct = predictions == examples.family
    return {
        "examples": len(predictions),
        "accuracy": float(correct.float().mean()),
        "accuracy_where_sure": float(correct[confidence >= SURE].float().mean()),
        "share_sure": float((confidence >= SURE).float().mean()),
        "mean_absolute_error": dict(zip(TARGETS, errors.tolist(), strict=True)),
        "confusion": table.tolist(),
    }
