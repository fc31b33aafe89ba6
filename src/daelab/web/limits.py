"""The limits of the server."""

from __future__ import annotations

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
    """Longest time from the admission of a request to its answer, in seconds."""
    workers: int = 1
    """Number of requests that are processed at once."""

    def __post_init__(self) -> None:
        """Check that no limit is too small."""
        for name, least in (("body", 1), ("pixels", 1), ("queue", 0), ("seconds", 0.001), ("workers", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
