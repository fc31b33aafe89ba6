"""The queue: so many requests are worked on, so many wait, and the rest are refused at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from daelab.serving.limits import Limits
from daelab.tiles import Progress

T = TypeVar("T")
Work = Callable[[Progress], T]
"""Does a request's work in a thread; calls what it is given with (tiles done, tiles in all)."""


class Busy(Exception):
    """The queue is full."""


class Late(Exception):
    """A request's time is over."""


class _Stopped(Exception):
    """Raised inside work that nobody waits for any more."""


class Desk:
    """Where requests are admitted and worked on.

    A place is taken before the first byte of a body is read, so that memory is bounded by
    places times the largest body, and it is free again when no thread works for it any more.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.taken = 0
        self._pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="daelab")

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A place in the queue; to be taken in the event loop's thread.

        Raises:
            Busy: all are taken.
        """
        if self.taken >= self.limits.workers + self.limits.queue:
            raise Busy
        self.taken += 1
        place = Place(self._pool, self.limits.seconds)
        try:
            yield place
        finally:
            place.leave(self._free)

    def _free(self) -> None:
        self.taken -= 1

    def close(self) -> None:
        """Begin nothing new."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Place:
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

    async def run(self, work: Work[T], report: Progress) -> T:
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
            raise Late from None

    def leave(self, free: Callable[[], None]) -> None:
        """Stop what is still being done, and call `free` in this thread's loop once nothing is."""
        self._over.set()
        if self._future is None or self._future.cancel() or self._future.done():
            free()
            return
        loop = asyncio.get_running_loop()
        self._future.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(free))
