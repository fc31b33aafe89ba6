"""Who runs a training: host, process id and birth, so that one that died is told from one that lives."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def describe_process() -> dict[str, object]:
    """This process, as the ledger keeps it."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "born": _born(pid)}


def has_died(host: str | None, pid: int | None, born: str | None) -> bool:
    """Whether it is known that this process is no more; one of another machine is never known to be dead."""
    if host != socket.gethostname() or pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is there, and somebody else's
        return False
    # the number may have been given to another process since
    return born is not None and _born(pid) != born


def _born(pid: int) -> str | None:
    """When a process began, in ticks since the machine did; None where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        started = Path("/proc/stat").read_text(encoding="utf-8").partition("btime ")[2].split()[0]
    except (OSError, IndexError):
        return None
    # a process that has ended and waits to be collected is as good as gone
    return None if fields[0] == "Z" else f"{started}+{fields[19]}"
