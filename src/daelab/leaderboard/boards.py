"""What the leaderboard of a data set shows, as data."""

from __future__ import annotations

from dataclasses import dataclass

from daelab.baselines import FILTERS


@dataclass(frozen=True)
class Board:
    """Noises and judges."""

    noises: tuple[str, ...]
    """Models are ranked by their mean PSNR under these; judges look at the first."""
    unseen: tuple[str, ...]
    """Noises that the data set's models were not made for, so that nobody is misled about what generalises."""
    judges: tuple[str, ...] = ()
    """Those of them that ship are asked."""


CLASSICAL = tuple(f"baseline:{name}" for name in FILTERS if name != "bm3d")
"""Each is tuned under each noise. BM3D takes part where it is installed."""

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
    ),
    "cbsd68": Board(
        ("awgn(15)", "awgn(25)", "awgn(50)"),
        ("awgn(75)", "awgn(25) > quantised", "camera(0.01..0.02, 0.005..0.01)", "published-code"),
    ),
    "photos": Board(("published-code",), ("salt-and-pepper(0.05)",), ("photos",)),
}
"""By the name of the data set."""
