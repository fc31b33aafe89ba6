"""A training continues while its ledger is locked, missing or broken, and its row is written later."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from daelab.runs import database, run_row
from daelab.runs.database import DatabaseError
from daelab.runs.ledger import Ledger
from daelab.runs.run_row import RunRow


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of a ledger for which nothing waits."""
    monkeypatch.setattr(run_row, "_TIMEOUT", 0.0)
    monkeypatch.setattr(database, "PATIENCE", 0.0)
    return tmp_path / "ledger.db"


@pytest.fixture
def row(file: Path) -> RunRow:
    """Return the row of a run that has begun."""
    row = RunRow(Ledger(f"sqlite:///{file}"), "a")
    row.record(status="running", comments="x")
    return row


@pytest.fixture
def other(file: Path) -> Iterator[sqlite3.Connection]:
    """Connect another program to the ledger."""
    connection = sqlite3.connect(file, isolation_level=None)
    yield connection
    connection.close()


def test_a_locked_ledger_is_written_when_the_lock_is_gone(file: Path, row: RunRow, other: sqlite3.Connection) -> None:
    other.execute("BEGIN EXCLUSIVE")
    row.record(epochs_done=1, val_loss=0.5)
    row.record(epochs_done=2)
    row.mark_dead_runs()
    other.execute("ROLLBACK")
    ledger = Ledger(f"sqlite:///{file}")
    assert ledger.get_run("a")["epochs_done"] == 0
    row.record(seconds=3.0)
    kept = ledger.get_run("a")
    assert (kept["epochs_done"], kept["val_loss"], kept["seconds"]) == (2, 0.5, 3.0)


def test_the_end_of_a_training_waits_for_a_lock(
    file: Path, row: RunRow, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            other.execute("ROLLBACK")

    monkeypatch.setattr(database, "PATIENCE", 600.0)
    monkeypatch.setattr(database.time, "sleep", pause)
    other.execute("BEGIN EXCLUSIVE")
    row.finish(status="finished")
    assert len(pauses) == 3
    assert Ledger(f"sqlite:///{file}").get_run("a")["status"] == "finished"


def test_a_lock_that_stays_is_an_error_only_at_the_end(row: RunRow, other: sqlite3.Connection) -> None:
    other.execute("BEGIN EXCLUSIVE")
    row.record(epochs_done=1)
    with pytest.raises(DatabaseError, match=r"^ledger sqlite:///.*: database is locked$") as caught:
        row.finish(status="finished")
    assert caught.value.transient


@pytest.mark.parametrize("how", ["deleted", "emptied", "another file"])
def test_a_ledger_that_vanished_is_created_anew_with_the_whole_row(how: str, file: Path, row: RunRow) -> None:
    file.unlink()
    if how != "deleted":
        file.touch()
    if how == "another file":
        Ledger(f"sqlite:///{file}").record("b", status="finished")
    row.record(epochs_done=1)
    row.finish(status="finished")
    kept = Ledger(f"sqlite:///{file}").get_run("a")
    assert (kept["status"], kept["comments"], kept["epochs_done"]) == ("finished", "x", 1)


@pytest.mark.parametrize("how", ["damaged", "a folder", "another program's"])
def test_a_ledger_that_is_none_any_more_is_an_error_only_at_the_end(how: str, file: Path, row: RunRow) -> None:
    file.unlink()
    if how == "damaged":
        file.write_bytes(b"x" * 5000)
    elif how == "a folder":
        file.mkdir()
    else:
        sqlite3.connect(file).execute("CREATE TABLE runs (run_uuid TEXT)").connection.close()
    row.record(epochs_done=1)
    with pytest.raises(DatabaseError) as caught:
        row.finish(status="finished")
    assert not caught.value.transient
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pragma", ["query_only = ON", "max_page_count = 1"])
def test_a_read_only_or_full_ledger_is_written_when_it_can_be(pragma: str, file: Path, row: RunRow) -> None:
    # limits of SQLite itself, since the rights of a file do not bind an administrator, who may run the tests
    limited: list[sqlite3.Connection] = []

    def limit(connection: sqlite3.Connection, _record: object) -> None:
        limited.append(connection)
        connection.execute(f"PRAGMA {pragma}")

    text, ledger = "long " * 5000, Ledger(f"sqlite:///{file}")
    database.event.listen(row._ledger.engine, "connect", limit)
    row.record(comments=text)
    database.event.remove(row._ledger.engine, "connect", limit)
    assert limited
    assert ledger.get_run("a")["comments"] == "x"
    row.record()
    assert ledger.get_run("a")["comments"] == text


def test_a_server_that_does_not_answer_may_answer_later() -> None:
    with pytest.raises(DatabaseError, match="^ledger postgresql://me:") as caught:
        Ledger("postgresql://me:secret@127.0.0.1:1/x")
    assert caught.value.transient
    assert "secret" not in str(caught.value)
