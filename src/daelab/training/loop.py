"""fit(recipe): the one loop."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from daelab import data as datasets
from daelab import machine, modelfile, runs
from daelab import recipe as recipes
from daelab.errors import reason
from daelab.evaluation import validate
from daelab.files import write_text
from daelab.model import inference
from daelab.recipe import Recipe
from daelab.training.every import Every
from daelab.training.feed import Feed, chosen
from daelab.training.lesson import Lesson
from daelab.training.look import NoisySet, Referee
from daelab.training.optimise import learning_rate
from daelab.training.state import Best, fresh


class Progress(Protocol):
    """What a training tells whoever watches."""

    def start(self, run: str, epochs: int, steps: int, facts: dict[str, str]) -> None:
        """Before the first step: the run's name, epochs, steps per epoch, and what is trained how."""

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        """After a step; both count from 1."""

    def epoch(self, row: dict[str, float], best: Best) -> None:
        """After an epoch: its row of metrics.csv, and the best epoch so far."""


class Silent:
    """Tells nobody."""

    def start(self, run: str, epochs: int, steps: int, facts: dict[str, str]) -> None: ...
    def step(self, epoch: int, step: int, images_per_second: float) -> None: ...
    def epoch(self, row: dict[str, float], best: Best) -> None: ...


class Interrupted(Exception):
    """A signal ended the training after a batch; the state is saved."""

    def __init__(self, run: str, signum: int, command: str = "train") -> None:
        super().__init__(f"interrupted and saved; go on with: daelab {command} --resume {run}")
        self.signum = signum


@dataclass(frozen=True)
class Trained:
    """What a finished training gives."""

    run: runs.RunFolder
    rows: list[dict[str, float]]
    best: Best
    seconds: float


def fit(
    recipe: Recipe,
    name: str | None = None,
    *,
    resume: bool = False,
    runs_root: Path | None = None,
    data_root: str | Path | None = None,
    ledger: runs.Ledger | None = None,
    progress: Progress | None = None,
    device: torch.device | None = None,
    download: Callable[[int, int], None] | None = None,
    dataset: datasets.Dataset | None = None,
    checkpoint_every: Every | None = None,
) -> Trained:
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
    run = _open(name or runs.free_name("run", runs_root), resume, runs_root)
    ledger = ledger or runs.Ledger()
    device = device or machine.best_device()
    if dataset is None:
        dataset = datasets.load(recipe.data.name, data_root, crop=recipe.data.crop, progress=download)
    train, val = chosen(recipe, dataset)
    trainer = Trainer(recipe, run, train, val, device, checkpoint_every or Every())
    if resume:
        run.clear()
    if resume and run.checkpoint.is_file():
        trainer.state.restore(run.checkpoint, recipe)
    elif recipe.training.start:
        trainer.state.begin_from(recipe.training.start)
    ledger.settle()
    ledger.record(run.name, status="running", reason="", **runs.here(), **_row_of(recipe, trainer))
    try:
        write_text(run.recipe, recipe.to_toml())
        runs.write_environment(run)
        trainer.train(progress or Silent(), ledger)
    except BaseException as error:
        status = "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
        why = reason(error).partition("\n")[0]
        # the ledger may lie on the very disk that is full: what went wrong first is what is told
        with suppress(ValueError):
            ledger.record(run.name, status=status, reason=why, finished=runs.now())
        raise
    ledger.record(run.name, status="finished", finished=runs.now(), seconds=trainer.state.seconds)
    return Trained(run, trainer.state.rows, trainer.state.best, trainer.state.seconds)


def resume_recipe(name: str, runs_root: Path | None = None) -> Recipe:
    """The recipe of a run that exists.

    Raises:
        FileNotFoundError: there is no such run; lists those there are.
    """
    run = runs.folder(name, runs_root)
    if not run.recipe.is_file():
        there = sorted(path.parent.name for path in run.path.parent.glob("*/recipe.toml"))
        raise FileNotFoundError(f"no run {name} in {run.path.parent}; there are: {', '.join(there) or 'none'}")
    return recipes.load(run.recipe)


def _open(name: str, resume: bool, runs_root: Path | None) -> runs.RunFolder:
    run = runs.folder(name, runs_root)
    if run.recipe.exists() and not resume:
        raise ValueError(f"run {name} exists in {run.path}; go on with --resume {name}, or take another --name")
    return run


class Trainer:
    """A recipe, its images and its state, and the steps that change the state."""

    def __init__(
        self,
        recipe: Recipe,
        run: runs.RunFolder,
        train: datasets.Images,
        val: datasets.Images,
        device: torch.device,
        every: Every,
    ) -> None:
        machine.keep_memory()
        self.recipe, self.run, self.device = recipe, run, device
        self.every, self.saved = every, time.monotonic()
        self.sizes = len(train), len(val)
        self.precision = machine.choose_precision(recipe.training.precision, device)
        self.lesson = Lesson(recipe, train.size, device)
        self.feed = Feed(train, recipe.training.batch, recipe.seed, device)
        self.state = fresh(recipe, device)
        compiled = torch.compile(self.state.network) if recipe.training.compile else self.state.network
        self.module = cast(nn.Module, compiled)
        self.validation = NoisySet(val, recipe, device)
        self.referee = Referee(recipe, val, device) if recipe.judge else None
        self.size = train.size

    def forward(self, network: nn.Module, x: Tensor) -> Tensor:
        """Denoised images, in the precision of this point of the run."""
        exact = self.recipe.training.float32_from
        bf16 = self.precision == "bf16" and (exact is None or self._progress() < exact)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            out: Tensor = network(x.contiguous(memory_format=torch.channels_last))
        return out

    def train(self, progress: Progress, ledger: runs.Ledger) -> None:
        """Go on from the state to the recipe's end."""
        state, steps = self.state, self.feed.steps
        progress.start(self.run.name, self.recipe.training.epochs, steps, self.facts())
        if state.rows:  # a kill after the last checkpoint may have left them behind it, and no epoch may be left
            self._record(ledger)
        with noted_signals() as caught:
            while len(state.rows) < self.recipe.training.epochs and not self._time_is_up():
                self._epoch(progress, caught)
                if not bool(state.loss_sum.isfinite()):
                    raise ValueError(self._diverged())
                if caught:
                    self._save()
                    raise Interrupted(self.run.name, caught[0])
                self._finish_epoch(progress, ledger)

    def facts(self) -> dict[str, str]:
        """What is trained and how, for people."""
        spec, (train, val) = self.recipe.spec, self.sizes
        return {
            "images": f"{train:,} to train on, {val:,} to validate on ({self.recipe.data.name})",
            "noise": str(self.recipe.noise),
            "network": f"{spec.parameters:,} parameters, {spec.macs(*self.size) / 1e6:.1f} M MACs per image",
            "precision": f"{self.precision} on {self.device}, {torch.get_num_threads()} threads",
        }

    def _epoch(self, progress: Progress, caught: list[int]) -> None:
        """The steps of the present epoch that are left; stops after a batch when a signal came."""
        state, steps = self.state, self.feed.steps
        # by the rows, not the steps: a signal may come after an epoch's last step and before its row
        epoch = len(state.rows)
        done = state.step - epoch * steps
        self.module.train()
        began, before, images = time.perf_counter(), state.epoch_seconds, 0
        for clean in self.feed.epoch(epoch, done):
            self._step(clean)
            images += len(clean)
            state.epoch_seconds = before + time.perf_counter() - began
            progress.step(epoch + 1, state.step - epoch * steps, images / (state.epoch_seconds - before))
            if caught:
                break
            if self.every.due(minutes=(time.monotonic() - self.saved) / 60):
                self._save()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        state.epoch_seconds = before + time.perf_counter() - began

    def _step(self, clean: Tensor) -> None:
        state, training = self.state, self.recipe.training
        clean, noisy = self.lesson.show(clean, state.step, self._progress())
        loss = self.lesson.loss(self.forward(self.module, noisy), clean, noisy)
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        rate = learning_rate(training, self._progress())
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        state.optimiser.step()
        state.step += 1
        state.loss_sum += loss.detach() * len(clean)
        if state.average:
            state.average.update(state.step)

    def _progress(self) -> float:
        training, state = self.recipe.training, self.state
        share = state.step / (self.feed.steps * training.epochs)
        if training.minutes is None:
            return share
        return min(1.0, max(share, (state.seconds + state.epoch_seconds) / (60 * training.minutes)))

    def _time_is_up(self) -> bool:
        minutes = self.recipe.training.minutes
        return minutes is not None and self.state.seconds >= 60 * minutes

    def _finish_epoch(self, progress: Progress, ledger: runs.Ledger) -> None:
        """Validate, keep the best, then checkpoint, metrics, ledger, in this order."""
        state, began = self.state, time.perf_counter()
        epoch = len(state.rows) + 1
        train_loss = float(state.loss_sum) / self.sizes[0]
        # in float32: rounded to bf16, weights and the norms' statistics no longer fit each other,
        # and the loss would jump by a fifth from epoch to epoch (docs/performance.md)
        denoise = inference(state.kept, self.device)
        found = validate(denoise, self.validation.batches(), self.lesson.criterion)
        if not math.isfinite(found.loss):
            raise ValueError(self._diverged())
        row = {
            "epoch": epoch,
            "learning_rate": state.optimiser.param_groups[0]["lr"],
            "train_loss": train_loss,
            "val_loss": found.loss,
            "val_psnr": found.psnr,
            "val_psnr_batch": found.psnr_batch,
            **self._judged(epoch, denoise),
            "seconds": round(state.epoch_seconds + time.perf_counter() - began, 3),
            "images_per_second": round(self.sizes[0] / state.epoch_seconds, 1),
        }
        state.rows.append(row)
        state.seconds += row["seconds"]
        state.epoch_seconds = 0.0
        state.loss_sum.zero_()
        if found.loss < state.best.val_loss:
            state.best = Best(epoch, found.loss, found.psnr)
            self._save_best(row)
            self.validation.write_samples(self.run.path / "samples.npz", denoise)
        if self.every.due(epochs=epoch) or epoch == self.recipe.training.epochs or self._time_is_up():
            self._save()
        self._record(ledger)
        progress.epoch(row, state.best)

    def _record(self, ledger: runs.Ledger) -> None:
        """Write the rows so far into metrics.csv, and what they come to into the ledger."""
        state = self.state
        self.run.write_metrics(state.rows)
        best = state.rows[state.best.epoch - 1]
        ledger.record(
            self.run.name,
            epochs_done=len(state.rows),
            val_loss=best["val_loss"],
            val_psnr=best["val_psnr_batch"],
            val_psnr_image=best["val_psnr"],
            val_f1=next((seen["val_f1"] for seen in (best, *reversed(state.rows)) if "val_f1" in seen), None),
            seconds=state.seconds,
            images_per_second=state.rows[-1]["images_per_second"],
        )

    def _save(self) -> None:
        """Write the checkpoint; a state that is no number is never saved over one that is."""
        if bool(self.state.loss_sum.isfinite()):
            self.state.save(self.run.checkpoint, self.recipe)
        self.saved = time.monotonic()

    def _judged(self, epoch: int, denoise: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """`val_f1` where a judge looks at this epoch."""
        if self.referee is None or not self.referee.looks(epoch):
            return {}
        return {"val_f1": self.referee.f1(denoise, self.validation)}

    def _diverged(self) -> str:
        done, rate = len(self.state.rows), self.recipe.training.lr
        kept = "there is no checkpoint yet"
        if self.run.checkpoint.is_file():
            kept = f"the last good checkpoint is {self.run.checkpoint} (epoch {done})"
        return f"epoch {done + 1}: the loss is no longer a number; {kept}; try a lower training.lr than {rate:g}"

    def _save_best(self, row: dict[str, float]) -> None:
        state, recipe = self.state, self.recipe
        train, val = self.sizes
        card = modelfile.Card(
            spec=recipe.spec,
            name=self.run.name,
            noise=str(recipe.noise),
            data={"name": recipe.data.name, "train": train, "val": val, "seed": recipe.seed},
            metrics={key: value for key, value in row.items() if key == "epoch" or key.startswith("val_")},
            training={
                "precision": self.precision,
                "device": self.device.type,
                "threads": torch.get_num_threads(),
            },
            recipe=recipe.to_dict(),
            recipe_sha256=recipe.sha256,
            versions=modelfile.versions(),
        )
        modelfile.save(self.run.best, state.kept, card)


def _row_of(recipe: Recipe, trainer: Trainer) -> dict[str, Any]:
    training, adam = recipe.training, recipe.training.optimiser != "sgd"
    return {
        "batch_size": training.batch,
        "learning_rate": training.lr,
        "epochs": training.epochs,
        "amsgrad": training.amsgrad,
        "train_size": trainer.sizes[0],
        "val_size": trainer.sizes[1],
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
        "precision": trainer.precision,
        "folder": str(trainer.run.path.resolve()),
        "recipe": recipe.to_dict(),
        "recipe_sha256": recipe.sha256,
    }


@contextmanager
def noted_signals() -> Iterator[list[int]]:
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
