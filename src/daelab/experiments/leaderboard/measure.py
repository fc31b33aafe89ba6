"""Every model under the noises of a board."""

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
from daelab.denoising.backends import Backend
from daelab.denoising.classical import CLASSICAL_PREFIX, parse_classical_method, tune_classical_method
from daelab.denoising.denoiser import Denoiser, find_model
from daelab.errors import unknown_name
from daelab.evaluation.classifiers.classifier import Classifier
from daelab.evaluation.classifiers.registry import list_shipped_classifiers, load_classifier
from daelab.evaluation.classifiers.scores import ClassifierScores
from daelab.evaluation.evaluate import EvaluationScores, evaluate_denoiser, iterate_noisy_batches
from daelab.evaluation.f1 import Ints
from daelab.experiments.leaderboard.boards import BOARDS, SIDE, Board
from daelab.experiments.leaderboard.cache import RowCache, describe_measurement
from daelab.experiments.leaderboard.row import Bytes, LeaderboardRow
from daelab.models.model_file import load_network, read_model_metadata
from daelab.models.registry import list_shipped_models, shorten_model_name
from daelab.noise.base import Noise
from daelab.noise.grammar import parse_noise

TUNING = 64
"""Side of the crops that classical methods are tuned on, in another data set: they look further than 32 pixels."""
NOTHING = "noisy"
"""The row of the pictures as they are."""
TIMED_BATCH, TIMED_BATCHES = 32, 7
"""Images of a batch, and batches, whose median is a model's speed."""

MessageCallback = Callable[[str], None]
CountCallback = Callable[[int, int], None]


@dataclass(frozen=True)
class LeaderboardRequest:
    """What to rank, on what."""

    data: str = "cifar10"
    data_root: Path | None = None
    models: tuple[str, ...] = ()
    """Names, files or runs; where there are none, every model that ships and was made for such images, and the
    classical methods."""
    checkpoints: Path | None = None
    """Folder of the paper's .pt files."""
    limit: int | None = None
    """Only the first so many test images."""
    seed: int = 0
    kept: Path | None = None
    """Folder of what was measured before, which is not measured again; None keeps nothing."""
    fresh: bool = False
    """Measure everything anew."""


def measure_leaderboard(
    request: LeaderboardRequest, say: MessageCallback, count: CountCallback
) -> tuple[Board, list[LeaderboardRow]]:
    """Score every model; the best PSNR comes first.

    Args:
        say: told what comes next.
        count: told (images done, images in all) of each.

    Raises:
        ValueError: a data set without a board, or a model or a judge that does not load.
        FileNotFoundError: no such model, or `checkpoints` is no folder.
    """
    if request.data not in BOARDS:
        raise unknown_name("leaderboard", request.data, BOARDS)
    board = BOARDS[request.data]
    names = list_contenders(request, board)
    say(f"loading {request.data}")
    classical = any(name.startswith(CLASSICAL_PREFIX) and not parse_classical_method(name).complete for name in names)
    dataset = load_dataset(request.data, request.data_root, train=classical)
    tuning = dataset
    if classical and board.tuned_on:
        tuning = load_dataset(board.tuned_on, request.data_root, crop=TUNING)
    asked = [name for name in board.judges if name in list_shipped_classifiers()]
    images = (
        dataset.test if request.limit is None else dataset.test.take(np.arange(min(request.limit, len(dataset.test))))
    )
    keep_freed_memory()
    kept = RowCache(request.kept, describe_measurement(board, images, request.seed, asked), images)
    loaded = [load_classifier(name).on(images.classes, images.name) for name in asked]
    table = _Table(board, tuning, images, request.seed, loaded)
    rows = {name: row for name, path in names.items() if not request.fresh and (row := kept.read(name, path))}
    table.know(rows.values())
    for name, path in names.items():
        if name in rows:
            say(f"{name}: measured before")
            continue
        say(f"evaluating {name}")
        rows[name] = table.row(name, path, count)
        kept.write(rows[name], path)
    say("timing")
    return board, sorted(table.timed(rows, names), key=lambda row: -float(row.psnrs(board.noises).mean()))


def list_contenders(request: LeaderboardRequest, board: Board) -> dict[str, Path | None]:
    """Whom a request ranks: name -> file; None for what has none.

    Raises:
        FileNotFoundError: no such model, or `checkpoints` is no folder.
    """
    if request.checkpoints is not None and not request.checkpoints.is_dir():
        raise FileNotFoundError(f"--paper-checkpoints {request.checkpoints}: no such folder")
    found: dict[str, Path | None] = {NOTHING: None}
    if request.models:
        return found | {
            name: None if name.startswith(CLASSICAL_PREFIX) else find_model(name) for name in request.models
        }
    for name, path in list_shipped_models().items():
        if read_model_metadata(path).data.get("name") == board.made_on:
            found[shorten_model_name(name)] = path
    if request.checkpoints:
        found |= {f"paper/{path.stem}": path for path in sorted(request.checkpoints.glob("*.pt"))}
    return found | dict.fromkeys(board.classical)


@dataclass
class _Table:
    """What all rows share."""

    board: Board
    tuning: Dataset
    images: Images
    seed: int
    asked: Sequence[Classifier]

    def __post_init__(self) -> None:
        self._said: dict[str, tuple[Ints, Ints]] = {}
        """By judge, what it says of the clean and of the noisy images, which are the same for every model."""
        few = self.board.unseen_images or len(self.images)
        self.elsewhere = self.images.take(np.arange(few)) if few < len(self.images) else self.images
        """Of the images, those that are put under unseen noises."""

    def know(self, rows: Iterable[LeaderboardRow]) -> None:
        """Take from rows what judges said of the images as they are."""
        for row in rows:
            self._said |= {name: (said.clean, said.noisy) for name, said in row.judged.items()}

    def row(self, name: str, path: Path | None, count: CountCallback) -> LeaderboardRow:
        """Score a model."""
        spec = load_network(path)[1].spec if path and path.suffix != ".onnx" else None
        scores: dict[str, EvaluationScores] = {}
        judged: dict[str, ClassifierScores] = {}
        crops, method, parameters = dict[str, tuple[Bytes, Bytes]](), "", 0
        for text in (*self.board.noises, *self.board.unseen):
            noise = parse_noise(text)
            denoiser = self._denoiser(name, path, noise)
            heard, parameters = _Heard(denoiser), denoiser.parameters
            images = self.images if text in self.board.noises else self.elsewhere
            scores[text] = evaluate_denoiser(
                heard, images, noise, seed=self.seed, device=denoiser.device, progress=count
            )
            if text == self.board.shown:
                crops = _crops(self.board, self.images, heard.given)
            if text == self.board.noises[0]:
                given = None if name == NOTHING else heard.given
                judged = {judge.name: self._judged(judge, given) for judge in self.asked}
                method = "" if path else denoiser.method.name
        side = 256
        macs = spec.macs(side, side) / side**2 if spec else None
        return LeaderboardRow(
            name, parameters, macs, path.stat().st_size if path else None, scores, judged, crops, method
        )

    def timed(self, rows: Mapping[str, LeaderboardRow], names: Mapping[str, Path | None]) -> list[LeaderboardRow]:
        """The rows with their images per second under the first noise: the median of a few batches.

        The models take turns batch by batch, so that what else the machine does falls on all of them.
        """
        noise = parse_noise(self.board.noises[0])
        denoisers = {name: self._denoiser(row.method or name, names[name], noise) for name, row in rows.items()}
        seconds: dict[str, list[float]] = {name: [] for name in rows}
        for made in islice(iterate_noisy_batches(self.images, noise, self.seed, TIMED_BATCH), TIMED_BATCHES):
            for name, denoiser in denoisers.items():
                noisy = made.noisy.to(denoiser.device)
                began = time.perf_counter()
                denoiser.batch(noisy).cpu()
                seconds[name].append((time.perf_counter() - began) / len(noisy))
        # the median leaves out each one's beginnings
        return [
            replace(row, images_per_second=1 / max(float(np.median(seconds[name])), 1e-9)) for name, row in rows.items()
        ]

    def _denoiser(self, name: str, path: Path | None, noise: Noise) -> Denoiser:
        if path:
            return Denoiser.load(path)
        if name == NOTHING:
            return Denoiser(Backend(NOTHING, lambda x: x.clone()))
        baseline = parse_classical_method(name)
        if not baseline.complete:
            baseline = tune_classical_method(baseline, *split_dataset(self.tuning, None, None, seed=0), noise).baseline
        return Denoiser(baseline.method())

    def _judged(self, judge: Classifier, given: Sequence[Tensor] | None) -> ClassifierScores:
        """What a judge says of images as a model gave them back (None: left them), beside what it says without."""
        if judge.name not in self._said:
            noise = parse_noise(self.board.noises[0])
            made = iterate_noisy_batches(self.images, noise, self.seed)
            pairs = [(judge(batch.clean), judge(batch.noisy.clamp(0, 1))) for batch in made]
            clean, noisy = (torch.cat(said).numpy() for said in zip(*pairs, strict=True))
            self._said[judge.name] = clean, noisy
        clean, noisy = self._said[judge.name]
        denoised = noisy.copy() if given is None else torch.cat([judge(batch.clamp(0, 1)) for batch in given]).numpy()
        return ClassifierScores(judge.name, self.images.classes, self.images.labels, clean, noisy, denoised, self.seed)


class _Heard:
    """A denoiser that remembers what it gave."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self.given: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        clean = self.denoiser.batch(x)
        self.given.append(clean.cpu())
        return clean


def _crops(board: Board, images: Images, given: Sequence[Tensor]) -> dict[str, tuple[Bytes, Bytes]]:
    """The board's crops of the pictures that there are, clean and as a model gave them back in batches."""
    flat = [image for batch in given for image in batch]
    found = {}
    for crop in board.crops:
        if crop.image < len(flat):
            window = np.s_[:, crop.top : crop.top + SIDE, crop.left : crop.left + SIDE]
            clean = images.batch(np.array([crop.image]))[0]
            model = flat[crop.image].clamp(0, 1).mul(255).round().byte().cpu().numpy()
            found[crop.what] = (clean[window], model[window])
    return found
