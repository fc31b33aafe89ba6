"""Worker processes do jobs and are ended at the time limit, whatever they do."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import worker_jobs as jobs

from daelab.web import admission
from daelab.web.admission import AdmissionQueue, RequestTimeout
from daelab.web.limits import ServerLimits
from daelab.web.worker import WorkerProcess, WorkFailed

LONG = 60.0


@pytest.fixture(autouse=True)
def _workers() -> None:
    """These tests use real processes."""


@pytest.fixture(scope="module", autouse=True)
def _jobs_for_workers() -> Iterator[None]:
    """Let worker processes import `worker_jobs`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        patch.setenv("DAELAB_TOKEN", "correct horse battery")
        patch.setenv("DAELAB_LEDGER", "postgresql://me:secret@host/db")
        yield


@pytest.fixture(scope="module")
def worker(_jobs_for_workers: None) -> Iterator[WorkerProcess]:
    """Return a worker process that lives as long as the tests."""
    process = WorkerProcess()
    yield process
    process.close()


def run(worker: WorkerProcess, job: Any, is_over: Callable[[], bool] = lambda: False) -> Any:
    return worker.run(job, lambda *_: None, is_over)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_job_reports_and_gives_its_result(worker: WorkerProcess, capfd: pytest.CaptureFixture[str]) -> None:
    reports: list[tuple[int, int]] = []
    value = {"data": bytes(300_000), "name": "a.png"}
    assert worker.run(partial(jobs.echo, value=value), lambda *at: reports.append(at), lambda: False) == value
    assert reports == [(1, 2)]
    # what libraries print is neither taken for a message nor shown
    assert run(worker, partial(jobs.echo, value=5)) == 5
    assert capfd.readouterr() == ("", "")


def test_a_process_has_no_secrets_and_imports_nothing_from_the_current_folder(worker: WorkerProcess) -> None:
    shown = run(worker, jobs.describe)
    assert shown.pop("pid") != os.getpid()
    assert shown == {"secrets": [], "loaded": True, "finds_here": False}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_a_job_has_freed_is_returned(worker: WorkerProcess) -> None:
    used = run(worker, jobs.scatter_memory)
    # The first job is answered before its memory is returned.
    assert run(worker, jobs.measure_memory) < used - 150e6


def test_errors_are_passed_on_and_the_process_goes_on(worker: WorkerProcess) -> None:
    pid = run(worker, jobs.describe)["pid"]
    with pytest.raises(ValueError, match=r"^a broken picture$"):
        run(worker, jobs.refuse)
    with pytest.raises(WorkFailed, match="RuntimeError: internal"):
        run(worker, jobs.fail)
    assert worker.alive
    assert run(worker, jobs.describe)["pid"] == pid


def test_a_job_ends_at_its_next_report_once_it_is_over(worker: WorkerProcess) -> None:
    answers = iter([False, False, True])
    pid = run(worker, jobs.describe)["pid"]
    assert run(worker, jobs.report_forever, lambda: next(answers)) is None
    assert run(worker, jobs.describe)["pid"] == pid


def test_a_crash_is_an_error_of_its_job_alone() -> None:
    worker = WorkerProcess()
    worker.kill()  # it is still starting, and is left alone
    with pytest.raises(WorkFailed, match="ended with code 3"):
        run(worker, jobs.crash)
    assert not worker.alive


def test_work_that_hangs_is_ended_and_its_process_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_GRACE", 0.0)

    async def check() -> None:
        queue = AdmissionQueue(ServerLimits(queue=0))
        queue.start()
        first = queue.take_place(time.monotonic() + LONG)
        pid = (await first.run(jobs.describe, lambda *_: None))["pid"]
        first.leave()
        second = queue.take_place(time.monotonic() + 0.2)
        with pytest.raises(RequestTimeout):
            await second.run(jobs.hang, lambda *_: None)
        second.leave()
        while queue.taken:
            await asyncio.sleep(0.01)
        assert not is_alive(pid)
        third = queue.take_place(time.monotonic() + LONG)
        assert (await third.run(jobs.describe, lambda *_: None))["pid"] != pid
        third.leave()
        queue.close()

    asyncio.run(asyncio.wait_for(check(), LONG))


def test_closing_ends_the_processes() -> None:
    async def check() -> int:
        queue = AdmissionQueue(ServerLimits(queue=0))
        place = queue.take_place(time.monotonic() + LONG)
        pid: int = (await place.run(jobs.describe, lambda *_: None))["pid"]
        started = asyncio.Event()
        work = asyncio.create_task(place.run(jobs.hang, lambda *_: started.set()))
        await started.wait()
        queue.close()
        with pytest.raises(WorkFailed):
            await work
        place.leave()
        return pid

    assert not is_alive(asyncio.run(asyncio.wait_for(check(), LONG)))
