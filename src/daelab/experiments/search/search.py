"""Search a space with one worker or several on this machine; others may join from elsewhere."""

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

from daelab.errors import describe_error
from daelab.experiments.search.search_space import SearchSpace
from daelab.experiments.search.study import Study
from daelab.experiments.search.trials import TrialRow
from daelab.experiments.search.worker import SearchWorker
from daelab.runs.database import hide_password
from daelab.training.engine import catch_signals

_LOOK = 1.0
"""Seconds between two looks at what the workers did."""


class SearchProgress(Protocol):
    """Who is told how a search goes."""

    def say(self, text: str) -> None:
        """A remark in a line."""

    def trial(self, row: TrialRow, ended: int, trials: int | None, left: float | None) -> None:
        """A trial ended: how many did, of how many (None: without end), and seconds until all have."""

    def count(self, done: float, total: int) -> None:
        """Epochs trained, and in all."""


class SearchInterrupted(Exception):
    """A signal ended the search; every trial is saved."""

    def __init__(self, text: str, signum: int) -> None:
        super().__init__(text)
        self.signum = signum


@dataclass(frozen=True)
class SearchRequest:
    """What to search, and with what."""

    space: SearchSpace | None = None
    """None: the study's own, which is to go on."""
    name: str | None = None
    """Of the study; the last part of the space's name where it is not given."""
    url: str | None = None
    """Database of the study and of the ledger; None for the ledger's own."""
    resume: bool = False
    limits: tuple[str, ...] = ()
    """`explore.trials=50` and the like, for a study that goes on."""
    workers: int = 1
    data_root: Path | None = None


def run_search(request: SearchRequest, watcher: SearchProgress) -> Study:
    """Search a space until its trials are done, its time is over, or somebody stops it.

    Raises:
        ValueError: a mistake in the request; one line that says what to do.
        Interrupted: SIGINT or SIGTERM came; the study can go on.
        ChildProcessError: every worker was killed; the study can go on.
    """
    if not 1 <= request.workers <= 256:
        raise ValueError(f"--workers is {request.workers}; give 1 to 256")
    study = open_study(request)
    space, before = study.space, study.rows()
    watcher.say(f"study {study.name}: {_planned(before, space)} of {space.name} in {hide_password(study.url)}")
    monitor = _Monitor(study, space, watcher)
    minutes = space.search.minutes
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    worker = SearchWorker(study, request.data_root, deadline, monitor.look)
    data = space.base.get("data", {})
    if isinstance(data.get("name", ""), str) and isinstance(data.get("crop", 32), int):
        # what is missing is said now, and downloaded once
        worker.dataset(data.get("name", "cifar10"), data.get("crop", 32))
    signum = worker.work() if request.workers == 1 else _several(request, study, monitor, deadline)
    monitor.look()
    _say_end(study, request, signum, deadline, watcher)
    return study


def open_study(request: SearchRequest) -> Study:
    """The study, made or gone on with.

    Raises:
        ValueError: there is none to go on with, one in the way, or no bound.
    """
    space = request.space
    if request.name is None and space is None:
        raise ValueError("name a space, such as explore/depth, or with --resume the --name of a study")
    name = request.name or Path(space.name if space else "").name.removesuffix(".toml")
    study = Study(name, request.url)
    if request.resume:
        study.open()
        if space is not None:
            study.same(space)
        study.extend(study.changed(request.limits))
        return study
    if space is None:
        raise ValueError(f"name a space for study {name}, such as explore/depth, or go on with one by --resume")
    if not space.search.bounded:
        raise ValueError(f"{space.name} says no end; give --trials, --total-epochs or --minutes")
    return study.create(space)


def format_resume_command(request: SearchRequest, study: Study) -> str:
    """The command that goes on with a study."""
    storage = f" --storage {hide_password(study.url)}" if request.url else ""
    return f"daelab explore --name {study.name} --resume{storage}"


def _say_end(
    study: Study, request: SearchRequest, signum: int | None, deadline: float | None, watcher: SearchProgress
) -> None:
    """Why it ended, where trials are left."""
    rows = study.rows()
    left = sum(not row.ended for row in rows)
    how = f"{len(rows) - left} of {len(rows)} trials are done; go on with: {format_resume_command(request, study)}"
    if signum is not None:
        raise SearchInterrupted(f"interrupted and saved: {how}", signum)
    if study.stopped:
        watcher.say(f"stopped: {how}")
    elif deadline is not None and time.monotonic() >= deadline:
        watcher.say(f"the time is over: {how}")
    elif left:
        watcher.say(f"the epochs are spent: {how}")


class _Monitor:
    """Tells a watcher what happens in a study, whoever's doing it is."""

    def __init__(self, study: Study, space: SearchSpace, watcher: SearchProgress) -> None:
        self.study, self.space, self.watcher = study, space, watcher
        rows = study.rows()
        self.told = {row.number for row in rows if row.ended}
        self.began, self.before = time.monotonic(), sum(row.epochs for row in rows)

    def look(self) -> None:
        """Tell what is new."""
        rows = self.study.rows()
        done, total, trials = sum(row.epochs for row in rows), self._epochs(rows), _trials(rows, self.space)
        self.watcher.count(done, total or 0)
        elapsed, new = time.monotonic() - self.began, done - self.before
        left = None if total is None or new == 0 else max(0, total - done) * elapsed / new
        for row in rows:
            if row.ended and row.number not in self.told:
                self.told.add(row.number)
                self.watcher.trial(row, len(self.told), trials, left)

    def _epochs(self, rows: Sequence[TrialRow]) -> int | None:
        """In all, as far as can be known: a trial that runs may yet be pruned."""
        trials, limit = _trials(rows, self.space), self.space.search.total_epochs
        if trials is None:
            return limit
        each = self.space.longest
        ended = [row.epochs for row in rows if row.ended]
        return min(sum(ended) + (trials - len(ended)) * each, limit or 10**12)


def _trials(rows: Sequence[TrialRow], space: SearchSpace) -> int | None:
    """How many there will be, with the further seeds of points that go on; None without end."""
    if space.search.sampler != "grid" and space.search.trials is None:
        return None
    return sum(row.repeats if row.state not in ("pruned", "failed") else 1 for row in rows if row.repeats)


def _planned(rows: Sequence[TrialRow], space: SearchSpace) -> str:
    trials, ended = _trials(rows, space), sum(row.ended for row in rows)
    count = "trials without end" if trials is None else f"{trials} trials"
    return f"{count}, {ended} done," if ended else count


# Several workers


def _several(request: SearchRequest, study: Study, monitor: _Monitor, deadline: float | None) -> int | None:
    """Work in processes of their own; one that is killed takes nothing with it."""
    left = None if deadline is None else deadline - time.monotonic()
    arguments = study.name, study.url, request.data_root, left, max(1, (os.cpu_count() or 1) // request.workers)
    with catch_signals() as caught:
        started = [_start(arguments) for _ in range(request.workers)]
        try:
            while any(process.is_alive() for process, _ in started) and not caught:
                monitor.look()
                time.sleep(_LOOK)
        except BaseException:
            _end(started)
            raise
        if caught:
            _end(started)
            return caught[0]
    said = [_received(pipe) for _, pipe in started]
    for number, (process, _) in enumerate(started, 1):
        if said[number - 1] is None:
            monitor.watcher.say(f"worker {number} was killed (exit status {process.exitcode}); its trial is not lost")
    if mistake := next(filter(None, said), None):
        raise ValueError(mistake)
    if not any(text == "" for text in said):
        raise ChildProcessError(f"every worker was killed; go on with: {format_resume_command(request, study)}")
    return None


def _start(arguments: tuple[Any, ...]) -> tuple[BaseProcess, Connection]:
    """A worker's process, and where it tells how it ended."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process: BaseProcess = context.Process(target=_child, args=(*arguments, theirs))
    # Ctrl-C goes to the whole group; a worker that is still importing has nothing to save
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if _in_main_thread() else None
    try:
        process.start()
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)
        theirs.close()
    return process, ours


def _end(started: Iterable[tuple[BaseProcess, Connection]]) -> None:
    """Ask the workers to save their state and end."""
    for process, _ in started:
        process.terminate()
    for process, _ in started:
        process.join()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _child(name: str, url: str, data_root: Path | None, left: float | None, threads: int, pipe: Connection) -> None:
    """What a worker's process does; tells its mistake, or that there was none."""
    import torch

    torch.set_num_threads(threads)
    deadline = None if left is None else time.monotonic() + left
    said: Any = ""
    try:
        SearchWorker(Study(name, url).open(), data_root, deadline).work()
    except (ValueError, OSError) as error:
        said = describe_error(error)
    pipe.send(said)


def _received(pipe: Connection) -> str | None:
    """What a worker told at its end; None of one that was killed."""
    try:
        return str(pipe.recv()) if pipe.poll() else None
    except EOFError:
        return None
