"""The style of all figures, and their files."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from daelab._util.files import replace_file
from daelab.errors import make_unknown_name_error

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""The colors of Okabe and Ito without black and yellow, which are invisible on a dark or a white page."""

CHANNELS = {"red": "#D55E00", "green": "#009E73", "blue": "#0072B2"}
"""The colors of the three channels of a picture, from the palette."""

INK, MUTED, GRID, PAPER = "#1A1D21", "#5A626C", "#DDE1E6", "#FFFFFF"
"""The colors of text, of secondary text, of grid lines and of the page."""

DARK = {INK: "#E8EAED", MUTED: "#A6AEB8", GRID: "#3A4048", PAPER: "#1C1F24", "#0072B2": "#3D9BE0"}
"""The colors that replace these on a dark page (SVG only)."""

_RC: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.h_pad": 0.07,
    "figure.constrained_layout.w_pad": 0.07,
    "figure.dpi": 160,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.edgecolor": GRID,
    "legend.facecolor": PAPER,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "font.size": 9,
    "lines.linewidth": 1.6,
    "savefig.dpi": 160,
    "svg.hashsalt": "daelab",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
}


def is_matplotlib_installed() -> bool:
    """Return whether matplotlib, which draws the figures, is installed."""
    return find_spec("matplotlib") is not None


@contextmanager
def apply_style() -> Iterator[None]:
    """Apply daelab's style, whatever the user's own settings of matplotlib are.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        from matplotlib import style
    except ImportError as error:
        raise ValueError("figures need matplotlib: pip install 'daelab[report]'") from error
    with style.context(_RC, after_reset=True):
        yield


def new_figure(width: float, height: float, layout: Literal["constrained", "compressed"]) -> Figure:
    """Create an empty figure outside of pyplot's global list of figures.

    Args:
        width: The width in inches.
        height: The height in inches.
        layout: The layout engine of matplotlib.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def save_figure(fig: Figure, path: Path) -> None:
    """Write a figure atomically as PNG or SVG, as the suffix says, and close it.

    The same figure gives the same bytes, since no date and no version is written. An SVG follows the reader's light or
    dark setting, also where a page shows it as an image.

    Args:
        fig: The figure.
        path: The file to write, `.png` or `.svg`.

    Raises:
        ValueError: The suffix is another, or matplotlib is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in {".png", ".svg"}:
        raise make_unknown_name_error("figure format", suffix or path.name, [".png", ".svg"])
    metadata = {"Software": None} if suffix == ".png" else {"Date": None, "Creator": None}
    with apply_style(), replace_file(path) as part, warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing"
        )  # a character that the font lacks is drawn as a box
        fig.savefig(part, format=suffix[1:], metadata=metadata)
        if suffix == ".svg":
            part.write_text(_themed(part.read_text(encoding="utf-8")), encoding="utf-8")
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close(fig)


def _themed(svg: str) -> str:
    """Add a rule for each color of `DARK` to an SVG, which overrides its inline styles on a dark page."""
    rules = "".join(
        f'[style*="{name}: {light.lower()}"]{{{name}: {dark.lower()} !important}}'
        for light, dark in DARK.items()
        for name in ("fill", "stroke")
    )
    return svg.replace("</style>", f"@media (prefers-color-scheme: dark){{{rules}}}</style>", 1)
