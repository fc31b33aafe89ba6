"""Files that are whole or absent: written beside their place, flushed, then renamed."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success flush it and rename it to `path`.

    On any exception the temporary file is removed and `path` is as it was. The temporary
    name keeps the suffix, since many writers choose their format by it.

    Raises:
        OSError: the disk is full, the folder cannot be written to; names `path`.
    """
    path = Path(path)
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        part = Path(name)
        yield part
        _flush(part)
        part.chmod(0o666 & ~_umask())
        part.replace(path)
        _flush(path.parent)
    except OSError as error:
        named = None if error.filename is None else Path(os.fsdecode(error.filename)).name
        if error.errno is None or not (named is None or named.startswith(f".{path.stem}-")):
            raise
        # a full disk names no file, and the temporary name says nothing to anybody
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


class BoundedFile(io.BufferedReader):
    """A file that is never asked for more than it holds.

    A length that a stranger's file states is what decoders ask for, and Python makes room for it before it reads.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._length = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._length - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    with replace_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_file(path: Path, save: Callable[[Path], object], check: Callable[[Path], object] | None = None) -> None:
    """Let `save` write to a temporary path beside `path`, and `check` read it back; then rename.

    Whatever `check` raises, what stood at `path` before still stands there.
    """
    with replace_file(path) as part:
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
