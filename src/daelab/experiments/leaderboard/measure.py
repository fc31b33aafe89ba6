"""The measurement of every model under the noises of a board."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from daelab._util.hardware import keep_freed_memory
from daelab.datasets.base import Dataset, Images
from daelab.datasets.registry import load_dataset
from daelab.datasets.splits import split_dataset
from daelab.denoising.automatic import AUTOMATIC, AUTOMATIC_NAMES, AnyDenoiser, load_model
from daelab.denoising.backends import Backend
from daelab.denoising.classical import CLASSICAL_PREFIX, parse_classical_method, tune_classical_method
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.named_models import find_model
from daelab.evaluation.classifiers.classifier import Classifier
from daelab.evaluation.classifiers.registry import list_shipped_classifiers, load_classifier
from daelab.evaluation.classifiers.scores import ClassifierScores
from daelab.evaluation.evaluate import EvaluationScores, evaluate_denoiser, iterate_noisy_batches
from daelab.evaluation.f1 import Ints
from daelab.evaluation.image_selection import select_test_images, take_representative
from daelab.evaluation.metrics import check_requested_metrics
from daelab.experiments.leaderboard.boards import CROP_SIDE, Board, find_board
from daelab.experiments.leaderboard.cache import RowCache, describe_measurement
from daelab.experiments.leaderboard.row import Bytes, LeaderboardRow
from daelab.models.external import split_model_name
from daelab.models.model_file import read_model_metadata
from daelab.models.registry import list_shipped_models, shorten_model_name
from daelab.noise.base import Noise
from daelab.noise.grammar import parse_noise

TUNING = 64
"""The side in pixels of the crops of another data set that classical methods are tuned on."""
PHOTOGRAPHS = "cbsd432"
"""The training data of the models that the automatic choice takes for photographs."""
NOTHING = "noisy"
"""The name of the row of the noisy pictures without denoising."""
TIMED_BATCH, TIMED_BATCHES = 32, 7
"""The number of images in a batch, and the number of batches, whose median gives a model's speed."""

MessageCallback = Callable[[str], None]
"""A function that is called with one line on the next step."""
CountCallback = Callable[[int, int], None]
"""A function that is called with the numbers of images done and of all images."""


@dataclass(frozen=True)
class LeaderboardRequest:
    """The request of a leaderboard."""

    data: str = "cifar10"
    """The name of the data set, which has a board."""
    data_root: Path | None = None
    """The folder of downloaded data sets."""
    models: tuple[str, ...] = ()
    """Names of models, files or runs. Default: the shipped models for such images, and the classical methods."""
    checkpoints: Path | None = None
    """The folder of the paper's .pt files; None to leave them out."""
    limit: int | None = None
    """The number of test images: the first, or evenly spaced ones of a sorted set; None for all."""
    seed: int = 0
    """The seed of the noise."""
    kept: Path | None = None
    """The folder of the cache; None for no cache."""
    fresh: bool = False
    """Whether to measure everything again and ignore the cache."""
    metrics: tuple[str, ...] = ()
    """Metrics beside the usual ones: `lpips`, `dists` or `niqe`, which need the package pyiqa."""


def measure_leaderboard(
    request: LeaderboardRequest, say: MessageCallback, count: CountCallback
) -> tuple[Board, list[LeaderboardRow]]:
    """Score every model.

    Args:
        request: The request.
        say: Called with one line on the next step.
        count: Called with the numbers of images done and of all images, for each model.

    Returns:
        the board, and the rows, the highest PSNR first.

    Raises:
        ValueError: The data set has no board, or a model or a classifier cannot be loaded.
        FileNotFoundError: There is no such model, or `checkpoints` holds none.
    """
    board, metrics = find_board(request.data), check_requested_metrics(request.metrics)
    names = list_contenders(request, board)
    _check_contenders(names)
    say(f"loading {request.data}")
    classical = any(name.startswith(CLASSICAL_PREFIX) and not parse_classical_method(name).complete for name in names)
    dataset = load_dataset(request.data, request.data_root, train=classical)
    tuning = dataset
    if classical and board.tuned_on:
        tuning = load_dataset(board.tuned_on, request.data_root, crop=TUNING)
    asked = [name for name in board.judges if name in list_shipped_classifiers()]
    images, selection = select_test_images(dataset, request.limit)
    if selection:
        say(f"test images: {selection}")
    keep_freed_memory()
    cache = RowCache(request.kept, describe_measurement(board, images, request.seed, asked, metrics), images)
    loaded = [load_classifier(name).on(images.classes, images.name) for name in asked]
    measurement = _Measurement(board, tuning, images, request.seed, loaded, metrics)
    kept = {name: path for name, path in names.items() if not request.fresh and not _is_changing(name)}
    rows = {name: row for name, path in kept.items() if (row := cache.read(name, path))}
    # Before any row is measured, so that no classifier runs on the clean images a second time.
    measurement.reuse_predictions(rows.values())
    for name, path in names.items():
        if name in rows:
            say(f"{name}: already measured")
            continue
        say(f"evaluating {name}")
        rows[name] = measurement.measure_row(name, path, count)
        # Stored after each row, so that an interruption loses only the row at work.
        if not _is_changing(name):
            cache.write(rows[name], path)
    say("timing")
    return board, sorted(measurement.add_speeds(rows, names), key=lambda row: -float(row.psnrs(board.noises).mean()))


def list_contenders(request: LeaderboardRequest, board: Board) -> dict[str, Path | None]:
    """List the models that a request ranks.

    Args:
        request: The request.
        board: The board.

    Returns:
        the file of each model by its name; None for the noisy pictures, classical methods and code of the user.

    Raises:
        FileNotFoundError: There is no such model, or `checkpoints` holds none.
    """
    papers: dict[str, Path | None] = {}
    if request.checkpoints is not None:
        papers = {f"paper/{path.stem}": path for path in sorted(request.checkpoints.glob("*.pt"))}
        if not papers:
            reason = "it holds no .pt file" if request.checkpoints.is_dir() else "the folder does not exist"
            raise FileNotFoundError(f"--paper-checkpoints {request.checkpoints}: {reason}")
    models: dict[str, Path | None] = {NOTHING: None}
    if request.models:
        named = {name: None if _is_without_file(name) else find_model(name) for name in request.models}
        return models | named | papers
    for name, path in list_shipped_models().items():
        if read_model_metadata(path).data.get("name") == board.made_on:
            models[shorten_model_name(name)] = path
    # What daelab denoise does by default takes part where its models do.
    automatic = {AUTOMATIC: None} if any(models.values()) and board.made_on == PHOTOGRAPHS else {}
    return models | automatic | papers | dict.fromkeys(board.classical)


def _is_code(name: str) -> bool:
    return split_model_name(name)[0] is not None


def _is_without_file(name: str) -> bool:
    return name.startswith(CLASSICAL_PREFIX) or _is_changing(name)


def _is_changing(name: str) -> bool:
    """Return whether what a name stands for may change between two measurements, so that no row of it is cached."""
    return _is_code(name) or name in AUTOMATIC_NAMES


def _check_contenders(names: Mapping[str, Path | None]) -> None:
    """Raise a ValueError if a model or a classical method cannot be loaded, before the first one is measured."""
    for name, path in names.items():
        if path or _is_changing(name):
            load_model(path or name)
        elif name != NOTHING:
            parse_classical_method(name)


@dataclass
class _Measurement:
    """The images, the seed and the classifiers that all rows share."""

    board: Board
    tuning: Dataset
    images: Images
    seed: int
    asked: Sequence[Classifier]
    metrics: Sequence[str] = ()

    def __post_init__(self) -> None:
        self._predictions: dict[str, tuple[Ints, Ints]] = {}
        """By classifier, the classes of the clean and of the noisy images, which are the same for every model."""
        few = self.board.unseen_images or len(self.images)
        self.unseen_images = take_representative(self.images, few)
        """The images under unseen noises."""

    def reuse_predictions(self, rows: Iterable[LeaderboardRow]) -> None:
        """Take the predicted classes of the clean and the noisy images from cached rows."""
        for row in rows:
            self._predictions |= {name: (kinds.clean, kinds.noisy) for name, kinds in row.judged.items()}

    def measure_row(self, name: str, path: Path | None, count: CountCallback) -> LeaderboardRow:
        """Score a model."""
        named = path or (name if _is_code(name) else None)
        network = Denoiser.load(named).method.network if named else None
        scores: dict[str, EvaluationScores] = {}
        judged: dict[str, ClassifierScores] = {}
        crops, method, parameters = dict[str, tuple[Bytes, Bytes]](), "", 0
        for text in (*self.board.noises, *self.board.unseen):
            noise = parse_noise(text)
            denoiser = self._denoiser(name, path, noise)
            recorder, parameters = _Recorder(denoiser), denoiser.parameters
            images = self.images if text in self.board.noises else self.unseen_images
            scores[text] = evaluate_denoiser(
                recorder,
                images,
                noise,
                seed=self.seed,
                device=denoiser.device,
                metrics=self.metrics,
                progress=count,
            )
            if text == self.board.shown:
                crops = _cut_crops(self.board, self.images, recorder.outputs)
            if text == self.board.noises[0]:
                outputs = None if name == NOTHING else recorder.outputs
                judged = {judge.name: self._classify(judge, outputs) for judge in self.asked}
                # A tuned method is named with its settings.
                method = denoiser.name if name.startswith(CLASSICAL_PREFIX) else ""
        side = 256
        macs = network.spec.macs(side, side) / side**2 if network else None
        return LeaderboardRow(
            name, parameters, macs, path.stat().st_size if path else None, scores, judged, crops, method
        )

    def add_speeds(self, rows: Mapping[str, LeaderboardRow], names: Mapping[str, Path | None]) -> list[LeaderboardRow]:
        """Return the rows with their images per second under the first noise: the median of a few batches.

        The models alternate batch by batch, so that other work on the computer affects all of them alike.
        """
        noise = parse_noise(self.board.noises[0])
        denoisers = {name: self._denoiser(row.method or name, names[name], noise) for name, row in rows.items()}
        seconds: dict[str, list[float]] = {name: [] for name in rows}
        for batch in islice(iterate_noisy_batches(self.images, noise, self.seed, TIMED_BATCH), TIMED_BATCHES):
            for name, denoiser in denoisers.items():
                noisy = batch.noisy.to(denoiser.device)
                # The clock ends after the copy to the CPU, which waits for the device.
                began = time.perf_counter()
                denoiser.batch(noisy).cpu()
                seconds[name].append((time.perf_counter() - began) / len(noisy))
        # The median excludes the first batch of each model, which is slower.
        return [
            replace(row, images_per_second=1 / max(float(np.median(seconds[name])), 1e-9)) for name, row in rows.items()
        ]

    def _denoiser(self, name: str, path: Path | None, noise: Noise) -> AnyDenoiser:
        if path or _is_changing(name):
            return load_model(path or name, precision="float32")
        if name == NOTHING:
            return Denoiser(Backend(NOTHING, lambda x: x.clone()))
        method = parse_classical_method(name)
        if not method.complete:
            method = tune_classical_method(method, *split_dataset(self.tuning, None, None, seed=0), noise).baseline
        return Denoiser(method.method())

    def _classify(self, judge: Classifier, outputs: Sequence[Tensor] | None) -> ClassifierScores:
        """Predict the classes of the denoised images (None if they stay noisy), and of the clean and noisy ones."""
        if judge.name not in self._predictions:
            noise = parse_noise(self.board.noises[0])
            batches = iterate_noisy_batches(self.images, noise, self.seed)
            pairs = [(judge(batch.clean), judge(batch.noisy.clamp(0, 1))) for batch in batches]
            clean, noisy = (torch.cat(classes).numpy() for classes in zip(*pairs, strict=True))
            self._predictions[judge.name] = clean, noisy
        clean, noisy = self._predictions[judge.name]
        denoised = (
            noisy.copy() if outputs is None else torch.cat([judge(batch.clamp(0, 1)) for batch in outputs]).numpy()
        )
        return ClassifierScores(judge.name, self.images.classes, self.images.labels, clean, noisy, denoised, self.seed)


class _Recorder:
    """A denoiser that keeps its outputs."""

    def __init__(self, denoiser: AnyDenoiser) -> None:
        self.denoiser = denoiser
        self.outputs: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        denoised = self.denoiser.batch(x)
        self.outputs.append(denoised.cpu())
        return denoised


def _cut_crops(board: Board, images: Images, outputs: Sequence[Tensor]) -> dict[str, tuple[Bytes, Bytes]]:
    """Cut the board's crops out of the clean and the denoised pictures, as far as these were measured."""
    flat = [image for batch in outputs for image in batch]
    crops = {}
    for crop in board.crops:
        if crop.image < len(flat):
            window = np.s_[:, crop.top : crop.top + CROP_SIDE, crop.left : crop.left + CROP_SIDE]
            clean = images.batch(np.array([crop.image]))[0]
            model = flat[crop.image].clamp(0, 1).mul(255).round().byte().cpu().numpy()
            crops[crop.what] = (clean[window], model[window])
    return crops
