"""The CSV records, the tables and the page of a leaderboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from daelab._util.files import write_text
from daelab.denoising.classical import CLASSICAL_PREFIX
from daelab.evaluation.f1 import recovered_f1
from daelab.evaluation.metrics import METRICS, Metric, bootstrap_interval, list_metrics
from daelab.experiments.leaderboard.boards import CROP_SIDE, Board
from daelab.experiments.leaderboard.figures import LeaderboardPoint, draw_leaderboard_figures
from daelab.experiments.leaderboard.measure import NOTHING
from daelab.experiments.leaderboard.row import LeaderboardRow, compute_lead
from daelab.experiments.reports.images import format_psnr
from daelab.experiments.reports.page import PictureGroup, ReportSection, make_slug, write_markdown, write_page
from daelab.experiments.reports.table import Table
from daelab.image_io.picture import Picture
from daelab.image_io.write import write_picture
from daelab.runs.environment import describe_environment

CROPS_FOLDER = "crops"
"""The folder, next to the files of a leaderboard, with a PNG file for each crop and model: CROP/MODEL.png."""


def make_records(board: Board, rows: Iterable[LeaderboardRow]) -> list[dict[str, Any]]:
    """Return one flat record for each model and noise; classifiers score under the first noise alone.

    Args:
        board: The board.
        rows: The rows.
    """
    records = []
    for row in rows:
        for noise, scores in row.scores.items():
            record: dict[str, Any] = {
                "model": row.name,
                "noise": noise,
                "seen": noise in board.noises,
                "images": scores.overall.images,
                "seed": scores.seed,
                "noisy_sha256": scores.noisy_sha256,
            }
            for metric in _list_ranked_metrics(scores.requested):
                name, summary = metric.name, scores.overall.metrics[metric.name]
                record |= {name: summary.denoised, f"{name}_low": summary.ci95[0], f"{name}_high": summary.ci95[1]}
            record |= {
                "mse": scores.overall.metrics["mse"].denoised,
                "parameters": row.parameters,
                "macs_per_pixel": row.macs,
                "bytes": row.size,
                "images_per_second": row.images_per_second,
            }
            if noise == board.noises[0]:
                for judge, judged in row.judged.items():
                    f1, (low, high) = judged.macro_f1, judged.summary()["macro_f1"]["ci95"]
                    record |= {f"f1_{judge}": f1["denoised"], f"f1_{judge}_low": low, f"f1_{judge}_high": high}
                    record[f"recovered_{judge}"] = f1["recovered"]
                    ends = (recovered_f1(f1["noisy"], end, f1["clean"]) for end in (low, high))
                    record |= dict(zip((f"recovered_{judge}_low", f"recovered_{judge}_high"), ends, strict=True))
            records.append(record)
    return records


def make_leaderboard_tables(board: Board, rows: Sequence[LeaderboardRow]) -> list[Table]:
    """Return the ranking, that by each metric that was asked for, the speed, and the PSNR under other noises.

    Args:
        board: The board.
        rows: The rows, the best first.
    """
    others = [make_unseen_noise_table(board, rows)] if board.unseen else []
    return [make_ranking_table(board, rows), *make_requested_tables(board, rows), make_speed_table(rows), *others]


def make_ranking_table(board: Board, rows: Sequence[LeaderboardRow]) -> Table:
    """Return the leaderboard, the best model first, with the lead of each model over the next.

    Args:
        board: The board.
        rows: The rows, the best first.
    """
    several = len(board.noises) > 1
    asked = list(rows[0].judged)
    psnr, f1_metric = METRICS["psnr"], METRICS["macro_f1"]
    # under several noises there is no room for the paper's PSNR by batches
    others = [one for one in _list_ranked_metrics() if one is not psnr and not (several and one.scope == "batch")]
    columns = ["", "model", *(f"{psnr.title} {noise}" if several else psnr.heading for noise in board.noises)]
    columns += ["± 95%", *(one.heading for one in others)]
    for judge in asked:
        columns += [f"{f1_metric.title}, {judge}", "recovered F1, %"]
    columns += ["ahead of the next by, dB", "parameters", "MACs per pixel", "KB", "images/s"]
    shown = []
    for place, row in enumerate(rows):
        first = row.scores[board.noises[0]].overall.metrics
        low, high = first["psnr"].ci95
        cells: list[Any] = [place + 1, row.name]
        cells += [psnr.format(row.scores[noise].overall.metrics["psnr"].denoised) for noise in board.noises]
        cells += [psnr.format((high - low) / 2), *(one.format(first[one.name].denoised) for one in others)]
        for judge in asked:
            f1 = row.judged[judge].macro_f1
            cells += [f1_metric.format(f1["denoised"]), f"{100 * f1['recovered']:.1f}"]
        cells.append(_lead(board, row, rows[place + 1]) if place + 1 < len(rows) else "")
        cells += [row.parameters or None, None if row.macs is None else round(row.macs)]
        cells += [None if row.size is None else round(row.size / 1000), _rate(row.images_per_second)]
        shown.append(cells)
    scores = rows[0].scores[board.noises[0]]
    note = (
        f"{scores.overall.images:,} test images under the noise {', '.join(board.noises)}, seed {scores.seed}. The "
        f"noisy pixels (SHA-256 {scores.noisy_sha256[:16]}) are the same for all models. The PSNR is the mean over the "
        "images, and ± is half the width of its 95% bootstrap interval. The lead over the next model is the mean "
        "difference on the same noisy images; the mark ≈ shows that its paired bootstrap interval contains zero."
    )
    return Table("Leaderboard", columns, shown, note)


def make_requested_tables(board: Board, rows: Sequence[LeaderboardRow]) -> list[Table]:
    """Return for each metric that was asked for the ranking by it, with the lead of each model over the next.

    Args:
        board: The board.
        rows: The rows.
    """
    tables = []
    for name in rows[0].scores[board.noises[0]].requested:
        metric, sign = METRICS[name], -1 if METRICS[name].direction == "lower" else 1
        ranked = sorted(rows, key=lambda row: -sign * row.values(name, board.noises).mean())
        shown = []
        for place, row in enumerate(ranked):
            low, high = bootstrap_interval(row.values(name, board.noises))
            lead = _lead(board, row, ranked[place + 1], metric) if place + 1 < len(ranked) else ""
            values = (float(row.values(name, board.noises).mean()), low, high)
            shown.append([place + 1, row.name, *map(metric.format, values), lead])
        columns = ["", "model", metric.heading, "95% from", "to", "ahead of the next by"]
        note = (
            f"The mean {metric.title} over the same images; {metric.direction} is better. The mark ≈ shows that the "
            "paired bootstrap interval of the lead contains zero."
        )
        tables.append(Table(f"Ranking by {metric.title}", columns, shown, note))
    return tables


def make_speed_table(rows: Sequence[LeaderboardRow]) -> Table:
    """Return the time for an image, and how many times faster each model is than each classical method.

    Args:
        rows: The rows.
    """
    timed = sorted((row for row in rows if row.name != NOTHING), key=lambda row: -row.images_per_second)
    slow = [row for row in timed if row.name.startswith(CLASSICAL_PREFIX)]
    columns = ["model", "seconds per image", *(f"times {row.name.removeprefix(CLASSICAL_PREFIX)}" for row in slow)]
    shown = [
        [row.name, f"{1 / row.images_per_second:.3g}"]
        + [f"{row.images_per_second / other.images_per_second:.3g}" for other in slow]
        for row in timed
    ]
    note = (
        "The times are those of the median batch. The models alternate and use the same number of threads. The tuning "
        "of a classical method is not included."
    )
    return Table("Speed", columns, shown, note)


def make_unseen_noise_table(board: Board, rows: Sequence[LeaderboardRow]) -> Table:
    """Return the PSNR under the noises that do not rank the models.

    Args:
        board: The board.
        rows: The rows.
    """
    psnr = METRICS["psnr"]
    shown = [
        (row.name, *(psnr.format(row.scores[noise].overall.metrics["psnr"].denoised) for noise in board.unseen))
        for row in rows
    ]
    images = rows[0].scores[board.unseen[0]].overall.images
    note = (
        f"The mean PSNR of {images:,} images in dB. The classical methods are tuned under each noise; the networks are "
        "not trained again."
    )
    return Table("Under other noise", ("model", *board.unseen), shown, note)


def write_leaderboard(out: Path, name: str, board: Board, rows: Sequence[LeaderboardRow]) -> None:
    """Write `leaderboard.html`, `.md`, `.csv` and `.json`, and the figures.

    Args:
        out: The folder, which is created if it does not exist.
        name: The name of the data set.
        board: The board.
        rows: The rows, the best first.
    """
    machine = describe_environment()
    facts = {
        "data": name,
        "machine": f"{machine['processor']}, {machine['threads']} threads, GPU {machine['gpu'] or 'none'}",
        "versions": machine["versions"],
    }
    out.mkdir(parents=True, exist_ok=True)
    records = make_records(board, rows)
    columns = list(records[0])  # that of the first noise, which classifiers score, has all columns
    table = Table("leaderboard", columns, [[record.get(key) for key in columns] for record in records])
    write_text(out / "leaderboard.csv", table.to_csv())
    write_text(out / "leaderboard.json", json.dumps({**facts, "rows": records}, indent=1) + "\n")
    figures = _figures(out, board, rows)
    sections = [
        ReportSection("Ranking", tables=[make_ranking_table(board, rows), *make_requested_tables(board, rows)]),
        ReportSection("Quality against cost", tables=[make_speed_table(rows)], figures=figures),
        *([ReportSection("Other noises", tables=[make_unseen_noise_table(board, rows)])] if board.unseen else []),
    ]
    if rows[0].crops:
        sections.insert(1, _side_by_side(out, board, rows))
    title = f"Leaderboard: {name}"
    write_page(title, facts, sections, out / "leaderboard.html", numbered=False)
    write_markdown(title, facts, sections, out / "leaderboard.md")


def _figures(out: Path, board: Board, rows: Sequence[LeaderboardRow]) -> dict[str, Path]:
    """Draw the figures and return their paths, by caption."""
    points = [
        LeaderboardPoint(
            row.name,
            float(row.psnrs(board.noises).mean()),
            row.macs,
            row.images_per_second,
            {name: scores.macro_f1["recovered"] for name, scores in row.judged.items()},
        )
        for row in rows
        if row.name != NOTHING
    ]
    return draw_leaderboard_figures(points, out)


def _side_by_side(out: Path, board: Board, rows: Sequence[LeaderboardRow]) -> ReportSection:
    """Write the board's crops: clean, noisy and denoised by each model, the best first."""
    place = next(place for place, row in enumerate(rows) if row.name == NOTHING)
    ranked = [rows[place], *rows[:place]]  # a model that is worse than no denoising was trained for other noise
    groups = []
    for name, (clean, _) in rows[0].crops.items():
        crops = {"clean": clean} | {row.name: row.crops[name][1] for row in ranked}
        folder = out / CROPS_FOLDER / make_slug(name)
        pictures = {}
        for model, pixels in crops.items():
            label = model
            if model != "clean":
                label = f"{model}, {format_psnr(clean, pixels)}"
            file = folder / (re.sub(r"[^\w.,=-]", "_", model) + ".png")
            file.parent.mkdir(parents=True, exist_ok=True)
            write_picture(file, Picture(np.ascontiguousarray(pixels.transpose(1, 2, 0))), overwrite=True)
            pictures[label] = file
        groups.append(PictureGroup(name[:1].upper() + name[1:], pictures))
    text = (
        f"Parts of the test pictures under the noise {board.shown}, {CROP_SIDE} pixels wide, each with its PSNR. Good "
        "results have readable letters, flat areas without patterns, and the colors of the clean picture."
    )
    return ReportSection("Side by side", text, groups=groups)


def _list_ranked_metrics(requested: Iterable[str] = ()) -> list[Metric]:
    """Return the metrics that models are compared by: all but the MSE, which ranks images as the PSNR does."""
    return [metric for metric in list_metrics("image", "batch", requested=requested) if metric.name != "mse"]


def _rate(images: float) -> str:
    return f"{images:,.0f}" if images >= 10 else f"{images:.2g}"


def _lead(board: Board, row: LeaderboardRow, other: LeaderboardRow, metric: Metric = METRICS["psnr"]) -> str:
    lead = compute_lead(row, other, board.noises, metric.name)
    mean = -lead.mean if metric.direction == "lower" else lead.mean
    return f"{'' if lead.certain else '≈ '}{metric.format(mean)}"
