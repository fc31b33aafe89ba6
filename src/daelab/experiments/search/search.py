"""A search with one or several workers on this computer; others can join on other computers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from daelab._util.text import hide_password
from daelab.errors import describe_error
from daelab.experiments.search.search_space import SearchSpace
from daelab.experiments.search.study import Study
from daelab.experiments.search.trials import TrialRow
from daelab.experiments.search.worker import SearchWorker
from daelab.experiments.train import attach_network
from daelab.training.engine import catch_signals
from daelab.training.recipe import find_external_names, find_overridden_names, refuse_external_names

_REPORT_INTERVAL = 1.0
"""The seconds between two reports of the workers' progress."""


class SearchProgress(Protocol):
    """An observer of a search."""

    def say(self, text: str) -> None:
        """Report a remark.

        Args:
            text: One line.
        """
        return

    def trial(self, row: TrialRow, ended: int, trials: int | None, left: float | None) -> None:
        """Report the end of a trial.

        Args:
            row: The trial.
            ended: The number of ended trials.
            trials: The number of all trials; None if there is no limit.
            left: The estimated seconds until all trials have ended; None if unknown.
        """
        return

    def count(self, done: float, total: int) -> None:
        """Report the number of trained epochs.

        Args:
            done: The number of trained epochs.
            total: The number of all epochs; 0 if unknown.
        """
        return


class SearchInterrupted(Exception):
    """An interruption of a search by a signal, after every trial was saved.

    Args:
        text: The message.
        signum: The number of the signal.
    """

    def __init__(self, text: str, signum: int) -> None:
        """Store the number of the signal."""
        super().__init__(text)
        self.signum = signum


@dataclass(frozen=True)
class SearchRequest:
    """The request of a search."""

    space: SearchSpace | None = None
    """The search space; None for that of the study to resume."""
    name: str | None = None
    """The name of the study. Default: the last part of the search space's name."""
    url: str | None = None
    """The URL of the database of the study and of the ledger. Default: that of the ledger."""
    resume: bool = False
    """Whether an existing study is resumed."""
    limits: tuple[str, ...] = ()
    """Changes of limits for a study that is resumed, such as `explore.trials=50`."""
    workers: int = 1
    """The number of worker processes on this computer."""
    data_root: Path | None = None
    """The folder of downloaded data sets."""
    changes: tuple[str, ...] = ()
    """Changes of fields by the user. For a study that is resumed, they repeat what its search space names."""


def run_search(request: SearchRequest, watcher: SearchProgress) -> Study:
    """Search until the trials are done, the time is over, or the study is stopped.

    Args:
        request: The request.
        watcher: The observer of the search.

    Raises:
        ValueError: The request has a mistake.
        SearchInterrupted: SIGINT or SIGTERM arrived; the study can be resumed.
        ChildProcessError: Every worker was killed; the study can be resumed.
    """
    if not 1 <= request.workers <= 256:
        raise ValueError(f"--workers is {request.workers}; write a number from 1 to 256")
    study = open_study(request)
    space, before = study.space, study.rows()
    # The database may be a stranger's, so what the user named for this search is compared with it.
    mine = find_external_names(request.space.fields) if request.space else find_overridden_names(request.changes)
    refuse_external_names(space.fields, f"study {study.name}", set(mine))
    watcher.say(f"study {study.name}: {_planned(before, space)} of {space.name} in {hide_password(study.url)}")
    monitor = _Monitor(study, space, watcher)
    minutes = space.search.minutes
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    worker = SearchWorker(study, request.data_root, deadline, monitor.look)
    # Missing data are reported before the workers start, and downloaded once.
    worker.dataset(attach_network(space.first)[0])
    signum = worker.work() if request.workers == 1 else _run_workers(request, study, monitor, deadline)
    monitor.look()
    _report_end(study, request, signum, deadline, watcher)
    return study


def open_study(request: SearchRequest) -> Study:
    """Create the study of a request, or open it to resume it.

    Args:
        request: The request.

    Raises:
        ValueError: There is no study to resume, or the study to create exists, or the search has no limit.
    """
    space = request.space
    if request.name is None and space is None:
        raise ValueError("name a search space, such as explore/depth, or use --resume with the --name of a study")
    name = request.name or Path(space.name if space else "").name.removesuffix(".toml")
    study = Study(name, request.url)
    if request.resume:
        study.open()
        study.check_space(space or study.read_space(request.changes))
        study.extend(study.read_space(request.limits))
        return study
    if space is None:
        raise ValueError(
            f"name a search space for study {name}, such as explore/depth, or resume a study with --resume"
        )
    if not space.search.bounded:
        raise ValueError(f"{space.name} has no limit; add --trials, --total-epochs or --minutes")
    return study.create(space)


def format_resume_command(request: SearchRequest, study: Study) -> str:
    """Return the command that resumes a study.

    Args:
        request: The request of the search.
        study: The study.
    """
    storage = f" --storage {hide_password(study.url)}" if request.url else ""
    return f"daelab explore --name {study.name} --resume{storage}"


def _report_end(
    study: Study, request: SearchRequest, signum: int | None, deadline: float | None, watcher: SearchProgress
) -> None:
    """Report why a search ended, if trials are left."""
    rows = study.rows()
    left = sum(not row.ended for row in rows)
    how = f"{len(rows) - left} of {len(rows)} trials are done; resume with: {format_resume_command(request, study)}"
    if signum is not None:
        raise SearchInterrupted(f"interrupted and saved: {how}", signum)
    if study.stopped:
        watcher.say(f"stopped: {how}")
    elif deadline is not None and time.monotonic() >= deadline:
        watcher.say(f"the time is over: {how}")
    elif left:
        watcher.say(f"all epochs are used: {how}")


class _Monitor:
    """A monitor that reports to the observer what all workers of a study do."""

    def __init__(self, study: Study, space: SearchSpace, watcher: SearchProgress) -> None:
        self.study, self.space, self.watcher = study, space, watcher
        rows = study.rows()
        self.reported = {row.number for row in rows if row.ended}
        self.began, self.before = time.monotonic(), sum(row.epochs for row in rows)

    def look(self) -> None:
        """Report the trials and epochs that ended since the last call."""
        rows = self.study.rows()
        done, total, trials = sum(row.epochs for row in rows), self._epochs(rows), _trials(rows, self.space)
        self.watcher.count(done, total or 0)
        elapsed, new = time.monotonic() - self.began, done - self.before
        left = None if total is None or new == 0 else max(0, total - done) * elapsed / new
        for row in rows:
            if row.ended and row.number not in self.reported:
                self.reported.add(row.number)
                self.watcher.trial(row, len(self.reported), trials, left)

    def _epochs(self, rows: Sequence[TrialRow]) -> int | None:
        """Return the expected number of all epochs, as if no running trial were pruned; None if unknown."""
        trials, limit = _trials(rows, self.space), self.space.search.total_epochs
        if trials is None:
            return limit
        each = self.space.longest
        ended = [row.epochs for row in rows if row.ended]
        return min(sum(ended) + (trials - len(ended)) * each, limit or 10**12)


def _trials(rows: Sequence[TrialRow], space: SearchSpace) -> int | None:
    """Return the number of all trials, with the further seeds of points; None if there is no limit."""
    if space.search.sampler != "grid" and space.search.trials is None:
        return None
    return sum(row.repeats if row.state not in ("pruned", "failed") else 1 for row in rows if row.repeats)


def _planned(rows: Sequence[TrialRow], space: SearchSpace) -> str:
    trials, ended = _trials(rows, space), sum(row.ended for row in rows)
    count = "trials without limit" if trials is None else f"{trials} trials"
    return f"{count}, {ended} done," if ended else count


def _run_workers(request: SearchRequest, study: Study, monitor: _Monitor, deadline: float | None) -> int | None:
    """Run the workers as processes; a killed one does not affect the others."""
    left = None if deadline is None else deadline - time.monotonic()
    arguments = study.name, study.url, request.data_root, left, max(1, (os.cpu_count() or 1) // request.workers)
    with catch_signals() as caught:
        started = [_start(arguments) for _ in range(request.workers)]
        try:
            while any(process.is_alive() for process, _ in started) and not caught:
                monitor.look()
                time.sleep(_REPORT_INTERVAL)
        except BaseException:
            _end(started)
            raise
        if caught:
            _end(started)
            return caught[0]
    messages = [_receive(pipe) for _, pipe in started]
    for number, (process, _) in enumerate(started, 1):
        if messages[number - 1] is None:
            monitor.watcher.say(
                f"worker {number} was killed (exit status {process.exitcode}); its trial will be resumed"
            )
    if mistake := next(filter(None, messages), None):
        raise ValueError(mistake)
    if not any(text == "" for text in messages):
        raise ChildProcessError(f"every worker was killed; resume with: {format_resume_command(request, study)}")
    return None


def _start(arguments: tuple[Any, ...]) -> tuple[BaseProcess, Connection]:
    """Start the process of a worker, and return it with the pipe of its final message."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process: BaseProcess = context.Process(target=_run_worker, args=(*arguments, theirs))
    # Ctrl-C reaches the whole process group, and a worker that is still importing has nothing to save.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if _in_main_thread() else None
    try:
        process.start()
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)
        theirs.close()
    return process, ours


def _end(started: Iterable[tuple[BaseProcess, Connection]]) -> None:
    """Ask the workers to save their state, and wait for their end."""
    for process, _ in started:
        process.terminate()
    for process, _ in started:
        process.join()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _run_worker(
    name: str, url: str, data_root: Path | None, left: float | None, threads: int, pipe: Connection
) -> None:
    """Run one worker in its process, and send its error, or an empty text, through the pipe."""
    import torch

    torch.set_num_threads(threads)
    deadline = None if left is None else time.monotonic() + left
    message = ""
    try:
        SearchWorker(Study(name, url).open(), data_root, deadline).work()
    except (ValueError, OSError) as error:
        message = describe_error(error)
    pipe.send(message)


def _receive(pipe: Connection) -> str | None:
    """Return the final message of a worker; None if it was killed."""
    try:
        return str(pipe.recv()) if pipe.poll() else None
    except EOFError:
        return None
