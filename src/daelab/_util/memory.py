"""Amounts of memory. This module imports no torch, which takes seconds."""

from __future__ import annotations

import ctypes
import os
import re

import psutil

_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30}


def parse_memory_size(text: int | str, what: str = "memory") -> int:
    """Read an amount of memory.

    Args:
        text: A number of bytes, or a text with a unit: B, KB, MB, GB, KiB, MiB or GiB.
        what: The name of the option, with which the error message starts.

    Returns:
        The amount in bytes.

    Raises:
        ValueError: The text is not an amount of memory.

    >>> parse_memory_size("512MB"), parse_memory_size("1.5 GiB"), parse_memory_size(4096)
    (512000000, 1610612736, 4096)
    """
    match = re.fullmatch(r"\s*(\d{1,18}(?:\.\d+)?)\s*([KMG]?I?)B?\s*", str(text), flags=re.IGNORECASE)
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match and match[2].upper() in _UNITS else 0
    if size < 1:
        raise ValueError(f"{what} must be an amount such as 512MB or 2GB, not {text!r}")
    return size


def get_free_memory() -> int:
    """Return the bytes of memory available without swapping."""
    return int(psutil.virtual_memory().available)


def limit_prepared_convolutions() -> None:
    """Let PyTorch keep fewer convolutions prepared for sizes of pictures, unless the user has chosen a number.

    By default it keeps 1,024, which takes gigabytes for pictures of many sizes and saves no time that can be measured.
    The number is read when the first convolution runs.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


def release_freed_memory() -> None:
    """Return freed memory to the system, which glibc keeps where it lies between memory in use.

    Results of ever other sizes leave gaps that fit no later one, so a process that denoises for hours would grow.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):  # another libc
        return
