"""What the leaderboard of a data set shows, as data."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from daelab.denoising.classical import CLASSICAL_METHODS, CLASSICAL_PREFIX

SIDE = 128
"""Of a crop, in pixels."""


@dataclass(frozen=True)
class Crop:
    """A part of a test picture that shows what a denoiser does well or badly."""

    what: str
    image: int
    """Its place in the set."""
    top: int
    left: int


@dataclass(frozen=True)
class Board:
    """Noises and judges."""

    noises: tuple[str, ...]
    """Models are ranked by their mean PSNR under these; judges look at the first."""
    unseen: tuple[str, ...]
    """Other noises, most of which the models were not made for, so that nobody is misled about what generalises."""
    judges: tuple[str, ...] = ()
    """Those of them that ship are asked."""
    crops: tuple[Crop, ...] = ()
    """Shown side by side, under the middle one of the noises."""
    made_on: str = "cifar10"
    """The data set that the models that take part by themselves were trained on."""
    tuned_on: str = ""
    """The data set that the classical methods are tuned on, where this one has no training part."""
    filters: tuple[str, ...] = tuple(CLASSICAL_METHODS)
    """Of the classical methods, those that take part by themselves."""
    unseen_images: int | None = None
    """How many test images the unseen noises are put on, from the first; None for all."""
    raw: bool = False
    """Classical methods without a correction of gain and offset: the fit of a zero-mean noise only loses contrast."""

    @property
    def shown(self) -> str:
        """The noise that the crops are shown under."""
        return self.noises[len(self.noises) // 2]

    @property
    def classical(self) -> tuple[str, ...]:
        """Each is tuned under each noise. BM3D takes part where it is installed."""
        names = (name for name in self.filters if name != "bm3d" or find_spec("bm3d"))
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
        ("builtin", "holdout"),
        # of each kind one: judging any takes minutes
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
        # those that photographs are usually denoised by; the others would take an hour
        filters=("nlm", "wavelet", "bm3d"),
        raw=True,
    ),
    "photos": Board(("published-code",), ("salt-and-pepper(0.05)",), ("photos",)),
}
"""By the name of the data set."""
