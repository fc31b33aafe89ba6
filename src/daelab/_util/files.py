"""Files that are either complete or absent: they are written under a temporary name, flushed, then renamed."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder. On success, flush it and rename it to `path`.

    On any exception the temporary file is removed and `path` stays as it was. The temporary
    name keeps the suffix, since many writers choose their format by it.

    Args:
        path: The file to write. Its folder is created if it does not exist.

    Yields:
        The temporary path.

    Raises:
        OSError: The disk is full, or the folder cannot be written to. The message names `path`.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, since a rename is atomic only within one file system.
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _sync(temporary)
        # `mkstemp` makes files that only their owner may read.
        temporary.chmod(0o666 & ~_get_umask())
        temporary.replace(path)
        # The rename changes the folder, which must reach the disk as well.
        _sync(path.parent)
    except OSError as error:
        failed_name = None if error.filename is None else Path(os.fsdecode(error.filename)).name
        if error.errno is None or not (failed_name is None or failed_name.startswith(f".{path.stem}-")):
            raise
        # a full disk names no file, and the temporary name would mean nothing to the user
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


class BoundedFile(io.BufferedReader):
    """A file from which no more is read than it holds.

    Decoders ask for the length that an untrusted file claims, and Python would allocate that much before it reads.
    """

    def __init__(self, path: Path) -> None:
        """Open a file for reading."""
        super().__init__(io.FileIO(path))
        self._length = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most `size` bytes and at most what is left of the file.

        Args:
            size: The number of bytes. Negative or None reads the rest.

        Returns:
            The bytes.
        """
        remaining = max(0, self._length - self.tell())
        return super().read(remaining if size is None or size < 0 else min(size, remaining))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, completely or not at all.

    Args:
        path: The file.
        text: Its new content.
    """
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_file(path: Path, save: Callable[[Path], object], check: Callable[[Path], object] | None = None) -> None:
    """Write a file with `save`, read it back with `check`, then rename it to `path`.

    Args:
        path: The file. If `save` or `check` raises, it stays as it was.
        save: The function that writes to a temporary path in the same folder.
        check: The function that reads that file back and raises an error if it is wrong.
    """
    with replace_file(path) as temporary:
        save(temporary)
        if check is not None:
            check(temporary)


def _sync(path: Path) -> None:
    """Flush a file or a folder to the disk, so that a rename survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _get_umask() -> int:
    # The system tells the mask only when another one is set.
    mask = os.umask(0)
    os.umask(mask)
    return mask
