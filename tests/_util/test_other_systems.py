"""The differences of Windows and macOS, simulated: folders that cannot be flushed, names, case, processes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil
import pytest

from daelab._util import files
from daelab._util.files import ignores_case, is_reserved_name, write_text
from daelab.denoising import batch
from daelab.denoising.batch import BatchRequest, plan_batch
from daelab.runs import process_lock
from daelab.runs.folder import choose_run_name, get_run_folder


def test_a_file_is_written_where_folders_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, real_open = [], os.open

    def open_as_windows(path: Path, flags: int, *mode: int) -> int:
        assert not Path(path).is_dir()
        opened.append(flags)
        return real_open(path, flags, *mode)

    with monkeypatch.context() as windows:
        windows.setattr(files.os, "open", open_as_windows)
        windows.delattr(files.os, "chown")
        windows.setattr(files, "ON_WINDOWS", True)
        place = tmp_path / "a"
        write_text(place, "old")
        write_text(place, "new")
        with pytest.raises(ValueError, match="Windows does not allow this name"):
            write_text(place.with_name("nul.txt"), "lost")
    assert place.read_text(encoding="utf-8") == "new"
    assert all(flags & (os.O_RDWR | os.O_WRONLY) for flags in opened)


@pytest.mark.parametrize("name", ["con", "Aux", "nul.b", "COM1", "lpt9.png", "prn", "a."])
def test_a_run_has_a_name_that_every_system_allows(name: str) -> None:
    assert is_reserved_name(name)
    with pytest.raises(ValueError, match=r"^run name '.*': Windows does not allow this name; choose another"):
        get_run_folder(name)
    assert not is_reserved_name(choose_run_name(name.partition(".")[0]))


def test_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = (tmp_path / "Pictures").mkdir()
    assert ignores_case(tmp_path / "Pictures" / "later") is (tmp_path / "pICTURES").exists() is (real is not None)
    for name in ("one/cat.png", "two/Cat.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    request = BatchRequest([str(tmp_path / "one" / "cat.png"), str(tmp_path / "two" / "Cat.png")], tmp_path / "out")
    assert [job.fault for job in plan_batch(request)] == ["", ""]
    monkeypatch.setattr(batch, "ignores_case", lambda _: True)
    first, second = (job.fault for job in plan_batch(request))
    assert first == ""
    assert second.endswith("one/cat.png too")


def test_a_process_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_lock.sys, "platform", "win32")
    here = process_lock.describe_process()
    assert here["born"] == f"{psutil.Process().create_time():.2f}"
    assert not process_lock.has_died(**here)  # type: ignore[arg-type]
    assert process_lock.has_died(socket.gethostname(), os.getpid(), "1.00")  # the number of an earlier process
    monkeypatch.setattr(psutil, "pid_exists", lambda _: False)
    assert process_lock.has_died(**here)  # type: ignore[arg-type]
