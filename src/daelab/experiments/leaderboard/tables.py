"""Rows -> the records kept as CSV, the tables shown, and the page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from daelab._util.files import write_text
from daelab.denoising.classical import CLASSICAL_PREFIX
from daelab.evaluation.f1 import recovered_f1
from daelab.experiments.leaderboard.boards import SIDE, Board
from daelab.experiments.leaderboard.measure import NOTHING
from daelab.experiments.leaderboard.row import LeaderboardRow, compute_lead
from daelab.experiments.reports.charts import pareto_figure, trade_figure
from daelab.experiments.reports.images import strips_figure
from daelab.experiments.reports.page import ReportSection, write_markdown, write_page
from daelab.experiments.reports.style import is_matplotlib_installed
from daelab.experiments.reports.table import Table
from daelab.runs.folder import describe_environment

COLUMNS = (
    *("model", "noise", "seen", "images", "seed", "noisy_sha256"),
    *("psnr", "psnr_low", "psnr_high", "psnr_batch", "psnr_batch_low", "psnr_batch_high"),
    *("ssim", "ssim_low", "ssim_high", "mse", "parameters", "macs_per_pixel", "bytes", "images_per_second"),
)
"""Of `leaderboard.csv`; for each judge NAME also f1_NAME, f1_NAME_low, f1_NAME_high, and recovered_NAME likewise."""


def make_records(board: Board, rows: Iterable[LeaderboardRow]) -> list[dict[str, Any]]:
    """One flat record for each model and noise, by `COLUMNS`; the judges' under the first noise alone."""
    found = []
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
            for name in ("psnr", "psnr_batch", "ssim"):
                summary = scores.overall.metrics[name]
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
            found.append(record)
    return found


def make_ranking_table(board: Board, rows: Sequence[LeaderboardRow]) -> Table:
    """The leaderboard: best first, with each one's lead over the next."""
    several = len(board.noises) > 1
    asked = list(rows[0].judged)
    columns = ["", "model", *(f"PSNR {noise}" for noise in board.noises)] if several else ["", "model", "PSNR, dB"]
    columns += ["± 95%", *([] if several else ["batch PSNR, dB"]), "SSIM"]
    for judge in asked:
        columns += [f"macro F1, {judge}", "recovered, %"]
    columns += ["ahead of the next by, dB", "parameters", "MACs per pixel", "KB", "images/s"]
    shown = []
    for place, row in enumerate(rows):
        first = row.scores[board.noises[0]].overall.metrics
        low, high = first["psnr"].ci95
        cells: list[Any] = [place + 1, row.name]
        cells += [f"{row.scores[noise].overall.metrics['psnr'].denoised:.2f}" for noise in board.noises]
        cells += [f"{(high - low) / 2:.2f}", *([] if several else [f"{first['psnr_batch'].denoised:.2f}"])]
        cells.append(f"{first['ssim'].denoised:.4f}")
        for judge in asked:
            f1 = row.judged[judge].macro_f1
            cells += [f"{f1['denoised']:.3f}", f"{100 * f1['recovered']:.1f}"]
        cells.append(_lead(board, row, rows[place + 1]) if place + 1 < len(rows) else "")
        cells += [row.parameters or None, None if row.macs is None else round(row.macs)]
        cells += [None if row.size is None else round(row.size / 1000), _rate(row.images_per_second)]
        shown.append(cells)
    scores = rows[0].scores[board.noises[0]]
    note = (
        f"{scores.overall.images:,} test images, noise {', '.join(board.noises)}, seed {scores.seed}; noisy pixels "
        f"sha256 {scores.noisy_sha256[:16]}, the same for all. PSNR: mean over images, with half its bootstrap "
        "interval. A lead is the mean difference on the same noisy images; ≈ says that its paired bootstrap interval "
        "holds zero."
    )
    return Table("Leaderboard", columns, shown, note)


def make_speed_table(rows: Sequence[LeaderboardRow]) -> Table:
    """What an image takes in this run, and how many times faster that is than each classical method."""
    done = sorted((row for row in rows if row.name != NOTHING), key=lambda row: -row.images_per_second)
    slow = [row for row in done if row.name.startswith(CLASSICAL_PREFIX)]
    columns = ["model", "seconds per image", *(f"times {row.name.removeprefix(CLASSICAL_PREFIX)}" for row in slow)]
    shown = [
        [row.name, f"{1 / row.images_per_second:.3g}"]
        + [f"{row.images_per_second / other.images_per_second:.3g}" for other in slow]
        for row in done
    ]
    note = "Of the median batch; models take turns, with the same threads. A classical method's tuning is not counted."
    return Table("Speed", columns, shown, note)


def make_unseen_noise_table(board: Board, rows: Sequence[LeaderboardRow]) -> Table:
    """PSNR under the noises that models are not ranked by."""
    shown = [
        (row.name, *(f"{row.scores[noise].overall.metrics['psnr'].denoised:.2f}" for noise in board.unseen))
        for row in rows
    ]
    images = rows[0].scores[board.unseen[0]].overall.images if board.unseen else 0
    note = (
        f"Mean PSNR of {images:,} images, dB. The classical methods are tuned under each noise anew; the networks are "
        "as they ship."
    )
    return Table("Under other noise", ("model", *board.unseen), shown, note)


def check_leaderboard_page(out: Path | None) -> None:
    """Whether a page can be written there, said before anything is measured.

    Raises:
        ValueError: no matplotlib, or `out` is a file.
    """
    if out is None:
        return
    if not is_matplotlib_installed():
        raise ValueError("the page needs matplotlib: pip install 'daelab[report]'")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; name a folder")


def write_leaderboard(out: Path, name: str, board: Board, rows: Sequence[LeaderboardRow]) -> None:
    """Write `leaderboard.html`, `.md`, `.csv` and `.json`, and the figures.

    Args:
        out: a folder; made where it is not there.
        name: of the data set.
    """
    machine = describe_environment()
    facts = {
        "data": name,
        "machine": f"{machine['processor']}, {machine['threads']} threads, GPU {machine['gpu'] or 'none'}",
        "versions": machine["versions"],
    }
    out.mkdir(parents=True, exist_ok=True)
    found = make_records(board, rows)
    columns = [*COLUMNS, *(key for key in found[0] if key not in COLUMNS)]
    table = Table("leaderboard", columns, [[record.get(key) for key in columns] for record in found])
    write_text(out / "leaderboard.csv", table.to_csv())
    write_text(out / "leaderboard.json", json.dumps({**facts, "rows": found}, indent=1) + "\n")
    figures = _figures(out, board, rows)
    sections = [
        ReportSection("Ranking", tables=[make_ranking_table(board, rows)]),
        ReportSection("Quality against cost", tables=[make_speed_table(rows)], figures=figures),
        ReportSection("Elsewhere", tables=[make_unseen_noise_table(board, rows)]),
    ]
    if rows[0].crops:
        sections.insert(1, ReportSection("Side by side", figures=_side_by_side(out, board, rows)))
    title = f"Leaderboard: {name}"
    write_page(title, facts, sections, out / "leaderboard.html", numbered=False)
    write_markdown(title, facts, sections, out / "leaderboard.md")


def _figures(out: Path, board: Board, rows: Sequence[LeaderboardRow]) -> dict[str, Path]:
    """Caption -> figure: PSNR over what a model costs."""
    done = [row for row in rows if row.name != NOTHING]
    costs = {
        "multiplications per pixel": {row.name: row.macs for row in done if row.macs},
        "milliseconds per image": {row.name: 1e3 / row.images_per_second for row in done},
    }
    found = {}
    for label, cost in costs.items():
        points = {row.name: (cost[row.name], float(row.psnrs(board.noises).mean())) for row in done if row.name in cost}
        if points:
            path = out / f"psnr-over-{label.split()[0]}.svg"
            pareto_figure(points, label, "PSNR (dB)", path)
            caption = f"PSNR against {label}: up and to the left is better. The line joins what nothing beats in both."
            found[caption] = path
    trades = {
        row.name: (
            float(row.psnrs(board.noises).mean()),
            {judge: 100 * scores.macro_f1["recovered"] for judge, scores in row.judged.items()},
        )
        for row in done
        if row.judged and row.macs
    }
    if trades:
        path = out / "recognised-over-psnr.svg"
        least = max(psnr for psnr, _ in trades.values()) - 3
        trades = {name: trade for name, trade in trades.items() if trade[0] >= least}
        trade_figure(trades, "PSNR (dB)", "macro F1 recovered (%)", path)
        caption = (
            "What classifiers recover against PSNR, the networks within 3 dB of the best: higher is better "
            "recognised, further right is closer to the clean pixels. Where the marks of two judges lie apart, a model "
            "suits one of them."
        )
        found[caption] = path
    return found


def _side_by_side(out: Path, board: Board, rows: Sequence[LeaderboardRow]) -> dict[str, Path]:
    """Caption -> figure: the board's crops, clean, noisy, and by all that is better than nothing, the best first."""
    names = list(rows[0].crops)
    place = next(place for place, row in enumerate(rows) if row.name == NOTHING)
    ranked = [rows[place], *rows[:place]]  # what is worse than nothing was made for other noise
    strips = {"clean": np.stack([rows[0].crops[name][0] for name in names])}
    strips |= {row.name: np.stack([row.crops[name][1] for name in names]) for row in ranked}
    path = out / "side-by-side.png"
    strips_figure(strips, path, names, side=1.9)
    caption = (
        f"Parts of the test pictures under {board.shown}, {SIDE} pixels wide, each with its PSNR: look for letters "
        "that can still be read, flat areas without patterns, and colours that have not shifted."
    )
    return {caption: path}


def _rate(images: float) -> str:
    return f"{images:,.0f}" if images >= 10 else f"{images:.2g}"


def _lead(board: Board, row: LeaderboardRow, other: LeaderboardRow) -> str:
    found = compute_lead(row, other, board.noises)
    return f"{'' if found.certain else '≈ '}{found.mean:.2f}"
