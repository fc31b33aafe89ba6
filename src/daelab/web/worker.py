"""Processes that do the work of requests.

A thread that decodes a hostile picture cannot be ended, but a process can. The server and a worker exchange pickled
messages through the worker's standard input and output:

    from the worker    "ready", once it has imported what it needs
    to the worker      a job, which is a function of a progress callback
    from the worker    "progress" with (finished tiles, all tiles), any number of times
    to the worker      after each "progress", whether to go on
    from the worker    "done" with the result, "invalid" with the text of a ValueError, or "failed" with a traceback
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from daelab._util.memory import limit_prepared_convolutions, release_freed_memory
from daelab.denoising.tiling import ProgressCallback

Job = Callable[[ProgressCallback], Any]
"""The work of a request. It must be picklable, and it calls its argument with (finished tiles, all tiles)."""
_SECRETS = ("DAELAB_TOKEN", "DAELAB_LEDGER")
"""Environment variables that a process which decodes pictures of visitors does not get."""


class WorkFailed(Exception):
    """An error for a job that failed by a fault of daelab, or whose process died."""


class _Stopped(Exception):
    """An error that ends work whose request is over."""


class WorkerProcess:
    """A process that does one job after the other."""

    def __init__(self) -> None:
        """Start the process, without waiting until it is ready."""
        # Not `multiprocessing`, which would import the main module of a program that embeds the server. With -P, no
        # module is imported from the current folder.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "daelab.web.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name not in _SECRETS},
            # Ctrl-C is sent to all processes of a session, and the server ends its workers itself.
            start_new_session=True,
        )
        self._end = weakref.finalize(self, _end_process, self._process)
        self.is_ready = False
        self.alive = True

    def run(self, job: Job, report: ProgressCallback, is_over: Callable[[], bool]) -> Any:
        """Do a job, and wait for its result.

        Args:
            job: The job.
            report: Called with (finished tiles, all tiles).
            is_over: Called after each report. If it returns True, the job ends, and its result is None.

        Raises:
            ValueError: The job raised a ValueError.
            WorkFailed: The job raised another error, or the process was ended.
        """
        self.wait_until_ready()
        if is_over():
            return None
        with self._notice_its_end():
            self._send(job)
            while (message := self._receive())[0] == "progress":
                report(*message[1])
                self._send(not is_over())
        event, value = message
        if event == "done":
            return value
        raise ValueError(value) if event == "invalid" else WorkFailed(value)

    def wait_until_ready(self) -> None:
        """Wait until the process has started.

        Raises:
            WorkFailed: It did not start.
        """
        if not self.is_ready:
            with self._notice_its_end():
                self._receive()
            self.is_ready = True

    @contextmanager
    def _notice_its_end(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, pickle.UnpicklingError):
            self.alive = False
            self._end()
            raise WorkFailed(f"a worker process ended with code {self._process.returncode}") from None

    def kill(self) -> None:
        """End the process and its job. A process that is still starting has no job, and is left alone."""
        if self.is_ready:
            self.close()

    def close(self) -> None:
        """End the process."""
        self.alive = False
        self._process.kill()

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        pickle.dump(message, self._process.stdin, pickle.HIGHEST_PROTOCOL)
        self._process.stdin.flush()

    def _receive(self) -> tuple[str, Any]:
        assert self._process.stdout is not None
        message: tuple[str, Any] = pickle.load(self._process.stdout)
        return message


def _end_process(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        try:
            pipe.close()
        except OSError:  # it holds unsent bytes
            continue


def main() -> None:
    """Do jobs until the server closes the pipe."""
    limit_prepared_convolutions()
    jobs = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")

    def send(event: str, value: Any = None) -> None:
        pickle.dump((event, value), answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()

    def report(done: int, total: int) -> None:
        send("progress", (done, total))
        if not pickle.load(jobs):
            raise _Stopped

    # Libraries print about broken pictures, which must neither mix with the messages nor fill the server's log.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    send("ready")
    while True:
        try:
            job = pickle.load(jobs)
        except EOFError:
            return
        send(*_do(job, report))
        # The client has its answer, and the next one may need pieces of other sizes.
        del job
        release_freed_memory()


def _do(job: Job, report: ProgressCallback) -> tuple[str, Any]:
    """Do a job, and return the event that ends it."""
    try:
        return "done", job(report)
    except _Stopped:
        return "done", None  # nobody waits for the result
    except ValueError as error:
        return "invalid", str(error)
    except Exception:
        return "failed", traceback.format_exc()


if __name__ == "__main__":
    # Imported before the first job, which would otherwise wait for it.
    from daelab.web import handlers  # noqa: F401

    main()
