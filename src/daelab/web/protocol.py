"""The HTTP protocol of the server, with time limits for slow clients."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from daelab.web.security import HEADERS, encode_headers

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol
else:
    H11Protocol = object  # uvicorn is an optional library, which `make_protocol` imports

SLOWEST_READER = 10_000
"""The bytes per second of an answer that a client must read, on average over the time limit."""


class BoundedConnection(H11Protocol):
    """A connection that is closed if its client sends the headers of a request, or reads an answer, too slowly."""

    idle: float
    """The time limit in seconds."""
    _headers_timer: asyncio.TimerHandle | None = None
    _reading_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the headers of the first request.

        Args:
            transport: The connection to the client.
        """
        super().connection_made(transport)
        self._time_headers()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request.

        Args:
            data: The bytes that arrived.
        """
        super().data_received(data)
        self._time_headers()

    def on_response_complete(self) -> None:
        """Start to wait for the headers of the next request."""
        super().on_response_complete()
        self._time_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers.

        Args:
            exc: The error that ended the connection, or None.
        """
        for timer in (self._headers_timer, self._reading_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start watching a client that reads more slowly than the server writes."""
        super().pause_writing()
        self._time_reading()

    def resume_writing(self) -> None:
        """Stop watching the client."""
        super().resume_writing()
        if self._reading_timer is not None:
            self._reading_timer.cancel()
            self._reading_timer = None

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not HTTP, with the security headers that uvicorn's own answer lacks.

        Args:
            msg: The reason of uvicorn, which is not sent.
        """
        self._refuse(400, "the request is not valid HTTP")

    def _time_headers(self) -> None:
        """Run the timer as long as the headers of a request have not arrived."""
        if self.conn.their_state.__name__ == "IDLE" and not self.transport.is_closing():
            if self._headers_timer is None:
                self._headers_timer = self.loop.call_later(self.idle, self._give_up)
        elif self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _give_up(self) -> None:
        if self.conn.trailing_data[0]:
            self._refuse(408, "the headers of the request arrived too slowly")
        self.transport.close()

    def _time_reading(self) -> None:
        """Check after each time limit that the client has read enough of the answer since the last check."""
        most = self.transport.get_write_buffer_size() - SLOWEST_READER * self.idle

        def look() -> None:
            if self.transport.get_write_buffer_size() > most:
                self.transport.abort()
            else:
                self._time_reading()

        self._reading_timer = self.loop.call_later(self.idle, look)

    def _refuse(self, status: int, reason: str) -> None:
        """Answer a request that did not become one, and close the connection."""
        import h11

        # If the answer to an earlier request has begun, no other can be sent.
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.transport.is_closing():
            body = json.dumps({"error": reason}).encode()
            headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
            start = h11.Response(status_code=status, headers=encode_headers(headers | HEADERS))
            for event in (start, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def make_protocol(idle: float) -> type[asyncio.Protocol]:
    """Make uvicorn's protocol with time limits.

    Args:
        idle: The longest wait for the headers of a request, and for a client that reads an answer, in seconds.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol as Protocol

    return type("BoundedProtocol", (BoundedConnection, Protocol), {"idle": idle})
