"""train(recipe, data, folder): a judge from a recipe; resumes exactly.

No random state is kept: the order of an epoch follows from (seed, epoch), the translations of
a step from (seed, step), the mirror images from (seed, epoch).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from daelab._util.files import write_text
from daelab._util.hardware import choose_device, choose_precision, collect_versions, keep_freed_memory
from daelab._util.tensor_file import to_half_precision
from daelab.datasets.base import Dataset, Images
from daelab.evaluation.classifiers.classifier_file import INPUT_STATISTICS, ClassifierFile, ClassifierMetadata
from daelab.evaluation.classifiers.network import (
    TTA,
    ConvNet,
    average_views,
    build_classifier,
    compute_view_logits,
    count_macs,
)
from daelab.evaluation.classifiers.recipe import ClassifierRecipe
from daelab.training.tasks.classification_state import (
    ClassifierTrainingState,
    classifier_learning_rate,
    make_classifier_optimizer,
)

TEST_BATCH = 250
SETTLE = 8192
"""Images that the final statistics of batch norms are taken of."""
_PURPOSES = {"subset": 0, "weights": 1, "order": 2, "flips": 3, "moves": 4, "settle": 5}


class ClassifierProgress(Protocol):
    """What a training tells whoever watches."""

    def start(self, run: str, epochs: int, steps: int, facts: dict[str, str]) -> None:
        """Before the first step."""

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        """After a step; both count from 1."""

    def epoch(self, row: dict[str, float]) -> None:
        """After an epoch: epoch, learning_rate, train_loss, train_accuracy, seconds, images_per_second."""

    def test(self, done: int, images: int) -> None:
        """While the finished judge answers the test images."""


class SilentClassifierProgress:
    """Tells nobody."""

    def start(self, run: str, epochs: int, steps: int, facts: dict[str, str]) -> None: ...
    def step(self, epoch: int, step: int, images_per_second: float) -> None: ...
    def epoch(self, row: dict[str, float]) -> None: ...
    def test(self, done: int, images: int) -> None: ...


class TrainingStopped(Exception):
    """`stop` said so; the state is saved."""


def fit_classifier(
    recipe: ClassifierRecipe,
    data: Dataset,
    folder: Path,
    *,
    resume: bool = False,
    device: torch.device | None = None,
    progress: ClassifierProgress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> ClassifierFile:
    """Train a judge; writes recipe.toml, checkpoint.safetensors and judge.safetensors into a folder.

    Args:
        data: its training part is learnt, its test part looked at once, at the end.
        folder: of the run.
        resume: go on from the folder's checkpoint, where there is one.
        stop: asked after every batch.

    Raises:
        ValueError: a mistake in the recipe or the data, or a loss that is no longer a number.
        Stopped: `stop` said so; the state is saved.
    """
    trainer = ClassifierTrainer(
        recipe, data, folder, device or choose_device(), progress or SilentClassifierProgress(), stop
    )
    checkpoint = folder / "checkpoint.safetensors"
    if resume and checkpoint.is_file():
        trainer.state.restore(checkpoint, recipe)
    write_text(folder / "recipe.toml", recipe.to_toml())
    trainer.train()
    return trainer.finish(data.test)


class ClassifierTrainer:
    """A recipe, its images on the device as uint8, and the steps that change the state."""

    def __init__(
        self,
        recipe: ClassifierRecipe,
        data: Dataset,
        folder: Path,
        device: torch.device,
        progress: ClassifierProgress,
        stop: Callable[[], bool],
    ) -> None:
        keep_freed_memory()
        self.recipe, self.folder, self.device = recipe, folder, device
        self.progress, self.stop = progress, stop
        self.precision = choose_precision(recipe.training.precision, device)
        self.data, part = data, _part(data, recipe)
        self.images = torch.from_numpy(part.batch(np.arange(len(part)))).to(device)
        self.labels = torch.from_numpy(part.labels).to(device)
        self.size = _checked(part, recipe)
        self.batch = min(recipe.training.batch, len(part))
        self.steps = len(part) // self.batch
        self.state = self._fresh()

    def _fresh(self) -> ClassifierTrainingState:
        """The state before the first step."""
        network = build_classifier(
            self.recipe.network, len(self.data.classes), derive_classifier_seed(self.recipe.seed, "weights")
        )
        network = network.to(self.device)
        network.prepare(self.images)
        floats = {name: t.clone() for name, t in network.state_dict().items() if t.is_floating_point()}
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        return ClassifierTrainingState(network, make_classifier_optimizer(network, self.recipe.training), floats, sums)

    def train(self) -> None:
        """Go on from the state to the recipe's end."""
        state, epochs = self.state, self.recipe.training.epochs
        self.progress.start(self.folder.name, epochs, self.steps, self.facts())
        while len(state.rows) < epochs:
            self._epoch()
            if not bool(state.sums.isfinite().all()):
                epoch, lr = len(state.rows) + 1, self.recipe.training.lr
                raise ValueError(f"epoch {epoch}: the loss is no number; try a lower training.lr than {lr:g}")
            if state.step == (len(state.rows) + 1) * self.steps:
                self._finish_epoch()
            state.save(self.folder / "checkpoint.safetensors", self.recipe)
            if self.stop():
                raise TrainingStopped

    def facts(self) -> dict[str, str]:
        """What is trained and how, for people."""
        count = sum(parameter.numel() for parameter in self.state.network.parameters())
        million = count_macs(self.recipe.network, *self.size) / 1e6
        return {
            "images": f"{len(self.labels):,} ({self.recipe.data.name}), {len(self.data.classes)} classes",
            "network": f"{count:,} parameters, {million:.1f} M MACs per image",
            "precision": f"{self.precision} on {self.device}, {torch.get_num_threads()} threads",
        }

    def _epoch(self) -> None:
        """The steps of the present epoch that are left; stops after a batch when it is told to."""
        state, training, seed = self.state, self.recipe.training, self.recipe.seed
        epoch = len(state.rows)
        state.network.train()
        bias = state.network.whiten.bias
        assert bias is not None
        bias.requires_grad_(epoch < training.whiten_bias_epochs)
        order = np.random.default_rng(derive_classifier_seed(seed, "order", epoch)).permutation(len(self.labels))
        began, before, images = time.perf_counter(), state.epoch_seconds, 0
        for step in range(state.step - epoch * self.steps, self.steps):
            self._step(order[step * self.batch : (step + 1) * self.batch], epoch)
            images += self.batch
            state.epoch_seconds = before + time.perf_counter() - began
            self.progress.step(epoch + 1, step + 1, images / (state.epoch_seconds - before))
            if self.stop():
                break

    def _step(self, chosen: NDArray[np.int64], epoch: int) -> None:
        state, training = self.state, self.recipe.training
        x, labels = self._augmented(chosen, epoch), self.labels[torch.from_numpy(chosen).to(self.device)]
        state.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            for part, wanted in zip(_parts(x, training.part), _parts(labels, training.part), strict=True):
                logits = state.network(part)
                loss = F.cross_entropy(logits, wanted, label_smoothing=training.label_smoothing, reduction="sum")
                (loss / len(chosen)).backward()  # type: ignore[no-untyped-call]
                right = (logits.detach().argmax(1) == wanted).sum()
                state.sums += torch.stack([loss.detach().double(), right.double()])
        total = self.steps * training.epochs
        for group in state.optimiser.param_groups:
            group["lr"] = group["scale"] * classifier_learning_rate(training, state.step / total)
        state.optimiser.step()
        state.step += 1
        if training.lookahead and state.step == total:
            state.synthesise(1.0)
        elif training.lookahead and state.step % training.lookahead == 0:
            state.synthesise(training.lookahead_decay * (state.step / total) ** 3)

    def _augmented(self, chosen: NDArray[np.int64], epoch: int) -> Tensor:
        """(B, 3, H, W) in [0, 1]: moved by some pixels, mirrored in every second epoch."""
        training, seed = self.recipe.training, self.recipe.seed
        x = self.images[torch.from_numpy(chosen).to(self.device)].float().div_(255)
        if training.translate:
            rng = np.random.default_rng(derive_classifier_seed(seed, "moves", self.state.step))
            x = translate_images(x, rng.integers(0, 2 * training.translate + 1, (2, len(x))), training.translate)
        if training.flips:
            first = np.random.default_rng(derive_classifier_seed(seed, "flips")).random(len(self.labels)) < 0.5
            mirror = torch.from_numpy(first[chosen] ^ bool(epoch % 2)).to(self.device)
            x = torch.where(mirror[:, None, None, None], x.flip(-1), x)
        return x

    def _finish_epoch(self) -> None:
        state, images = self.state, self.steps * self.batch
        loss, right = state.sums.tolist()
        row = {
            "epoch": len(state.rows) + 1,
            "learning_rate": self.recipe.training.lr
            * classifier_learning_rate(self.recipe.training, state.step / (self.steps * self.recipe.training.epochs)),
            "train_loss": loss / images,
            "train_accuracy": right / images,
            "seconds": round(state.epoch_seconds, 3),
            "images_per_second": round(images / state.epoch_seconds, 1),
        }
        state.rows.append(row)
        state.seconds += row["seconds"]
        state.epoch_seconds = 0.0
        state.sums.zero_()
        self.progress.epoch(row)

    def finish(self, test: Images) -> ClassifierFile:
        """Round to what ships, answer the test images with it, write the file."""
        recipe, state = self.recipe, self.state
        network = state.network.requires_grad_(False)
        self._settle(network)
        network.load_state_dict(to_half_precision(network.state_dict(), INPUT_STATISTICS))
        card = ClassifierMetadata(
            name=self.folder.name,
            network=recipe.network,
            classes=self.data.classes,
            size=self.size,
            tta=recipe.tta,
            seed=recipe.seed,
            data={"name": recipe.data.name, "train": len(self.labels), "test": len(test)},
            metrics={"test": self._tested(network, test)},
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
        made = ClassifierFile(network, card)
        made.save(self.folder / "judge.safetensors")
        return made

    def _settle(self, network: ConvNet) -> None:
        """Take the batch norms' statistics anew, with the last weights, of training images as they are."""
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean over parts
        order = np.random.default_rng(derive_classifier_seed(self.recipe.seed, "settle")).permutation(len(self.labels))
        network.train()
        for places in _parts(torch.from_numpy(order[:SETTLE]).to(self.device), self.recipe.training.part):
            compute_view_logits(network, self.images[places].float().div_(255), 1, self.precision)
        network.eval()

    def _tested(self, network: ConvNet, test: Images) -> dict[str, Any]:
        """Accuracy on the test images under each test-time augmentation."""
        right = dict.fromkeys(TTA, 0)
        most = max(map(len, TTA.values()))
        for start in range(0, len(test), TEST_BATCH):
            places = np.arange(start, min(start + TEST_BATCH, len(test)))
            x = torch.from_numpy(test.batch(places)).to(self.device).float().div_(255)
            logits = compute_view_logits(network, x, most, self.precision)
            labels = torch.from_numpy(test.labels[places]).to(self.device)
            for tta in TTA:
                right[tta] += int((average_views(logits, tta).argmax(1) == labels).sum())
            self.progress.test(int(places[-1]) + 1, len(test))
            if self.stop():
                raise TrainingStopped
        return {"images": len(test), "accuracy": {tta: count / len(test) for tta, count in right.items()}}


def derive_classifier_seed(seed: int, purpose: str, number: int = 0) -> int:
    """A seed of its own for a purpose and a number, 0 to 2**63 - 1."""
    words = np.random.SeedSequence([seed, _PURPOSES[purpose], number]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def translate_images(x: Tensor, corners: NDArray[np.int64], reach: int) -> Tensor:
    """Each image moved over a reflected border of `reach` pixels.

    Args:
        corners: (2, N), top and left of each image in its padded one, 0 to 2 * reach.
    """
    height, width = x.shape[-2:]
    windows = F.pad(x, (reach,) * 4, "reflect").unfold(2, height, 1).unfold(3, width, 1)
    top, left = torch.from_numpy(corners).to(x.device)
    moved: Tensor = windows[torch.arange(len(x), device=x.device), :, top, left]
    return moved


def _part(data: Dataset, recipe: ClassifierRecipe) -> Images:
    """The training images: all, or the first of a seeded permutation."""
    wanted, there = recipe.data.train, len(data.train)
    if wanted is None:
        return data.train
    if wanted > there:
        raise ValueError(f"data.train is {wanted:,}, but {recipe.data.name} has {there:,} training images")
    order = np.random.default_rng(derive_classifier_seed(recipe.seed, "subset")).permutation(there)
    return data.train.take(order[:wanted])


def _checked(part: Images, recipe: ClassifierRecipe) -> tuple[int, int]:
    """The images' size, if the network fits them."""
    least = 2 ** len(recipe.network.widths) + recipe.network.kernel - 1
    if min(part.size) < least:
        size = "x".join(map(str, part.size))
        raise ValueError(f"{recipe.data.name}: images of {size}; a network of this depth needs {least} pixels a side")
    if len(part.classes) < 2:
        raise ValueError(f"{recipe.data.name}: a judge needs at least 2 classes")
    if recipe.training.translate >= min(part.size):
        raise ValueError(f"training.translate is {recipe.training.translate}, as much as an image is wide")
    return part.size


def _parts(x: Tensor, size: int) -> list[Tensor]:
    """Slices of about `size`, none so small that batch norm could not tell a variance."""
    return list(torch.tensor_split(x, max(1, round(len(x) / size))))
