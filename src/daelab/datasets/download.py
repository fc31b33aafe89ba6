"""A published file from the network: whole, and with the published MD5, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tarfile
import urllib.request
import zlib
from collections.abc import Callable, Collection
from pathlib import Path

TIMEOUT = 30.0
"""Seconds without a byte before a connection is given up."""
CHUNK = 1 << 18


def download_file(url: str, path: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Download `url` to `path`; a connection that breaks is taken up where it stopped.

    Args:
        url: http, https or file.
        path: written in place; give a temporary one.
        progress: called with (bytes done, bytes in all or 0 where the server does not say).

    Raises:
        OSError: the file cannot be had: no network, no such file, no room.
    """
    while True:
        before = _size(path)
        try:
            _continue(url, path, before, progress)
            return
        except (OSError, http.client.HTTPException) as error:
            # Give up on the first attempt that brought nothing new.
            if _size(path) <= before:
                raise OSError(str(error) or type(error).__name__) from error


def check_md5(path: Path, expected: str, url: str) -> None:
    """Raise ValueError unless the file has this MD5."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, _md5).hexdigest()
    if found != expected:
        raise ValueError(describe_altered_file(path.name, expected, found, url))


def describe_altered_file(what: str, expected: str, found: str, url: str) -> str:
    """The one line that says a file is not the published one."""
    return f"{what} is damaged or altered: expected MD5 {expected}, found {found}; get it again from {url}"


def compute_md5(data: bytes) -> str:
    """The MD5 of some bytes, in hexadecimal."""
    return _md5(data).hexdigest()


def unpack_archive(archive: Path, folder: str, names: Collection[str], target: Path) -> None:
    """Write `folder/name` of a .tar.gz to `target/name`, for each of `names` and nothing else.

    Raises:
        ValueError: the archive has a member outside `folder`, or a link; or it lacks a name; or
            it cannot be read.
    """
    target.mkdir()
    missing = set(names)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                parts = Path(member.name).parts
                if parts[:1] != (folder,) or ".." in parts or not (member.isfile() or member.isdir()):
                    raise ValueError(f"{archive.name}: refused, since {member.name!r} is no file inside {folder}")
                content = tar.extractfile(member)
                if content is not None and len(parts) == 2 and parts[1] in missing:
                    with (target / parts[1]).open("wb") as out:
                        shutil.copyfileobj(content, out)
                    missing.discard(parts[1])
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{archive.name} cannot be unpacked into {target.parent}: {error}") from error
    if missing:
        raise ValueError(f"{archive.name} lacks {', '.join(sorted(missing))}")


def _continue(url: str, path: Path, have: int, progress: Callable[[int, int], None] | None) -> None:
    """One connection: ask for what is missing, or for all where the server cannot resume."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        resumed = have > 0 and getattr(response, "status", None) == http.HTTPStatus.PARTIAL_CONTENT
        done = have if resumed else 0
        length = int(response.headers.get("Content-Length") or 0)
        total = done + length if length else 0
        with path.open("ab" if resumed else "wb") as out:
            while chunk := response.read(CHUNK):
                out.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
    if done < total:
        raise ConnectionError(f"the connection closed after {done:,} of {total:,} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(data: bytes = b"") -> hashlib._Hash:
    # Against damage in transit and on disk; not for security, so FIPS builds allow it.
    return hashlib.md5(data, usedforsecurity=False)
