"""The task of training a denoiser: noisy images in, clean images out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from daelab._util.config import read_toml
from daelab._util.distributed import average_values, count_processes, run_first_on_each_host, run_on_first
from daelab._util.hardware import choose_precision, collect_versions, keep_freed_memory
from daelab.datasets.base import Dataset, Images
from daelab.datasets.registry import load_dataset
from daelab.evaluation.evaluate import LossFunction, validate_denoiser
from daelab.models.build import build_network
from daelab.models.inference import copy_weights, prepare_inference
from daelab.models.layers import Network
from daelab.models.model_file import ModelMetadata, save_model
from daelab.models.normalization import ignore_batch_statistics
from daelab.runs.folder import RunFolder, get_run_folder
from daelab.runs.ledger import Ledger
from daelab.training.callbacks.progress import TrainingProgress
from daelab.training.checkpoint import BestEpoch, TrainingState
from daelab.training.checkpoint_schedule import CheckpointSchedule
from daelab.training.engine import TrainingOptions, TrainingResult, run_training
from daelab.training.loader import BatchLoader, get_shuffle_window, select_images
from daelab.training.objective import DenoisingObjective, load_named_model
from daelab.training.optimizers import WeightAverage, make_optimizer
from daelab.training.recipe import Recipe, is_classifier_recipe, load_recipe, parse_recipe
from daelab.training.schedules import compute_learning_rate
from daelab.training.seeds import derive_seed
from daelab.training.tasks.base import EpochScores, ProgressAt, TrainingTask
from daelab.training.validation import ClassifierValidation, NoisyValidationSet


def fit_denoiser(
    recipe: Recipe,
    name: str | None = None,
    *,
    resume: bool = False,
    runs_root: Path | None = None,
    data_root: str | Path | None = None,
    ledger: Ledger | None = None,
    progress: TrainingProgress | None = None,
    device: torch.device | None = None,
    download: Callable[[int, int], None] | None = None,
    dataset: Dataset | None = None,
    network: Network | None = None,
    loss: LossFunction | None = None,
    checkpoint_every: CheckpointSchedule | None = None,
) -> TrainingResult:
    """Train a denoiser by a recipe, and write all files of the training to the run's folder.

    Args:
        recipe: The recipe.
        name: The name of the run; it must be new unless `resume`. Default: `run-N` with the first unused N.
        resume: Whether to go on from the run's last checkpoint, exactly.
        runs_root: The folder of all runs. Default: $DAELAB_RUNS, or `runs`.
        data_root: The folder of downloaded data sets.
        ledger: The database in which the run is recorded. Default: the default ledger.
        progress: The observer of the training.
        device: The device. Default: a GPU if there is one.
        download: A function that is called with (bytes, all bytes) while a data set is downloaded.
        dataset: The recipe's data set, where it is loaded already.
        network: The recipe's network, where it exists already. It is trained in place.
        loss: The recipe's loss, where it is a function that was handed over.
        checkpoint_every: The interval between checkpoints. Default: after every epoch. There is always one at the end.

    Raises:
        ValueError: A mistake in the recipe or the data, or a loss that is not finite.
        TrainingInterrupted: SIGINT or SIGTERM came; the state is saved.
    """

    def make_task(device: torch.device) -> DenoisingTask:
        data = recipe.data
        images = dataset
        if images is None:
            images = run_first_on_each_host(
                lambda: load_dataset(
                    data.name,
                    data_root,
                    crop=data.crop,
                    buffer=data.buffer,
                    channels=recipe.spec.channels,
                    progress=download,
                )
            )
        return DenoisingTask(recipe, *select_images(recipe, images), device, network, loss)

    options = TrainingOptions(name, resume, runs_root, ledger, progress, device, checkpoint_every)
    return run_training(recipe, make_task, options)


def load_run_recipe(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """Return the recipe of an existing run.

    Args:
        name: The name of the run.
        overrides: Texts `a.b=value` that repeat the recipe's names of code or files, because the folder may be a
            stranger's.

    Raises:
        FileNotFoundError: There is no such run; the message lists the others.
        ValueError: The run is that of a classifier, its recipe names code or files that `overrides` do not repeat, or
            `overrides` change the recipe.
    """
    overrides = list(overrides)
    run = get_run_folder(name)
    if not run.recipe.is_file():
        names = sorted(path.parent.name for path in run.path.parent.glob("*/recipe.toml"))
        raise FileNotFoundError(f"no run {name} in {run.path.parent}; there are: {', '.join(names) or 'none'}")
    fields = read_toml(run.recipe)
    if is_classifier_recipe(fields):
        raise ValueError(f"run {name} is the training of a classifier; use daelab train-judge --resume {name}")
    recipe = load_recipe(run.recipe, overrides)
    if overrides and recipe != parse_recipe(fields, where=str(run.recipe)):
        raise ValueError(f"run {name} resumes with its own recipe; --set may only repeat what {run.recipe} names")
    return recipe


def create_training_state(recipe: Recipe, device: torch.device, network: Network | None = None) -> TrainingState:
    """Return the state of a denoiser's training before the first step, with weights from the recipe's seed.

    Args:
        recipe: The recipe.
        device: The device of the network.
        network: The network, where it exists already.
    """
    network = network or build_network(recipe.spec, derive_seed(recipe.seed, "weights"))
    network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = WeightAverage(network, recipe.training.ema) if recipe.training.ema else None
    # In float64, so that the sum over a whole epoch loses no digits.
    sums = torch.zeros((), dtype=torch.float64, device=device)
    return TrainingState(network, make_optimizer(network, recipe.training), sums, average)


class DenoisingBatch(NamedTuple):
    """This process's part of a batch."""

    clean: Tensor
    """The clean images (n, 3, H, W), float32 in [0, 1]; n may be 0."""
    noisy: Tensor
    """The network's input (n, C, H, W) for them."""
    size: int
    """Images of the whole batch, over all processes."""


class DenoisingTask(TrainingTask[DenoisingBatch]):
    """The training of a denoiser.

    Args:
        recipe: The recipe.
        train: The images to train on.
        val: The images to validate on.
        device: The device.
        network: The network, where it exists already.
        loss: The loss, where it is a function that was handed over.

    Raises:
        ValueError: Weights that the loss, the teacher or the classifier needs are missing or do not fit.
    """

    command: ClassVar[str] = "train"

    def __init__(
        self,
        recipe: Recipe,
        train: Images,
        val: Images,
        device: torch.device,
        network: Network | None = None,
        loss: LossFunction | None = None,
    ) -> None:
        """Load everything that the training needs."""
        keep_freed_memory()
        training = recipe.training
        self.recipe: Recipe = recipe
        self.device, self._network = device, network
        self.sizes = len(train), len(val)
        """Images to train and to validate on."""
        self.image_size = train.size
        """Height and width of the images, in pixels."""
        # The first process decides for all, since their hardware may differ.
        self.precision = run_on_first(lambda: choose_precision(training.precision, device))
        self.objective = DenoisingObjective(recipe, train.size, device, loss)
        self.loader = BatchLoader(train, training.batch, recipe.seed, device, get_shuffle_window(recipe))
        self.epochs, self.minutes, self.compile = training.epochs, training.minutes, training.compile
        self.learning_rate = training.lr
        self.steps, self.epoch_images = self.loader.steps, len(train)
        self.validation = NoisyValidationSet(val, recipe, device)
        self.classifier = ClassifierValidation(recipe, val, device) if recipe.judge else None
        self._denoise: Callable[[Tensor], Tensor] | None = None

    def create_state(self) -> TrainingState:
        """Return the state before the first step."""
        return create_training_state(self.recipe, self.device, self._network)

    def initialize(self, state: TrainingState) -> None:
        """Begin with the weights of the model that the recipe names, if any.

        Args:
            state: The state before the first step. Weights that the model does not have stay as they are.

        Raises:
            ValueError: There is no such model, or its architecture does not grow into the recipe's.
        """
        model = self.recipe.training.start
        if not model:
            return
        network, metadata = load_named_model("training.start", model)
        if not self.recipe.spec.can_start_from(metadata.spec):
            raise ValueError(
                f"training.start: {model} is of another architecture than the recipe's spec; "
                "a U-Net may add blocks to it, take the noise level as an input, and drop batch norms; "
                "all else must be the same"
            )
        copy_weights(network, cast(Network, state.network), self.recipe.training.renew or ())
        if state.average:
            # Otherwise the average would still begin at the random weights.
            state.average.load_state_dict(state.network.state_dict())

    def describe(self, state: TrainingState) -> dict[str, str]:
        """Return what is trained and how, for people.

        Args:
            state: Not used.
        """
        spec, (train, val), count = self.recipe.spec, self.sizes, count_processes()
        shared = {"processes": f"{count}, which share each batch of {self.recipe.training.batch}"} if count > 1 else {}
        return {
            "images": f"{train:,} to train on, {val:,} to validate on ({self.recipe.data.name})",
            "noise": str(self.recipe.noise),
            "network": f"{spec.parameters:,} parameters, {spec.macs(*self.image_size) / 1e6:.1f} M MACs per image",
            "precision": f"{self.precision} on {self.device}, threads: {torch.get_num_threads()}",
            **shared,
        }

    def describe_for_ledger(self, state: TrainingState) -> dict[str, Any]:
        """Return the columns of the ledger that are known before the first step.

        Args:
            state: Not used.
        """
        recipe = self.recipe
        training, has_betas = recipe.training, recipe.training.optimiser != "sgd"
        return {
            "batch_size": training.batch,
            "learning_rate": training.lr,
            "amsgrad": training.amsgrad,
            "train_size": self.sizes[0],
            "val_size": self.sizes[1],
            "weight_decay": training.weight_decay,
            # The paper's log has 0.0 where there are no betas.
            "beta_1": training.betas[0] if has_betas else 0.0,
            "beta_2": training.betas[1] if has_betas else 0.0,
            "architecture": str(recipe.to_dict()["spec"]),
            "parameters": recipe.spec.parameters,
            "noise": str(recipe.noise),
            "optimiser": training.optimiser,
            "seed": recipe.seed,
        }

    def load_batches(self, epoch: int, start: int, progress_at: ProgressAt) -> Iterator[DenoisingBatch]:
        """Yield this process's part of every batch of an epoch, with its noise.

        Args:
            epoch: The epoch, from 0.
            start: The first step, from 0.
            progress_at: The progress of the training at a step; a curriculum depends on it.
        """

        def transform(clean: Tensor, step: int) -> tuple[Tensor, Tensor]:
            return self.objective.transform(clean, step, progress_at(step))

        for clean, noisy, size in self.loader.pairs(
            transform, self.recipe.spec.inputs, epoch, start, self.recipe.spec.channels
        ):
            yield DenoisingBatch(clean, noisy, size)

    def compute_losses(
        self, module: nn.Module, batch: DenoisingBatch, state: TrainingState, progress: float
    ) -> Iterator[Tensor]:
        """Yield the one loss of a batch.

        Args:
            module: The network as it is trained.
            batch: This process's part of a batch.
            state: The state of the training.
            progress: The share of the training that is over, from 0 to 1.
        """
        clean, noisy, size = batch
        if len(clean):
            loss = self.objective.compute(lambda x: self._forward(module, x, progress), clean, noisy)
        else:
            # A process without images still takes part in the exchange of gradients, with an image that counts nothing.
            with ignore_batch_statistics():
                loss = self._forward(module, noisy.new_zeros(1, *noisy.shape[1:]), progress).mean()
        if count_processes() > 1:
            # The loss is the mean over the whole batch, and gradients are averaged over the processes.
            loss = loss * (count_processes() * len(clean) / size)
        yield loss
        state.sums += average_values(loss.detach()) * size

    def _forward(self, module: nn.Module, noisy: Tensor, progress: float) -> Tensor:
        exact = self.recipe.training.float32_from
        bf16 = self.precision == "bf16" and (exact is None or progress < exact)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            out: Tensor = module(noisy.contiguous(memory_format=torch.channels_last))
        return out

    def compute_learning_rate(self, step: int, progress: float) -> float:
        """Return the learning rate of the recipe's schedule.

        Args:
            step: Not used.
            progress: The share of the training that is over, from 0 to 1.
        """
        return compute_learning_rate(self.recipe.training, progress)

    def score_epoch(self, state: TrainingState, last: bool) -> EpochScores:
        """Score the network on the noisy validation images, where the recipe asks for it.

        Args:
            state: The state of the training.
            last: Whether the training ends with this epoch, which is always validated.
        """
        epoch, train_loss = len(state.rows) + 1, float(state.sums) / self.sizes[0]
        if not last and epoch % (self.recipe.training.validate_every or 1):
            return EpochScores({"train_loss": train_loss})
        # In float32: rounded to bf16, weights and the norms' statistics no longer fit each other,
        # and the loss would jump by a fifth from epoch to epoch (docs/performance.md).
        denoise = self._denoise = prepare_inference(cast(Network, state.kept), self.device)
        scores = validate_denoiser(denoise, self.validation.batches(), self.objective.criterion)
        columns = {
            "train_loss": train_loss,
            "val_loss": scores.loss,
            "val_psnr": scores.psnr,
            "val_psnr_batch": scores.psnr_batch,
        }
        if math.isfinite(scores.loss) and self.classifier and self.classifier.due(epoch):
            columns["val_f1"] = self.classifier.f1(denoise, self.validation)
        is_best = scores.loss < state.best.val_loss
        return EpochScores(columns, BestEpoch(epoch, scores.loss, scores.psnr) if is_best else None)

    def save_best(self, state: TrainingState, run: RunFolder) -> None:
        """Write best.safetensors and a few sample images.

        Args:
            state: The state of the training; its last row is the epoch's.
            run: The folder of the run.
        """
        recipe, (train, val) = self.recipe, self.sizes
        metadata = ModelMetadata(
            spec=recipe.spec,
            name=run.name,
            noise=str(recipe.noise),
            data={"name": recipe.data.name, "train": train, "val": val, "seed": recipe.seed},
            metrics={k: value for k, value in state.rows[-1].items() if k == "epoch" or k.startswith("val_")},
            training={
                "precision": self.precision,
                "device": self.device.type,
                "threads": torch.get_num_threads(),
            },
            recipe=recipe.to_dict(),
            recipe_sha256=recipe.sha256,
            versions=collect_versions(),
        )
        save_model(run.best, cast(Network, state.kept), metadata)
        assert self._denoise is not None
        self.validation.write_samples(run.samples, self._denoise, state.best.epoch)

    def summarize(self, state: TrainingState) -> dict[str, Any]:
        """Return the scores of the best epoch, in the ledger's columns.

        Args:
            state: The state of the training; it has at least one row.
        """
        if not state.best.epoch:
            return {}
        best = state.rows[state.best.epoch - 1]
        return {
            "val_loss": best["val_loss"],
            "val_psnr": best["val_psnr_batch"],
            "val_psnr_image": best["val_psnr"],
            # The classifier does not score every epoch: take the best epoch's F1, or the last one there is.
            "val_f1": next((row["val_f1"] for row in (best, *reversed(state.rows)) if "val_f1" in row), None),
        }
