"""Tensors with a JSON header in one safetensors file, the format of models, checkpoints and classifiers.

Reading never runs code from the file, and the header can be read without reading a tensor.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from daelab._util.files import check_ordinary_file, write_file

_KEY = "daelab"
_MAX_HEADER_SIZE = 4_000_000
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}
"""The data types that daelab writes, with their names in the safetensors format."""


def to_half_precision(tensors: Mapping[str, Tensor], but: Container[str] = ()) -> dict[str, Tensor]:
    """Convert matrices and kernels to half precision; vectors (statistics, biases) keep their precision.

    Args:
        tensors: The tensors by name.
        but: The names of tensors that keep their precision.

    Returns:
        The tensors by name.
    """
    return {name: tensor.half() if tensor.ndim > 1 and name not in but else tensor for name, tensor in tensors.items()}


class TensorEntry(NamedTuple):
    """A tensor's entry in the header."""

    dtype: str
    """The data type's name in the format: "F32", "I64"."""
    shape: tuple[int, ...]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header, completely or not at all. The same input gives the same bytes.

    An existing file is kept until the new one has been read back and is equal to what was written.

    Args:
        path: The file.
        tensors: The tensors by name, on any device.
        header: Plain values for JSON, without infinities and NaN.

    Raises:
        OSError: The file could not be written, or differed when it was read back. The message names the file.
    """
    # Contiguous, since safetensors refuses other layouts.
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(header, sort_keys=True, allow_nan=False)

    def check(part: Path) -> None:
        read_back = load_file(part)
        if read_back.keys() != plain.keys() or not all(_equals(read_back[name], plain[name]) for name in plain):
            raise OSError(f"{path}: the file on disk differs from what was written; the old file is kept")

    def save(part: Path) -> None:
        try:
            save_file(plain, part, metadata={_KEY: text})
        except SafetensorError as error:  # it gives the system's error number only in its text
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise OSError(f"{path}: not written: {error}") from None
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from None

    write_file(path, save, check)


def _equals(a: Tensor, b: Tensor) -> bool:
    """Compare two tensors bit for bit, so that a NaN equals itself."""
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(_view_bytes(a), _view_bytes(b))


def _view_bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def describe_layout(tensors: Mapping[str, Tensor]) -> dict[str, TensorEntry]:
    """Describe tensors as the header of their file would.

    Args:
        tensors: The tensors by name. They may be on the device `meta`.

    Returns:
        The data type and the shape of each tensor by name.
    """
    return {name: TensorEntry(_DTYPES[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()}


def read_tensor_header(path: Path) -> tuple[dict[str, Any], dict[str, TensorEntry]]:
    """Read the JSON header and the types and shapes of the tensors, without reading a tensor.

    Args:
        path: The file.

    Returns:
        The header, and the data type and shape of each tensor by name.

    Raises:
        ValueError: The file was not written by daelab. The message names the file and says what is wrong.
    """
    check_ordinary_file(Path(path))
    with Path(path).open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= _MAX_HEADER_SIZE:
            raise ValueError(f"{path}: not a safetensors file, in which models are stored")
        raw = file.read(length)
    try:
        entries = json.loads(raw)
        header = json.loads(entries.pop("__metadata__", {})[_KEY])
        layout = {name: _parse_entry(entry) for name, entry in entries.items()}
    except KeyError:
        raise ValueError(f"{path}: a safetensors file, but daelab did not write it (no '{_KEY}' header)") from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{path}: its safetensors header is damaged") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: its safetensors header is damaged")
    return header, layout


@contextmanager
def explain_misfit(path: Path) -> Iterator[None]:
    """Turn errors from loading a file's tensors into a network into a ValueError that names the file.

    Args:
        path: The file, for the error message.

    Raises:
        ValueError: The tensors are not those of the network.
    """
    try:
        yield
    except (RuntimeError, NotImplementedError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: its tensors are not those of this network: {reason}") from None


def _parse_entry(entry: Mapping[str, Any]) -> TensorEntry:
    shape = entry["shape"]
    # `isinstance` would accept booleans, and safetensors would accept sides that no tensor can have
    if not isinstance(shape, list) or not all(type(side) is int and 0 <= side < 2**48 for side in shape):
        raise ValueError(shape)
    if not re.fullmatch(r"\w{1,12}", entry["dtype"]):
        raise ValueError(entry["dtype"])
    return TensorEntry(entry["dtype"], tuple(shape))


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the JSON header and the tensors of a file that `write_tensors` wrote.

    Args:
        path: The file.

    Returns:
        The header, and the tensors by name.

    Raises:
        ValueError: The file was not written by daelab, or is cut short. The message names it and says what is wrong.
    """
    header, _ = read_tensor_header(path)
    try:
        return header, load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged or cut short ({error})") from None
