"""A resumed training equals an uninterrupted one byte for byte, and a failed one leaves its last good state."""

from __future__ import annotations

import csv
import math
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import daelab
from daelab._util import tensor_file
from daelab._util.hardware import choose_precision
from daelab._util.tensor_file import read_tensor_header, read_tensors, write_tensors
from daelab.datasets.base import Dataset, ImageSet
from daelab.datasets.registry import load_dataset
from daelab.datasets.splits import split_dataset
from daelab.models.architectures.autoencoder import Autoencoder, Stage
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.models.build import build_network
from daelab.models.layers import append_noise_level
from daelab.models.model_file import ModelMetadata, load_network, read_model_metadata, save_model
from daelab.models.registry import find_model_file
from daelab.noise.base import Term, list_terms
from daelab.runs.folder import METRIC_COLUMNS, RunFolder, get_run_folder
from daelab.runs.ledger import Ledger
from daelab.training.callbacks.progress import SilentProgress
from daelab.training.callbacks.record import TrainingInterrupted
from daelab.training.checkpoint import TrainingState
from daelab.training.checkpoint_schedule import parse_checkpoint_schedule
from daelab.training.engine import TrainingResult
from daelab.training.loader import (
    BatchLoader,
    flip_randomly,
    get_shuffle_window,
    reduce_randomly,
    rotate_randomly,
    select_images,
    shuffle_epoch,
    zoom_randomly,
)
from daelab.training.losses import LOSSES
from daelab.training.objective import DenoisingObjective
from daelab.training.optimizers import WeightAverage, make_optimizer, orthogonalize
from daelab.training.recipe import Recipe, TrainingConfig, load_recipe, parse_recipe
from daelab.training.schedules import SCHEDULES, compute_learning_rate
from daelab.training.seeds import derive_seed
from daelab.training.tasks.denoising import create_training_state, fit_denoiser, load_run_recipe

CPU = torch.device("cpu")
TIMINGS = ("seconds", "images_per_second")
STEPS = 4  # of an epoch: 49 training images in batches of 16


@pytest.fixture
def tiny(pictures_file: Path) -> Callable[..., Recipe]:
    """Return a recipe that trains in a moment: `tiny(seed=1, ema=0.9)` sets fields of the training or of the recipe."""

    def make(**changes: Any) -> Recipe:
        training: dict[str, Any] = {"epochs": 2, "batch": 16, "lr": 0.01, "precision": "float32"}
        others: dict[str, Any] = {"spec": {"stages": [8, 4]}, "data": {"name": f"npz:{pictures_file}"}}
        for key, value in changes.items():
            (training if key in TrainingConfig.model_fields else others)[key] = value
        return parse_recipe(others | {"training": training})

    return make


class Watcher(SilentProgress):
    """An observer that sends a signal after a step, counted from the start."""

    def __init__(self, at: int, signum: int = signal.SIGINT) -> None:
        self.left, self.signum = at, signum

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.signum)


def outcome(run: RunFolder) -> tuple[bytes, list[dict[str, str]]]:
    """Return the best model's bytes without the name of the run, and metrics.csv without times."""
    header, tensors = read_tensors(run.best)
    stable = run.path / "stable.safetensors"
    write_tensors(stable, tensors, header | {"name": ""})
    with run.metrics.open(newline="") as file:
        rows = [{key: value for key, value in row.items() if key not in TIMINGS} for row in csv.DictReader(file)]
    return stable.read_bytes(), rows


def interrupt(wanted: Recipe, name: str, *steps: int, signum: int = signal.SIGINT) -> TrainingResult:
    """Train, interrupt after some steps, resume, interrupt again, and resume to the end."""
    for number, at in enumerate(steps):
        with pytest.raises(TrainingInterrupted, match=f"go on with: daelab train --resume {name}"):
            fit_denoiser(wanted, name, resume=number > 0, progress=Watcher(at, signum))
        assert Ledger().get_run(name)["status"] == "interrupted"
    return fit_denoiser(load_run_recipe(name), name, resume=True)


def test_a_run_that_no_command_finds_is_not_said_to_resume(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted, match="^interrupted$"):
        fit_denoiser(tiny(epochs=1), "a", runs_root=tmp_path / "elsewhere", progress=Watcher(1))


# Resuming

WAYS: dict[str, dict[str, Any]] = {
    "adam": {},
    "bf16": {"precision": "bf16"},
    "amsgrad": {"amsgrad": True, "weight_decay": 0.01},
    "adamw": {"optimiser": "adamw", "weight_decay": 0.1, "schedule": "cosine", "warmup": 0.1},
    "sgd": {"optimiser": "sgd", "momentum": 0.9, "schedule": "one-cycle", "final_lr": 0.01},
    "muon": {"optimiser": "muon", "weight_decay": 0.1},
    "ema": {"ema": 0.9, "flips": True, "turns": True},
    "ema in bf16": {"ema": 0.9, "precision": "bf16"},
    "loss": {"loss": "charbonnier + 0.1 * dssim", "noise": "(type-1 | poisson(5..50)) > speckle(0.1)"},
    "no norm": {"spec": {"stages": [8, 4], "norm": "none"}},
    "replacement": {"data.replacement": True},
    "curriculum": {"curriculum": 0.7},
    "conditioned": {"spec": {"kind": "unet", "widths": [4], "blocks": [1], "conditioned": True}},
    "start and teacher": {"spec": "model-b-35", "start": "model-b-35", "teacher": {"model": "model-c"}, "ema": 0.9},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_training_ends_as_one_that_never_stopped(way: str, tiny: Callable[..., Recipe]) -> None:
    changes = dict(WAYS[way])
    wanted = tiny(**{key: value for key, value in changes.items() if "." not in key})
    if "data.replacement" in changes:
        wanted = parse_recipe(wanted.to_dict(), ["data.replacement=true"])
    whole = fit_denoiser(wanted, "whole")
    resumed = interrupt(wanted, "resumed", 2, 3)
    assert outcome(resumed.run) == outcome(whole.run)
    assert resumed.best == whole.best


def test_it_may_be_interrupted_after_every_step(tiny: Callable[..., Recipe]) -> None:
    wanted = tiny(ema=0.5, schedule="cosine")
    whole = fit_denoiser(wanted, "whole")
    # the last step of an epoch is one of them: its validation is still to come
    resumed = interrupt(wanted, "resumed", *[1] * (2 * STEPS))
    assert outcome(resumed.run) == outcome(whole.run)


def test_sigterm_saves_too_and_the_handlers_come_back(tiny: Callable[..., Recipe]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    wanted = tiny(epochs=2)
    with pytest.raises(TrainingInterrupted) as caught:
        fit_denoiser(wanted, "a", progress=Watcher(3, signal.SIGTERM))
    assert caught.value.signum == signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert read_tensor_header(get_run_folder("a").checkpoint)[0]["step"] == 3


def test_a_finished_run_resumes_to_the_same(tiny: Callable[..., Recipe]) -> None:
    wanted = tiny()
    once = fit_denoiser(wanted, "a")
    content = once.run.best.read_bytes()
    again = fit_denoiser(wanted, "a", resume=True)
    assert again.rows == once.rows
    assert once.run.best.read_bytes() == content


def test_the_same_recipe_gives_the_same_run_and_another_seed_another(tiny: Callable[..., Recipe]) -> None:
    runs = [fit_denoiser(tiny(epochs=2, seed=seed), name).run for name, seed in [("a", 0), ("b", 0), ("c", 1)]]
    assert outcome(runs[0]) == outcome(runs[1])
    assert outcome(runs[0])[1] != outcome(runs[2])[1]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_recipe_gives_the_same_bits(threads: int, precision: str, tiny: Callable[..., Recipe]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # wide enough that two threads share the work
        wanted = tiny(epochs=1, precision=precision, spec={"stages": [32, 16]}, ema=0.9, flips=True)
        runs = [fit_denoiser(wanted, name).run for name in "abc"]
    finally:
        torch.set_num_threads(before)
    assert outcome(runs[0]) == outcome(runs[1]) == outcome(runs[2])


def test_only_its_own_recipe_resumes_a_run(tiny: Callable[..., Recipe]) -> None:
    fit_denoiser(tiny(epochs=1), "a")
    with pytest.raises(ValueError, match="belongs to another recipe"):
        fit_denoiser(tiny(epochs=1, seed=1), "a", resume=True)
    with pytest.raises(ValueError, match=r"run a exists in .*; continue it with --resume a, or choose another --name"):
        fit_denoiser(tiny(epochs=1), "a")
    with pytest.raises(FileNotFoundError, match="no run b in .*; there are: a"):
        load_run_recipe("b")


@pytest.mark.parametrize("spoil", [lambda raw: raw[:-50], lambda raw: raw[:9], lambda raw: b""])
def test_a_damaged_checkpoint_is_named(spoil: Callable[[bytes], bytes], tiny: Callable[..., Recipe]) -> None:
    path = fit_denoiser(tiny(epochs=1), "a").run.checkpoint
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError, match=str(path)) as caught:
        fit_denoiser(tiny(epochs=1), "a", resume=True)
    assert "\n" not in str(caught.value)


def test_a_model_file_is_no_checkpoint(tiny: Callable[..., Recipe]) -> None:
    run = fit_denoiser(tiny(epochs=1), "a").run
    run.checkpoint.write_bytes(run.best.read_bytes())
    with pytest.raises(ValueError, match="not a checkpoint of this version of daelab"):
        fit_denoiser(tiny(epochs=1), "a", resume=True)


# What a run leaves


def test_a_run_learns_and_leaves_what_it_promises(tiny: Callable[..., Recipe]) -> None:
    wanted = tiny(epochs=12, lr=0.03, noise="type-1", note="a test")
    trained = fit_denoiser(wanted, "a")
    run, rows = trained.run, trained.rows
    assert rows[-1]["val_loss"] < 0.9 * rows[0]["val_loss"]
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert run.read_metrics() == rows
    assert all(set(row) == set(METRIC_COLUMNS) - {"val_f1"} for row in rows)
    assert load_recipe(run.recipe) == wanted
    network, card = load_network(run.best)
    assert (network.spec, card.name, card.noise) == (wanted.spec, "a", "type-1")
    assert (card.recipe, card.recipe_sha256) == (wanted.to_dict(), wanted.sha256)
    assert card.metrics["val_loss"] == min(row["val_loss"] for row in rows) == trained.best.val_loss
    assert card.data == {"name": wanted.data.name, "train": 49, "val": 5, "seed": 0}
    row = Ledger().get_run("a")
    assert (row["status"], row["epochs_done"], row["comments"]) == ("finished", 12, "a test")
    assert (row["train_size"], row["val_size"], row["parameters"]) == (49, 5, wanted.spec.parameters)
    assert row["val_loss"] == trained.best.val_loss
    assert row["recipe_sha256"] == wanted.sha256
    with np.load(run.path / "samples.npz") as samples:
        assert {key: (value.shape, value.dtype) for key, value in samples.items()} == {
            key: ((5, 3, 16, 16), np.dtype("uint8"))
            for key in ("clean", "noisy", "denoised", *(name for name in samples if name.startswith("epoch_")))
        }
        kept = [int(name.removeprefix("epoch_")) for name in samples if name.startswith("epoch_")]
        assert kept[0] == 1
        lengths = [epoch.bit_length() for epoch in kept]
        assert lengths == sorted(set(lengths))


def test_the_best_model_is_the_one_of_the_best_epoch(tiny: Callable[..., Recipe]) -> None:
    # at a rate this high the first epoch is the best one
    trained, until = (fit_denoiser(tiny(epochs=epochs, lr=0.1, seed=3), f"run-{epochs}") for epochs in (3, 1))
    assert trained.best.epoch == 1 + int(np.argmin([row["val_loss"] for row in trained.rows])) == 1
    kept, first = (read_tensors(each.run.best)[1] for each in (trained, until))
    assert all(torch.equal(kept[name], first[name]) for name in first)


def test_the_average_is_what_is_validated_and_kept(tiny: Callable[..., Recipe]) -> None:
    wanted = tiny(epochs=1, ema=0.99, noise="none", loss="l1")
    trained = fit_denoiser(wanted, "a")
    run = trained.run
    kept = read_tensors(run.best)[1]
    checkpoint = read_tensors(run.checkpoint)[1]
    assert all(torch.equal(kept[name], checkpoint[f"average.{name}"]) for name in kept)
    assert not torch.equal(kept["enc1.weight"], checkpoint["network.enc1.weight"])
    assert trained.best.val_loss == pytest.approx(l1_of_best(wanted, run)[1], rel=1e-5)


def l1_of_best(wanted: Recipe, run: RunFolder) -> list[float]:
    """Return the mean absolute error of the best model on the clean training and validation images."""
    network, _ = load_network(run.best)
    parts = split_dataset(load_dataset(wanted.data.name), None, None, wanted.seed)
    clean = [torch.from_numpy(part.batch(np.arange(len(part)))).float() / 255 for part in parts]
    with torch.inference_mode():
        return [float((network(x) - x).abs().mean()) for x in clean]


def test_the_losses_are_means_over_the_images(tiny: Callable[..., Recipe]) -> None:
    # at a rate of almost nothing the network stays what it was, and its loss can be counted afresh
    spec = {"stages": [8, 4], "norm": "none"}
    wanted = tiny(epochs=2, lr=1e-30, optimiser="sgd", noise="none", loss="l1", spec=spec)
    trained = fit_denoiser(wanted, "a")
    expected = l1_of_best(wanted, trained.run)
    for row in trained.rows:
        assert [row["train_loss"], row["val_loss"]] == pytest.approx(expected, rel=1e-5)


class Report(SilentProgress):
    def __init__(self) -> None:
        self.told: list[Any] = []

    def start(self, run: str, epochs: int, steps: int, facts: dict[str, str], seconds: float = math.inf) -> None:
        self.told.append((run, epochs, steps))
        assert facts["precision"].startswith("float32 on cpu")

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        assert images_per_second > 0
        self.told.append((epoch, step))

    def epoch(self, row: dict[str, float], best: Any) -> None:
        self.told.append(row["epoch"])


def test_progress_is_told_every_step(tiny: Callable[..., Recipe]) -> None:
    report = Report()
    fit_denoiser(tiny(epochs=2), "a", progress=report)
    steps = [[*((epoch, step) for step in range(1, STEPS + 1)), epoch] for epoch in (1, 2)]
    assert report.told == [("a", 2, STEPS), *steps[0], *steps[1]]


def test_a_time_budget_ends_the_training_and_its_schedule(tiny: Callable[..., Recipe]) -> None:
    trained = fit_denoiser(tiny(epochs=1_000_000, minutes=0.02, schedule="cosine"), "a")
    assert 1 <= len(trained.rows) < 1000
    assert trained.seconds >= 1.2
    rates = [row["learning_rate"] for row in trained.rows]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.1 * rates[0] or len(rates) < 10


def test_the_time_left_is_that_of_the_epochs_or_of_the_minutes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from daelab.cli.console import ConsoleProgress
    from daelab.training.checkpoint import BestEpoch

    clock = iter(())
    monkeypatch.setattr("daelab.cli.console.time.monotonic", lambda: next(clock, 4.0))
    row = {"epoch": 1, "train_loss": 0.1, "val_loss": 0.1, "val_psnr": 20.0, "images_per_second": 9.0}
    for epochs, seconds, left in ((3, math.inf, "0:00:08"), (1_000, 60.0, "0:00:56"), (1_000, 2.0, "0:00:00")):
        clock = iter([0.0, 0.0])  # made and started; its one step ends at 4 s
        progress = ConsoleProgress()
        progress.start("a", epochs, 1, {}, seconds)
        progress.step(1, 1, 9.0)
        progress.epoch(row, BestEpoch(1, 0.1, 20.0))
        assert f"left {left}" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_precision_is_used_and_said(precision: str, tiny: Callable[..., Recipe]) -> None:
    run = fit_denoiser(tiny(epochs=1, precision=precision), "a").run
    assert Ledger().get_run("a")["precision"] == read_model_metadata(run.best).training["precision"] == precision
    assert {tensor.dtype for tensor in read_tensors(run.best)[1].values()} == {torch.float32, torch.int64}


def test_bf16_differs_from_float32_but_little(tiny: Callable[..., Recipe]) -> None:
    one, other = (fit_denoiser(tiny(epochs=2, precision=p), p).rows[-1]["val_loss"] for p in ("float32", "bf16"))
    assert one != other
    assert one == pytest.approx(other, rel=0.05)


def test_the_end_of_a_training_may_be_exact(tiny: Callable[..., Recipe]) -> None:
    exact, rough, mixed, none = (
        fit_denoiser(tiny(precision=precision, float32_from=start), name).rows
        for name, precision, start in [
            ("a", "float32", None),
            ("b", "bf16", None),
            ("c", "bf16", 0.5),
            ("d", "bf16", 0),
        ]
    )
    losses = [[row["train_loss"] for row in rows] for rows in (exact, rough, mixed, none)]
    assert losses[3] == losses[0]
    assert losses[2][0] == losses[1][0] != losses[0][0]
    assert losses[2][1] not in (losses[0][1], losses[1][1])


def test_auto_precision_is_one_of_the_two() -> None:
    assert choose_precision("auto", CPU) in ("float32", "bf16")
    assert choose_precision("bf16", CPU) == "bf16"


def test_there_is_one_loop() -> None:
    package = Path(daelab.__file__).parent
    texts = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert [path.relative_to(package).as_posix() for path, text in texts.items() if ".backward(" in text] == [
        "training/engine.py"
    ]
    # `Muon` is an optimizer, which calls the step of another one.
    stepping = {
        path.relative_to(package).as_posix() for path, text in texts.items() if re.search(r"optimi[sz]er\.step\(", text)
    }
    assert stepping == {"training/engine.py"}


# What a step shows and asks


def test_the_noise_of_a_curriculum_grows_to_its_strength(tiny: Callable[..., Recipe]) -> None:
    clean = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    at_once = DenoisingObjective(tiny(flips=True), (16, 16), CPU)
    slowly = DenoisingObjective(tiny(flips=True, curriculum=0.5), (16, 16), CPU)
    for progress, share in ((0.0, 0.0), (0.125, 0.25), (0.5, 1.0), (0.9, 1.0)):
        shown, noisy = slowly.transform(clean, 3, progress)
        whole, full = at_once.transform(clean, 3, progress)
        torch.testing.assert_close(shown, whole)
        torch.testing.assert_close(noisy - shown, share * (full - whole))


def test_a_conditioned_network_is_given_the_level(tiny: Callable[..., Recipe]) -> None:
    objective = DenoisingObjective(
        tiny(spec={"kind": "unet", "widths": [4], "blocks": [1], "conditioned": True}), (16, 16), CPU
    )
    clean, noisy = objective.transform(torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)), 0, 0.0)
    assert noisy.shape == (4, 4, 16, 16)
    wanted = (noisy[:, :3] - clean).square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(noisy[:, 3].amax((1, 2)), wanted)
    torch.testing.assert_close(noisy[:, 3].amin((1, 2)), wanted)


def test_a_teacher_takes_its_share_of_the_loss(tiny: Callable[..., Recipe]) -> None:
    objective = DenoisingObjective(tiny(teacher={"model": "model-c", "weight": 0.25}), (16, 16), CPU)
    clean, noisy = objective.transform(torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)), 0, 0.0)
    network, _ = load_network(find_model_file("model-c"))
    with torch.no_grad():
        taught = network(noisy)
    output = torch.full_like(clean, 0.5, requires_grad=True)
    loss = objective.loss(output, clean, noisy)
    torch.testing.assert_close(
        loss, 0.75 * nn.functional.mse_loss(output, clean) + 0.25 * (output - taught).square().mean()
    )
    loss.backward()
    assert output.grad is not None
    assert float(output.grad.abs().sum()) > 0


def test_a_start_is_where_the_weights_begin(tiny: Callable[..., Recipe]) -> None:
    begun = tiny(spec="model-b-35", start="model-b-35", lr=1e-12, ema=0.5, epochs=1)
    network, _ = load_network(fit_denoiser(begun, "a").run.best)
    wanted = load_network(find_model_file("model-b-35"))[0].state_dict()
    for name, tensor in network.state_dict().items():
        if "running" not in name and "tracked" not in name:
            torch.testing.assert_close(tensor, wanted[name])


def test_a_network_grows_by_parts_that_change_nothing_at_first(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    small = {"kind": "unet", "widths": [8, 8], "blocks": [1, 1], "context": 4}
    large = small | {"blocks": [2, 3], "decoder": [2], "conditioned": True}
    model = tmp_path / "small.safetensors"
    model.write_bytes(fit_denoiser(tiny(spec=small, epochs=1), "a").run.best.read_bytes())
    grown = fit_denoiser(tiny(spec=large, start=str(model), lr=1e-12, epochs=1), "b")
    (before, _), (after, card) = load_network(model), load_network(grown.run.best)
    assert card.spec.parameters > before.spec.parameters
    x = torch.rand(2, 3, 8, 8)
    # but for the statistics of batch norm, which move
    for network in (before.train(), after.train()):
        network.requires_grad_(False)
    torch.testing.assert_close(after(append_noise_level(x, torch.rand(2))), before(x))


# What goes wrong


class _Spoiler(SilentProgress):
    """An observer that replaces every loss from a step on by a value that is not finite."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, then: SilentProgress | None = None) -> None:
        self.left, self.monkeypatch, self.then = at, monkeypatch, then

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        self.left -= 1
        if self.left == 0:
            self.monkeypatch.setattr(torch, "sigmoid", lambda x: x * math.nan)
        if self.then:
            self.then.step(epoch, step, images_per_second)


def test_a_loss_that_is_no_number_stops_the_run(tiny: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(ValueError) as caught:
        fit_denoiser(tiny(epochs=5), "a", progress=_Spoiler(patch, 2 * STEPS + 1))
    checkpoint = get_run_folder("a").checkpoint
    assert str(caught.value) == (
        f"epoch 3: the loss became infinite or NaN; the last good checkpoint is {checkpoint} (epoch 2); "
        "try a lower training.lr than 0.01"
    )
    row = Ledger().get_run("a")
    assert (row["status"], row["reason"], row["epochs_done"]) == ("failed", str(caught.value), 2)
    header, tensors = read_tensors(checkpoint)
    assert header["step"] == 2 * STEPS
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    # and the run goes on from there, as if nothing had been
    resumed = fit_denoiser(tiny(epochs=5), "a", resume=True)
    assert outcome(resumed.run) == outcome(fit_denoiser(tiny(epochs=5), "b").run)


def test_an_interruption_does_not_save_what_is_no_number(
    tiny: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="epoch 2: the loss became infinite or NaN"):
        fit_denoiser(tiny(), "a", progress=_Spoiler(patch, STEPS + 1, Watcher(STEPS + 2)))
    assert all(tensor.isfinite().all() for tensor in read_tensors(get_run_folder("a").checkpoint)[1].values())


def test_a_loss_that_is_no_number_at_once(tiny: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "sigmoid", lambda x: x * math.nan)
    with pytest.raises(ValueError, match="epoch 1: the loss became infinite or NaN; there is no checkpoint yet"):
        fit_denoiser(tiny(), "a")


def test_a_start_drops_norms_and_renews_layers(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    normed = {"kind": "unet", "widths": [8, 8], "blocks": [1, 1], "context": 4}
    model = tmp_path / "normed.safetensors"
    model.write_bytes(fit_denoiser(tiny(spec=normed, epochs=1), "a").run.best.read_bytes())
    plain, still = normed | {"norm": "none"}, {"start": str(model), "lr": 1e-12, "epochs": 1}
    x = torch.rand(2, 3, 8, 8)
    before = load_network(model)[0].eval()
    same = load_network(fit_denoiser(tiny(spec=plain, **still), "b").run.best)[0].eval()
    torch.testing.assert_close(same(x), before(x), rtol=0, atol=1e-5)
    renewed = load_network(fit_denoiser(tiny(spec=plain, **still, renew=("enc2", "dec1_1b")), "c").run.best)[0]
    old, new = before.state_dict(), renewed.state_dict()
    assert {key for key in new if key in old and key.endswith("weight") and not torch.allclose(new[key], old[key])} >= {
        *("enc2_1a.weight", "enc2_1b.weight", "enc2_1c.weight"),
        "dec1_1b.weight",
    }
    assert torch.allclose(new["down1.weight"], old["down1.weight"])
    # A renewed block begins as the identity.
    assert new["enc2_1b.weight"].abs().max() < 1e-6


def test_biases_and_norms_can_have_a_rate_of_their_own(tiny: Callable[..., Recipe]) -> None:
    spec = {"kind": "unet", "widths": [8], "blocks": [1]}
    moved = {}
    for name, share in (("a", None), ("b", 1e-6)):
        recipe = tiny(spec=spec, lr=0.01, epochs=1, vector_lr=share)
        network = load_network(fit_denoiser(recipe, name).run.best)[0]
        begun = create_training_state(recipe, torch.device("cpu")).network
        moved[name] = [
            max(
                float((network.get_parameter(key).data - parameter.data).abs().max())
                for key, parameter in begun.named_parameters()
                if (parameter.ndim < 2) is vector
            )
            for vector in (True, False)
        ]
    assert min(moved["a"]) > 1e-3
    assert moved["b"][0] < 1e-5
    assert moved["b"][1] > 1e-3


MISTAKES: dict[str, tuple[list[str], str]] = {
    "too many": (["data.train=1000"], "1,000 training images are requested"),
    "spec": (["spec={stages=[1, 1, 1, 1, 1]}"], "16x16 images; this architecture needs multiples of 32"),
    "no data": (["data.name=npz:/nonesuch.npz"], "the file /nonesuch.npz does not exist"),
    "no start": (["training.start=modell"], "training.start: unknown model 'modell'"),
    "another's start": (["training.start=model-c"], "training.start: model-c is of another architecture"),
    "a run that is to be trained first": (
        ["training.start=nowhere/quick/best.safetensors"],
        "training.start: there is no file nowhere/quick/best.safetensors; "
        "train the recipe quick first, under the name quick$",
    ),
    "a run of no recipe": (
        ["training.start=nowhere/mine/best.safetensors"],
        "training.start: there is no file nowhere/mine/best.safetensors; train this run first$",
    ),
    "renewed without a start": (["training.renew=['enc']"], "training.renew belongs to training.start"),
    "nothing to renew": (
        ["spec=model-b-35", "training.start=model-b-35", "training.renew=['mid']"],
        "training.renew: unknown layer 'mid'. Valid: dec1, dec2, dec3, dec4, enc1, enc2, enc3, enc4$",
    ),
    "no teacher": (["teacher.model=modell"], "teacher.model: unknown model 'modell'"),
    "teacher's size": (["teacher.model={teacher}"], "teacher.model .* does not take images of 16x16"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_leaves_nothing_behind(case: str, tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    overrides, message = MISTAKES[case]
    deep = Autoencoder(tuple(Stage(2) for _ in range(5)))
    save_model(tmp_path / "deep.safetensors", build_network(deep, 0), ModelMetadata(spec=deep, name="deep"))
    overrides = [each.replace("{teacher}", str(tmp_path / "deep.safetensors")) for each in overrides]
    with pytest.raises(ValueError, match=message):
        fit_denoiser(parse_recipe(tiny().to_dict(), overrides), "a")
    assert not get_run_folder("a").path.exists()
    assert Ledger().list_runs() == []


# Batches


def test_a_feed_gives_every_image_once_in_a_new_order_each_epoch(pictures: ImageSet) -> None:
    feed = BatchLoader(pictures, 16, 0, CPU)
    epochs = [torch.cat(list(feed.epoch(epoch))) for epoch in (0, 1)]
    clean = torch.from_numpy(pictures.images).float() / 255
    for epoch, images in enumerate(epochs):
        assert torch.equal(images, clean[shuffle_epoch(60, 0, epoch)])
    assert not torch.equal(epochs[0], epochs[1])
    assert [len(batch) for batch in feed.epoch(0)] == [16, 16, 16, 12]
    assert feed.steps == 4


@pytest.mark.parametrize("start", range(5))
def test_a_feed_starts_anywhere(start: int, pictures: ImageSet) -> None:
    feed = BatchLoader(pictures, 16, 0, CPU)
    whole = list(feed.epoch(3))
    assert all(torch.equal(a, b) for a, b in zip(feed.epoch(3, start), whole[start:], strict=True))


def test_seeds_of_their_own_for_every_purpose() -> None:
    seeds = [derive_seed(seed, purpose, n) for seed in (0, 1, 2**62) for purpose in ("order", "noise") for n in (0, 1)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, "noise", 3) == 5276725955892761082


def test_mirror_turns_half_of_the_images() -> None:
    x = torch.rand(1000, 1, 2, 3)
    y = flip_randomly(x, torch.Generator().manual_seed(0))
    turned = (y == x.flip(-1)).all(-1).all(-1).all(-1)
    assert torch.equal(y[~turned], x[~turned])
    assert 440 < int(turned.sum()) < 560


def test_turn_turns_by_each_number_of_quarters() -> None:
    x = torch.rand(1000, 2, 5, 5)
    y = rotate_randomly(x, torch.Generator().manual_seed(0))
    quarters = [(y == x.rot90(k, (-2, -1))).flatten(1).all(1) for k in range(4)]
    assert all(200 < int(found.sum()) < 300 for found in quarters)
    assert int(sum(found.sum() for found in quarters)) == 1000
    assert torch.equal(y, rotate_randomly(x, torch.Generator().manual_seed(0)))


def test_zooms_enlarge_half_of_the_images_by_up_to_the_factor() -> None:
    # a ramp's slope is divided by the factor, and its values stay among those of the ramp
    x = torch.linspace(0, 1, 64).expand(400, 3, 64, 64)
    y = zoom_randomly(x, 3, torch.Generator().manual_seed(0))
    slopes = (y[..., 32, 40] - y[..., 32, 24])[:, 0] / float(x[0, 0, 0, 40] - x[0, 0, 0, 24])
    untouched = torch.tensor([torch.equal(a, b) for a, b in zip(y, x, strict=True)])
    assert 160 < int(untouched.sum()) < 240
    assert float(slopes[~untouched].min()) == pytest.approx(1 / 3, abs=0.02)
    assert float(slopes[~untouched].median()) == pytest.approx(1 / 2, abs=0.05)
    assert float(slopes.max()) <= 1.01
    assert (y.min(), y.max()) >= (0, 0)
    assert y.max() <= 1
    assert float(y[~untouched].mean(1).amin((1, 2)).max()) > 0.5  # not only around the center
    assert torch.equal(y, zoom_randomly(x, 3, torch.Generator().manual_seed(0)))


def test_reduces_half_of_the_images_and_cuts_the_others_anywhere() -> None:
    x = torch.rand(400, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    y = reduce_randomly(x, 2, torch.Generator().manual_seed(1))
    assert y.shape == (400, 3, 4, 6)
    reduced = (y - x.unflatten(-1, (6, 2)).unflatten(-3, (4, 2)).mean((-1, -3))).abs().amax((1, 2, 3)) < 1e-6
    assert 160 < int(reduced.sum()) < 240
    places = set()
    for image, part in zip(x[~reduced], y[~reduced], strict=True):
        found = [(r, c) for r in range(5) for c in range(7) if torch.equal(image[:, r : r + 4, c : c + 6], part)]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) == 5 * 7
    assert torch.equal(y, reduce_randomly(x, 2, torch.Generator().manual_seed(1)))


def test_a_recipe_that_reduces_needs_images_that_can_be_halved() -> None:
    recipe = parse_recipe({"noise": "none", "spec": "dae-s", "training": {"reduce": 2}})
    objective = DenoisingObjective(recipe, (16, 16), torch.device("cpu"))
    clean, noisy = objective.transform(torch.rand(4, 3, 16, 16), 0, 0.0)
    assert clean.shape == noisy.shape == (4, 3, 8, 8)
    with pytest.raises(ValueError, match=r"data\.crop is 36; .* with training\.reduce=2 needs multiples of 8"):
        parse_recipe({"spec": "dae-s", "data": {"name": "folder:x", "crop": 36}, "training": {"reduce": 2}})
    images = ImageSet("black", np.zeros((20, 3, 12, 12), np.uint8), np.zeros(20, np.int64), ("one",))
    with pytest.raises(ValueError, match=r"with training\.reduce=2 needs multiples of 8"):
        select_images(recipe, Dataset("black", images, None, images, ("one",), ""))


def test_a_recipes_zoom_reaches_the_training_images() -> None:
    recipe = parse_recipe({"noise": "none", "spec": "dae-s", "training": {"zoom": 4}})
    objective = DenoisingObjective(recipe, (16, 16), torch.device("cpu"))
    x = torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    clean, noisy = objective.transform(x, 0, 0.0)
    changed = [not torch.equal(a, b) for a, b in zip(clean, x, strict=True)]
    assert 8 < sum(changed) < 24
    assert torch.equal(clean, noisy)


def test_an_epoch_has_several_crops_of_each_picture(tmp_path: Path) -> None:
    album = tmp_path / "album"
    album.mkdir()
    for i in range(12):
        picture = np.random.default_rng(i).integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(picture).save(album / f"{i:02}.png")
    fields = {"data": {"name": f"folder:{album}", "crop": 16, "crops": 6}, "spec": {"stages": [4]}}
    wanted = parse_recipe(fields | {"training": {"epochs": 1, "batch": 8, "turns": True}})
    train, val = select_images(wanted, load_dataset(wanted.data.name, crop=16))
    assert (len(train), len(val)) == (60, 1)  # of 12 pictures, one is to test on and one to validate on
    feed = BatchLoader(train, 8, seed=3, device=CPU)
    first, second = (torch.cat(list(feed.epoch(epoch))) for epoch in (0, 1))
    assert len({crop.numpy().tobytes() for crop in torch.cat([first, second])}) > 110
    assert torch.equal(torch.cat(list(feed.epoch(1, start=5))), second[40:])
    trained = fit_denoiser(wanted, "crops")
    assert trained.run.best.is_file()


@pytest.mark.parametrize("images, crops, buffer", [(60, 6, 25), (60, 1, 7), (12, 6, 2)])
def test_a_bounded_shuffle_reaches_everything_and_keeps_a_pictures_crops_together(
    images: int, crops: int, buffer: int
) -> None:
    wanted = parse_recipe({"data": {"name": "folder:x", "crops": crops, "buffer": buffer}})
    reach = get_shuffle_window(wanted)
    assert reach is not None
    first, again, second = (shuffle_epoch(images, 3, epoch, reach) for epoch in (0, 0, 1))
    assert sorted(first) == list(range(images))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert reach.images % crops == 0
    assert buffer - crops < reach.images <= max(crops, buffer)
    for at in range(0, images, reach.images):
        inside = first[at : at + reach.images] // crops
        assert np.unique(inside, return_counts=True)[1].tolist() == [crops] * (len(inside) // crops)


def test_a_streamed_training_resumes_exactly(tmp_path: Path) -> None:
    for i in range(12):
        picture = np.random.default_rng(i).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{i:02}.png")
    data = {"name": f"folder:{tmp_path}", "crop": 16, "crops": 3, "buffer": 9}
    training = {"epochs": 2, "batch": 4, "precision": "float32"}
    wanted = parse_recipe({"data": data, "spec": {"stages": [4]}, "training": training})
    whole = fit_denoiser(wanted, "whole")
    assert outcome(interrupt(wanted, "resumed", 3, 5).run) == outcome(whole.run)


def test_only_square_images_are_turned(tmp_path: Path) -> None:
    np.savez(tmp_path / "wide.npz", images=np.zeros((20, 8, 16, 3), np.uint8))
    wanted = parse_recipe({"data": {"name": f"npz:{tmp_path / 'wide.npz'}"}, "training": {"turns": True}})
    with pytest.raises(ValueError, match="8x16 images; training.turns needs square ones"):
        fit_denoiser(wanted, "wide")


# Optimisers, schedules, the average


def quadratic(training: TrainingConfig, fused: bool) -> list[Tensor]:
    """Do a few steps on a toy problem, with daelab's optimizer or torch's own, unfused."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    ours = make_optimizer(layer, training)
    plain: Any = type(ours)
    options = ours.defaults | {"fused": False, "foreach": False}
    options.pop("decoupled_weight_decay" if plain is torch.optim.AdamW else "", None)
    optimiser = ours if fused else plain(layer.parameters(), **options)
    for _ in range(5):
        optimiser.zero_grad()
        (layer(torch.ones(2, 4)) ** 2).sum().backward()
        optimiser.step()
    return [parameter.detach() for parameter in layer.parameters()]


OPTIMISERS: dict[str, tuple[dict[str, Any], type, dict[str, Any]]] = {
    "adam": (
        {"betas": (0.5, 0.9), "amsgrad": True, "weight_decay": 0.1},
        torch.optim.Adam,
        {"betas": (0.5, 0.9), "amsgrad": True, "weight_decay": 0.1},
    ),
    "adamw": ({"weight_decay": 0.1}, torch.optim.AdamW, {"weight_decay": 0.1, "betas": (0.9, 0.999)}),
    "sgd": (
        {"momentum": 0.9, "weight_decay": 0.1},
        torch.optim.SGD,
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_are_torchs_with_the_recipes_numbers(name: str) -> None:
    changes, kind, options = OPTIMISERS[name]
    training = TrainingConfig(optimiser=name, lr=0.02, **changes)  # type: ignore[arg-type]
    optimiser = make_optimizer(nn.Linear(2, 2), training)
    assert type(optimiser) is kind
    assert {key: optimiser.defaults[key] for key in options} == options
    assert optimiser.defaults["lr"] == 0.02
    torch.testing.assert_close(quadratic(training, fused=True), quadratic(training, fused=False))


@pytest.mark.parametrize("shape", [(4, 4), (3, 40), (40, 3), (64, 288)])
def test_orthogonal_keeps_directions_and_evens_out_lengths(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    along = torch.diagonal(u.T @ orthogonalize(matrix) @ v.T)
    assert ((along > 0.6) & (along < 1.25)).all()


def test_muon_moves_convolutions_evenly_and_the_rest_as_adamw() -> None:
    layers = {kind: nn.Sequential(nn.Conv2d(8, 4, 3), nn.Conv2d(4, 4, 3, groups=4)) for kind in ("muon", "adamw")}
    layers["adamw"].load_state_dict(layers["muon"].state_dict())
    before = [parameter.detach().clone() for parameter in layers["muon"].parameters()]
    for kind, layer in layers.items():
        optimiser = make_optimizer(layer, TrainingConfig(optimiser=kind, lr=0.01, weight_decay=0.1))  # type: ignore[arg-type]
        layer(torch.ones(2, 8, 6, 6)).square().sum().backward()
        optimiser.step()
    after, plain = (list(layers[kind].parameters()) for kind in ("muon", "adamw"))
    # the bias, and the depthwise weight, which is no matrix
    for number in (1, 2, 3):
        torch.testing.assert_close(after[number], plain[number])
    moved = (before[0] * (1 - 0.01 * 0.1) - after[0]).flatten(1)
    lengths = torch.linalg.svdvals(moved) / (0.01 * 0.2 * 72**0.5)
    assert lengths.max() < 1.25
    # one picture of ones: the gradient has one direction
    assert lengths[0] > 0.6


def test_sgd_without_momentum_is_plain() -> None:
    assert make_optimizer(nn.Linear(2, 2), TrainingConfig(optimiser="sgd")).defaults["nesterov"] is False


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.25])
@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
def test_schedules(schedule: str, warmup: float, final: float) -> None:
    training = TrainingConfig(lr=0.2, schedule=schedule, warmup=warmup, final_lr=final)  # type: ignore[arg-type]
    rates = np.array([compute_learning_rate(training, at) for at in np.linspace(0, 1, 2001)])
    assert rates.max() == pytest.approx(0.2, rel=1e-3)
    assert rates.min() >= 0
    assert np.abs(np.diff(rates[int(2000 * warmup) + 1 :])).max() < 0.2 * 0.01
    assert rates[-1] == pytest.approx(0.2 if schedule == "constant" else 0.2 * final, abs=1e-6)
    if warmup:
        assert rates[0] < 0.001
        assert rates[250] == pytest.approx(0.1, rel=0.01)


def test_a_schedule_is_tested_for_every_name_a_recipe_takes() -> None:
    for schedule in SCHEDULES:
        assert TrainingConfig(schedule=schedule).schedule == schedule  # type: ignore[arg-type]


def test_known_rates() -> None:
    cosine = TrainingConfig(lr=1, schedule="cosine")
    assert [compute_learning_rate(cosine, at) for at in (0, 0.5, 1, 1.5)] == pytest.approx([1, 0.5, 0, 0])
    one_cycle = TrainingConfig(lr=1, schedule="one-cycle")
    assert [compute_learning_rate(one_cycle, at) for at in (0, 0.3, 0.65, 1)] == pytest.approx([0.04, 1, 0.5, 0])


def test_the_average_of_the_weights() -> None:
    network = build_network(ARCHITECTURE_PRESETS["model-b-35"], 0)
    average = WeightAverage(network, 0.9)
    bias = network.get_parameter("enc1.bias")
    expected = bias.detach().clone()
    for step in range(1, 200):
        with torch.no_grad():
            bias.add_(1)
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * bias.detach()
    torch.testing.assert_close(average.network.get_parameter("enc1.bias"), expected)
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


def _weak(kind: type[Term]) -> str:
    """Return a noise with each level at 0.1, or at its smallest valid value."""
    return str(kind(*(max(0.1, kind.bounds.get(field.name, (0.1, 0))[0]) for field in fields(kind))))


EVERY = {
    **{f"loss {name}": {"loss": name} for name in LOSSES},
    **{f"noise {n}": {"noise": _weak(kind)} for n, kind in list_terms().items()},
    **{f"architecture {name}": {"spec": name, "batch": 25} for name in ARCHITECTURE_PRESETS},
    **{f"schedule {name}": {"schedule": name} for name in SCHEDULES},
}


@pytest.mark.parametrize("case", EVERY)
def test_every_row_of_every_table_trains(case: str, tiny: Callable[..., Recipe]) -> None:
    row = fit_denoiser(tiny(epochs=1, **EVERY[case]), "a").rows[0]
    assert all(map(math.isfinite, row.values()))


def test_memory_is_kept_where_glibc_is() -> None:
    # in a process of its own, since it lasts
    code = "from daelab._util.hardware import keep_freed_memory as k; print(k(1 << 24), k(1 << 24))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept = str(sys.platform == "linux" and platform.libc_ver()[0] == "glibc")
    assert found.stdout.split() == [kept, kept]


def test_a_judge_looks_every_few_epochs_and_at_the_last() -> None:
    fields: dict[str, Any] = {
        "data": {"name": "photos", "train": 32, "val": 16},
        "spec": {"stages": [4]},
        "training": {"epochs": 3, "batch": 32, "precision": "float32"},
        "judge": {"name": "photos", "every": 2, "images": 8},
    }
    ledger = Ledger()
    done = fit_denoiser(parse_recipe(fields), "judged", ledger=ledger)
    scored = {row["epoch"]: row.get("val_f1") for row in done.rows}
    assert scored[1] is None
    assert all(0 <= scored[epoch] <= 1 for epoch in (2, 3))
    rows = done.run.read_metrics()
    assert [row.get("val_f1") for row in rows] == list(scored.values())
    assert ledger.get_run("judged")["val_f1"] in (scored[2], scored[3])
    assert "val_f1" not in fit_denoiser(parse_recipe(fields | {"judge": None}), "alone").run.metrics.read_text()


def test_a_judge_that_is_not_there_is_said_before_any_training(tiny: Callable[..., Recipe]) -> None:
    with pytest.raises(FileNotFoundError, match=r"classifier nowhere\.onnx: the file does not exist"):
        fit_denoiser(tiny(judge={"name": "nowhere.onnx"}), "judged")
    assert not get_run_folder("judged").path.exists() or not get_run_folder("judged").metrics.exists()


def test_checkpoints_come_when_they_are_due(tiny: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    save = TrainingState.save
    monkeypatch.setattr(TrainingState, "save", lambda state, *rest: (saved.append(state.step), save(state, *rest)))
    fit_denoiser(tiny(epochs=5), "epochs", checkpoint_every=parse_checkpoint_schedule("2"))
    assert saved == [2 * STEPS, 4 * STEPS, 5 * STEPS]
    saved.clear()
    fit_denoiser(tiny(), "minutes", checkpoint_every=parse_checkpoint_schedule("0.0000001m"))
    assert saved == [*range(1, 2 * STEPS + 1), 2 * STEPS]
    assert outcome(get_run_folder("minutes")) == outcome(fit_denoiser(tiny(), "plain").run)


@pytest.mark.parametrize("text", ["0", "0m", "-1", "m", "1h", "", "1.5"])
def test_a_wrong_interval_of_checkpoints(text: str) -> None:
    with pytest.raises(ValueError, match="write a number of epochs, such as 5, or of minutes, such as 10m"):
        parse_checkpoint_schedule(text)


def test_a_checkpoint_that_comes_back_different_never_takes_the_place_of_a_good_one(
    tiny: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fit_denoiser(tiny(epochs=1), "a").run
    before = run.checkpoint.read_bytes()
    header, tensors = read_tensors(run.checkpoint)
    load = tensor_file.load_file
    monkeypatch.setattr(tensor_file, "load_file", lambda path: load(path) | {"loss_sum": torch.ones(())})
    with pytest.raises(OSError, match="the file on disk differs from what was written"):
        write_tensors(run.checkpoint, tensors, header | {"step": 9})
    assert run.checkpoint.read_bytes() == before
    assert [path.name for path in run.path.glob(".*")] == []


@pytest.mark.parametrize(
    "error, message",
    [
        (OSError(28, "No space left on device", "x"), "No space left on device"),
        (MemoryError(), "MemoryError"),
        (RuntimeError("[enforce fail] not enough memory: you tried to allocate"), "not enough memory"),
    ],
    ids=["disk", "memory", "torch's memory"],
)
def test_what_ends_a_run_is_in_the_ledger_and_the_last_good_state_is_there(
    error: Exception, message: str, tiny: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        if len(saved) == 1:
            raise error
        saved.append(1)
        save(*_)

    saved: list[int] = []
    save = TrainingState.save
    monkeypatch.setattr(TrainingState, "save", fail)
    ledger = Ledger()
    with pytest.raises(type(error)):
        fit_denoiser(tiny(epochs=3), "a", ledger=ledger)
    row = ledger.get_run("a")
    assert row["status"] == "failed"
    assert message in row["reason"]
    monkeypatch.setattr(TrainingState, "save", save)
    again = fit_denoiser(tiny(epochs=3), "a", resume=True, ledger=ledger)
    assert outcome(again.run) == outcome(fit_denoiser(tiny(epochs=3), "b").run)
