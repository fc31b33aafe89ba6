"""A study survives a locked database, a run that another process trains, and changes by other programs."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from daelab.experiments.search import storage, worker
from daelab.experiments.search.search import SearchRequest, run_search
from daelab.experiments.search.search_space import SearchSpace, parse_search_space
from daelab.experiments.search.study import Study
from daelab.experiments.search.worker import SearchWorker
from daelab.runs import database
from daelab.runs.folder import get_run_folder
from daelab.runs.ledger import Ledger
from daelab.runs.process_lock import lock_run

optuna = pytest.importorskip("optuna")


class Watcher:
    """An observer that ignores everything."""

    def say(self, text: str) -> None: ...
    def trial(self, row: object, ended: int, trials: int | None, left: float | None) -> None: ...
    def count(self, done: float, total: int) -> None: ...


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daelab.experiments.reports.style.find_spec", lambda name: None)


@pytest.fixture
def space(pictures_file: Path) -> SearchSpace:
    """Return a search space with two trials of two epochs."""
    fields: dict[str, Any] = {"data": {"name": f"npz:{pictures_file}"}, "spec": {"stages": [4]}, "seed": [1, 2]}
    fields |= {"training": {"epochs": 2, "batch": 16, "precision": "float32"}, "explore": {"sampler": "grid"}}
    return parse_search_space(fields)


def test_a_trial_whose_run_is_in_use_waits_for_it(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    study, held, pauses = Study("tiny").create(space), ExitStack(), []

    def pause(seconds: float) -> None:
        if seconds == worker._WAIT:  # and not that of a library
            pauses.append(study.counts()["waiting"])
            held.close()

    held.enter_context(lock_run(get_run_folder("tiny-0").path))
    monkeypatch.setattr(worker, "_WAIT", 0.25)
    monkeypatch.setattr(worker.time, "sleep", pause)
    assert SearchWorker(study).work() is None
    assert pauses == [2]
    assert study.counts()["finished"] == 2


def test_a_trial_goes_on_while_the_database_is_locked(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study("tiny").create(space)
    other = sqlite3.connect(get_run_folder("x").path.parent / "ledger.db", isolation_level=None)
    calls = []

    class Locked(worker._TrialProgress):
        def epoch(self, row: dict[str, float], best: Any) -> None:
            calls.append(row["epoch"])
            if len(calls) == 1:
                other.execute("BEGIN EXCLUSIVE")
            super().epoch(row, best)
            if len(calls) == 2:
                other.execute("ROLLBACK")

    monkeypatch.setattr(worker, "_TrialProgress", Locked)
    monkeypatch.setattr("daelab.runs.run_row._TIMEOUT", 0.0)
    study.storage = connect_hurried(study.url, monkeypatch)
    assert SearchWorker(study).work() is None
    other.close()
    assert calls == [1, 2, 1, 2]
    assert study.counts()["finished"] == 2


def connect_hurried(url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Connect to the storage of studies without waiting for locks."""
    monkeypatch.setattr(storage, "LOCK_TIMEOUT", 0.0)
    return storage.connect_study_storage(url)


def test_a_study_that_cannot_be_read_is_told_in_one_line(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study("tiny").create(space)
    study.storage = connect_hurried(study.url, monkeypatch)
    other = sqlite3.connect(get_run_folder("x").path.parent / "ledger.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(database.DatabaseError, match=r"^storage sqlite:///.*ledger\.db: database is locked$") as caught:
        study.note(0, epochs=1)
    other.close()
    assert caught.value.transient


def test_trials_that_another_program_spoilt_hide_no_other(space: SearchSpace) -> None:
    run_search(SearchRequest(space, "tiny"), Watcher())
    spoilt = {"seed": '"x"', "epochs": "null", "result": '{"psnr": "high"}', "owner": "3", "psnr": '"high"'}
    with sqlite3.connect(get_run_folder("x").path.parent / "ledger.db") as other:
        for key, value in spoilt.items():
            statement = "UPDATE trial_user_attributes SET value_json = ? WHERE key = ? AND trial_id = 1"
            assert other.execute(statement, (value, key)).rowcount == 1
    other.close()
    study = Study("tiny").open()
    bad, good = study.rows()
    assert (bad.number, bad.seed, bad.epochs, bad.psnr, bad.owner, bad.result) == (0, 0, 0, None, {}, {})
    assert [point.runs for point in study.best()] == [(good.run,)]
    assert study.to_dict()["finished"] == 2


def test_a_study_of_another_program_is_told_in_one_line() -> None:
    Ledger()
    url = Ledger().url
    optuna.create_study(storage=storage.connect_study_storage(url), study_name="theirs").enqueue_trial({})
    study = Study("theirs").open()
    assert [row.state for row in study.rows()] == ["waiting"]
    with pytest.raises(ValueError, match="^study theirs has no search space; it was not created by daelab explore$"):
        study.best()


@pytest.mark.parametrize("url", ["frog", "frog://x", "sqlite://", "mysql://me:secret@h/x"])
def test_a_wrong_url_is_told_by_the_name_of_its_option(url: str) -> None:
    with pytest.raises(database.DatabaseError, match="^storage ") as caught:
        Study("x", url)
    assert "secret" not in str(caught.value)
