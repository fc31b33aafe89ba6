"""Runs -> the fields in which they differ, what each came to, and which differences mean nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from daelab.errors import unknown_name
from daelab.experiments.fields import flatten_fields, format_field_value, shorten_field_names
from daelab.experiments.reports.table import Table
from daelab.experiments.seed_range import compute_seed_range, is_within_seed_range
from daelab.runs.folder import RunFolder, get_run_folder
from daelab.runs.ledger import Ledger
from daelab.training.recipe import Recipe, parse_recipe


@dataclass(frozen=True)
class ComparedRun:
    """A run as the ledger and its folder know it."""

    name: str
    status: str
    recipe: Recipe
    fields: Mapping[str, Any]
    """Dotted name -> value of every field of its recipe but the note."""
    psnr: float | None
    """dB, mean over the validation images, of the best epoch."""
    psnr_batch: float | None
    loss: float | None
    f1: float | None
    epochs: int
    seconds: float | None
    images_per_second: float | None
    """Trained."""
    curve: Sequence[Mapping[str, float]]
    """Rows of its metrics.csv; none where its folder is on another machine."""

    @property
    def point(self) -> str:
        """What runs share that differ by their seed alone."""
        return json.dumps({key: value for key, value in self.fields.items() if key != "seed"}, sort_keys=True)


@dataclass(frozen=True)
class ComparedPoint:
    """Runs that differ by their seed alone."""

    runs: tuple[ComparedRun, ...]
    """Best first."""
    ahead: float | None = None
    """dB by which its mean PSNR lies above the next point's; None of the last."""
    allowed: float | None = None
    """dB that the seeds of the two lie apart; None where no seed was repeated."""

    @property
    def psnrs(self) -> list[float]:
        return [run.psnr for run in self.runs if run.psnr is not None]

    @property
    def psnr(self) -> float:
        """dB, mean over its runs."""
        return float(np.mean(self.psnrs))

    @property
    def speed(self) -> float | None:
        """Images per second, mean over its runs."""
        return _average([run.images_per_second for run in self.runs])

    @property
    def close(self) -> bool:
        """Whether the next point cannot be told from this one."""
        return self.ahead is not None and is_within_seed_range(self.ahead, self.allowed)


@dataclass(frozen=True)
class PointGain:
    """A point beside another."""

    point: ComparedPoint
    base: ComparedPoint
    change: str
    """The fields in which it differs from the base."""
    difference: float
    """dB by which its mean PSNR lies above the base's."""
    close: bool
    """Whether that is no more than seeds lie apart."""


@dataclass(frozen=True)
class Comparison:
    """The runs, best first, and what they say."""

    runs: tuple[ComparedRun, ...]
    fields: tuple[str, ...]
    """Dotted names of the fields that differ."""
    points: tuple[ComparedPoint, ...]
    """Of finished runs; best first."""

    @property
    def best(self) -> list[ComparedPoint]:
        """The points that cannot be told from the best, the best among them."""
        first = self.points[0]
        everywhere = compute_seed_range(point.psnrs for point in self.points)
        allowed = {id(point): _allowed(first, point, everywhere) for point in self.points}
        return [
            first,
            *(one for one in self.points[1:] if is_within_seed_range(first.psnr - one.psnr, allowed[id(one)])),
        ]

    @property
    def verdict(self) -> str:
        """What the comparison comes to, in a sentence or two."""
        if not self.points:
            return "No run is finished yet."
        first = self.points[0]
        best = f"{self.named(first.runs[0])} ({first.psnr:.2f} dB)"
        if compute_seed_range(point.psnrs for point in self.points) is None:
            return f"Best: {best}. No seed was repeated, so nobody knows which differences mean anything."
        if len(self.points) == 1:
            apart = compute_seed_range([first.psnrs])
            return f"All runs differ by their seed alone: {first.psnr:.2f} dB, {apart:.2f} dB apart."
        close = [self.named(point.runs[0]) for point in self.best[1:]]
        if close:
            return f"Best by its mean: {best}. No further away than seeds lie apart: {' | '.join(close)}."
        return f"Best: {best}, ahead of every other by more than seeds lie apart."

    def named(self, run: ComparedRun) -> str:
        """A run's point by the fields that differ."""
        fields = [field for field in self.fields if field != "seed"]
        titles = shorten_field_names(fields)
        return "; ".join(f"{titles[field]} {format_field_value(run.fields.get(field))}" for field in fields) or run.name

    def run_table(self) -> Table:
        """Every run: the fields that differ, and the metrics."""
        titles = shorten_field_names(self.fields)
        status = any(run.status != "finished" for run in self.runs)
        judged = any(run.f1 is not None for run in self.runs)
        rows = [
            [
                run.name,
                *([run.status] if status else []),
                *(format_field_value(run.fields.get(field)) for field in self.fields),
                run.epochs,
                None if run.loss is None else f"{run.loss:.5f}",
                _decibel(run.psnr),
                _decibel(run.psnr_batch),
                *([run.f1] if judged else []),
                run.recipe.spec.parameters,
                round(run.recipe.spec.macs()),
                run.images_per_second and round(run.images_per_second),
                run.seconds and round(run.seconds),
            ]
            for run in self.runs
        ]
        columns = ["run", *(["status"] if status else []), *titles.values(), "epochs", "val loss", "PSNR, dB"]
        columns += ["batch PSNR, dB", *(["macro F1"] if judged else []), "parameters", "MACs", "images/s", "seconds"]
        note = "Fields that all runs share are left out. PSNR: mean over the validation images, of the best epoch."
        return Table("Every run", columns, rows, note)

    def point_table(self) -> Table:
        """Every point: mean over its seeds, their spread, and how far it is ahead."""
        fields = [field for field in self.fields if field != "seed"]
        titles = shorten_field_names(fields)
        rows = [
            [
                place,
                *(format_field_value(point.runs[0].fields.get(field)) for field in fields),
                len(point.runs),
                f"{point.psnr:.2f}",
                f"{found:.2f}" if (found := compute_seed_range([point.psnrs])) is not None else None,
                None if point.ahead is None else f"{'≈ ' if point.close else ''}{point.ahead:.2f}",
                point.runs[0].recipe.spec.parameters,
                round(point.runs[0].recipe.spec.macs()),
                point.speed and round(point.speed),
            ]
            for place, point in enumerate(self.points, 1)
        ]
        columns = [
            "",
            *titles.values(),
            "seeds",
            "PSNR, dB",
            "seeds apart",
            "ahead of the next",
            "parameters",
            "MACs",
            "images/s",
        ]
        note = (
            "PSNR: mean over the seeds; seeds apart: the furthest that two of them lie; ≈: the next is no further than "
            "seeds of either lie apart, so which is better is not known."
        )
        return Table("Every point", columns, rows, note)

    def gains(self, name: str) -> list[PointGain]:
        """Every point beside that of one run, best first.

        Raises:
            ValueError: no finished run of this name is among those compared.
        """
        base = next((point for point in self.points if name in (run.name for run in point.runs)), None)
        if base is None:
            finished = [run.name for point in self.points for run in point.runs]
            raise unknown_name("finished run to compare against", name, finished)
        everywhere = compute_seed_range(point.psnrs for point in self.points)
        found = []
        for point in self.points:
            difference = point.psnr - base.psnr
            close = is_within_seed_range(difference, _allowed(point, base, everywhere))
            found.append(
                PointGain(point, base, self._differing(point.runs[0], base.runs[0]) or name, difference, close)
            )
        return found

    def against(self, name: str) -> Table:
        """Every point beside that of one run, best first: what differs from it, and what that bought.

        Raises:
            ValueError: as `gains`.
        """
        rows = [
            [
                place,
                gain.change,
                len(gain.point.runs),
                f"{gain.point.psnr:.2f}",
                _decibel(_average([run.psnr_batch for run in gain.point.runs])),
                None if gain.point is gain.base else f"{'≈ ' if gain.close else ''}{gain.difference:+.2f}",
                gain.point.runs[0].recipe.spec.parameters,
                round(gain.point.runs[0].recipe.spec.macs()),
                _times(gain.base.speed, gain.point.speed),
            ]
            for place, gain in enumerate(self.gains(name), 1)
        ]
        columns = ["", "what differs", "seeds", "PSNR, dB", "batch PSNR, dB", "difference, dB"]
        columns += ["parameters", "MACs", "time, times"]
        note = (
            f"Differences from {name}; ≈: no larger than seeds lie apart. Time: of training per image, where {name} "
            "takes 1; other work on the machine is in it."
        )
        return Table(f"Against {name}", columns, rows, note)

    def outcome(self, name: str) -> str:
        """What `against` comes to: what is better than one run, and what cannot be told from it."""
        gains = [gain for gain in self.gains(name) if gain.point is not gain.base]
        better = [
            f"{gain.change} ({gain.difference:+.2f} dB)" for gain in gains if gain.difference > 0 and not gain.close
        ]
        close = [gain.change for gain in gains if gain.close]
        worse = len(gains) - len(better) - len(close)
        return (
            f"Better than {name} by more than seeds lie apart: {' | '.join(better) or 'nothing'}. No further away than "
            f"seeds lie apart: {' | '.join(close) or 'nothing'}. Worse: {worse} of {len(gains)}."
        )

    def _differing(self, run: ComparedRun, base: ComparedRun) -> str:
        """The fields in which a run differs from another, seeds apart."""
        titles = shorten_field_names(self.fields)
        fields = [field for field in self.fields if field != "seed" and run.fields.get(field) != base.fields.get(field)]
        return "; ".join(f"{titles[field]} {format_field_value(run.fields.get(field))}" for field in fields)

    def to_dict(self) -> dict[str, Any]:
        """What `daelab compare --json` prints."""
        keys = ("name", "status", "psnr", "psnr_batch", "loss", "f1", "epochs", "seconds", "images_per_second")
        return {
            "fields": list(self.fields),
            "verdict": self.verdict,
            "points": [
                {
                    "point": self.named(point.runs[0]),
                    "runs": [run.name for run in point.runs],
                    "psnr": point.psnr,
                    "seeds_apart": compute_seed_range([point.psnrs]),
                    "ahead": point.ahead,
                    "allowed": point.allowed,
                    "too_close": point.close,
                }
                for point in self.points
            ],
            "runs": [
                {
                    **{key: getattr(run, key) for key in keys},
                    "parameters": run.recipe.spec.parameters,
                    "macs": run.recipe.spec.macs(),
                    "fields": {field: run.fields.get(field) for field in self.fields},
                }
                for run in self.runs
            ],
        }


def compare_run_records(names: Iterable[str], ledger: Ledger) -> Comparison:
    """Compare runs of a ledger.

    Raises:
        ValueError: fewer than two, an unknown one, or one without a recipe.
    """
    names = list(dict.fromkeys(names))
    if len(names) < 2:
        raise ValueError(
            f"name two runs or more to compare, or --study STUDY; there {'is ' + names[0] if names else 'are none'}"
        )
    found = [_read(ledger.row(name)) for name in names]
    found.sort(key=lambda run: (run.psnr is None, -(run.psnr or 0)))
    keys = dict.fromkeys(key for run in found for key in run.fields)
    differing = tuple(key for key in keys if len({json.dumps(run.fields.get(key)) for run in found}) > 1)
    return Comparison(tuple(found), differing, _points([run for run in found if run.status == "finished"]))


def _read(row: Mapping[str, Any]) -> ComparedRun:
    if not row["recipe"]:
        raise ValueError(f"run {row['name']} was imported from a log; it has no recipe to compare")
    recipe = parse_recipe(row["recipe"], where=f"run {row['name']}")
    here = get_run_folder(row["name"])
    folder = here if here.recipe.is_file() else RunFolder(Path(row["folder"] or here.path))
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
        curve=folder.read_metrics(),
    )


def _points(finished: Sequence[ComparedRun]) -> tuple[ComparedPoint, ...]:
    groups: dict[str, dict[int, ComparedRun]] = {}
    for run in finished:
        # a second run with the same seed says nothing of how far seeds lie apart
        groups.setdefault(run.point, {}).setdefault(run.recipe.seed, run)
    found = sorted((ComparedPoint(tuple(group.values())) for group in groups.values()), key=lambda point: -point.psnr)
    everywhere = compute_seed_range(point.psnrs for point in found)
    nexts = [*found[1:], None]
    return tuple(
        point
        if after is None
        else ComparedPoint(point.runs, point.psnr - after.psnr, _allowed(point, after, everywhere))
        for point, after in zip(found, nexts, strict=True)
    )


def _allowed(one: ComparedPoint, other: ComparedPoint, everywhere: float | None) -> float | None:
    """dB that seeds lie apart: of these two points, or of any where these were not repeated."""
    own = compute_seed_range([one.psnrs, other.psnrs])
    return everywhere if own is None else own


def _decibel(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _times(one: float | None, other: float | None) -> str | None:
    return f"{one / other:.2f}" if one and other else None


def _average(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
