"""The trials of a study as they stand, and the points that they are of."""

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


@dataclass(frozen=True)
class TrialRow:
    """A trial as it stands."""

    number: int
    state: str
    """waiting, running, finished, pruned or failed."""
    point: Mapping[str, FieldValue]
    """What was chosen; empty as long as nothing was."""
    seed: int
    """0 for the first run of a point, 1 for the next."""
    run: str
    epochs: int
    """Trained so far."""
    psnr: float | None
    """dB, of the best epoch so far."""
    result: Mapping[str, float]
    """Of a finished trial; see `kinds.Result`."""
    reason: str
    """Why it failed."""
    owner: Mapping[str, Any]
    """host, pid and born of the process that runs it."""
    repeats: int
    """Runs that its point is to have; 0 for all but the first of a point."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in ("finished", "pruned", "failed")


@dataclass(frozen=True)
class SearchPoint:
    """A point that has finished runs."""

    point: Mapping[str, FieldValue]
    runs: tuple[str, ...]
    """Of its seeds, the best by PSNR first."""
    values: Mapping[str, float]
    """Goal -> mean over the seeds."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"point": dict(self.point), "runs": list(self.runs), **self.values}


def group_trials(rows: Iterable[TrialRow], goals: Iterable[str]) -> list[SearchPoint]:
    """The points of finished trials, with what each seed came to."""
    groups: dict[str, list[TrialRow]] = {}
    for row in rows:
        if row.state == "finished":
            groups.setdefault(format_point(row.point), []).append(row)
    found = []
    for group in groups.values():
        names = [row.run for row in sorted(group, key=lambda row: -row.result["psnr"])]
        means = {goal: float(np.mean([SEARCH_GOALS[goal].of(row.result) for row in group])) for goal in goals}
        found.append(SearchPoint(group[0].point, tuple(names), means))
    return found


def find_best_points(found: Sequence[SearchPoint], goals: Sequence[str]) -> list[SearchPoint]:
    """The best point; with several goals, all that no other beats in every one."""
    signs = [1 if SEARCH_GOALS[goal].more else -1 for goal in goals]
    scores = [[sign * point.values[goal] for sign, goal in zip(signs, goals, strict=True)] for point in found]
    if len(goals) == 1:
        return [found[max(range(len(found)), key=lambda at: scores[at])]] if found else []
    return [
        point
        for point, mine in zip(found, scores, strict=True)
        if not any(other != mine and all(map(float.__ge__, other, mine)) for other in scores)
    ]


def make_trial_row(trial: FrozenTrial, repeats: int) -> TrialRow:
    """A trial of Optuna's, whose point is to have so many runs."""
    attrs = trial.user_attrs
    return TrialRow(
        number=trial.number,
        state=STATES[trial.state.name],
        point=trial.params or trial.system_attrs.get("fixed_params", {}),
        seed=attrs["seed"],
        run=attrs.get("run", ""),
        epochs=attrs.get("epochs", 0),
        psnr=attrs.get("psnr"),
        result=attrs.get("result", {}),
        reason=attrs.get("reason", ""),
        owner=attrs.get("owner") or {},
        repeats=0 if "point" in attrs else repeats,
    )
