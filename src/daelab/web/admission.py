"""The queue: so many requests are worked on, so many wait, and the rest are refused at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from daelab.denoising.tiling import ProgressCallback
from daelab.web.limits import ServerLimits

T = TypeVar("T")
QueuedWork = Callable[[ProgressCallback], T]
"""Does a request's work in a thread; calls what it is given with (tiles done, tiles in all)."""


class QueueFull(Exception):
    """The queue is full."""


class RequestTimeout(Exception):
    """A request's time is over."""


class _Stopped(Exception):
    """Raised inside work that nobody waits for any more."""


class AdmissionQueue:
    """Where requests are admitted and worked on.

    A place is taken before the first byte of a body is read, so that memory is bounded by
    places times the largest body, and it is free again when no thread works for it any more.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self.limits = limits
        self.taken = 0
        self._pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="daelab")

    @contextmanager
    def place(self) -> Iterator[QueuePlace]:
        """A place in the queue; to be taken in the event loop's thread.

        Raises:
            Busy: all are taken.
        """
        if self.taken >= self.limits.workers + self.limits.queue:
            raise QueueFull
        self.taken += 1
        place = QueuePlace(self._pool, self.limits.seconds)
        try:
            yield place
        finally:
            place.leave(self._free)

    def _free(self) -> None:
        self.taken -= 1

    def close(self) -> None:
        """Begin nothing new."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class QueuePlace:
    """One request's place."""

    def __init__(self, pool: ThreadPoolExecutor, seconds: float) -> None:
        self._pool = pool
        self._ends = time.monotonic() + seconds
        self._over = threading.Event()
        self._future: Future[Any] | None = None

    @property
    def left(self) -> float:
        """Seconds until the request is late."""
        return max(0.0, self._ends - time.monotonic())

    async def run(self, work: QueuedWork[T], report: ProgressCallback) -> T:
        """Work in a thread; `report` is called in the event loop.

        Raises:
            Late: the time is over; the work stops at its next tile.
        """
        loop = asyncio.get_running_loop()

        def progress(done: int, total: int) -> None:
            if self._over.is_set():
                raise _Stopped
            loop.call_soon_threadsafe(report, done, total)

        future = self._pool.submit(work, progress)
        self._future = future
        try:
            async with asyncio.timeout(self.left):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise RequestTimeout from None

    def leave(self, free: Callable[[], None]) -> None:
        """Stop what is still being done, and call `free` in this thread's loop once nothing is."""
        self._over.set()
        if self._future is None or self._future.cancel() or self._future.done():
            free()
            return
        loop = asyncio.get_running_loop()
        self._future.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(free))
