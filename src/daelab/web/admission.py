"""The admission queue: some requests are processed, some wait, and the rest are refused at once."""

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

_T = TypeVar("_T")
QueuedWork = Callable[[ProgressCallback], _T]
"""The work of a request. It runs in a thread and calls its argument with (finished tiles, all tiles)."""


class QueueFull(Exception):
    """An error for a request that arrives when the queue is full."""


class RequestTimeout(Exception):
    """An error for a request whose time is over."""


class _Stopped(Exception):
    """An error that ends work whose request is over."""


class AdmissionQueue:
    """A queue with a fixed number of places for requests that are processed or wait.

    A place is taken before the first byte of a body is read, so that memory is bounded by the number of places times
    the largest body. It becomes free when no thread works for its request any more.
    """

    def __init__(self, limits: ServerLimits) -> None:
        """Open a queue with the number of places and threads that `limits` allow."""
        self.limits = limits
        self.taken = 0
        self._pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="daelab")

    @contextmanager
    def place(self) -> Iterator[QueuePlace]:
        """Take a place in the queue, in the event loop's thread.

        Yields:
            The place.

        Raises:
            QueueFull: All places are taken.
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
        """Start no waiting request any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class QueuePlace:
    """The place of one request in the queue."""

    def __init__(self, pool: ThreadPoolExecutor, seconds: float) -> None:
        """Start the clock of a request, which has `seconds` seconds and works in a thread of `pool`."""
        self._pool = pool
        self._ends = time.monotonic() + seconds
        self._over = threading.Event()
        self._future: Future[Any] | None = None

    @property
    def left(self) -> float:
        """Seconds until the request's time is over."""
        return max(0.0, self._ends - time.monotonic())

    async def run(self, work: QueuedWork[_T], report: ProgressCallback) -> _T:
        """Run the work in a thread.

        Args:
            work: The work.
            report: A function of (finished tiles, all tiles). It is called in the event loop.

        Returns:
            The result of the work.

        Raises:
            RequestTimeout: The time is over. The work stops at its next tile.
        """
        loop = asyncio.get_running_loop()

        def progress(done: int, total: int) -> None:
            if self._over.is_set():
                # A thread cannot be stopped from outside, so the work ends itself at its next tile.
                raise _Stopped
            # The work runs in a thread, and the event loop's objects may be used only in the loop's own thread.
            loop.call_soon_threadsafe(report, done, total)

        future = self._pool.submit(work, progress)
        self._future = future
        try:
            async with asyncio.timeout(self.left):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise RequestTimeout from None

    def leave(self, free: Callable[[], None]) -> None:
        """Stop the work, and free the place once its thread has ended.

        Args:
            free: A function that frees the place. It is called in the event loop.
        """
        self._over.set()
        # Work that has not begun or has ended leaves no thread that must be waited for.
        if self._future is None or self._future.cancel() or self._future.done():
            free()
            return
        loop = asyncio.get_running_loop()
        self._future.add_done_callback(lambda _: loop.is_closed() or loop.call_soon_threadsafe(free))
