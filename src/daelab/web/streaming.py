"""The work of a request as a stream of events: waiting, progress, and the result or an error."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from daelab.web.admission import AdmissionQueue, QueuedWork, QueueFull, QueuePlace, RequestTimeout
from daelab.web.limits import ServerLimits
from daelab.web.uploads import UploadTooLarge, limit_body, read_uploads

if TYPE_CHECKING:
    from starlette.requests import Request

log = logging.getLogger("daelab.web")
_PIECE = 3 << 16
"""Number of bytes of a file in one event; a multiple of three, so that base64 needs no padding between events."""
_DRAIN = 30.0
"""Seconds that a refused request may take to send its body. Some clients read no answer before they have sent it."""


class ClientLeft(Exception):
    """An error that ends the work of a client that has closed its connection."""


def describe_problem(error: Exception) -> tuple[int, str]:
    """Return the HTTP status of an error and its text in one line.

    Args:
        error: The error.
    """
    # Its text is written for users; that of other errors may reveal internals, and goes to the log only.
    if isinstance(error, ValueError):
        return 422, str(error)
    answers = {
        QueueFull: (429, "the queue is full; try again in a moment"),
        RequestTimeout: (503, "the request took longer than this server allows; try a smaller picture"),
        UploadTooLarge: (413, "the request is larger than this server accepts; see body_bytes in /api/about"),
        ClientLeft: (499, "the client closed the connection"),
    }
    return answers.get(type(error), (500, "internal error; the log of the server has the details"))


async def run_alone(request: Request, queue: AdmissionQueue, limits: ServerLimits, name: str, work: Any) -> Any:
    """Do work that takes the picture alone, as `run_queued` does.

    Args:
        request: The request.
        queue: The admission queue.
        limits: The limits of the server.
        name: The file name of a raw body.
        work: A function of the uploaded picture and a progress callback.
    """
    return await run_queued(request, queue, limits, name, lambda pictures, _: work(pictures["picture"], _))


async def run_queued(request: Request, queue: AdmissionQueue, limits: ServerLimits, name: str, work: Any) -> Any:
    """Do the work of a request and return its result, without progress.

    Args:
        request: The request.
        queue: The admission queue.
        limits: The limits of the server.
        name: The file name of a raw body.
        work: A function of the uploads by name and a progress callback.
    """
    async with aclosing(stream_events(request, queue, limits, name, work)) as events:
        async for event, value in events:
            if event == "done":
                return value
    raise AssertionError("the events end with `done` or an error")


async def stream_events(
    request: Request, queue: AdmissionQueue, limits: ServerLimits, name: str, work: Callable[[dict[str, Any], Any], Any]
) -> AsyncGenerator[tuple[str, Any], None]:
    """Read a request, do its work, and yield its events.

    Args:
        request: The request.
        queue: The admission queue.
        limits: The limits of the server.
        name: The file name of a raw body.
        work: A function of the uploads by name and a progress callback.

    Yields:
        ("waiting", None), ("progress", (finished tiles, all tiles)), ..., ("done", result).

    Raises:
        QueueFull: The queue is full.
        RequestTimeout: The time is over.
        ClientLeft: The client closed its connection.
        UploadTooLarge: The body is too large.
        ValueError: The request or its picture is invalid.
    """
    try:
        with queue.place() as place:
            try:
                async with asyncio.timeout(place.left):
                    # The time limit covers the upload too, so that a slow client cannot hold its place.
                    pictures = await read_uploads(request, limits.body, name)
            except TimeoutError:
                raise RequestTimeout from None
            yield "waiting", None
            async with aclosing(_follow(request, place, partial(work, pictures))) as events:
                async for event in events:
                    yield event
    except QueueFull:
        # The body is read and dropped, so that the client gets to read the refusal.
        with suppress(UploadTooLarge, TimeoutError):
            async with asyncio.timeout(_DRAIN):
                async for _ in limit_body(request, limits.body):
                    pass
        raise


async def _follow(request: Request, place: QueuePlace, work: QueuedWork[Any]) -> AsyncGenerator[tuple[str, Any], None]:
    """Yield the progress of the work and its result; stop when the client closes its connection."""
    news: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    tasks: list[asyncio.Task[Any]] = []

    async def do_work() -> None:
        news.put_nowait(await _catch(place.run(work, lambda *count: news.put_nowait(("progress", count)))))

    async def watch_client() -> None:
        # The body has been read, so that only the end of the connection is left to come.
        while (await request.receive())["type"] != "http.disconnect":
            pass
        news.put_nowait(("raise", ClientLeft()))

    try:
        tasks += [asyncio.create_task(do_work()), asyncio.create_task(watch_client())]
        while True:
            event, value = await news.get()
            if event == "raise":
                raise value
            yield event, value
            if event == "done":
                return
    finally:
        # The work and the watch end together, whichever of them ended the stream.
        for task in tasks:
            task.cancel()


async def _catch(work: Awaitable[Any]) -> tuple[str, Any]:
    try:
        return "done", await work
    except Exception as error:
        return "raise", error


async def stream_lines(first: tuple[str, Any], events: AsyncGenerator[tuple[str, Any], None]) -> AsyncIterator[bytes]:
    """Yield events as JSON lines. An error becomes an event too, because the status is sent already.

    Args:
        first: The first event.
        events: The remaining events.
    """
    yield _encode_event(event=first[0])
    try:
        async with aclosing(events):
            async for event, value in events:
                if event == "progress":
                    yield _encode_event(event=event, done=value[0], total=value[1])
                    continue
                yield _encode_event(event="report", **value.report)
                for start in range(0, len(value.data), _PIECE):
                    piece = base64.b64encode(value.data[start : start + _PIECE]).decode()
                    yield _encode_event(event="file", base64=piece)
                yield _encode_event(event="end", bytes=len(value.data))
    except Exception as error:
        status, text = describe_problem(error)
        if status == 500:
            log.exception("A request failed.")
        yield _encode_event(event="error", status=status, error=text)


def _encode_event(**values: Any) -> bytes:
    return json.dumps(values, allow_nan=False).encode() + b"\n"
