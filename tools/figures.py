"""Draw the figures of the handbook from the results that the repository keeps.

    python tools/figures.py             every SVG file that a page shows
    python tools/figures.py --readme    also the picture in the README, which the repository keeps

Figures of leaderboards are drawn from `leaderboard.csv`, figures of studies from `compare.json`, and the cost against
size from `cost.csv`. Only figures that a page refers to are drawn.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from PIL import Image

from daelab._util.files import replace_file
from daelab.experiments.compared_runs import ComparedPoint, ComparedRun
from daelab.experiments.comparison import Comparison
from daelab.experiments.comparison_page import draw_cost_figures, draw_field_figures
from daelab.experiments.fields import shorten_field_names
from daelab.experiments.leaderboard.figures import LeaderboardPoint, draw_leaderboard_figures
from daelab.experiments.leaderboard.measure import NOTHING
from daelab.experiments.reports.charts import pareto_figure
from daelab.experiments.reports.style import MUTED, PALETTE, apply_style, new_figure, save_figure

ROOT = Path(__file__).parents[1]
README_PICTURE = Path("docs/images/psnr-over-multiplications.png")
"""The picture of CIFAR-10's leaderboard in the README, relative to the repository."""
LARGEST_PICTURE = 60_000
"""The largest size of the README's picture, in bytes."""
COLORS = 32


def main() -> None:
    """Draw the figures."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--readme", action="store_true", help="draw the README's picture too")
    args = options.parse_args()
    draw_handbook_figures(ROOT)
    if args.readme:
        draw_readme_picture(ROOT)


def draw_handbook_figures(root: Path) -> list[Path]:
    """Draw every SVG file that a page under docs/ shows.

    Args:
        root: the repository, or a folder that holds a copy of its docs/.

    Returns:
        The paths of the figures, sorted.

    Raises:
        SystemExit: a page shows a figure that cannot be drawn from what the repository keeps.
    """
    wanted = set(find_shown_figures(root / "docs"))
    figures: dict[Path, Path] = {}
    with tempfile.TemporaryDirectory(prefix="daelab-figures-") as scratch:
        for place, folder in enumerate(sorted({path.parent for path in wanted})):
            out = Path(scratch) / str(place)
            out.mkdir()
            if (folder / "leaderboard.csv").is_file():
                draw_leaderboard_figures(read_leaderboard_points(folder / "leaderboard.csv"), out)
            if (folder / "compare.json").is_file():
                draw_comparison_figures(read_comparison(folder / "compare.json"), out)
            if (folder / "cost.csv").is_file():
                draw_costs(folder / "cost.csv", out / "cost.svg")
            figures |= {folder / path.name: path for path in out.glob("*.svg")}
        if missing := sorted(wanted - set(figures)):
            raise SystemExit(f"{missing[0].relative_to(root)} is shown on a page, but no data is kept to draw it from")
        for path in wanted:
            with replace_file(path) as part:
                part.write_bytes(figures[path].read_bytes())
    return sorted(wanted)


def find_shown_figures(docs: Path) -> Iterator[Path]:
    """Yield the SVG files that the pages of a folder show.

    Args:
        docs: the folder; pages in its subfolders are read too.
    """
    for page in docs.rglob("*.md"):
        for name in re.findall(r"!\[[^\]]*\]\(([^):]+\.svg)\)", page.read_text(encoding="utf-8")):
            yield (page.parent / name).resolve()


def read_leaderboard_points(path: Path) -> list[LeaderboardPoint]:
    """Read what the figures of a leaderboard show.

    Args:
        path: its `leaderboard.csv`.

    Returns:
        One point per model, each with its mean over the ranked noises.
    """
    with path.open(encoding="utf-8", newline="") as file:
        ranked = [row for row in csv.DictReader(file) if row["seen"] == "True" and row["model"] != NOTHING]
    by_model: dict[str, list[dict[str, str]]] = {}
    for row in ranked:
        by_model.setdefault(row["model"], []).append(row)
    return [
        LeaderboardPoint(
            name,
            sum(float(row["psnr"]) for row in rows) / len(rows),
            float(rows[0]["macs_per_pixel"]) if rows[0]["macs_per_pixel"] else None,
            float(rows[0]["images_per_second"]),
            {
                match[1]: float(value)
                for key, value in rows[0].items()
                if (match := re.fullmatch(r"recovered_([a-z0-9]+)", key)) and value
            },
        )
        for name, rows in by_model.items()
    ]


def read_comparison(path: Path) -> Comparison:
    """Read a comparison as `daelab compare` stored it.

    Args:
        path: its `compare.json`.

    Returns:
        The comparison, whose runs have the cost of their recipes only, and no curves.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    runs = {run["name"]: _read_run(run) for run in document["runs"]}
    points = [
        ComparedPoint(tuple(runs[name] for name in point["runs"]), point["ahead"], point["allowed"])
        for point in document["points"]
    ]
    return Comparison(tuple(runs.values()), tuple(document["fields"]), tuple(points))


def _read_run(run: dict[str, Any]) -> ComparedRun:
    # the file keeps what a recipe costs, and only those of its fields that differ between the runs
    costs = SimpleNamespace(spec=SimpleNamespace(macs=lambda: run["macs"], parameters=run["parameters"]))
    kept = {key: value for key, value in run.items() if key not in {"macs", "parameters"}}
    return ComparedRun(recipe=cast(Any, costs), curve=(), **kept)


def draw_comparison_figures(compared: Comparison, out: Path) -> None:
    """Draw what `daelab compare --plot` draws, but for the curves, which need every epoch of the runs.

    Args:
        compared: the comparison.
        out: the folder of the figures.
    """
    draw_cost_figures(compared, out)
    known = [run for run in compared.runs if run.psnr is not None]
    finished = [run for run in known if run.status == "finished"] or known
    fields = {field: name for field, name in shorten_field_names(compared.fields).items() if field != "seed"}
    draw_field_figures(fields, finished, out)


def draw_costs(path: Path, out: Path) -> None:
    """Draw the time and the memory that `benchmarks/cost_by_size.py` measured, one panel for each kind of work.

    Args:
        path: its `cost.csv`.
        out: the figure to write.
    """
    axes: dict[str, list[tuple[float, float, float]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            point = float(row["size"]), float(row["cpu_seconds"]), float(row["peak_mb"])
            axes.setdefault(row["axis"], []).append(point)
    with apply_style():
        from matplotlib.ticker import FuncFormatter

        fig = new_figure(9.0, 5.2, "constrained")
        panels = fig.subplots(2, -(-len(axes) // 2), squeeze=False).flatten()
        for panel in panels[len(axes) :]:
            panel.remove()
        for panel, (name, points) in zip(panels, axes.items(), strict=False):
            sizes, seconds, megabytes = zip(*points, strict=True)
            panel.plot(sizes, seconds, "o-", color=PALETTE[0], label="CPU seconds")
            panel.plot(sizes, megabytes, "s--", color=MUTED, label="peak MB")
            panel.set(xscale="log", yscale="log", title=f"{name}, slope {measure_slope(points):.2f}")
            panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            panel.set_xticks(sizes, [f"{size:,g}" if size < 1000 else f"{size / 1000:g}k" for size in sizes])
            panel.minorticks_off()
        panels[0].legend(frameon=False, fontsize=8)
        save_figure(fig, out)


def measure_slope(points: list[tuple[float, float, float]]) -> float:
    """Return the exponent of the size in the CPU seconds between the two largest sizes; NaN for one size."""
    if len(points) < 2:
        return math.nan
    (small, before, _), (large, after, _) = points[-2:]
    return math.log(after / before) / math.log(large / small)


def draw_readme_picture(root: Path) -> None:
    """Draw PSNR over multiplications of CIFAR-10's leaderboard as a PNG with a small palette.

    Args:
        root: the repository.

    Raises:
        SystemExit: the picture would be larger than `LARGEST_PICTURE`.
    """
    board = read_leaderboard_points(root / "docs" / "leaderboard" / "cifar10" / "leaderboard.csv")
    points = {point.name: (point.macs, point.psnr) for point in board if point.macs}
    target = root / README_PICTURE
    with tempfile.TemporaryDirectory(prefix="daelab-figures-") as scratch:
        drawn = Path(scratch) / "figure.png"
        pareto_figure(points, "multiplications per pixel", "PSNR (dB)", drawn)
        with Image.open(drawn) as picture:
            small = picture.convert("RGB").quantize(COLORS)
        small.save(drawn, "PNG", optimize=True)
        if drawn.stat().st_size > LARGEST_PICTURE:
            raise SystemExit(f"{README_PICTURE} would have {drawn.stat().st_size:,} bytes, over {LARGEST_PICTURE:,}")
        with replace_file(target) as part:
            part.write_bytes(drawn.read_bytes())


if __name__ == "__main__":
    main()
