"""The record of a training: one process holds it, and a failure of the ledger does not end the training."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daelab.runs import database, run_row
from daelab.runs.database import DatabaseError
from daelab.runs.folder import get_run_folder
from daelab.runs.ledger import Ledger
from daelab.runs.process_lock import RunInUseError, lock_run
from daelab.training.callbacks.progress import SilentProgress
from daelab.training.recipe import Recipe, parse_recipe
from daelab.training.tasks.denoising import fit_denoiser


@pytest.fixture
def tiny(pictures_file: Path) -> Recipe:
    """Return a recipe of three short epochs."""
    training = {"epochs": 3, "batch": 16, "precision": "float32"}
    return parse_recipe({"spec": {"stages": [4]}, "data": {"name": f"npz:{pictures_file}"}, "training": training})


class AfterEpoch(SilentProgress):
    """An observer that calls a function after the first epoch."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call

    def epoch(self, row: dict[str, float], best: Any) -> None:
        if row["epoch"] == 1:
            self.call()


def list_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_in_use_is_neither_resumed_nor_trained_again_nor_touched(tiny: Recipe) -> None:
    refused = []

    def try_again() -> None:
        run = get_run_folder("a")
        (run.path / ".0123456789ab.toml").touch()  # as the living process may write just now
        before, row = list_files(run.path), Ledger().get_run("a")
        for resume in (True, False):
            with pytest.raises(RunInUseError, match="run a is in use by process") as caught:
                fit_denoiser(tiny, "a", resume=resume)
            refused.append(str(caught.value))
        assert list_files(run.path) == before
        assert Ledger().get_run("a") == row

    done = fit_denoiser(tiny, "a", progress=AfterEpoch(try_again))
    assert len(refused) == 2
    assert len(done.rows) == 3
    with pytest.raises(ValueError, match="run a exists in"):
        fit_denoiser(tiny, "a")
    assert len(fit_denoiser(tiny, "a", resume=True).rows) == 3


def test_a_training_that_cannot_begin_leaves_no_folder(tiny: Recipe) -> None:
    lost = tiny.model_copy(update={"data": tiny.data.model_copy(update={"name": "npz:nowhere.npz"})})
    with pytest.raises(ValueError, match=r"nowhere\.npz"):
        fit_denoiser(lost, "a")
    assert not get_run_folder("a").path.exists()


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a ledger for which nothing waits."""
    monkeypatch.setattr(run_row, "_TIMEOUT", 0.0)
    monkeypatch.setattr(database, "PATIENCE", 0.0)
    return f"sqlite:///{tmp_path}/l.db"


def test_a_training_goes_on_while_its_ledger_is_locked(tiny: Recipe, url: str, tmp_path: Path) -> None:
    ledger = Ledger(url)
    other = sqlite3.connect(tmp_path / "l.db", isolation_level=None)

    class Locked(AfterEpoch):
        def epoch(self, row: dict[str, float], best: Any) -> None:
            super().epoch(row, best)
            if row["epoch"] == 3:
                other.execute("ROLLBACK")

    done = fit_denoiser(tiny, "a", ledger=ledger, progress=Locked(lambda: other.execute("BEGIN EXCLUSIVE")))
    other.close()
    row = ledger.get_run("a")
    assert (row["status"], row["epochs_done"], row["val_loss"]) == ("finished", 3, done.best.val_loss)


def test_a_ledger_that_stays_locked_ends_a_training_when_it_is_done(tiny: Recipe, url: str, tmp_path: Path) -> None:
    ledger, run = Ledger(url), get_run_folder("a")
    other = sqlite3.connect(tmp_path / "l.db", isolation_level=None)
    with pytest.raises(DatabaseError) as caught:
        fit_denoiser(tiny, "a", ledger=ledger, progress=AfterEpoch(lambda: other.execute("BEGIN EXCLUSIVE")))
    assert str(caught.value) == (
        f"the training is done and its files are in {run.path}, but not its row in the ledger {url}: database is "
        "locked; write it with: daelab train --resume a"
    )
    other.execute("ROLLBACK")
    other.close()
    assert len(run.read_metrics()) == 3
    assert run.best.is_file()
    assert ledger.get_run("a")["status"] == "running"
    before = run.best.read_bytes()
    assert len(fit_denoiser(tiny, "a", resume=True, ledger=ledger).rows) == 3
    assert (ledger.get_run("a")["status"], ledger.get_run("a")["epochs_done"]) == ("finished", 3)
    assert run.best.read_bytes() == before


@pytest.mark.parametrize("how", ["deleted", "damaged"])
def test_a_training_outlives_its_ledger(how: str, tiny: Recipe, url: str, tmp_path: Path) -> None:
    def spoil() -> None:
        (tmp_path / "l.db").unlink()
        if how == "damaged":
            (tmp_path / "l.db").write_bytes(b"no database" * 1000)

    ledger = Ledger(url)
    if how == "deleted":
        fit_denoiser(tiny, "a", ledger=ledger, progress=AfterEpoch(spoil))
        row = Ledger(url).get_run("a")
        assert (row["status"], row["epochs_done"], row["seed"]) == ("finished", 3, 0)
    else:
        with pytest.raises(DatabaseError, match=r"its files are in .*: file is not a database; write it with"):
            fit_denoiser(tiny, "a", ledger=ledger, progress=AfterEpoch(spoil))
    assert len(get_run_folder("a").read_metrics()) == 3


def test_the_first_error_is_told_even_if_the_ledger_fails_too(tiny: Recipe, url: str, tmp_path: Path) -> None:
    def fail() -> None:
        (tmp_path / "l.db").unlink()
        (tmp_path / "l.db").mkdir()
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        fit_denoiser(tiny, "a", ledger=Ledger(url), progress=AfterEpoch(fail))
    with lock_run(get_run_folder("a").path):
        pass
