"""The limits of the server."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerLimits:
    """Limits on the resources of one request and of all requests together."""

    body: int = 128_000_000
    """Largest request, in bytes."""
    pixels: int = 16_000_000
    """Largest picture, in pixels. Adding noise takes about 150 bytes of memory per pixel."""
    queue: int = 8
    """Number of requests that may wait while others are processed. Further ones are refused with status 429."""
    seconds: float = 120.0
    """Longest time from the headers of a request to its first tile, and from each tile to the next, in seconds."""
    workers: int = 1
    """Number of requests that are processed at once, each in a process of its own."""
    idle: float = 10.0
    """Longest wait for a client, in seconds: for the headers of a request, the next bytes of its body, and for the
    client to read a part of the answer."""

    def __post_init__(self) -> None:
        """Check that no limit is too small."""
        leasts = {"body": 1, "pixels": 1, "queue": 0, "seconds": 0.001, "workers": 1, "idle": 0.001}
        for name, least in leasts.items():
            if not least <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least {least} and finite, not {getattr(self, name)}")
