"""fit(recipe): the one loop."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import cast

import torch
from torch import Tensor, nn

from daelab._util.distributed import (
    average_values,
    count_processes,
    detect_lost_process,
    gather_values,
    get_group_id,
    is_first_process,
    run_first_on_each_host,
    run_on_first,
    wrap_data_parallel,
)
from daelab._util.hardware import choose_device, choose_precision, keep_freed_memory
from daelab.datasets.base import Dataset, Images
from daelab.datasets.registry import load_dataset
from daelab.evaluation.evaluate import validate_denoiser
from daelab.models.layers import prepare_inference
from daelab.models.normalization import ignore_batch_statistics
from daelab.runs.folder import RunFolder, choose_run_name, find_runs_of_group, get_run_folder
from daelab.runs.ledger import Ledger
from daelab.training.callbacks.record import (
    NullRecord,
    RunRecord,
    SilentProgress,
    TrainingInterrupted,
    TrainingProgress,
)
from daelab.training.checkpoint import BestEpoch, create_training_state
from daelab.training.checkpoint_schedule import CheckpointSchedule
from daelab.training.loader import BatchLoader, get_shuffle_window, select_images
from daelab.training.objective import DenoisingObjective
from daelab.training.optimizers import compute_learning_rate
from daelab.training.recipe import Recipe, load_recipe
from daelab.training.validation import ClassifierValidation, NoisyValidationSet


@dataclass(frozen=True)
class TrainingResult:
    """What a finished training gives."""

    run: RunFolder
    rows: list[dict[str, float]]
    best: BestEpoch
    seconds: float


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
    checkpoint_every: CheckpointSchedule | None = None,
) -> TrainingResult:
    """Train a network by a recipe; everything it makes goes into the run's folder.

    Args:
        name: of the run; must be new unless `resume`.
        resume: go on from the run's last checkpoint, exactly.
        ledger: where the run is recorded; None for the default one.
        download: progress of a data set's download, in bytes.
        dataset: the recipe's, where it is loaded already.
        checkpoint_every: None for after every epoch. At the end there is always one.

    Raises:
        ValueError: a mistake in the recipe or the data, or a loss that is no longer a number.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    run, resume = run_on_first(lambda: _open(recipe, name, resume, runs_root))
    ledger = (ledger or Ledger()) if is_first_process() else None
    device = device or choose_device()
    if dataset is None:
        dataset = run_first_on_each_host(
            lambda: load_dataset(
                recipe.data.name, data_root, crop=recipe.data.crop, buffer=recipe.data.buffer, progress=download
            )
        )
    trainer = DenoiserTrainer(
        recipe, run, *select_images(recipe, dataset), device, checkpoint_every or CheckpointSchedule()
    )
    if resume and run_on_first(run.checkpoint.is_file):
        trainer.state.restore(run.checkpoint, recipe)
    elif recipe.training.start:
        trainer.state.begin_from(recipe.training.start)
    books = (recipe, run, trainer.sizes, trainer.precision, device)
    record = RunRecord(*books, ledger, progress or SilentProgress()) if ledger else NullRecord()
    gone = f"another process of this training has gone; go on with: daelab train --resume {run.name}"
    with record.opened(trainer.state), detect_lost_process(gone):
        trainer.train(record)
    return TrainingResult(run, trainer.state.rows, trainer.state.best, trainer.state.seconds)


def load_run_recipe(name: str, runs_root: Path | None = None) -> Recipe:
    """The recipe of a run that exists.

    Raises:
        FileNotFoundError: there is no such run; lists those there are.
    """
    run = get_run_folder(name, runs_root)
    if not run.recipe.is_file():
        there = sorted(path.parent.name for path in run.path.parent.glob("*/recipe.toml"))
        raise FileNotFoundError(f"no run {name} in {run.path.parent}; there are: {', '.join(there) or 'none'}")
    return load_recipe(run.recipe)


def find_begun_run(recipe: Recipe, runs_root: Path | None = None) -> str | None:
    """The run of this recipe that this group of processes began, before torchrun started it again; None for none."""
    names = find_runs_of_group(get_group_id(), runs_root)
    return next((name for name in names if load_run_recipe(name, runs_root).sha256 == recipe.sha256), None)


def _open(recipe: Recipe, name: str | None, resume: bool, runs_root: Path | None) -> tuple[RunFolder, bool]:
    """A run's folder, and whether it goes on."""
    run = get_run_folder(name or choose_run_name("run", runs_root), runs_root)
    if run.recipe.exists() and not resume:
        if find_begun_run(recipe, runs_root) != run.name:
            raise ValueError(f"run {name} exists in {run.path}; go on with --resume {name}, or take another --name")
        resume = True
    if resume:
        run.clear()
    return run, resume


class DenoiserTrainer:
    """A recipe, its images and its state, and the steps that change the state."""

    def __init__(
        self,
        recipe: Recipe,
        run: RunFolder,
        train: Images,
        val: Images,
        device: torch.device,
        every: CheckpointSchedule,
    ) -> None:
        keep_freed_memory()
        self.recipe, self.run, self.device = recipe, run, device
        self.every, self.saved = every, time.monotonic()
        self.sizes = len(train), len(val)
        self.precision = run_on_first(lambda: choose_precision(recipe.training.precision, device))
        self.lesson = DenoisingObjective(recipe, train.size, device)
        self.feed = BatchLoader(train, recipe.training.batch, recipe.seed, device, get_shuffle_window(recipe))
        self.state = create_training_state(recipe, device)
        compiled = torch.compile(self.state.network) if recipe.training.compile else self.state.network
        self.module = wrap_data_parallel(cast(nn.Module, compiled))
        self.validation = NoisyValidationSet(val, recipe, device)
        self.referee = ClassifierValidation(recipe, val, device) if recipe.judge else None
        self.size = train.size

    def forward(self, network: nn.Module, x: Tensor) -> Tensor:
        """Denoised images, in the precision of this point of the run."""
        exact = self.recipe.training.float32_from
        bf16 = self.precision == "bf16" and (exact is None or self._progress() < exact)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            out: Tensor = network(x.contiguous(memory_format=torch.channels_last))
        return out

    def train(self, record: RunRecord) -> None:
        """Go on from the state to the recipe's end."""
        state, epochs = self.state, self.recipe.training.epochs
        record.start(self.feed.steps, self.facts(), self._time_left())
        if state.rows:  # a kill after the last checkpoint may have left them behind it, and no epoch may be left
            record.rows(state)
        with catch_signals() as caught:
            while len(state.rows) < epochs and self._time_left() > 0:
                signum = self._epoch(record, caught)
                if not bool(state.loss_sum.isfinite()):
                    raise ValueError(self._diverged())
                if signum:
                    self._save(record)
                    raise TrainingInterrupted(self.run.name, signum)
                self._finish_epoch(record)

    def facts(self) -> dict[str, str]:
        """What is trained and how, for people."""
        spec, (train, val), count = self.recipe.spec, self.sizes, count_processes()
        shared = {"processes": f"{count}, which share each batch of {self.recipe.training.batch}"} if count > 1 else {}
        return {
            "images": f"{train:,} to train on, {val:,} to validate on ({self.recipe.data.name})",
            "noise": str(self.recipe.noise),
            "network": f"{spec.parameters:,} parameters, {spec.macs(*self.size) / 1e6:.1f} M MACs per image",
            "precision": f"{self.precision} on {self.device}, {torch.get_num_threads()} threads",
            **shared,
        }

    def _epoch(self, record: RunRecord, caught: list[int]) -> int:
        """The steps of the present epoch that are left; stops after a batch when a signal came, which it gives."""
        state, steps = self.state, self.feed.steps
        # by the rows, not the steps: a signal may come after an epoch's last step and before its row
        epoch = len(state.rows)
        done = state.step - epoch * steps
        self.module.train()
        began, before, images, signum = time.perf_counter(), state.epoch_seconds, 0, 0
        for number, (clean, noisy, size) in enumerate(
            self.feed.pairs(self._shown, self.recipe.spec.inputs, epoch, done), 1
        ):
            self._step(clean, noisy, size)
            images += size
            seconds = time.perf_counter() - began
            record.step(epoch + 1, state.step - epoch * steps, images / seconds)
            if number % count_processes() == 0:
                signum = self._agree(caught, before + seconds)
            if signum:
                break
            if self.every.due(minutes=(time.monotonic() - self.saved) / 60):
                self._save(record)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return self._agree(caught, before + time.perf_counter() - began) or signum

    def _agree(self, caught: list[int], seconds: float) -> int:
        """Take the first process's time for all, and give a signal that any has noted, or 0."""
        heard = gather_values((seconds, *caught[:1]))
        self.state.epoch_seconds = heard[0][0]
        return next((int(signum) for _, *noted in heard for signum in noted), 0)

    def _step(self, clean: Tensor, noisy: Tensor, size: int) -> None:
        """A step on this process's part of a batch of `size` images."""
        state = self.state
        if len(clean):
            loss = self.lesson.loss(self.forward(self.module, noisy), clean, noisy)
        else:  # it takes part in what is exchanged, with a picture that counts for nothing
            with ignore_batch_statistics():
                loss = self.forward(self.module, noisy.new_zeros(1, *noisy.shape[1:])).mean()
        state.optimiser.zero_grad(set_to_none=True)
        if count_processes() > 1:  # the mean over the whole batch; gradients are averaged over the processes
            loss = loss * (count_processes() * len(clean) / size)
        loss.backward()  # type: ignore[no-untyped-call]
        rate = compute_learning_rate(self.recipe.training, self._progress())
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        state.optimiser.step()
        state.step += 1
        state.loss_sum += average_values(loss.detach()) * size
        if state.average:
            state.average.update(state.step)

    def _shown(self, clean: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """A batch as the network meets it at a step, which is not always the next: see `Feed.pairs`."""
        return self.lesson.show(clean, step, self._progress(step))

    def _progress(self, step: int | None = None) -> float:
        """The share of the training that is done, now or at a step."""
        training, state = self.recipe.training, self.state
        share = (state.step if step is None else step) / (self.feed.steps * training.epochs)
        if training.minutes is None:
            return share
        return min(1.0, max(share, (state.seconds + state.epoch_seconds) / (60 * training.minutes)))

    def _time_left(self) -> float:
        """Seconds of the recipe's minutes, which whole epochs may exceed; infinity where it has none."""
        minutes = self.recipe.training.minutes
        return math.inf if minutes is None else 60 * minutes - self.state.seconds

    def _finish_epoch(self, record: RunRecord) -> None:
        """Validate, keep the best, then checkpoint, metrics, ledger, in this order."""
        state, began = self.state, time.perf_counter()
        epoch = len(state.rows) + 1
        # in float32: rounded to bf16, weights and the norms' statistics no longer fit each other,
        # and the loss would jump by a fifth from epoch to epoch (docs/performance.md)
        denoise = prepare_inference(state.kept, self.device)
        found = validate_denoiser(denoise, self.validation.batches(), self.lesson.criterion)
        if not math.isfinite(found.loss):
            raise ValueError(self._diverged())
        row = {
            "epoch": epoch,
            "learning_rate": state.optimiser.param_groups[0]["lr"],
            "train_loss": float(state.loss_sum) / self.sizes[0],
            "val_loss": found.loss,
            "val_psnr": found.psnr,
            "val_psnr_batch": found.psnr_batch,
            **self._judged(epoch, denoise),
            "seconds": round(state.epoch_seconds + time.perf_counter() - began, 3),
            "images_per_second": round(self.sizes[0] / state.epoch_seconds, 1),
        }
        state.rows.append(run_on_first(lambda: row))  # whose clock counts
        state.seconds += state.rows[-1]["seconds"]
        state.epoch_seconds = 0.0
        state.loss_sum.zero_()
        if found.loss < state.best.val_loss:
            state.best = BestEpoch(epoch, found.loss, found.psnr)
            record.best(state, self.validation, denoise)
        if self.every.due(epochs=epoch) or epoch == self.recipe.training.epochs or self._time_left() <= 0:
            self._save(record)
        record.rows(state)
        record.epoch(state)

    def _save(self, record: RunRecord) -> None:
        record.checkpoint(self.state)
        self.saved = time.monotonic()

    def _judged(self, epoch: int, denoise: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """`val_f1` where a judge looks at this epoch."""
        if self.referee is None or not self.referee.looks(epoch):
            return {}
        return {"val_f1": self.referee.f1(denoise, self.validation)}

    def _diverged(self) -> str:
        done, rate = len(self.state.rows), self.recipe.training.lr
        kept = "there is no checkpoint yet"
        if run_on_first(self.run.checkpoint.is_file):
            kept = f"the last good checkpoint is {self.run.checkpoint} (epoch {done})"
        return f"epoch {done + 1}: the loss is no longer a number; {kept}; try a lower training.lr than {rate:g}"


@contextmanager
def catch_signals() -> Iterator[list[int]]:
    """The numbers of SIGINT and SIGTERM that came, instead of what they would do."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(signum: int, _frame: FrameType | None) -> None:
        caught.append(signum)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
