"""The boards: what the leaderboard of each data set measures and shows, as data."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from daelab.denoising.classical import CLASSICAL_METHODS, CLASSICAL_PREFIX
from daelab.errors import make_unknown_name_error

CROP_SIDE = 128
"""The side of a crop, in pixels."""


@dataclass(frozen=True)
class Crop:
    """A part of a test picture that shows the strengths and weaknesses of a denoiser."""

    what: str
    """The title of the crop."""
    image: int
    """The index of the picture in the test set."""
    top: int
    """The first row, in pixels."""
    left: int
    """The first column, in pixels."""


@dataclass(frozen=True)
class Board:
    """The noises, classifiers and crops of a leaderboard."""

    noises: tuple[str, ...]
    """The noises whose mean PSNR ranks the models. Classifiers score the images under the first one."""
    unseen: tuple[str, ...]
    """Other noises, for most of which the models were not trained; they show how well a model generalizes."""
    judges: tuple[str, ...] = ()
    """The names of the classifiers; those that do not ship are skipped."""
    crops: tuple[Crop, ...] = ()
    """The crops that are shown side by side, under the middle one of the noises."""
    made_on: str = "cifar10"
    """The data set of the training of the shipped models that take part by default."""
    tuned_on: str = ""
    """The data set that the classical methods are tuned on, if this one has no training images."""
    filters: tuple[str, ...] | None = None
    """The names of the classical methods that take part by default; None for all."""
    unseen_images: int | None = None
    """The number of test images under the unseen noises; None for all."""
    raw: bool = False
    """Whether classical methods get no correction of gain and offset; for zero-mean noise it only loses contrast."""

    @property
    def shown(self) -> str:
        """The noise of the crops."""
        return self.noises[len(self.noises) // 2]

    @property
    def classical(self) -> tuple[str, ...]:
        """The names of the classical methods; each is tuned under each noise. BM3D takes part if it is installed."""
        filters = CLASSICAL_METHODS if self.filters is None else self.filters
        names = (name for name in filters if name != "bm3d" or find_spec("bm3d"))
        return tuple(f"{CLASSICAL_PREFIX}{name}{',raw' if self.raw else ''}" for name in names)


BOARDS = {
    "cifar10": Board(
        ("published-code",),
        (
            "table-1",
            "gaussian(0.5, 0.05)",
            "gaussian(0, 0.1)",
            "multiplicative(0.8, 0.8)",
            "salt-and-pepper(0.05)",
            "poisson(30)",
        ),
        ("builtin", "holdout", "unseen"),
        # One of each kind, since the classifiers take minutes for each.
        filters=("nlm", "wavelet", "wiener", "bm3d"),
        unseen_images=2000,
    ),
    "cbsd68": Board(
        ("awgn(15)", "awgn(25)", "awgn(50)"),
        ("awgn(75)", "awgn(25) > quantised", "camera(0.01..0.02, 0.005..0.01)", "published-code"),
        crops=(
            Crop("letters", 39, 0, 250),
            Crop("flat sky", 65, 130, 290),
            Crop("edges", 13, 130, 330),
            Crop("skin", 33, 170, 90),
            Crop("fur", 6, 90, 150),
        ),
        made_on="cbsd432",
        tuned_on="cbsd432",
        # Those that are usual for photographs; the others would take an hour.
        filters=("nlm", "wavelet", "bm3d"),
        raw=True,
    ),
    "photos": Board(("published-code",), ("salt-and-pepper(0.05)",), ("photos",)),
    # Pairs have noise of their own, under which classical methods cannot be tuned.
    "paired:PATH": Board(("none",), (), made_on="cbsd432", filters=()),
}
"""The boards by the name of the data set."""


def find_board(data: str) -> Board:
    """Return the board of a data set.

    Args:
        data: The name of the data set.

    Raises:
        ValueError: The data set has no board.
    """
    kind, colon, _ = data.partition(":")
    name = f"{kind}:PATH" if colon else kind
    if name not in BOARDS:
        raise make_unknown_name_error("leaderboard", data, BOARDS)
    return BOARDS[name]
