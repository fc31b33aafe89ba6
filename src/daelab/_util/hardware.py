"""The hardware: the device that computes, its memory and precision, an allocator for the CPU, and onnxruntime."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from daelab._util.memory import get_free_memory
from daelab._util.text import shorten_error

KEEPS_FREED_MEMORY = sys.platform.startswith("linux")
"""Whether `keep_freed_memory` does anything. Tests and benchmarks switch it off."""
HUGE_PAGE = 1 << 21
"""The size of a huge page, in bytes."""
DEVICE_VARIABLE = "DAELAB_DEVICE"
"""The environment variable that names the device. Worker processes inherit it."""
_WITHOUT_FLOAT64 = ("mps",)
"""The accelerators that lack float64, which noise and metrics need. They compute only if they are named."""
_ONNX_PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "mps": "CoreMLExecutionProvider",
    "xpu": "OpenVINOExecutionProvider",
}
"""The execution provider of onnxruntime for each kind of accelerator."""


def choose_device(name: torch.device | str | None = None) -> torch.device:
    """Choose the device that computes.

    Args:
        name: A device: `cpu`, `cuda`, `cuda:1`, `mps`, `xpu`; or `auto`, the accelerator if there is one that can do
            everything, else the CPU. Default: $DAELAB_DEVICE, or `auto`.

    Returns:
        The device, which exists.

    Raises:
        ValueError: This computer, or the installed build of PyTorch, does not have the device.
    """
    text = str(name or os.environ.get(DEVICE_VARIABLE) or "auto")
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if text == "auto":
        return torch.device("cpu") if accelerator is None or accelerator.type in _WITHOUT_FLOAT64 else accelerator
    try:
        device = torch.device(text)
    except RuntimeError:
        raise ValueError(f"unknown device {text[:60]!r}; write auto, cpu, cuda, cuda:1, mps or xpu") from None
    if device.type == "cpu":
        return torch.device("cpu")
    kinds = [] if accelerator is None else [accelerator.type] * torch.accelerator.device_count()
    offered = [f"{kind}:{number}" for number, kind in enumerate(kinds)]
    if f"{device.type}:{device.index or 0}" not in offered:
        raise ValueError(
            f"device {text} is not available: this computer and PyTorch {torch.__version__} offer "
            f"{', '.join(['cpu', *offered])}; choose one of these, or install the build of PyTorch for your hardware"
        )
    return device


def use_device(name: str) -> None:
    """Let this process and the processes that it starts compute on a device.

    Args:
        name: As for `choose_device`.

    Raises:
        ValueError: There is no such device.
    """
    choose_device(name)
    os.environ[DEVICE_VARIABLE] = name


def synchronize(device: torch.device) -> None:
    """Wait until an accelerator has done what it was given.

    Args:
        device: The device. A CPU has nothing to wait for.
    """
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def get_free_device_memory(device: torch.device) -> int:
    """Return the free bytes of a device's memory; an accelerator without its own memory shares the computer's.

    Args:
        device: The device.
    """
    module = getattr(torch, device.type)
    return int(module.mem_get_info(device)[0]) if hasattr(module, "mem_get_info") else get_free_memory()


def get_accelerator_name() -> str | None:
    """Return the product name of the accelerator that computes by default; None if the CPU does."""
    device = choose_device()
    if device.type == "cpu":
        return None
    module = getattr(torch, device.type)
    return str(module.get_device_name(device)) if hasattr(module, "get_device_name") else device.type


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
    """Open an ONNX file with onnxruntime, with as many threads as PyTorch has.

    It runs on the device of `choose_device` if the installed onnxruntime can, and otherwise on the CPU.

    Args:
        path: The ONNX file.

    Returns:
        The `onnxruntime.InferenceSession`.

    Raises:
        ValueError: onnxruntime is not installed, it lacks the device that was asked for, or it cannot read the file.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime sends telemetry on import
    try:
        import onnxruntime
    except ImportError:
        raise ValueError(f"{path}: reading ONNX needs onnxruntime: pip install 'daelab[export]'") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    providers = _list_onnx_providers(onnxruntime.get_available_providers())
    try:
        # the fallback would try the same again and print to standard output
        return onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=False)
    except Exception as error:  # onnxruntime raises errors of its own classes
        raise ValueError(f"{path}: not loaded: {shorten_error(error)}") from None


def _list_onnx_providers(installed: list[str]) -> list[Any]:
    """List the execution providers of a session: that of the device, if it is installed, and the CPU's."""
    device = choose_device()
    provider = _ONNX_PROVIDERS.get(device.type)
    if provider in installed:
        return [(provider, {} if device.index is None else {"device_id": device.index}), "CPUExecutionProvider"]
    asked = os.environ.get(DEVICE_VARIABLE)
    if provider is not None and asked not in (None, "", "auto"):
        raise ValueError(
            f"device {asked}: the installed onnxruntime has no {provider}; "
            "install an onnxruntime with it, or run the ONNX file with --device cpu"
        )
    return ["CPUExecutionProvider"]


def collect_versions() -> dict[str, str]:
    """Return the versions of Python, of daelab and of the libraries that decide a result."""
    versions = {name: metadata.version(name) for name in ("daelab", "torch", "numpy", "safetensors")}
    return {"python": platform.python_version(), **versions}
