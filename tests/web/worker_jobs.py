"""Jobs for worker processes, which import this module by its name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

Progress = Callable[[int, int], None]
_kept: list[bytes] = []


def echo(progress: Progress, value: Any = None) -> Any:
    progress(1, 2)
    os.write(1, b"a library's words on stdout")
    os.write(2, b"and on stderr")
    return value


def hang(progress: Progress) -> None:
    """Block as a decoder does that never returns."""
    progress(0, 1)
    Event().wait()


def report_forever(progress: Progress) -> None:
    while True:
        progress(0, 1)


def crash(progress: Progress) -> None:
    os._exit(3)


def refuse(progress: Progress) -> None:
    raise ValueError("a broken picture")


def fail(progress: Progress) -> None:
    raise RuntimeError("internal")


def describe(progress: Progress) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "secrets": [name for name in ("DAELAB_TOKEN", "DAELAB_LEDGER") if name in os.environ],
        "loaded": "daelab.web.handlers" in sys.modules,
        "finds_here": "" in sys.path or str(Path.cwd()) in sys.path,
    }


def measure_memory(progress: Progress) -> int:
    """Return the resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def scatter_memory(progress: Progress) -> int:
    """Free 200 MB below memory that stays in use, and return the resident bytes before."""
    blocks = [b"x" * 100_000 for _ in range(2000)]
    _kept.append(blocks[-1])
    return measure_memory(progress)
