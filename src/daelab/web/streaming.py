"""A request's work as events: what waits, how far it is, what came of it; and why it came to nothing."""

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
"""Bytes of a file in one line of events; of three, so that base64 needs no filling between."""
_DRAIN = 30.0
"""Seconds that a refused request may take to send its body: some clients read no answer before."""


class ClientLeft(Exception):
    """The client has gone."""


def describe_problem(error: Exception) -> tuple[int, str]:
    """Status and one line."""
    if isinstance(error, ValueError):
        return 422, str(error)
    known = {
        QueueFull: (429, "the queue is full; try again in a moment"),
        RequestTimeout: (503, "it took longer than this server gives a request; try a smaller picture"),
        UploadTooLarge: (413, "the request is larger than this server reads; see body_bytes of /api/about"),
        ClientLeft: (499, "the client has gone"),
    }
    return known.get(type(error), (500, "the server failed; its log says why"))


async def run_alone(request: Request, desk: AdmissionQueue, limits: ServerLimits, name: str, work: Any) -> Any:
    """As `worked`, for work that takes the picture alone."""
    return await run_queued(request, desk, limits, name, lambda pictures, _: work(pictures["picture"], _))


async def run_queued(request: Request, desk: AdmissionQueue, limits: ServerLimits, name: str, work: Any) -> Any:
    """What the work gives, for whoever does not want to hear of its progress."""
    async with aclosing(stream_events(request, desk, limits, name, work)) as found:
        async for event, value in found:
            if event == "done":
                return value
    raise AssertionError("the work ends with `done` or raises")


async def stream_events(
    request: Request, desk: AdmissionQueue, limits: ServerLimits, name: str, work: Callable[[dict[str, Any], Any], Any]
) -> AsyncGenerator[tuple[str, Any], None]:
    """Read a request and work on it: ("waiting", None), ("progress", (done, total)), ..., ("done", result).

    Raises:
        Busy, Late, Left, TooLarge, ValueError
    """
    try:
        place = desk.place()
        with place as here:
            try:
                async with asyncio.timeout(here.left):
                    pictures = await read_uploads(request, limits.body, name)
            except TimeoutError:
                raise RequestTimeout from None
            yield "waiting", None
            async with aclosing(_followed(request, here, partial(work, pictures))) as followed:
                async for event in followed:
                    yield event
    except QueueFull:
        with suppress(UploadTooLarge, TimeoutError):
            async with asyncio.timeout(_DRAIN):
                async for _ in limit_body(request, limits.body):
                    pass
        raise


async def _followed(
    request: Request, place: QueuePlace, work: QueuedWork[Any]
) -> AsyncGenerator[tuple[str, Any], None]:
    """Progress while the work is done in its thread, then its result; an end where the client goes."""
    news: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    tasks: list[asyncio.Task[Any]] = []

    async def worked() -> None:
        news.put_nowait(await _outcome(place.run(work, lambda *count: news.put_nowait(("progress", count)))))

    async def watched() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        news.put_nowait(("raise", ClientLeft()))

    try:
        tasks += [asyncio.create_task(worked()), asyncio.create_task(watched())]
        while True:
            event, value = await news.get()
            if event == "raise":
                raise value
            yield event, value
            if event == "done":
                return
    finally:
        for task in tasks:
            task.cancel()


async def _outcome(work: Awaitable[Any]) -> tuple[str, Any]:
    try:
        return "done", await work
    except Exception as error:
        return "raise", error


async def stream_lines(first: tuple[str, Any], events: AsyncGenerator[tuple[str, Any], None]) -> AsyncIterator[bytes]:
    """Events as JSON lines; what goes wrong from here on is an event too."""
    yield _line(event=first[0])
    try:
        async with aclosing(events):
            async for event, value in events:
                if event == "progress":
                    yield _line(event=event, done=value[0], total=value[1])
                    continue
                yield _line(event="report", **value.report)
                for start in range(0, len(value.data), _PIECE):
                    piece = base64.b64encode(value.data[start : start + _PIECE]).decode()
                    yield _line(event="file", base64=piece)
                yield _line(event="end", bytes=len(value.data))
    except Exception as error:
        status, text = describe_problem(error)
        if status == 500:
            log.exception("a request failed")
        yield _line(event="error", status=status, error=text)


def _line(**values: Any) -> bytes:
    return json.dumps(values, allow_nan=False).encode() + b"\n"
