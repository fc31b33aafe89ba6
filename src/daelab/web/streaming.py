"""The work of a request as a stream of events: waiting, progress, and the result or an error."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from daelab.web.admission import AdmissionQueue, QueueFull, QueuePlace, RequestTimeout
from daelab.web.handlers import RequestHandler, answer_request
from daelab.web.limits import ServerLimits
from daelab.web.run_store import RunsUnavailable, make_public
from daelab.web.uploads import ClientLeft, SlowUpload, UploadTooLarge, limit_body, read_body
from daelab.web.worker import Job

if TYPE_CHECKING:
    from starlette.requests import Request

log = logging.getLogger("daelab.web")
_PIECE = 3 << 16
"""Number of bytes of a file in one event; a multiple of three, so that base64 needs no padding between events."""
_DRAIN = 30.0
"""Seconds that a refused request may take to send its body. Some clients read no answer before they have sent it."""


def describe_problem(error: Exception) -> tuple[int, str]:
    """Return the HTTP status of an error and its text in one line.

    Args:
        error: The error.
    """
    # Its text is written for users; that of other errors may reveal internals, and goes to the log only.
    if isinstance(error, ValueError):
        return 422, make_public(str(error))
    answers = {
        QueueFull: (429, "the queue is full; try again in a moment"),
        RequestTimeout: (503, "the request took longer than this server allows; try a smaller picture"),
        RunsUnavailable: (503, "the runs cannot be read; the log of the server has the details"),
        SlowUpload: (408, "the request arrived too slowly; send it again"),
        UploadTooLarge: (413, "the request is larger than this server accepts; see body_bytes in /api/about"),
        ClientLeft: (499, "the client closed the connection"),
    }
    return answers.get(type(error), (500, "internal error; the log of the server has the details"))


async def run_queued(
    request: Request, queue: AdmissionQueue, limits: ServerLimits, name: str, handler: RequestHandler
) -> Any:
    """Do the work of a request and return its result, without progress.

    Args:
        request: The request.
        queue: The admission queue.
        limits: The limits of the server.
        name: The file name of a raw body.
        handler: The function that handles the pictures.
    """
    async with aclosing(stream_events(request, queue, limits, name, handler)) as events:
        async for event, value in events:
            if event == "done":
                return value
    raise AssertionError("the events end with `done` or an error")


async def stream_events(
    request: Request, queue: AdmissionQueue, limits: ServerLimits, name: str, handler: RequestHandler
) -> AsyncGenerator[tuple[str, Any], None]:
    """Read a request, do its work, and yield its events.

    Args:
        request: The request.
        queue: The admission queue.
        limits: The limits of the server.
        name: The file name of a raw body.
        handler: The function that handles the pictures.

    Yields:
        ("waiting", None), ("progress", (finished tiles, all tiles)), ..., ("done", result).

    Raises:
        QueueFull: The queue is full.
        RequestTimeout: The time is over.
        ClientLeft: The client closed its connection.
        SlowUpload: The client sends nothing for too long.
        UploadTooLarge: The body is too large.
        ValueError: The request or its picture is invalid.
    """
    ends = time.monotonic() + limits.seconds
    has_arrived = False
    try:
        queue.check()
        with queue.hold() as hold:
            try:
                async with asyncio.timeout(limits.seconds):
                    body = await read_body(request, limits, name, hold)
            except TimeoutError:
                raise RequestTimeout from None
            has_arrived = True
            place = queue.take_place(ends)
            job = partial(answer_request, body, handler)
            del body  # the job has it, and forgets it with its result
            async with aclosing(_follow(request, place, job)) as events:
                async for event in events:
                    if event[0] == "done":
                        break
                    yield event
            del job
        # Yielded here, since the client may read the result slowly.
        yield event
    except QueueFull:
        if has_arrived:  # the places were taken while the body arrived
            raise
        # The body is read and dropped, so that the client gets to read the refusal.
        with suppress(UploadTooLarge, SlowUpload, ClientLeft, TimeoutError):
            async with asyncio.timeout(_DRAIN):
                async for _ in limit_body(request, limits):
                    pass
        raise


async def _follow(request: Request, place: QueuePlace, job: Job) -> AsyncGenerator[tuple[str, Any], None]:
    """Yield the progress of a job and its result; stop when the client closes its connection."""
    news: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    async def do_work() -> None:
        news.put_nowait(await _catch(place.run(job, lambda *count: news.put_nowait(("progress", count)))))

    async def watch_client() -> None:
        # The body has been read, so that only the end of the connection is left to come.
        while (await request.receive())["type"] != "http.disconnect":
            pass
        news.put_nowait(("raise", ClientLeft()))

    work = asyncio.create_task(do_work())
    # The task leaves the place, and not this generator, which waits while its client reads slowly or not at all.
    work.add_done_callback(lambda _: place.leave())
    watch = asyncio.create_task(watch_client())
    try:
        yield "waiting", None
        while True:
            event, value = await news.get()
            if event == "raise":
                raise value
            yield event, value
            if event == "done":
                return
    finally:
        # The work and the watch end together, whichever of them ended the stream.
        work.cancel()
        watch.cancel()


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
