"""What a request may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerLimits:
    """Bounds on what one request, and all of them together, may take."""

    body: int = 128_000_000
    """Bytes of a request."""
    pixels: int = 16_000_000
    """Of a picture; adding noise takes some 150 bytes of memory for each."""
    queue: int = 8
    """Requests that wait while others are worked on; one more is refused (429)."""
    seconds: float = 120.0
    """From a request's admission to its answer."""
    workers: int = 1
    """Requests that are worked on at once."""

    def __post_init__(self) -> None:
        for name, least in (("body", 1), ("pixels", 1), ("queue", 0), ("seconds", 0.001), ("workers", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
