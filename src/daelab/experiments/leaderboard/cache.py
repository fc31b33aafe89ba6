"""The cache of measured rows, one file each; an interrupted run loses at most one row.

A cached row is used only if the model's file, the pictures, the noises, the seed, the classifiers and the versions of
the libraries are the same. The speed is not cached, since it depends on the computer and its load.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daelab._util.hardware import collect_versions
from daelab._util.tensor_file import read_tensors, write_tensors
from daelab.datasets.base import Images
from daelab.evaluation.classifiers.registry import list_shipped_classifiers
from daelab.evaluation.classifiers.scores import ClassifierScores
from daelab.evaluation.evaluate import EvaluationScores, NoiseScores
from daelab.evaluation.metrics import MetricSummary, list_metrics
from daelab.experiments.leaderboard.boards import Board
from daelab.experiments.leaderboard.row import LeaderboardRow

KEPT_KINDS = ("clean", "noisy", "denoised")
"""The kinds of images whose predicted classes are cached."""


def describe_measurement(
    board: Board, images: Images, seed: int, asked: Iterable[str], metrics: Sequence[str] = ()
) -> dict[str, Any]:
    """Describe everything that the rows of a leaderboard depend on, except the model, as plain values.

    Args:
        board: The board.
        images: The test images.
        seed: The seed of the noise.
        asked: The names of the shipped classifiers.
        metrics: The names of the metrics that were asked for beside the usual ones.
    """
    pixels = hashlib.sha256()
    for indices in images.groups(1024):
        pixels.update(images.batch(indices).tobytes())
    # The files themselves count and not their names, since a classifier may be trained again under its name.
    shipped = list_shipped_classifiers()
    return {
        "data": images.name,
        "images": len(images),
        "pixels": pixels.hexdigest(),
        "noises": [*board.noises, *board.unseen],
        "unseen_images": board.unseen_images,
        "crops": [[crop.image, crop.top, crop.left] for crop in board.crops],
        "tuned_on": board.tuned_on,
        "seed": seed,
        "judges": {name: _digest(shipped[name]) for name in asked},
        "versions": collect_versions(),
        # The key is left out without such metrics, so that earlier measurements stay valid.
        **({"metrics": list(metrics)} if metrics else {}),
    }


class RowCache:
    """A cache of rows in a folder.

    Args:
        folder: The folder; None for no cache.
        same: The description of the measurement by `describe_measurement`.
        images: The test images.
    """

    def __init__(self, folder: Path | None, same: Mapping[str, Any], images: Images) -> None:
        """Store the settings; no file is read."""
        self.folder, self.same, self.images = folder, same, images

    def read(self, name: str, path: Path | None) -> LeaderboardRow | None:
        """Read the row of a model; return None if it is not cached, or was measured of something else.

        Args:
            name: The name of the model.
            path: The file of the model; None if it has none.
        """
        place = self._place(name)
        if place is None or not place.is_file():
            return None
        try:
            header, tensors = read_tensors(place)
            return _parse_row(header, tensors, self.images) if header.get("of") == self._describe(name, path) else None
        except (ValueError, LookupError, TypeError):  # a damaged file, or one of another version of daelab, is replaced
            return None

    def write(self, row: LeaderboardRow, path: Path | None) -> None:
        """Store a row, if there is a folder.

        Args:
            row: The row.
            path: The file of the model; None if it has none.
        """
        place = self._place(row.name)
        if place is None:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        header, tensors = _serialize(row)
        write_tensors(place, tensors, {"of": self._describe(row.name, path), **header})

    def _place(self, name: str) -> Path | None:
        plain = re.sub(r"[^\w.,=-]", "_", name)
        return self.folder and self.folder / f"{plain}.safetensors"

    def _describe(self, name: str, path: Path | None) -> dict[str, Any]:
        return {**self.same, "model": name, "file": path and _digest(path)}


def _serialize(row: LeaderboardRow) -> tuple[dict[str, Any], dict[str, Tensor]]:
    header: dict[str, Any] = {
        "row": {"name": row.name, "parameters": row.parameters, "macs": row.macs, "size": row.size},
        "method": row.method,
        "noisy": {text: scores.noisy_sha256 for text, scores in row.scores.items()},
        "seed": next(iter(row.scores.values())).seed,
        "metrics": list(next(iter(row.scores.values())).overall.metrics),
        "judges": list(row.judged),
        "crops": list(row.crops),
    }
    tensors = {}
    for text, scores in row.scores.items():
        tensors[f"{text} psnrs"] = torch.from_numpy(scores.psnrs)
        tensors |= {f"{text} values {name}": torch.from_numpy(values) for name, values in scores.requested.items()}
        summaries = scores.overall.metrics.values()
        tensors[f"{text} metrics"] = torch.tensor(
            [[x.noisy, x.denoised, *x.ci95] for x in summaries], dtype=torch.float64
        )
    for name, classified in row.judged.items():
        tensors |= {f"judge {name} {kind}": torch.from_numpy(getattr(classified, kind)) for kind in KEPT_KINDS}
    for what, (clean, given) in row.crops.items():
        tensors |= {f"crop {what} clean": torch.from_numpy(clean), f"crop {what} given": torch.from_numpy(given)}
    return header, tensors


def _parse_row(header: Mapping[str, Any], tensors: Mapping[str, Tensor], images: Images) -> LeaderboardRow:
    missing = {metric.name for metric in list_metrics("image", "batch")} - set(header["metrics"])
    if missing:
        raise LookupError(f"the stored row lacks {', '.join(sorted(missing))}")

    def scores(text: str) -> NoiseScores:
        rows: Sequence[Sequence[float]] = tensors[f"{text} metrics"].tolist()
        summaries = {
            name: MetricSummary(noisy, denoised, (low, high))
            for name, (noisy, denoised, low, high) in zip(header["metrics"], rows, strict=True)
        }
        return NoiseScores(text, len(tensors[f"{text} psnrs"]), summaries)

    def judged(name: str) -> ClassifierScores:
        predictions = {kind: tensors[f"judge {name} {kind}"].numpy() for kind in KEPT_KINDS}
        return ClassifierScores(name, images.classes, images.labels, seed=header["seed"], **predictions)

    return LeaderboardRow(
        **header["row"],
        method=header["method"],
        scores={
            text: EvaluationScores(
                scores(text),
                (),
                header["seed"],
                header["noisy"][text],
                tensors[f"{text} psnrs"].numpy(),
                {name: tensors[f"{text} values {name}"].numpy() for name in header["of"].get("metrics", ())},
            )
            for text in header["of"]["noises"]  # the header's keys are sorted, and this list keeps the order
        },
        judged={name: judged(name) for name in header["judges"]},
        crops={
            what: (tensors[f"crop {what} clean"].numpy(), tensors[f"crop {what} given"].numpy())
            for what in header["crops"]
        },
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
