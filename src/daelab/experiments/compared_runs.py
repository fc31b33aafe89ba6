"""The runs and points of a comparison."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daelab.experiments.fields import flatten_fields, format_field_value
from daelab.experiments.seed_range import compute_seed_range, is_within_seed_range
from daelab.runs.folder import get_run_folder
from daelab.training.recipe import Recipe, is_classifier_recipe, parse_recipe


@dataclass(frozen=True)
class ComparedRun:
    """A run with the data of its ledger row and its folder."""

    name: str
    """The name of the run."""
    status: str
    """The state of the run, such as `finished`."""
    recipe: Recipe
    fields: Mapping[str, Any]
    """The values of all fields of the recipe except the note, by dotted name."""
    psnr: float | None
    """The PSNR in dB, mean over the validation images, of the best epoch."""
    psnr_batch: float | None
    """The batch PSNR of the validation images in dB, of the best epoch."""
    loss: float | None
    """The validation loss of the best epoch."""
    f1: float | None
    """The macro F1 of the recipe's classifier on denoised validation images."""
    epochs: int
    """The number of trained epochs."""
    seconds: float | None
    """The duration of the training."""
    images_per_second: float | None
    """The training images per second."""
    curve: Sequence[Mapping[str, float]]
    """The rows of its metrics.csv; none if its folder is elsewhere."""
    validation_images: int | None = None
    """The number of validation images."""

    @property
    def size(self) -> tuple[int, int]:
        """The parameters of its network, and the multiplications for an image."""
        return self.recipe.spec.parameters, round(self.recipe.spec.macs())

    @property
    def conditions(self) -> dict[str, Any]:
        """What its scores were measured on, by name. Scores under other conditions cannot be ranked."""
        fields = {"noise": "noise", "data set": "data.name", "crop": "data.crop"}
        values = {name: format_field_value(self.fields.get(field)) for name, field in fields.items()}
        return values | {"number of validation images": self.validation_images}

    @property
    def point(self) -> str:
        """The settings without the seed, as a key; runs with the same key differ by their seed alone."""
        return json.dumps({key: value for key, value in self.fields.items() if key != "seed"}, sort_keys=True)


@dataclass(frozen=True)
class ComparedPoint:
    """A point: runs that differ by their seed alone."""

    runs: tuple[ComparedRun, ...]
    """The runs, the best first."""
    ahead: float | None = None
    """The difference in dB between its mean PSNR and that of the next point; None for the last point."""
    allowed: float | None = None
    """The seed range in dB of this point and the next; None if no point has several seeds."""

    @property
    def psnrs(self) -> list[float]:
        """The PSNR of each run, in dB."""
        return [run.psnr for run in self.runs if run.psnr is not None]

    @property
    def psnr(self) -> float:
        """The mean PSNR of its runs, in dB."""
        return float(np.mean(self.psnrs))

    @property
    def speed(self) -> float | None:
        """The mean training speed of its runs, in images per second."""
        return average_known([run.images_per_second for run in self.runs])

    @property
    def close(self) -> bool:
        """Whether the difference from the next point is within the seed range."""
        return self.ahead is not None and is_within_seed_range(self.ahead, self.allowed)


@dataclass(frozen=True)
class PointGain:
    """A point compared with a baseline."""

    point: ComparedPoint
    """The point."""
    base: ComparedPoint
    """The baseline."""
    change: str
    """The fields in which the point differs from the baseline."""
    difference: float
    """The difference in dB between its mean PSNR and that of the baseline."""
    close: bool
    """Whether the difference is within the seed range."""


def read_compared_run(row: Mapping[str, Any]) -> ComparedRun:
    """Read a run from its ledger row and its folder.

    Args:
        row: The row of the ledger.

    Raises:
        ValueError: The run has no recipe.
    """
    if not row["recipe"]:
        reason = "was imported from a log" if row["status"] == "imported" else "is damaged in the ledger"
        raise ValueError(f"run {row['name']} {reason}, so it has no recipe to compare")
    if is_classifier_recipe(row["recipe"]):
        raise ValueError(f"run {row['name']} is the training of a classifier; only denoisers can be compared")
    recipe = parse_recipe(row["recipe"], where=f"run {row['name']}")
    return ComparedRun(
        name=row["name"],
        status=row["status"],
        recipe=recipe,
        fields=flatten_fields({**recipe.to_dict(), "spec": recipe.spec.to_dict(), "note": {}}),
        psnr=row["val_psnr_image"],
        psnr_batch=row["val_psnr"],
        loss=row["val_loss"],
        f1=row["val_f1"],
        epochs=row["epochs_done"],
        seconds=row["seconds"],
        images_per_second=row["images_per_second"],
        # The folder that the row names is not opened, since the ledger may be a stranger's.
        curve=get_run_folder(row["name"]).read_metrics(),
        validation_images=row["val_size"],
    )


def find_mixed_conditions(runs: Iterable[ComparedRun]) -> tuple[str, ...]:
    """Return the names of the conditions in which runs differ, so that their scores cannot be ranked.

    Args:
        runs: The runs.
    """
    values: dict[str, set[Any]] = {}
    for run in runs:
        for name, value in run.conditions.items():
            values.setdefault(name, set()).add(value)
    return tuple(name for name, several in values.items() if len(several) > 1)


def group_compared_runs(finished: Sequence[ComparedRun]) -> tuple[ComparedPoint, ...]:
    """Group finished runs by their points, the best point first; in the given order if they cannot be ranked.

    Args:
        finished: The finished runs.
    """
    groups: dict[str, dict[int, ComparedRun]] = {}
    for run in finished:
        # A second run with the same seed adds nothing to the seed range.
        groups.setdefault(run.point, {}).setdefault(run.recipe.seed, run)
    points = [ComparedPoint(tuple(group.values())) for group in groups.values()]
    if find_mixed_conditions(finished):
        return tuple(points)
    points.sort(key=lambda point: -point.psnr)
    everywhere = compute_seed_range(point.psnrs for point in points)
    nexts = [*points[1:], None]
    return tuple(
        point
        if after is None
        else ComparedPoint(point.runs, point.psnr - after.psnr, find_allowed_difference(point, after, everywhere))
        for point, after in zip(points, nexts, strict=True)
    )


def find_allowed_difference(one: ComparedPoint, other: ComparedPoint, everywhere: float | None) -> float | None:
    """Return the seed range in dB of two points, or that of all points if neither has several seeds.

    Args:
        one: The first point.
        other: The second point.
        everywhere: The seed range of all points; None if it is unknown.
    """
    own = compute_seed_range([one.psnrs, other.psnrs])
    return everywhere if own is None else own


def average_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the known values, or None if there is none.

    Args:
        values: The values; None for an unknown one.
    """
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
