"""Comparison of runs: which settings differ, how they scored, and which differences are within the seed range.

A point is a set of settings without the seed; its runs differ only in their seed. The seed range is the largest
difference between two such runs. Two points whose difference is within it cannot be ranked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from daelab._util.text import format_html_table
from daelab.errors import make_unknown_name_error
from daelab.evaluation.metrics import METRICS
from daelab.experiments.compared_runs import (
    ComparedPoint,
    ComparedRun,
    PointGain,
    average_known,
    find_allowed_difference,
    find_mixed_conditions,
    group_compared_runs,
    read_compared_run,
)
from daelab.experiments.fields import format_field_value, shorten_field_names
from daelab.experiments.reports.table import Table
from daelab.experiments.seed_range import compute_seed_range, is_within_seed_range
from daelab.runs.ledger import Ledger

PSNR, BATCH_PSNR = METRICS["psnr"], METRICS["psnr_batch"]
_SIZE = ("parameters", "MACs")
"""The columns of `ComparedRun.size`."""


@dataclass(frozen=True)
class Comparison:
    """A comparison of runs."""

    runs: tuple[ComparedRun, ...]
    """The runs, the best first; in the given order if they cannot be ranked."""
    fields: tuple[str, ...]
    """The dotted names of the fields that differ."""
    points: tuple[ComparedPoint, ...]
    """The points of finished runs, the best first; in the given order if they cannot be ranked."""

    @property
    def mixed(self) -> tuple[str, ...]:
        """The conditions, such as the noise, in which finished runs differ, so that their scores cannot be ranked."""
        return find_mixed_conditions(run for point in self.points for run in point.runs)

    @property
    def ranked(self) -> tuple[ComparedPoint, ...]:
        """The points in the order of their rank; none if they cannot be ranked."""
        return () if self.mixed else self.points

    @property
    def best(self) -> list[ComparedPoint]:
        """The best point, and those whose difference from it is within the seed range."""
        first = self.points[0]
        everywhere = compute_seed_range(point.psnrs for point in self.points)
        allowed = {id(point): find_allowed_difference(first, point, everywhere) for point in self.points}
        return [
            first,
            *(one for one in self.points[1:] if is_within_seed_range(first.psnr - one.psnr, allowed[id(one)])),
        ]

    @property
    def verdict(self) -> str:
        """The result of the comparison, in one or two sentences."""
        if not self.points:
            return "No run is finished yet."
        if mixed := self.mixed:
            finished = [run for point in self.points for run in point.runs]
            alike = Counter("; ".join(f"{name} {run.conditions[name]}" for name in mixed) for run in finished)
            groups = [f"{what} ({count} of {len(finished)} runs)" for what, count in alike.items()]
            return (
                "Not ranked: the scores were measured under different conditions and cannot be compared. "
                f"{' | '.join(groups)}. To rank them, score each run with `daelab evaluate` on the same data and noise."
            )
        first = self.points[0]
        if len(self.points) == len(first.runs) == 1:
            return f"Only {first.runs[0].name} has a score: {first.psnr:.2f} dB."
        best = f"{self.named(first.runs[0])} ({first.psnr:.2f} dB)"
        if compute_seed_range(point.psnrs for point in self.points) is None:
            return f"Best: {best}. No point has several seeds, so it is unknown which differences matter."
        if len(self.points) == 1:
            apart = compute_seed_range([first.psnrs])
            return f"All runs differ by their seed alone: mean {first.psnr:.2f} dB, seed range {apart:.2f} dB."
        close = [self.named(point.runs[0]) for point in self.best[1:]]
        if close:
            return f"Best mean: {best}. Within the seed range of it: {' | '.join(close)}."
        return f"Best: {best}, ahead of every other by more than the seed range."

    def named(self, run: ComparedRun) -> str:
        """Describe the point of a run by the fields that differ.

        Args:
            run: The run.
        """
        return self._describe(run) or run.name

    def run_table(self) -> Table:
        """Return the table of all runs, with the fields that differ and the metrics."""
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
                *run.size,
                run.images_per_second and round(run.images_per_second),
                run.seconds and round(run.seconds),
            ]
            for run in self.runs
        ]
        columns = ["run", *(["status"] if status else []), *titles.values(), "epochs done", "validation loss"]
        columns += [PSNR.heading, BATCH_PSNR.heading, *([METRICS["macro_f1"].title] if judged else [])]
        columns += [*_SIZE, "images/s", "seconds"]
        note = (
            "Fields that all runs share are left out. PSNR is the mean over the validation images in the best epoch. "
            "The batch PSNR is the paper's, computed over batches of 128 images."
        )
        return Table("Every run", columns, rows, note)

    def to_dataframe(self) -> Any:
        """Return the table of all runs as a DataFrame of pandas."""
        return self.run_table().to_dataframe()

    def _repr_html_(self) -> str:
        """Return the table of all runs for a notebook, with the verdict below."""
        return self.run_table()._repr_html_() + format_html_table(self.verdict, (), ())

    def point_table(self) -> Table:
        """Return the table of all points, with their means, their seed ranges, and the leads over the next point."""
        fields = [field for field in self.fields if field != "seed"]
        titles = shorten_field_names(fields)
        rows = [
            [
                place,
                *(format_field_value(point.runs[0].fields.get(field)) for field in fields),
                len(point.runs),
                f"{point.psnr:.2f}",
                f"{apart:.2f}" if (apart := compute_seed_range([point.psnrs])) is not None else None,
                None if point.ahead is None else f"{'≈ ' if point.close else ''}{point.ahead:.2f}",
                *point.runs[0].size,
                point.speed and round(point.speed),
            ]
            for place, point in enumerate(self.ranked, 1)
        ]
        columns = ["", *titles.values(), "seeds", PSNR.heading, "seeds apart", "ahead of the next", *_SIZE, "images/s"]
        note = (
            "A point is one combination of the fields that differ. The PSNR is the mean over its seeds, and seeds "
            "apart is their range. The mark ≈ shows that the lead over the next point is within the seed range, so "
            "which of the two is better is unknown."
        )
        return Table("Every point", columns, rows, note)

    def gains(self, name: str) -> list[PointGain]:
        """Compare every point with that of a baseline run, the best first; none if they cannot be ranked.

        Args:
            name: The name of the baseline run.

        Raises:
            ValueError: No finished run of this name is compared.
        """
        base = next((point for point in self.points if name in (run.name for run in point.runs)), None)
        if base is None:
            finished = [run.name for point in self.points for run in point.runs]
            raise make_unknown_name_error("finished run to compare against", name, finished)
        everywhere = compute_seed_range(point.psnrs for point in self.points)
        gains = []
        for point in self.ranked:
            difference = point.psnr - base.psnr
            close = is_within_seed_range(difference, find_allowed_difference(point, base, everywhere))
            change = self._describe(point.runs[0], base.runs[0]) or name
            gains.append(PointGain(point, base, change, difference, close))
        return gains

    def against(self, name: str) -> Table:
        """Return the table of all points as differences from a baseline run, the best first.

        Args:
            name: The name of the baseline run.

        Raises:
            ValueError: No finished run of this name is compared.
        """
        rows = [
            [
                place,
                gain.change,
                len(gain.point.runs),
                f"{gain.point.psnr:.2f}",
                _decibel(average_known([run.psnr_batch for run in gain.point.runs])),
                None if gain.point is gain.base else f"{'≈ ' if gain.close else ''}{gain.difference:+.2f}",
                *gain.point.runs[0].size,
                _times(gain.base.speed, gain.point.speed),
            ]
            for place, gain in enumerate(self.gains(name), 1)
        ]
        columns = ["", "what differs", "seeds", PSNR.heading, BATCH_PSNR.heading, f"difference, {PSNR.unit}"]
        columns += [*_SIZE, "time, times"]
        note = (
            f"Differences are from {name}; the mark ≈ shows that a difference is within the seed range. Time is the "
            f"time of training an image, relative to {name}; other work on the computer affects it."
        )
        return Table(f"Against {name}", columns, rows, note)

    def outcome(self, name: str) -> str:
        """Summarize the comparison with a baseline run in three sentences, or say why there is none.

        Args:
            name: The name of the baseline run.

        Raises:
            ValueError: No finished run of this name is compared.
        """
        gains = [gain for gain in self.gains(name) if gain.point is not gain.base]
        if self.mixed:
            return self.verdict
        better = [
            f"{gain.change} ({gain.difference:+.2f} dB)" for gain in gains if gain.difference > 0 and not gain.close
        ]
        close = [gain.change for gain in gains if gain.close]
        worse = len(gains) - len(better) - len(close)
        return (
            f"Better than {name} by more than the seed range: {' | '.join(better) or 'nothing'}. Within "
            f"the seed range: {' | '.join(close) or 'nothing'}. Worse: {worse} of {len(gains)}."
        )

    def _describe(self, run: ComparedRun, base: ComparedRun | None = None) -> str:
        """Describe a run by the fields that differ, or by those that differ from a base; the seed is left out."""
        return "; ".join(
            f"{title} {format_field_value(run.fields.get(field))}"
            for field, title in shorten_field_names(self.fields).items()
            if field != "seed" and (base is None or run.fields.get(field) != base.fields.get(field))
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the output of `daelab compare --json`."""
        keys = ("name", "status", "psnr", "psnr_batch", "loss", "f1", "epochs", "seconds", "images_per_second")
        return {
            "fields": list(self.fields),
            "ranked": not self.mixed,
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

    Args:
        names: The names of the runs.
        ledger: The ledger.

    Raises:
        ValueError: There are fewer than two runs, a name is unknown, or a run has no recipe.
    """
    names = list(dict.fromkeys(names))
    if len(names) < 2:
        raise ValueError(
            f"name two runs or more to compare, or --study STUDY; {'only ' + names[0] if names else 'no run'} was named"
        )
    runs = [read_compared_run(ledger.get_run(name)) for name in names]
    finished = [run for run in runs if run.status == "finished" and run.psnr is not None]
    if not find_mixed_conditions(finished):
        for several in (runs, finished):
            several.sort(key=lambda run: (run.psnr is None, -(run.psnr or 0)))
    keys = dict.fromkeys(key for run in runs for key in run.fields)
    differing = tuple(key for key in keys if len({json.dumps(run.fields.get(key)) for run in runs}) > 1)
    return Comparison(tuple(runs), differing, group_compared_runs(finished))


def _decibel(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _times(one: float | None, other: float | None) -> str | None:
    return f"{one / other:.2f}" if one and other else None
