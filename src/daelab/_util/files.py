"""Files that are either complete or absent: they are written under a temporary name, flushed, then renamed."""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LONGEST_SUFFIX = 16
ON_WINDOWS = os.name == "nt"
"""Whether files and folders follow the rules of Windows. Tests switch it."""
TEMPORARY_NAME = re.compile(r"\.[0-9a-f]{12}(\..*)?")
"""The names of temporary files."""
_DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9¹²³]", re.IGNORECASE)
"""The names that Windows keeps for devices, with any suffix."""


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder. On success, flush it and rename it to `path`.

    On any exception the temporary file is removed and `path` stays as it was. A file that is replaced keeps its
    permissions and, if the system allows it, its owner. If `path` is a symbolic link, the file that it points to is
    replaced. The temporary name keeps the suffix, since many writers choose their format by it.

    Args:
        path: The file to write. Its folder is created if it does not exist.

    Yields:
        The temporary path.

    Raises:
        OSError: The disk is full, or the folder cannot be written to. The message names `path`.
    """
    path = Path(path)
    temporary = None
    if ON_WINDOWS and is_reserved_name(path.name):
        raise ValueError(f"{path}: Windows does not allow this name for a file; choose another")
    try:
        # Unlike `Path.resolve`, it returns a path for links in a circle too, and the system then names the fault.
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        before = target.stat() if target.exists() else None
        # In the same folder, since a rename is atomic only within one file system. The name is short, since that of
        # the target may be as long as the system allows. A suffix of more characters belongs to no format.
        suffix = target.suffix if len(target.suffix) <= _LONGEST_SUFFIX else ""
        created = target.with_name(f".{secrets.token_hex(6)}{suffix}")
        # Private until it has the permissions of the file that it replaces.
        os.close(os.open(created, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if before is None else 0o600))
        # Only now, since a read-only disk refuses to remove even what does not exist.
        temporary = created
        mode = temporary.stat().st_mode & 0o777
        yield temporary
        _sync(temporary)
        if before is None:
            # Some writers, such as that of safetensors, put a private file in the place of the one that they are given.
            temporary.chmod(mode)
        else:
            _copy_permissions(target, before, temporary)
        temporary.replace(target)
        # The rename changes the folder, which must reach the disk as well.
        _sync(target.parent)
    except OSError as error:
        failed_name = None if error.filename is None else Path(os.fsdecode(error.filename)).name
        if error.errno is None or not (failed_name is None or TEMPORARY_NAME.fullmatch(failed_name)):
            raise
        # a full disk names no file, and the temporary name would mean nothing to the user
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _copy_permissions(source: Path, before: os.stat_result, target: Path) -> None:
    """Give a file the owner, the access control list and the mode of another one, as far as the system allows it."""
    for owner in ((before.st_uid, -1), (-1, before.st_gid)):
        with suppress(OSError, AttributeError):  # only an administrator may give a file away, and on Windows nobody
            os.chown(target, *owner)
    with suppress(OSError, AttributeError):  # neither every system nor every file system has extended attributes
        for name in os.listxattr(source):
            os.setxattr(target, name, os.getxattr(source, name))
    # Last, since a change of the owner takes permissions away.
    target.chmod(before.st_mode & 0o777)


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


def list_shipped_configs(under: str = "") -> dict[str, Path]:
    """List the recipes that ship with daelab.

    Args:
        under: A folder of `recipes/`, or an empty text for all of them.

    Returns:
        The files by recipe name, such as `paper/38`, sorted with short names first.
    """
    folder = Path(__file__).parents[1] / "recipes"
    files = {
        path.relative_to(folder).as_posix().removesuffix(".toml"): path for path in (folder / under).rglob("*.toml")
    }
    return dict(sorted(files.items(), key=lambda item: [(len(part), part) for part in item[0].split("/")]))


def is_reserved_name(name: str) -> bool:
    """Return whether Windows allows no file or folder of this name.

    Args:
        name: The name, without folders.

    >>> [is_reserved_name(name) for name in ("con", "AUX.png", "com1.tar.gz", "a.", "console", "com10")]
    [True, True, True, True, False, False]
    """
    return name.endswith((".", " ")) or _DEVICES.fullmatch(name.partition(".")[0].rstrip()) is not None


def ignores_case(folder: Path) -> bool:
    """Return whether the file system takes names that differ only in their case for the same one.

    Args:
        folder: A folder. If it does not exist yet, the nearest one above it decides.
    """
    for existing in (folder.absolute(), *folder.absolute().parents):
        swapped = existing.with_name(existing.name.swapcase()) if existing.name else existing
        if swapped != existing and existing.exists():
            return swapped.exists() and swapped.samefile(existing)
    return False


def check_ordinary_file(path: Path) -> None:
    """Check that a path is no pipe or device, which a stranger's folder may hold, and whose reader would wait forever.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It is a pipe, a socket or a device.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "not an ordinary file", str(path))


def check_parent_folder(path: Path) -> None:
    """Check that a file or a folder can be created at a path, before long work whose result it will hold.

    Args:
        path: The file or the folder.

    Raises:
        NotADirectoryError: The path leads through a file.
        PermissionError: The nearest existing folder cannot be written to.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def check_new_folder(folder: Path) -> None:
    """Check that `fill_new_folder` can write a folder, before long work whose result it will hold.

    Args:
        folder: The folder.

    Raises:
        FileExistsError: It exists and is not an empty folder.
        NotADirectoryError: The path leads through a file.
        PermissionError: The nearest existing folder cannot be written to.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not an empty folder; choose another")
    check_parent_folder(folder / "a file")


@contextmanager
def fill_new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder. Without an error, what it holds becomes the contents of `folder`.

    Args:
        folder: The folder, which is new or empty.

    Yields:
        The temporary folder.
    """
    existed = folder.exists()
    if not existed:
        folder.parent.mkdir(parents=True, exist_ok=True)
    # A folder that exists may be a file system of its own, into which nothing can be renamed from outside.
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder if existed else folder.parent) as place:
        part = Path(place) / "contents"
        part.mkdir()
        yield part
        if existed:
            for path in part.iterdir():
                path.rename(folder / path.name)
        else:
            part.rename(folder)


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
    if ON_WINDOWS and path.is_dir():  # it cannot open a folder, and writes a rename to its journal
        return
    handle = os.open(path, os.O_RDWR if ON_WINDOWS else os.O_RDONLY)  # it flushes only what may be written
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
