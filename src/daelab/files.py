"""Files that are whole or absent: written beside their place, flushed, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success flush it and rename it to `path`.

    On any exception the temporary file is removed and `path` is as it was. The temporary
    name keeps the suffix, since many writers choose their format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        _flush(part)
        part.chmod(0o666 & ~_umask())
        part.replace(path)
        _flush(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    with written_beside(path) as part:
        part.write_text(text, encoding="utf-8")


def write_with(path: Path, save: Callable[[Path], object], check: Callable[[Path], object] | None = None) -> None:
    """Let `save` write to a temporary path beside `path`, and `check` read it back; then rename.

    Whatever `check` raises, what stood at `path` before still stands there.
    """
    with written_beside(path) as part:
        save(part)
        if check is not None:
            check(part)


def _flush(path: Path) -> None:
    """fsync a file or a folder, so that a rename survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
