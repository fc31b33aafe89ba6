"""Only one process at a time writes to the folder of a run, and a dead process blocks nobody."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from daelab.runs import process_lock
from daelab.runs.folder import get_run_folder
from daelab.runs.process_lock import LOCK_FILE, RunInUseError, find_owner, has_died, lock_run

HOLD = """
import sys
from pathlib import Path
from daelab.runs.process_lock import lock_run
with lock_run(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Start a process that locks a folder until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "locked\n"
    return process


def test_the_owner_is_named_and_a_killed_one_blocks_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    with hold(folder) as other:
        named = rf"^run a is in use by process {other.pid} on {socket.gethostname()}; wait until it has ended"
        with pytest.raises(RunInUseError, match=named), lock_run(folder):
            pytest.fail("two processes hold the lock")
        other.kill()
    assert (folder / LOCK_FILE).is_file()
    with lock_run(folder):
        (folder / "x").touch()
    assert [path.name for path in folder.iterdir()] == ["x"]


def test_two_threads_or_calls_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    with lock_run(tmp_path / "a"):
        with pytest.raises(RunInUseError, match=f"process {os.getpid()} on"), lock_run(tmp_path / "a"):
            pytest.fail("locked twice")
        with lock_run(tmp_path / "b"):
            pass
    with lock_run(tmp_path / "a"):
        pass


def test_a_folder_that_stays_empty_is_removed_even_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lock_run(tmp_path / "runs" / "a"):
        raise KeyError
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"host": "x"}', '{"pid": "p", "host": 1}', "\udcff", "9" * 5000])
def test_a_lock_file_of_any_content_gives_one_line(text: str, tmp_path: Path) -> None:
    with lock_run(tmp_path / "a"):
        (tmp_path / "a" / LOCK_FILE).write_text(text, encoding="utf-8", errors="surrogateescape")
        with pytest.raises(RunInUseError, match="^run a is in use by another process; wait"), lock_run(tmp_path / "a"):
            pytest.fail("locked twice")


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("text")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / LOCK_FILE).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic link"), lock_run(tmp_path / "a"):
        pytest.fail("followed")
    assert (tmp_path / "precious").read_text() == "text"


def test_a_lock_file_that_its_owner_has_just_removed_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, attempts, lock = tmp_path / "a", [], process_lock._lock

    def lock_late(handle: int) -> None:
        attempts.append(handle)
        if len(attempts) == 1:  # the owner ends between the opening and the locking of the file
            (folder / LOCK_FILE).unlink()
        lock(handle)

    monkeypatch.setattr(process_lock, "_lock", lock_late)
    with lock_run(folder), pytest.raises(RunInUseError), lock_run(folder):
        pytest.fail("locked twice")
    assert len(attempts) == 4  # the third is the folder's


@pytest.mark.skipif(sys.platform == "win32", reason="Windows deletes no file that is open")
def test_a_deleted_lock_file_lets_nobody_in(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    with lock_run(folder):
        (folder / LOCK_FILE).unlink()
        with pytest.raises(RunInUseError, match="whose lock file was deleted"), lock_run(folder):
            pytest.fail("locked twice")
    with lock_run(folder):
        pass


@pytest.mark.parametrize("pid", [0, -1, -(2**40)])
def test_a_group_of_processes_owns_nothing(pid: int, tmp_path: Path) -> None:
    with lock_run(tmp_path / "a"):
        (tmp_path / "a" / LOCK_FILE).write_text(json.dumps({"host": socket.gethostname(), "pid": pid}))
        assert find_owner(tmp_path / "a") is None


def test_a_file_system_without_locks_is_used_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> None:
        raise OSError(process_lock._NO_LOCKS[0], "no locks")

    monkeypatch.setattr(process_lock, "_lock", refuse)
    with lock_run(tmp_path / "a"), lock_run(tmp_path / "a"):
        pass


def test_what_a_killed_process_left_is_cleared_but_not_the_lock() -> None:
    run = get_run_folder("a")
    with lock_run(run.path):
        for name in (".0123456789ab.toml", ".recipe-x1y2.toml", ".0123456789ab", "recipe.toml"):
            (run.path / name).touch()
        run.clear()
        assert {path.name for path in run.path.iterdir()} == {LOCK_FILE, "recipe.toml"}


PROCESSES = [(2**80, True), ("1", False), (None, False), (os.getpid(), False)]


@pytest.mark.parametrize(("pid", "dead"), PROCESSES, ids="abcd")
def test_a_process_number_of_any_kind(pid: object, dead: bool) -> None:
    assert has_died(socket.gethostname(), pid, None) is dead  # type: ignore[arg-type]
