"""Search and comparison from Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from daelab.experiments.comparison import Comparison, compare_run_records
from daelab.experiments.search.search import SearchProgress, SearchRequest, run_search
from daelab.experiments.search.search_space import SearchSpace, load_search_space, parse_search_space
from daelab.experiments.search.study import Study
from daelab.runs.ledger import Ledger


class _Silent(SearchProgress):
    """An observer that ignores everything."""


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
        space: The search space, the name of a shipped one (`explore/depth`), or a path. It may be None to resume a
            study by its name.
        name: The name of the study. Default: the last part of the search space's name.
        changes: Changes of fields as `a.b=value` texts, as `--set` takes them.
        limits: The limits trials, total_epochs and minutes, in place of those of the search space.
        workers: The number of worker processes on this computer. More than one need a script that is guarded by
            `if __name__ == "__main__"`.
        storage: The URL of the database of the study and of the ledger. Default: that of the ledger.
        resume: Resume an existing study.
        data_root: The folder of downloaded data sets.
        watcher: The observer of the search.

    Raises:
        ValueError: The search space, the data or the study has a mistake.
        SearchInterrupted: SIGINT or SIGTERM arrived; the study can be resumed.
    """
    bounds = tuple(f"explore.{key}={value}" for key, value in (limits or {}).items() if value is not None)
    changes = [*changes, *bounds]
    if isinstance(space, SearchSpace):
        space = parse_search_space(space.fields, changes, space.name)
    elif space is not None:
        space = load_search_space(space, changes)
    folder = None if data_root is None else Path(data_root)
    request = SearchRequest(space, name, storage, resume, bounds, workers, folder, tuple(changes))
    return run_search(request, watcher or _Silent())


def compare(names: Iterable[str] = (), *, study: str | None = None, storage: str | None = None) -> Comparison:
    """Compare runs: which settings differ, how they scored, and which differences are within the seed range.

    Args:
        names: The names of the runs.
        study: The name of a study, to compare all its runs instead.
        storage: The URL of the database of the ledger and of the study. Default: that of the ledger.

    Raises:
        ValueError: There are fewer than two runs, or a name is unknown.
    """
    if study is None:
        return compare_run_records(names, Ledger(storage))
    found = Study(study, storage).open()
    # A trial that was only just begun has no row yet, and a row that cannot be read does not hide the others.
    there = {row["name"] for row in found.ledger.list_runs() if row["recipe"]}
    return compare_run_records([row.run for row in found.rows() if row.run in there], found.ledger)
