"""The hardware's abilities: device, precision, a memory allocator that keeps its memory, and onnxruntime."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

KEEPS_FREED_MEMORY = sys.platform.startswith("linux")
"""Whether `keep_freed_memory` does anything. Tests and benchmarks switch it off."""
HUGE_PAGE = 1 << 21
"""The size of a huge page, in bytes."""


def choose_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_native_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies bf16 matrices in hardware, which is faster than float32.

    Args:
        device: The device.

    Returns:
        True if it does. An emulation in software does not count.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(probe() for name in probes if (probe := getattr(torch.cpu, name, None)))


def choose_precision(precision: str, device: torch.device) -> str:
    """Choose the precision of the computation.

    Args:
        precision: The recipe's precision: "float32", "bf16", or "auto" for the faster one.
        device: The device that computes.

    Returns:
        "float32" or "bf16".
    """
    if precision == "auto":
        return "bf16" if has_native_bf16(device) else "float32"
    return precision


def keep_freed_memory(reserve: int = 1 << 30) -> bool:
    """Let glibc keep freed memory in huge pages instead of returning it to the kernel.

    A training step frees and allocates the same tens of megabytes each time. By default the
    kernel must map and zero those pages again each time: about 15,000 page faults and a fifth of
    the step (docs/performance.md). Only Linux with glibc supports this; elsewhere nothing happens.

    Args:
        reserve: Bytes of address space to set aside in huge pages. Pages are used only as needed.

    Returns:
        Whether it was done.
    """
    if not KEEPS_FREED_MEMORY:
        return False
    try:
        libc = ctypes.CDLL(None)
        trim_threshold, mmap_threshold, huge_pages = -1, -3, 14
        if not libc.mallopt(trim_threshold, 2**31 - 1) or not libc.mallopt(mmap_threshold, 2**30):
            return False
        # Without types, ctypes would cut addresses to 32 bits.
        libc.malloc.restype = ctypes.c_void_p
        libc.malloc.argtypes = [ctypes.c_size_t]
        libc.free.argtypes = [ctypes.c_void_p]
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        place = libc.malloc(reserve - HUGE_PAGE)
        if not place:
            return False
        # `madvise` needs an address at the beginning of a page.
        start = -(-place // HUGE_PAGE) * HUGE_PAGE
        libc.madvise(start, (place + reserve - HUGE_PAGE - start) // HUGE_PAGE * HUGE_PAGE, huge_pages)
        libc.free(place)
    except (OSError, AttributeError):  # another libc
        return False
    return True


def open_onnx_session(path: Path) -> Any:
    """Open an ONNX file with onnxruntime on the CPU, with as many threads as PyTorch has.

    Args:
        path: The ONNX file.

    Returns:
        The `onnxruntime.InferenceSession`.

    Raises:
        ValueError: onnxruntime is not installed, or it cannot read the file.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime sends telemetry on import
    try:
        import onnxruntime
    except ImportError:
        raise ValueError(f"{path}: reading ONNX needs onnxruntime: pip install 'daelab[export]'") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        # the fallback would try the same again and print to standard output
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], enable_fallback=False
        )
    except Exception as error:  # onnxruntime raises errors of its own classes
        raise ValueError(f"{path}: not loaded: {shorten_error(error)}") from None


def shorten_error(error: Exception) -> str:
    """Return the first line of another library's error.

    Args:
        error: The error.

    Returns:
        Its first line, or the name of its class if it has no message.
    """
    return (str(error).strip() or type(error).__name__).partition("\n")[0]


def collect_versions() -> dict[str, str]:
    """Return the versions of Python, of daelab and of the libraries that decide a result."""
    versions = {name: metadata.version(name) for name in ("daelab", "torch", "numpy", "safetensors")}
    return {"python": platform.python_version(), **versions}
