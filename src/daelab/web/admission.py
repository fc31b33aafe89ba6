"""The admission queue: some requests are processed, some wait, and the rest are refused at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from daelab.denoising.tiling import ProgressCallback
from daelab.web.limits import ServerLimits
from daelab.web.worker import Job, WorkerProcess

_GRACE = 1.0
"""Seconds in which work whose request is over may end itself, so that its process need not be replaced."""


class QueueFull(Exception):
    """An error for a request that arrives when the queue is full."""


class RequestTimeout(Exception):
    """An error for a request whose time is over."""


class AdmissionQueue:
    """A queue with a fixed number of places for requests that are processed or wait, and a process for each worker.

    A request takes its place when its body has arrived, so that slow clients hold no places. Bodies that are held in
    memory are bounded together, by the number of places times the largest body.
    """

    def __init__(self, limits: ServerLimits) -> None:
        """Open a queue with the number of places and workers that `limits` allow."""
        self.limits = limits
        self.taken = self.held = 0
        self._places = limits.workers + limits.queue
        # A thread waits for each worker process.
        self._pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="daelab")
        self._idle: list[WorkerProcess] = []
        self._busy: set[WorkerProcess] = set()
        self._is_closed = False

    def start(self) -> None:
        """Start the worker processes, so that the first requests do not wait for them."""
        self._idle += [WorkerProcess() for _ in range(self.limits.workers)]

    def check(self) -> None:
        """Raise `QueueFull` if all places are taken."""
        if self.taken >= self._places:
            raise QueueFull

    @contextmanager
    def hold(self) -> Iterator[Callable[[int], None]]:
        """Count the bytes of a request that are held in memory.

        Yields:
            A function of the number of further bytes. It raises `QueueFull` if all requests together hold too many.
        """
        held = 0

        def add(count: int) -> None:
            nonlocal held
            if self.held + count > self._places * self.limits.body:
                raise QueueFull
            self.held += count
            held += count

        try:
            yield add
        finally:
            self.held -= held

    def take_place(self, ends: float) -> QueuePlace:
        """Take a place in the queue, in the event loop's thread.

        Args:
            ends: The end of the request's time, on the clock `time.monotonic`.

        Returns:
            The place, which must be left.

        Raises:
            QueueFull: All places are taken.
        """
        self.check()
        self.taken += 1
        return QueuePlace(self, self._pool, ends)

    def free_place(self) -> None:
        """Count a place as free, in the event loop's thread."""
        self.taken -= 1

    @contextmanager
    def lend_worker(self) -> Iterator[WorkerProcess]:
        """Lend a worker process to a thread. A process that has died is replaced, so that no request waits for that.

        Yields:
            The process.
        """
        worker = self._idle.pop() if self._idle else WorkerProcess()
        self._busy.add(worker)
        try:
            yield worker
        finally:
            self._busy.discard(worker)
            if self._is_closed:
                worker.close()
            elif worker.alive:
                self._idle.append(worker)
            else:
                with suppress(OSError):  # the next request tries it again
                    self._idle.append(WorkerProcess())

    def close(self) -> None:
        """Start no waiting request any more, and end the worker processes."""
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for worker in [*self._idle, *self._busy]:
            worker.close()


class QueuePlace:
    """The place of one request in the queue."""

    def __init__(self, queue: AdmissionQueue, pool: ThreadPoolExecutor, ends: float) -> None:
        """Take a place in a queue until `ends`."""
        self._queue, self._pool, self._ends = queue, pool, ends
        self._over = threading.Event()
        self._future: Future[Any] | None = None
        self._worker: WorkerProcess | None = None
        self._lock = threading.Lock()

    async def run(self, job: Job, report: ProgressCallback) -> Any:
        """Do a job in a worker process.

        Args:
            job: The job.
            report: A function of (finished tiles, all tiles). It is called in the event loop.

        Returns:
            The result of the job.

        Raises:
            RequestTimeout: The time is over.
        """
        loop = asyncio.get_running_loop()

        last = (0, 0)

        def progress(done: int, total: int) -> None:
            nonlocal last
            if self._over.is_set():
                return
            # A large picture may take any number of tiles, as long as each of them is finished in time.
            if done and (done == total or (done, total) != last):
                last = (done, total)
                self._ends = time.monotonic() + self._queue.limits.seconds
                set_limit(self._queue.limits.seconds)
            # The event loop's objects may be used only in the loop's own thread.
            loop.call_soon_threadsafe(report, done, total)

        def reschedule(left: float | None) -> None:
            with suppress(RuntimeError):  # the request may be over
                limit.reschedule(left if left is None else loop.time() + left)

        def set_limit(left: float | None) -> None:
            loop.call_soon_threadsafe(reschedule, left)

        try:
            async with asyncio.timeout(max(0.0, self._ends - time.monotonic())) as limit:
                self._future = self._pool.submit(self._work, job, progress, set_limit)
                return await asyncio.wrap_future(self._future)
        except TimeoutError:
            raise RequestTimeout from None

    def _work(self, job: Job, progress: ProgressCallback, set_limit: Callable[[float | None], None]) -> Any:
        with self._queue.lend_worker() as worker:
            if not worker.is_ready:
                # The process takes seconds to start, which are not counted: the request has done nothing wrong.
                left = self._ends - time.monotonic()
                set_limit(None)
                worker.wait_until_ready()
                set_limit(left)
            with self._lock:
                self._worker = worker
            try:
                return worker.run(job, progress, self._over.is_set)
            finally:
                with self._lock:
                    self._worker = None

    def leave(self) -> None:
        """Stop the job, and free the place once its thread has ended."""
        self._over.set()
        # A job that has not begun or has ended leaves no thread that must be waited for.
        if self._future is None or self._future.cancel() or self._future.done():
            self._queue.free_place()
            return
        timer = threading.Timer(_GRACE, self._kill)
        timer.daemon = True
        timer.start()
        self._future.add_done_callback(lambda _: timer.cancel())
        loop, free = asyncio.get_running_loop(), self._queue.free_place
        self._future.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(free))

    def _kill(self) -> None:
        # Under the lock, since the process may do the job of another request a moment later.
        with self._lock:
            if self._worker is not None:
                self._worker.kill()
