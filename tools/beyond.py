"""The tables of the results beyond the paper, from the leaderboards and studies in the repository; see results.py."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from daelab.experiments.reports.table import Table
from daelab.models.model_file import read_model_metadata
from daelab.models.registry import find_shipped_model

ROOT = Path(__file__).parents[1]
FAMILY = {"dae-s": (26.95, 27.3, 0.15), "dae-m": (27.3, 27.8, 0.35), "dae-l": (27.6, 28.2, 0.5)}
"""The minimum and the goal of the batch PSNR in dB, and the goal of the closed gap (see `family`), as a share."""
LEVELS = ("awgn(15)", "awgn(25)", "awgn(50)")
PUBLISHED = {"CBM3D, as published": (33.52, 30.71, 27.38), "CDnCNN-B, as published": (33.89, 31.23, 27.92)}
"""PSNR on CBSD68 under `LEVELS`, dB: Zhang et al., 2017, Beyond a Gaussian denoiser."""
STUDY = ROOT / "docs" / "results" / "frontier-cifar10" / "points.csv"
"""The study of the parts of dae-s: `daelab compare --study frontier --against frontier-0 --plot DIR`."""
TASK = ROOT / "docs" / "results" / "task-cifar10"
"""The study of the weight of a classifier's features: `runs.csv` of a comparison, and `leaderboard.csv` of its runs."""
JUDGES = ("unseen", "holdout", "builtin")
"""The classifiers of the table `transfer`."""


def records(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a CSV file, with numbers as floats and empty cells as None."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _value(text) for key, text in each.items()} for each in csv.DictReader(file)]


def ranked(board: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of a leaderboard under the noises that it ranks by, best first."""
    return [each for each in board if each["seen"] == "True"]


def _value(text: str) -> Any:
    try:
        return float(text) if text else None
    except ValueError:
        return text


def short(board: list[dict[str, Any]]) -> Table:
    """Make the short table of CIFAR-10's leaderboard, with the best of the classical methods only."""
    classical = [each["model"] for each in board if each["model"].startswith("baseline:")]
    shown = [each for each in board if each["model"] not in classical[1:]]
    columns = ["model", "parameters", "M MACs", "batch PSNR, dB", "PSNR, dB", "SSIM"]
    judges = [key.removeprefix("recovered_") for key in board[0] if re.fullmatch("recovered_[a-z]+", key)]
    rows = [
        [
            each["model"],
            None if not each["parameters"] else f"{each['parameters']:,.0f}",
            millions(each["model"], each["macs_per_pixel"]),
            f"{each['psnr_batch']:.2f}",
            f"{each['psnr']:.2f} ± {(each['psnr_high'] - each['psnr_low']) / 2:.2f}",
            f"{each['ssim']:.4f}",
            *(f"{100 * each[f'f1_{judge}']:.1f}" for judge in judges),
        ]
        for each in shown
    ]
    first = board[0]
    note = (
        f"CIFAR-10's {first['images']:,.0f} test images under the noise {first['noise']}, seed {first['seed']:.0f}. "
        "MACs are for one image. Batch PSNR is the paper's metric; PSNR is the mean over images, with its 95% "
        "interval. F1: macro F1, %, that a classifier reaches on the denoised images. No denoiser was trained or "
        "chosen with the classifier unseen; dae-m.task was trained with builtin and holdout, dae-s.task with builtin. "
        "paper/N: the paper's own weights."
    )
    return Table("CIFAR-10", [*columns, *(f"F1, {judge}" for judge in judges)], rows, note)


def millions(model: str, per_pixel: float | None) -> str | None:
    """Return the multiplications for one CIFAR-10 image, in millions, or None if they are not known."""
    path = find_shipped_model(model)
    if path:
        return f"{read_model_metadata(path).spec.macs(32, 32) / 1e6:.1f}"
    return None if per_pixel is None else f"{per_pixel * 32 * 32 / 1e6:.1f}"


def photographs(board: list[dict[str, Any]]) -> Table:
    """Make the table of CBSD68's leaderboard beside published results."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for record in board:
        found.setdefault(record["model"], {})[record["noise"]] = record
    rows: list[list[Any]] = []
    for model, by_noise in found.items():
        middle = by_noise[LEVELS[1]]
        rows.append(
            [
                model,
                None if not middle["parameters"] else f"{middle['parameters']:,.0f}",
                *(f"{by_noise[level]['psnr']:.2f}" for level in LEVELS),
                f"{middle['ssim']:.4f}",
            ]
        )
    rows += [[name, None, *(f"{value:.2f}" for value in levels), None] for name, levels in PUBLISHED.items()]
    rows.sort(key=lambda row: -sum(map(float, row[2:5])))
    first = board[0]
    note = (
        f"CBSD68, {first['images']:.0f} photographs, unclipped Gaussian noise of a standard deviation of 15, 25 and 50 "
        "of 255 (the literature's protocol): mean PSNR, dB; SSIM at 25. No network is told the level: photo-s.level "
        "estimates it, and automatic, the default, chooses a model. The classical methods are tuned to each level. "
        "As published: "
        "Zhang et al., 2017. Speed: docs/performance.md."
    )
    columns = ["model", "parameters", "sigma 15", "25", "50", "SSIM"]
    return Table("Photographs", columns, rows, note)


def family(board: list[dict[str, Any]]) -> Table:
    """Make the table of the `dae` models: their scores and their goals."""
    found = {each["model"]: each for each in board}
    base = found["model-c"]["recovered_unseen"]
    rows = []
    for name, (floor, goal, share) in FAMILY.items():
        for each in (found[key] for key in (name, f"{name}.task") if key in found):
            closed = (each["recovered_unseen"] - base) / (1 - base)
            rows.append(
                [
                    each["model"],
                    f"{each['psnr_batch']:.2f}",
                    f"{floor:.2f}",
                    f"{goal:.2f}",
                    f"{100 * each['recovered_unseen']:.1f}",
                    f"{100 * closed:.0f}",
                    f"{100 * share:.0f}",
                ]
            )
    columns = ["model", "batch PSNR, dB", "minimum, dB", "goal, dB", "recovered F1, %", "closed gap, %", "goal, %"]
    note = (
        "The recovered F1 is (F1 denoised - F1 noisy) / (F1 clean - F1 noisy) of the classifier unseen, with which "
        f"none of these models was trained or chosen. model-c leaves a gap of {100 * (1 - base):.1f}% to a full "
        "recovery. The closed gap is the share of it that a model recovers."
    )
    return Table("The dae models and their goals", columns, rows, note)


def elsewhere(board: list[dict[str, Any]]) -> Table:
    """Make the table of CIFAR-10's models under noises that they were not trained for."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for record in board:
        if record["seen"] != "True":
            found.setdefault(record["model"], {})[record["noise"]] = record
    noises = list(next(iter(found.values())))
    images = next(iter(found.values()))[noises[0]]["images"]
    rows = [[model, *(f"{by_noise[noise]['psnr']:.2f}" for noise in noises)] for model, by_noise in found.items()]
    note = (
        f"Mean PSNR of {images:,.0f} test images, in dB. The row noisy is that of the images without denoising, so a "
        "model with a lower value makes them worse. The classical methods are tuned under each noise; the networks are "
        "not trained again."
    )
    return Table("Under other noise", ["model", *noises], rows, note)


def parts() -> Table:
    """Make the table of what each part of `dae-s` and of its training gains."""
    with STUDY.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    columns = [column for column in found[0] if column != "time, times"]  # other work shared the core
    rows = [[f"{int(row[key]):,}" if row[key].isdigit() else row[key] for key in columns] for row in found]
    note = (
        "One thing is changed at a time. The mark ≈ shows that a difference from frontier-0 is within the seed range."
    )
    return Table("What each part gains", columns, rows, note)


def weights() -> Table:
    """Make the table of what a classifier's features in the loss gain, and what they cost in PSNR."""
    losses = {each["run"]: each["loss"] for each in records(TASK / "runs.csv")}
    rows = []
    for each in ranked(records(TASK / "leaderboard.csv")):
        if each["model"] not in losses:
            continue
        weight = re.search(r"([\d.]+) \* judge_features", losses[each["model"]])
        scores = [f"{100 * each[f'recovered_{judge}']:.1f}" for judge in ("builtin", "holdout")]
        rows.append([float(weight[1]) if weight else 0.0, f"{each['psnr_batch']:.2f}", f"{each['psnr']:.2f}", *scores])
    rows.sort(key=lambda row: row[0])
    columns = ["weight", "batch PSNR, dB", "PSNR, dB", "recovered F1, %, builtin", "recovered F1, %, holdout"]
    note = (
        "dae-s was trained further with the loss psnr + weight * judge_features, which are features of the classifier "
        "builtin. None of these models was trained with the classifier holdout."
    )
    return Table("PSNR and recovered F1", columns, [[f"{row[0]:g}", *row[1:]] for row in rows], note)


def transfer() -> Table:
    """Make the table of what features of one and of two classifiers gain for a third, which no training has seen."""
    rows = [
        [
            each["model"],
            f"{each['psnr_batch']:.2f}",
            f"{100 * each['f1_unseen']:.1f} ({100 * each['f1_unseen_low']:.1f} to {100 * each['f1_unseen_high']:.1f})",
            *(f"{100 * each[f'recovered_{judge}']:.1f}" for judge in ("unseen", "holdout", "builtin")),
        ]
        for each in ranked(records(TASK / "transfer.csv"))
    ]
    columns = ["model", "batch PSNR, dB", "F1, %, unseen", *(f"recovered F1, %, {name}" for name in JUDGES)]
    note = (
        "These models began from the first dae-m: both has the loss psnr + 5 * judge_features + 5 * holdout_features, "
        "dae-m.task psnr + 10 * judge_features. No model was trained or chosen with the classifier unseen."
    )
    return Table("Features of one classifier and of two", columns, rows, note)
