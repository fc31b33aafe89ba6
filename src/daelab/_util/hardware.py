"""What the machine can do: the device, the precision, an allocator that keeps its memory, onnxruntime."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

KEEPS_FREED_MEMORY = sys.platform.startswith("linux")
"""Whether `keep_freed_memory` does anything; tests and benchmarks switch it off."""
HUGE_PAGE = 1 << 21
_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30}


def choose_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices in hardware, and so faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(probe() for name in probes if (probe := getattr(torch.cpu, name, None)))


def choose_precision(wanted: str, device: torch.device) -> str:
    """ "float32" or "bf16" for a recipe's precision, where "auto" takes what is faster."""
    if wanted == "auto":
        return "bf16" if has_native_bf16(device) else "float32"
    return wanted


def keep_freed_memory(reserve: int = 1 << 30) -> bool:
    """Let glibc keep freed memory, in huge pages, instead of giving it back to the kernel.

    A training step frees and takes the same tens of megabytes each time; by default each
    time the kernel must fault the pages in anew, zeroed: some 15,000 faults and a fifth of the
    step (docs/performance.md). Linux with glibc only; elsewhere nothing happens.

    Args:
        reserve: bytes of address space to set aside in huge pages; pages are used as needed.

    Returns:
        whether it was done.
    """
    if not KEEPS_FREED_MEMORY:
        return False
    try:
        libc = ctypes.CDLL(None)
        trim_threshold, mmap_threshold, huge_pages = -1, -3, 14
        if not libc.mallopt(trim_threshold, 2**31 - 1) or not libc.mallopt(mmap_threshold, 2**30):
            return False
        libc.malloc.restype = ctypes.c_void_p
        libc.malloc.argtypes = [ctypes.c_size_t]
        libc.free.argtypes = [ctypes.c_void_p]
        libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        place = libc.malloc(reserve - HUGE_PAGE)
        if not place:
            return False
        start = -(-place // HUGE_PAGE) * HUGE_PAGE
        libc.madvise(start, (place + reserve - HUGE_PAGE - start) // HUGE_PAGE * HUGE_PAGE, huge_pages)
        libc.free(place)
    except (OSError, AttributeError):  # another libc
        return False
    return True


def open_onnx_session(path: Path) -> Any:
    """An ONNX file opened by onnxruntime on the CPU, with as many threads as PyTorch has.

    Raises:
        ValueError: onnxruntime is not installed, or it does not read the file.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it reports to its maker on import
    try:
        import onnxruntime
    except ImportError:
        raise ValueError(f"{path}: ONNX needs onnxruntime: pip install 'daelab[export]'") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        # without the fallback, which tries the same again and prints to standard output
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], enable_fallback=False
        )
    except Exception as error:  # onnxruntime's own kinds
        raise ValueError(f"{path}: not loaded: {shorten_error(error)}") from None


def shorten_error(error: Exception) -> str:
    """What an error of another library says, in one line."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0]


def parse_memory_size(text: int | str) -> int:
    """Bytes from a number or a text: B, KB, MB, GB, or KiB, MiB, GiB.

    Raises:
        ValueError: no such amount.

    >>> parse_memory_size("512MB"), parse_memory_size("1.5 GiB"), parse_memory_size(4096)
    (512000000, 1610612736, 4096)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?I?)B?\s*", str(text), flags=re.IGNORECASE)
    size = int(float(found[1]) * _UNITS[found[2].upper()]) if found and found[2].upper() in _UNITS else 0
    if size < 1:
        raise ValueError(f"memory must be an amount such as 512MB or 2GB, not {text!r}")
    return size


def get_free_memory() -> int:
    """Bytes of memory that can be had without swapping; 1 GiB where the system does not say."""
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as lines:
            return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 30


def collect_versions() -> dict[str, str]:
    """Return the versions of Python, of daelab and of the libraries that decide a result."""
    found = {name: metadata.version(name) for name in ("daelab", "torch", "numpy", "safetensors")}
    return {"python": platform.python_version(), **found}
