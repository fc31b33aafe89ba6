"""Tensors with a JSON header in one safetensors file: what models, checkpoints and judges are kept in.

Reading never runs code from the file, and the header can be looked at without reading a tensor.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from daelab.files import write_with

_KEY = "daelab"
_LONGEST_HEADER = 4_000_000


def write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
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

    try:
        write_with(path, lambda part: save_file(plain, part, metadata={_KEY: text}), check)
    except SafetensorError as error:
        raise OSError(f"{path}: not written: {error}") from None


def _same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, so that a NaN equals itself."""
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(_bits(a), _bits(b))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """The JSON header and the tensors' shapes, without reading a tensor.

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
        shapes = {name: tuple(int(side) for side in entry["shape"]) for name, entry in entries.items()}
    except KeyError:
        raise ValueError(f"{path}: a safetensors file, but not one of daelab's (no '{_KEY}' header)") from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{path}: its safetensors header is damaged") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: its safetensors header is damaged")
    return header, shapes


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON header and the tensors of a file that `write` wrote.

    Raises:
        ValueError: not such a file, or cut short; names it and says what is wrong.
    """
    header, _ = read_header(path)
    try:
        return header, load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged or cut short ({error})") from None
