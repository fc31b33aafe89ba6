"""The process that runs a training: its host, number and start time, which tell a dead process from a live one."""

from __future__ import annotations

import os
import socket
from pathlib import Path


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
    if host != socket.gethostname() or pid is None:
        return False
    try:
        # Signal 0 ends nothing and only asks whether the process exists.
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it exists and belongs to another user
        return False
    # another process may have received the same number since
    return born is not None and _read_start_time(pid) != born


def _read_start_time(pid: int) -> str | None:
    """Read when a process started: the boot time and the ticks since then. None if the system does not tell."""
    try:
        # The program's name in parentheses may itself contain spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        boot_time = Path("/proc/stat").read_text(encoding="utf-8").partition("btime ")[2].split()[0]
    except (OSError, IndexError):
        return None
    # a zombie process has ended and only waits to be collected
    return None if fields[0] == "Z" else f"{boot_time}+{fields[19]}"
