"""The task of training a classifier, which scores denoised images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from daelab._util.distributed import is_first_process, run_first_on_each_host, run_on_first, sum_values
from daelab._util.hardware import choose_precision, collect_versions, keep_freed_memory
from daelab._util.tensor_file import to_half_precision
from daelab._util.work_sharing import select_share
from daelab.datasets.base import Dataset, Images
from daelab.datasets.registry import load_dataset
from daelab.evaluation.classifiers.classifier_file import INPUT_STATISTICS, ClassifierFile, ClassifierMetadata
from daelab.evaluation.classifiers.network import (
    TTA,
    ClassifierNetwork,
    ConvNet,
    average_views,
    build_classifier,
    compute_view_logits,
    count_macs,
    prepare_classifier,
)
from daelab.evaluation.classifiers.recipe import ClassifierRecipe, ClassifierTrainingConfig
from daelab.runs.folder import RunFolder, choose_run_name
from daelab.runs.ledger import Ledger
from daelab.training.callbacks.progress import TrainingProgress
from daelab.training.checkpoint import TrainingState
from daelab.training.engine import TrainingOptions, TrainingResult, find_begun_run, run_training
from daelab.training.optimizers import Lookahead, make_optimizer
from daelab.training.recipe import TrainingConfig
from daelab.training.schedules import compute_classifier_rate
from daelab.training.seeds import derive_seed
from daelab.training.tasks.base import EpochScores, ProgressAt, TrainingTask
from daelab.training.tasks.classification_images import (
    check_images,
    select_train_images,
    split_evenly,
    translate_images,
)

TEST_BATCH = 250
"""Test images that are scored at a time."""
STATISTICS_IMAGES = 8192
"""Training images from which the final statistics of the batch norms are computed."""


@dataclass(frozen=True)
class TrainedClassifier(TrainingResult):
    """A trained classifier, and the folder of its run."""

    @property
    def file(self) -> ClassifierFile:
        """The classifier and its metadata."""
        return cast(ClassifierFile, self.product)

    @property
    def path(self) -> Path:
        """The classifier's file in the run's folder."""
        return _get_classifier_path(self.run)

    def save(self, path: str | Path) -> None:
        """Write the classifier to another file, whose name becomes the classifier's.

        Args:
            path: The file, which ends in .safetensors.
        """
        path = Path(path)
        card = self.file.card.model_copy(update={"name": path.stem})
        replace(self.file, card=card).save(path)


def fit_classifier(
    recipe: ClassifierRecipe,
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
) -> TrainedClassifier:
    """Train a classifier by a recipe, and write all files of the training to the run's folder.

    The classifier learns from the training part of the data set. Its test part is used once, at the end.

    Args:
        recipe: The recipe.
        name: The name of the run; it must be new unless `resume`. Default: `judge-N` with the first unused N.
        resume: Whether to go on from the run's last checkpoint, exactly.
        runs_root: The folder of all runs. Default: $DAELAB_RUNS, or `runs`.
        data_root: The folder of downloaded data sets.
        ledger: The database in which the run is recorded. Default: the default ledger.
        progress: The observer of the training.
        device: The device. Default: a GPU if there is one.
        download: A function that is called with (bytes, all bytes) while a data set is downloaded.
        dataset: The recipe's data set, where it is loaded already.

    Raises:
        ValueError: A mistake in the recipe or the data, or a loss that is not finite.
        TrainingInterrupted: SIGINT or SIGTERM came; the state is saved.
    """

    def make_task(device: torch.device) -> ClassificationTask:
        data, images = recipe.data, dataset
        if images is None:
            images = run_first_on_each_host(
                lambda: load_dataset(data.name, data_root, crop=data.crop, progress=download)
            )
        return ClassificationTask(recipe, images, device)

    name = run_on_first(lambda: name or find_begun_run(recipe, runs_root) or choose_run_name("judge", runs_root))
    options = TrainingOptions(name, resume, runs_root, ledger, progress, device)
    return TrainedClassifier(**vars(run_training(recipe, make_task, options)))


class ClassificationBatch(NamedTuple):
    """A whole batch; each process trains on some of its parts."""

    images: Tensor
    """The images (N, 3, H, W), float32 in [0, 1]."""
    labels: Tensor
    """The places (N,) of their classes."""
    size: int
    """N."""


class ClassificationTask(TrainingTask[ClassificationBatch]):
    """The training of a classifier. All images are kept on the device as uint8.

    Args:
        recipe: The recipe.
        dataset: The recipe's data set.
        device: The device.

    Raises:
        ValueError: The data set is too small, or its images or classes do not fit.
    """

    command: ClassVar[str] = "train-judge"
    accumulates: ClassVar[bool] = True

    def __init__(self, recipe: ClassifierRecipe, dataset: Dataset, device: torch.device) -> None:
        """Copy the training images to the device."""
        keep_freed_memory()
        self.recipe: ClassifierRecipe = recipe
        self.device, self.dataset = device, dataset
        self.precision = run_on_first(lambda: choose_precision(recipe.training.precision, device))
        train = select_train_images(dataset, recipe)
        self.images = torch.from_numpy(train.batch(np.arange(len(train)))).to(device)
        self.labels = torch.from_numpy(train.labels).to(device)
        self.image_size = check_images(train, recipe)
        """Height and width of the images, in pixels."""
        self.batch = min(recipe.training.batch, len(train))
        self.steps = len(train) // self.batch
        self.epochs, self.epoch_images = recipe.training.epochs, self.steps * self.batch
        self.learning_rate = recipe.training.lr
        # Drawn once, so that every image is mirrored in each second epoch and unmirrored in the others.
        self._mirrored = np.random.default_rng(derive_seed(recipe.seed, "classifier flips")).random(len(train)) < 0.5

    def create_state(self) -> TrainingState:
        """Return the state before the first step."""
        training, seed = self.recipe.training, derive_seed(self.recipe.seed, "classifier weights")
        network = build_classifier(self.recipe.network, len(self.dataset.classes), seed).to(self.device)
        prepare_classifier(network, self.images)
        lookahead = None
        if training.lookahead:
            total = self.steps * self.epochs
            lookahead = Lookahead(network, training.lookahead, training.lookahead_decay, total)
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        optimizer = make_optimizer(
            _group_parameters(network, training),
            TrainingConfig(optimiser="sgd", lr=training.lr, momentum=training.momentum),
        )
        return TrainingState(network, optimizer, sums, lookahead)

    def describe(self, state: TrainingState) -> dict[str, str]:
        """Return what is trained and how, for people.

        Args:
            state: The state before the first step.
        """
        million = count_macs(self.recipe.network, *self.image_size) / 1e6
        return {
            "images": f"{len(self.labels):,} ({self.recipe.data.name}), {len(self.dataset.classes)} classes",
            "network": f"{_count_parameters(state):,} parameters, {million:.1f} M MACs per image",
            "precision": f"{self.precision} on {self.device}, threads: {torch.get_num_threads()}",
        }

    def describe_for_ledger(self, state: TrainingState) -> dict[str, Any]:
        """Return the columns of the ledger that are known before the first step.

        Args:
            state: The state before the first step.
        """
        recipe, training = self.recipe, self.recipe.training
        return {
            "batch_size": self.batch,
            "learning_rate": training.lr,
            "train_size": len(self.labels),
            "weight_decay": training.weight_decay,
            "architecture": f"classifier {', '.join(map(str, recipe.network.widths))}",
            "parameters": _count_parameters(state),
            "optimiser": "sgd",
            "seed": recipe.seed,
        }

    def start_epoch(self, state: TrainingState, epoch: int) -> None:
        """Let the bias of the whitening layer learn in the first epochs only.

        Args:
            state: The state of the training.
            epoch: The epoch, from 0.
        """
        if isinstance(state.network, ConvNet):
            bias = cast(Tensor, state.network.whiten.bias)
            bias.requires_grad_(epoch < self.recipe.training.whiten_bias_epochs)

    def load_batches(self, epoch: int, start: int, progress_at: ProgressAt) -> Iterator[ClassificationBatch]:
        """Yield every batch of an epoch; images that do not fill a batch are left out.

        Args:
            epoch: The epoch, from 0.
            start: The first step, from 0.
            progress_at: Not used.
        """
        rng = np.random.default_rng(derive_seed(self.recipe.seed, "classifier order", epoch))
        order = rng.permutation(len(self.labels))
        for step in range(start, self.steps):
            yield self.make_batch(order[step * self.batch : (step + 1) * self.batch], epoch * self.steps + step)

    def make_batch(self, places: NDArray[np.int64], step: int) -> ClassificationBatch:
        """Return images that are moved by some pixels and mirrored in every second epoch.

        Args:
            places: The places of the images.
            step: The step, counted from the beginning of the training.
        """
        training, epoch = self.recipe.training, step // self.steps
        chosen = torch.from_numpy(places).to(self.device)
        x = self.images[chosen].float().div_(255)
        if training.translate:
            rng = np.random.default_rng(derive_seed(self.recipe.seed, "classifier translations", step))
            x = translate_images(x, rng.integers(0, 2 * training.translate + 1, (2, len(x))), training.translate)
        if training.flips:
            mirror = torch.from_numpy(self._mirrored[places] ^ bool(epoch % 2)).to(self.device)
            x = torch.where(mirror[:, None, None, None], x.flip(-1), x)
        return ClassificationBatch(x, self.labels[chosen], len(places))

    def compute_losses(
        self, module: nn.Module, batch: ClassificationBatch, state: TrainingState, progress: float
    ) -> Iterator[Tensor]:
        """Yield the loss of each part of a batch that belongs to this process.

        Args:
            module: The network.
            batch: The whole batch.
            state: The state of the training.
            progress: Not used.
        """
        training, sums = self.recipe.training, torch.zeros_like(state.sums)
        parts = zip(split_evenly(batch.images, training.part), split_evenly(batch.labels, training.part), strict=True)
        # The region spans all parts, so that the weights are converted to bf16 once and not for every part.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            for images, labels in select_share(parts):
                logits = module(images)
                # A sum, divided by the whole batch, since parts may differ in size and must add up to the mean.
                loss = F.cross_entropy(logits, labels, label_smoothing=training.label_smoothing, reduction="sum")
                yield loss / batch.size
                correct = (logits.detach().argmax(1) == labels).sum()
                sums += torch.stack([loss.detach().double(), correct.double()])
        state.sums += sum_values(sums)

    def compute_learning_rate(self, step: int, progress: float) -> float:
        """Return the share of the peak learning rate; the groups' scales hold the peak.

        Args:
            step: Not used.
            progress: The share of the training that is over, from 0 to 1.
        """
        return compute_classifier_rate(self.recipe.training, progress)

    def score_epoch(self, state: TrainingState, last: bool) -> EpochScores:
        """Return the loss and the accuracy on the training images; there is no validation.

        Args:
            state: The state of the training.
            last: Not used.
        """
        loss, correct = state.sums.tolist()
        return EpochScores({"train_loss": loss / self.epoch_images, "train_accuracy": correct / self.epoch_images})

    def finish(self, state: TrainingState, run: RunFolder, report: Callable[[int, int], None]) -> ClassifierFile:
        """Round the weights to what is stored, score the test images with them, and write the classifier's file.

        Args:
            state: The state at the end of the training.
            run: The folder of the run.
            report: A function that is called with (scored test images, all test images).
        """
        recipe, test = self.recipe, self.dataset.test
        network = cast(ClassifierNetwork, state.network).requires_grad_(False)
        self._compute_statistics(network)
        network.load_state_dict(to_half_precision(network.state_dict(), INPUT_STATISTICS))
        metadata = ClassifierMetadata(
            name=run.name,
            network=recipe.network,
            classes=self.dataset.classes,
            size=self.image_size,
            tta=recipe.tta,
            seed=recipe.seed,
            data={"name": recipe.data.name, "train": len(self.labels), "test": len(test)},
            metrics={"test": self._score_test_images(network, test, report)},
            training={
                "epochs": len(state.rows),
                "seconds": round(state.seconds, 1),
                "precision": self.precision,
                "device": self.device.type,
                "threads": torch.get_num_threads(),
                "train_accuracy": state.rows[-1]["train_accuracy"],
            },
            recipe=recipe.to_dict(),
            recipe_sha256=recipe.sha256,
            versions=collect_versions(),
        )
        file = ClassifierFile(network, metadata)
        if is_first_process():
            file.save(_get_classifier_path(run))
        return file

    def _compute_statistics(self, network: ClassifierNetwork) -> None:
        """Compute the statistics of the batch norms anew, with the final weights, from unchanged training images."""
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.reset_running_stats()
                # None: the plain mean over all parts
                norm.momentum = None
        rng = np.random.default_rng(derive_seed(self.recipe.seed, "classifier statistics"))
        places = torch.from_numpy(rng.permutation(len(self.labels))[:STATISTICS_IMAGES]).to(self.device)
        network.train()
        for part in split_evenly(places, self.recipe.training.part):
            compute_view_logits(network, self.images[part].float().div_(255), 1, self.precision)
        network.eval()

    def _score_test_images(
        self, network: ClassifierNetwork, test: Images, report: Callable[[int, int], None]
    ) -> dict[str, Any]:
        """Return the accuracy on the test images with each kind of test-time augmentation."""
        correct = dict.fromkeys(TTA, 0)
        views = max(map(len, TTA.values()))
        for start in range(0, len(test), TEST_BATCH):
            places = np.arange(start, min(start + TEST_BATCH, len(test)))
            x = torch.from_numpy(test.batch(places)).to(self.device).float().div_(255)
            logits = compute_view_logits(network, x, views, self.precision)
            labels = torch.from_numpy(test.labels[places]).to(self.device)
            for tta in TTA:
                correct[tta] += int((average_views(logits, tta).argmax(1) == labels).sum())
            report(int(places[-1]) + 1, len(test))
        return {"images": len(test), "accuracy": {tta: count / len(test) for tta, count in correct.items()}}


def _group_parameters(network: ClassifierNetwork, training: ClassifierTrainingConfig) -> list[dict[str, Any]]:
    """Separate the biases of the norms, which learn faster, from all other weights that learn."""
    biases = [p for name, p in network.named_parameters() if "norm" in name and name.endswith("bias")]
    places = {id(p) for p in biases}
    others = [p for p in network.parameters() if p.requires_grad and id(p) not in places]
    # SGD multiplies the decay by the rate. Divided by the scale, it is equally strong in both groups.
    return [
        {"params": values, "scale": training.lr * scale, "weight_decay": training.weight_decay / scale}
        for values, scale in ((others, 1.0), (biases, training.bias_scale))
    ]


def _count_parameters(state: TrainingState) -> int:
    return sum(parameter.numel() for parameter in state.network.parameters())


def _get_classifier_path(run: RunFolder) -> Path:
    return run.path / "judge.safetensors"
