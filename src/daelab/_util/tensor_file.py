"""Tensors with a JSON header in one safetensors file: what models, checkpoints and judges are kept in.

Reading never runs code from the file, and the header can be looked at without reading a tensor.
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

from daelab._util.files import write_file

_KEY = "daelab"
_LONGEST_HEADER = 4_000_000
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}
"""Of the tensors that daelab writes, in the format's words."""


def to_half_precision(tensors: Mapping[str, Tensor], but: Container[str] = ()) -> dict[str, Tensor]:
    """Matrices and kernels in half precision, but for those named; vectors (statistics, biases) stay as they are."""
    return {name: tensor.half() if tensor.ndim > 1 and name not in but else tensor for name, tensor in tensors.items()}


class TensorEntry(NamedTuple):
    """What a header says of a tensor."""

    dtype: str
    """"F32", "I64": the format's word."""
    shape: tuple[int, ...]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header, whole or not at all; the same input gives the same bytes.

    A file that stood there before is kept until the new one has been read back and is equal.

    Raises:
        OSError: the file could not be written, or came back different; names it and says why.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(header, sort_keys=True, allow_nan=False)

    def check(part: Path) -> None:
        found = load_file(part)
        if found.keys() != plain.keys() or not all(_same(found[name], plain[name]) for name in plain):
            raise OSError(f"{path}: came back from the disk different from what was written; the old one is kept")

    def save(part: Path) -> None:
        try:
            save_file(plain, part, metadata={_KEY: text})
        except SafetensorError as error:  # which has the system's number in its text only
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise OSError(f"{path}: not written: {error}") from None
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from None

    write_file(path, save, check)


def _same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, so that a NaN equals itself."""
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(_bits(a), _bits(b))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def describe_layout(tensors: Mapping[str, Tensor]) -> dict[str, TensorEntry]:
    """What the header of a file of these tensors would say; they may be on the device `meta`."""
    return {name: TensorEntry(_DTYPES[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()}


def read_tensor_header(path: Path) -> tuple[dict[str, Any], dict[str, TensorEntry]]:
    """The JSON header, and the tensors' types and shapes, without reading a tensor.

    Raises:
        ValueError: not such a file; names it and says what is wrong.
    """
    with Path(path).open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= _LONGEST_HEADER:
            raise ValueError(f"{path}: not a safetensors file (its header would have {length} bytes)")
        raw = file.read(length)
    try:
        entries = json.loads(raw)
        header = json.loads(entries.pop("__metadata__", {})[_KEY])
        found = {name: _entry(entry) for name, entry in entries.items()}
    except KeyError:
        raise ValueError(f"{path}: a safetensors file, but not one of daelab's (no '{_KEY}' header)") from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{path}: its safetensors header is damaged") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: its safetensors header is damaged")
    return header, found


@contextmanager
def explain_misfit(path: Path) -> Iterator[None]:
    """Within this, a file's tensors are put where they belong; where they do not fit, a ValueError names the file."""
    try:
        yield
    except (RuntimeError, NotImplementedError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: its tensors are not those of this network: {reason}") from None


def _entry(entry: Mapping[str, Any]) -> TensorEntry:
    shape = entry["shape"]
    # a bool is an int to Python, and so is what no tensor can have
    if not isinstance(shape, list) or not all(type(side) is int and 0 <= side < 2**48 for side in shape):
        raise ValueError(shape)
    if not re.fullmatch(r"\w{1,12}", entry["dtype"]):
        raise ValueError(entry["dtype"])
    return TensorEntry(entry["dtype"], tuple(shape))


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON header and the tensors of a file that `write` wrote.

    Raises:
        ValueError: not such a file, or cut short; names it and says what is wrong.
    """
    header, _ = read_tensor_header(path)
    try:
        return header, load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged or cut short ({error})") from None
