"""Search spaces of recipes, and compare runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from daelab.experiments.comparison import Comparison, compare_run_records
from daelab.experiments.search.search import SearchProgress, SearchRequest, run_search
from daelab.experiments.search.search_space import SearchSpace, load_search_space, parse_search_space
from daelab.experiments.search.study import Study
from daelab.experiments.search.trials import TrialRow
from daelab.runs.ledger import Ledger


class _Silent:
    """Tells nobody."""

    def say(self, text: str) -> None: ...
    def trial(self, row: TrialRow, ended: int, trials: int | None, left: float | None) -> None: ...
    def count(self, done: float, total: int) -> None: ...


def explore(
    space: SearchSpace | str | Path | None,
    name: str | None = None,
    *,
    changes: Iterable[str] = (),
    limits: Mapping[str, float | None] | None = None,
    workers: int = 1,
    storage: str | None = None,
    resume: bool = False,
    data_root: str | Path | None = None,
    watcher: SearchProgress | None = None,
) -> Study:
    """Search a space of recipes; each trial is a run.

    Args:
        space: a space, the name of a shipped one (`explore/depth`), or a path; with `resume` and a name, None.
        name: of the study; the last part of the space's name where it is not given.
        changes: `a.b=value` texts, as `--set` takes them.
        limits: trials, total_epochs and minutes, in place of the space's own.
        workers: processes on this machine. More than one need a script that is guarded by `__name__`.
        storage: database URL of the study and of the ledger; else the ledger's.
        resume: go on with a study that is there.

    Raises:
        ValueError: a mistake in the space, the data or the study; one line that says what to do.
        Interrupted: SIGINT or SIGTERM came; the study can go on.
    """
    bounds = tuple(f"explore.{key}={value}" for key, value in (limits or {}).items() if value is not None)
    changes = [*changes, *bounds]
    if isinstance(space, SearchSpace):
        space = parse_search_space(space.fields, changes, space.name)
    elif space is not None:
        space = load_search_space(space, changes)
    request = SearchRequest(
        space, name, storage, resume, bounds, workers, None if data_root is None else Path(data_root)
    )
    return run_search(request, watcher or _Silent())


def compare(names: Iterable[str] = (), *, study: str | None = None, storage: str | None = None) -> Comparison:
    """Compare runs: the fields that differ, what each came to, and which differences mean nothing.

    Args:
        names: of runs.
        study: all runs of this study, in place of names.
        storage: database URL of the ledger, and of the study; else the ledger's own.

    Raises:
        ValueError: fewer than two runs, or an unknown one; one line that says what to do.
    """
    if study is None:
        return compare_run_records(names, Ledger(storage))
    found = Study(study, storage).open()
    # a trial that was only just begun has no row yet
    there = {row["name"] for row in found.ledger.rows()}
    return compare_run_records([row.run for row in found.rows() if row.run in there], found.ledger)
