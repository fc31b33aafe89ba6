"""The trials of a study in their current state, and the points of the search space that they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from daelab.experiments.search.dimensions import FieldValue
from daelab.experiments.search.goals import SEARCH_GOALS
from daelab.experiments.search.search_space import format_point

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

STATES = {"WAITING": "waiting", "RUNNING": "running", "COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
"""Optuna's states of a trial, and ours."""
_RESULTS = {"psnr", "loss", "macs", "parameters", "images_per_second"}
"""The results from which every goal is computed."""


@dataclass(frozen=True)
class TrialRow:
    """A trial in its current state."""

    number: int
    """The number of the trial in its study."""
    state: str
    """The state: waiting, running, finished, pruned or failed."""
    point: Mapping[str, FieldValue]
    """The values of the dimensions; empty before they are sampled."""
    seed: int
    """The number that is added to the recipe's seed: 0 for the first run of a point, 1 for the next."""
    run: str
    """The name of the run."""
    epochs: int
    """The number of epochs trained so far."""
    psnr: float | None
    """The validation PSNR in dB of the best epoch so far."""
    result: Mapping[str, float]
    """The results of a finished trial; see `goals.TrialResult`."""
    reason: str
    """The reason why the trial failed or was pruned."""
    owner: Mapping[str, Any]
    """The host, the pid and the start time of the process that runs the trial."""
    repeats: int
    """The number of runs that the point of the trial will have; 0 for all but the first trial of a point."""

    @property
    def ended(self) -> bool:
        """Whether the trial is finished, pruned or failed."""
        return self.state in ("finished", "pruned", "failed")


@dataclass(frozen=True)
class SearchPoint:
    """A point of the search space that has finished runs."""

    point: Mapping[str, FieldValue]
    """The values of the dimensions."""
    runs: tuple[str, ...]
    """The names of the runs, one for each seed, the highest PSNR first."""
    values: Mapping[str, float]
    """The mean over the seeds of each goal."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"point": dict(self.point), "runs": list(self.runs), **self.values}


def group_trials(rows: Iterable[TrialRow], goals: Iterable[str]) -> list[SearchPoint]:
    """Group the finished trials by their points.

    Args:
        rows: The trials of a study.
        goals: The names of the goals.
    """
    groups: dict[str, list[TrialRow]] = {}
    for row in rows:
        # A trial that another program has changed may lack results, and it must not hide the others.
        if row.state == "finished" and row.result.keys() >= _RESULTS:
            groups.setdefault(format_point(row.point), []).append(row)
    points = []
    for group in groups.values():
        names = [row.run for row in sorted(group, key=lambda row: -row.result["psnr"])]
        means = {goal: float(np.mean([SEARCH_GOALS[goal].of(row.result) for row in group])) for goal in goals}
        points.append(SearchPoint(group[0].point, tuple(names), means))
    return points


def find_best_points(points: Sequence[SearchPoint], goals: Sequence[str]) -> list[SearchPoint]:
    """Return the best point; with several goals, all points that no other point beats in every goal.

    Args:
        points: The points of a study.
        goals: The names of the goals.
    """
    signs = [1 if SEARCH_GOALS[goal].more else -1 for goal in goals]
    scores = [[sign * point.values[goal] for sign, goal in zip(signs, goals, strict=True)] for point in points]
    if len(goals) == 1:
        return [points[max(range(len(points)), key=lambda at: scores[at])]] if points else []
    return [
        point
        for point, mine in zip(points, scores, strict=True)
        if not any(other != mine and all(map(float.__ge__, other, mine)) for other in scores)
    ]


def make_trial_row(trial: FrozenTrial, repeats: int) -> TrialRow:
    """Convert a trial of Optuna.

    Args:
        trial: Optuna's trial.
        repeats: The number of runs that the trial's point will have.
    """
    attrs = trial.user_attrs
    result = _read(attrs, "result", dict, {})
    return TrialRow(
        number=trial.number,
        state=STATES[trial.state.name],
        point=trial.params or trial.system_attrs.get("fixed_params", {}),
        seed=_read(attrs, "seed", int, 0),
        run=_read(attrs, "run", str, ""),
        epochs=_read(attrs, "epochs", int, 0),
        psnr=_read(attrs, "psnr", float | int, None),
        result={key: value for key, value in result.items() if isinstance(value, int | float)},
        reason=_read(attrs, "reason", str, ""),
        owner=_read(attrs, "owner", dict, {}),
        repeats=0 if "point" in attrs else repeats,
    )


def _read(attributes: Mapping[str, Any], name: str, kind: Any, default: Any) -> Any:
    """Return an attribute of a trial, or the default where another program has left none, or one of another type."""
    value = attributes.get(name)
    return value if isinstance(value, kind) else default
