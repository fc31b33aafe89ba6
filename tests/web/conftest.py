"""Fixtures that the tests of the server share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from daelab.web import admission


class WorkerInThread:
    """A worker that does jobs in the waiting thread, without a process; `test_worker.py` tests the processes."""

    def __init__(self) -> None:
        self.alive = self.is_ready = True

    def run(self, job: Any, report: Callable[[int, int], None], is_over: Callable[[], bool]) -> Any:
        def progress(done: int, total: int) -> None:
            report(done, total)
            if is_over():
                raise InterruptedError

        return job(progress)

    def kill(self) -> None:
        """Do nothing, since a thread cannot be ended."""

    close = kill


@pytest.fixture(autouse=True)
def _workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use workers in threads, which `test_worker.py` overrides."""
    monkeypatch.setattr(admission, "WorkerProcess", WorkerInThread)
