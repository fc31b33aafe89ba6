"""The process that runs a training: its host, number and start time, and the lock on the folder that it writes to."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_FILE = ".lock"
"""The file of a run's folder that its process holds locked; it is removed when the process ends in an orderly way."""
_LOCKED_BYTE = 1 << 30
"""The byte that is locked where only bytes can be. It lies behind the text, which others must be able to read."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""The errors of a file system that has no locks."""


class RunInUseError(ValueError):
    """The refusal to write to the folder of a run that another process is writing to."""


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Let no other process write to the folder of a run while the block runs.

    The operating system releases the lock when its process ends, however it ends. The folder is created if it does not
    exist, and removed if the block leaves it empty.

    Args:
        folder: The folder of the run.

    Raises:
        RunInUseError: Another process, or another thread of this one, has locked the folder.
        OSError: The folder cannot be written to.
    """
    path = folder / LOCK_FILE
    handle = _open_locked(path)
    try:
        with _lock_folder(folder):
            with suppress(OSError):  # a full disk keeps nobody from the lock; only the owner's name is missing then
                os.ftruncate(handle, 0)
                os.write(handle, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode())
            yield
    finally:
        # While the lock is still held, so that no other process can lock a file that is then removed.
        with suppress(OSError):
            path.unlink()
        os.close(handle)
        with suppress(OSError):
            folder.rmdir()


def _open_locked(path: Path) -> int:
    """Open the lock file of a folder, and lock it."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except FileNotFoundError:  # the folder was empty, and its last owner has removed it since
            continue
        try:
            _lock(handle)
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        except FileNotFoundError:  # the last owner has removed the file since it was opened
            pass
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return handle
            message = _describe_use(path.parent, _describe_owner(handle))
            os.close(handle)
            raise RunInUseError(message) from None
        os.close(handle)


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Lock a folder itself, whose lock file somebody may have deleted, where the system can do that."""
    if sys.platform == "win32":  # it deletes no file that is open
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle)
    except BlockingIOError:
        os.close(handle)
        raise RunInUseError(_describe_use(folder, "another process, whose lock file was deleted")) from None
    except OSError:  # some network file systems lock only what is open for writing
        pass
    try:
        yield
    finally:
        os.close(handle)


def _describe_use(folder: Path, owner: str) -> str:
    return f"run {folder.name} is in use by {owner}; wait until it has ended, stop it, or choose another name"


def _lock(handle: int) -> None:
    """Lock an open file without waiting; raise an OSError if another handle has locked it."""
    if sys.platform == "win32":
        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _describe_owner(handle: int) -> str:
    """Name the process that holds a lock."""
    owner = _read_owner(handle)
    return "another process" if owner is None else f"process {owner[1]} on {owner[0]}"


def _read_owner(handle: int) -> tuple[str, int] | None:
    """Read the host and the number of the process from a lock file, which may be of any content."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        os.lseek(handle, 0, os.SEEK_SET)
        owner = json.loads(os.read(handle, 1000))
        # Zero and negative numbers mean groups of processes.
        if (pid := int(owner["pid"])) > 0:
            return str(owner["host"])[:100], pid
    return None


def find_owner(folder: Path) -> tuple[str, int] | None:
    """Return the host and the number of the process that trains a run, or None if no process is known to.

    Args:
        folder: The folder of the run.
    """
    with suppress(OSError):
        handle = os.open(folder / LOCK_FILE, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            _lock(handle)  # a file that can be locked was left by a process that has ended
        except OSError as error:
            return None if error.errno in _NO_LOCKS else _read_owner(handle)
        finally:
            os.close(handle)
    return None


def stop_training(folder: Path, host: str | None, pid: int | None) -> None:
    """Ask the process that trains a run to save its state and end.

    Args:
        folder: The folder of the run.
        host: The host of that process in the ledger.
        pid: Its number in the ledger.

    Raises:
        ValueError: No such process can be stopped from here. The message says why.
    """
    owner, name = find_owner(folder), folder.name
    if owner is None:
        raise ValueError(f"run {name} is not being trained by a process of this computer; nothing was stopped")
    # The lock and the ledger must agree, since a number alone may have passed to another process.
    if owner != (host, pid) or owner[0] != socket.gethostname():
        raise ValueError(f"run {name} is trained on another computer; press Ctrl-C there")
    if sys.platform == "win32":  # there, a signal would end the process before it has saved anything
        raise ValueError(f"run {name} cannot be stopped from here on Windows; press Ctrl-C in its terminal")
    try:
        os.kill(owner[1], signal.SIGTERM)
    except OSError:
        raise ValueError(f"run {name} is trained by another user; only that user can stop it") from None


def describe_process() -> dict[str, object]:
    """Describe this process as the ledger stores it."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "born": _read_start_time(pid)}


def has_died(host: str | None, pid: int | None, born: str | None) -> bool:
    """Return whether a process is known to have died.

    Args:
        host: The host of the process.
        pid: The process number.
        born: The start time, as `describe_process` gives it.

    Returns:
        True if it has. A process of another host is never known to have died.
    """
    if host != socket.gethostname() or not isinstance(pid, int):
        return False
    if not 0 <= pid < _LARGEST_NUMBER or not psutil.pid_exists(pid):
        return True
    # another process may have received the same number since
    return born is not None and _read_start_time(pid) != born


_LARGEST_NUMBER = 1 << 31
"""A number that no process has."""


def _read_start_time(pid: int) -> str | None:
    """Read when a process started, as a text. None if it has ended, or if the system does not tell.

    On Linux it is the boot time and the ticks since then, as ledgers of version 0.1.0 have it.
    """
    if not sys.platform.startswith("linux"):
        with suppress(psutil.Error):
            return f"{psutil.Process(pid).create_time():.2f}"
        return None
    try:
        # The program's name in parentheses may itself contain spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        boot_time = Path("/proc/stat").read_text(encoding="utf-8").partition("btime ")[2].split()[0]
    except (OSError, IndexError):
        return None
    # a zombie process has ended and only waits to be collected
    return None if fields[0] == "Z" else f"{boot_time}+{fields[19]}"
