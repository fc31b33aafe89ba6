"""Every model under the noises of a board."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from daelab import baselines, modelfile, training
from daelab import data as datasets
from daelab import judge as judges
from daelab.denoiser import Denoiser, find
from daelab.errors import unknown
from daelab.evaluation import Evaluation, evaluate
from daelab.leaderboard.boards import BOARDS, SIDE, Board
from daelab.method import Method
from daelab.metrics import Floats, bootstrap
from daelab.noise import Noise, parse

Bytes = npt.NDArray[np.uint8]
TUNING = 64
"""Side of the crops that classical methods are tuned on, in another data set: they look further than 32 pixels."""
NOTHING = "noisy"
"""The row of the pictures as they are."""

Say = Callable[[str], None]
Count = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
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


@dataclass(frozen=True)
class Row:
    """A model, its cost and its scores."""

    name: str
    parameters: int
    macs: float | None
    """Multiplications for each pixel; None for a classical method."""
    size: int | None
    """Bytes of its file."""
    images_per_second: float
    """Under the first noise, on this machine, with all that runs beside it."""
    scores: Mapping[str, Evaluation]
    """By noise."""
    judged: Mapping[str, judges.JudgeScores]
    """By judge, under the first noise."""
    crops: Mapping[str, tuple[Bytes, Bytes]] = field(default_factory=dict)
    """By what it shows, each of the board's crops, (3, H, W): clean, and as the model gave it back."""

    def psnrs(self, noises: Iterable[str]) -> Floats:
        """dB of every image under these noises, one noise after the other."""
        return np.concatenate([self.scores[noise].psnrs for noise in noises])


@dataclass(frozen=True)
class Lead:
    """How far a model is ahead of another on the same noisy images."""

    mean: float
    """dB, mean over images."""
    ci95: tuple[float, float]
    """Bootstrap interval of the mean; images are resampled in pairs."""

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.ci95[0] > 0 or self.ci95[1] < 0


def lead(row: Row, other: Row, noises: Iterable[str], seed: int = 0) -> Lead:
    """The paired comparison of two rows by PSNR."""
    noises = tuple(noises)
    apart = row.psnrs(noises) - other.psnrs(noises)
    return Lead(float(apart.mean()), bootstrap(apart, seed=seed))


def measure(request: Request, say: Say, count: Count) -> tuple[Board, list[Row]]:
    """Score every model; the best PSNR comes first.

    Args:
        say: told what comes next.
        count: told (images done, images in all) of each.

    Raises:
        ValueError: a data set without a board, or a model or a judge that does not load.
        FileNotFoundError: no such model, or `checkpoints` is no folder.
    """
    if request.data not in BOARDS:
        raise unknown("leaderboard", request.data, BOARDS)
    board = BOARDS[request.data]
    names = contenders(request, board)
    say(f"loading {request.data}")
    classical = any(name.startswith(baselines.PREFIX) and not baselines.parse(name).complete for name in names)
    dataset = datasets.load(request.data, request.data_root, train=classical)
    tuning = dataset
    if classical and board.tuned_on:
        tuning = datasets.load(board.tuned_on, request.data_root, crop=TUNING)
    asked = [judges.load(name) for name in board.judges if name in judges.shipped()]
    images = (
        dataset.test if request.limit is None else dataset.test.take(np.arange(min(request.limit, len(dataset.test))))
    )
    training.keep_memory()
    rows = []
    for name, path in names.items():
        say(f"evaluating {name}")
        rows.append(_row(name, path, tuning, images, board, asked, request.seed, count))
    return board, sorted(rows, key=lambda row: -float(row.psnrs(board.noises).mean()))


def contenders(request: Request, board: Board) -> dict[str, Path | None]:
    """Whom a request ranks: name -> file; None for what has none.

    Raises:
        FileNotFoundError: no such model, or `checkpoints` is no folder.
    """
    if request.checkpoints is not None and not request.checkpoints.is_dir():
        raise FileNotFoundError(f"--paper-checkpoints {request.checkpoints}: no such folder")
    found: dict[str, Path | None] = {NOTHING: None}
    if request.models:
        return found | {name: None if name.startswith(baselines.PREFIX) else find(name) for name in request.models}
    for name, path in modelfile.shipped().items():
        if modelfile.read_card(path).data.get("name") == board.made_on:
            found[modelfile.short(name)] = path
    if request.checkpoints:
        found |= {f"paper/{path.stem}": path for path in sorted(request.checkpoints.glob("*.pt"))}
    return found | dict.fromkeys(board.classical)


def _row(
    name: str,
    path: Path | None,
    tuning: datasets.Dataset,
    images: datasets.Images,
    board: Board,
    asked: Sequence[judges.Judge],
    seed: int,
    count: Count,
) -> Row:
    spec = modelfile.load(path)[1].spec if path and path.suffix != ".onnx" else None
    parameters = 0
    scores: dict[str, Evaluation] = {}
    judged: dict[str, judges.JudgeScores] = {}
    speed, crops = 0.0, dict[str, tuple[Bytes, Bytes]]()
    for text in (*board.noises, *board.unseen):
        noise = parse(text)
        denoiser = Denoiser.load(path) if path else Denoiser(_method(name, tuning, noise))
        timed, parameters = _Timed(denoiser), denoiser.parameters
        first = text == board.noises[0]
        judge = asked[0] if asked and first else None
        scores[text] = evaluate(timed, images, noise, seed=seed, device=denoiser.device, judge=judge, progress=count)
        if text == board.shown:
            crops = _crops(board, images, timed.given)
        if first:
            speed = timed.images_per_second
            for each in asked:
                looked = scores[text] if each is judge else _replayed(timed, images, noise, seed, each)
                assert looked.overall.judged is not None
                judged[each.name] = looked.overall.judged
    side = 256
    macs = spec.macs(side, side) / side**2 if spec else None
    size = path.stat().st_size if path else None
    return Row(name, parameters, macs, size, speed, scores, judged, crops)


def _crops(board: Board, images: datasets.Images, given: Sequence[Tensor]) -> dict[str, tuple[Bytes, Bytes]]:
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


def _method(name: str, tuning: datasets.Dataset, noise: Noise) -> Method:
    """A classical method, tuned under a noise; or one that changes nothing."""
    if name == NOTHING:
        return Method(NOTHING, lambda x: x.clone())
    baseline = baselines.parse(name)
    if not baseline.complete:
        baseline = baselines.tune(baseline, *datasets.split(tuning, None, None, seed=0), noise).baseline
    return baseline.method()


class _Timed:
    """A denoiser that remembers what it gave and how long that took."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser = denoiser
        self.seconds: list[float] = []
        """An image of each batch."""
        self.given: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        began = time.perf_counter()
        clean = self.denoiser.batch(x)
        self.given.append(clean.cpu())
        self.seconds.append((time.perf_counter() - began) / len(x))
        return clean

    @property
    def images_per_second(self) -> float:
        """By the median batch: neither the first one's beginnings nor other work on the machine count."""
        return 1 / max(float(np.median(self.seconds)), 1e-9)


def _replayed(timed: _Timed, images: datasets.Images, noise: Noise, seed: int, judge: judges.Judge) -> Evaluation:
    """What another judge says of the same denoised images."""
    again = iter(timed.given)
    return evaluate(
        lambda x: next(again).to(x.device), images, noise, seed=seed, device=timed.denoiser.device, judge=judge
    )
