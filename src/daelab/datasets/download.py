"""Downloads of published files. A file is kept only if its MD5 is the published one."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tarfile
import urllib.request
import zlib
from collections.abc import Callable, Collection
from io import BufferedReader, BytesIO
from pathlib import Path

TIMEOUT = 30.0
"""The seconds without a byte after which a connection is given up."""
CHUNK = 1 << 18
"""The number of bytes that are read at once."""


def download_file(url: str, path: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Download a file. A connection that breaks is resumed where it stopped.

    Args:
        url: A URL of http, https or file.
        path: The file, which grows in place; give a temporary path.
        progress: A function that is called with (bytes done, total bytes, or 0 if the server does not tell).

    Raises:
        OSError: The file cannot be downloaded: no network, no such file, or no space on the disk.
    """
    while True:
        before = _get_size(path)
        try:
            _resume_download(url, path, before, progress)
            return
        except (OSError, http.client.HTTPException) as error:
            # Give up after an attempt that brought no new byte.
            if _get_size(path) <= before:
                raise OSError(str(error) or type(error).__name__) from error


def check_md5(file: BytesIO | BufferedReader, what: str, expected: str, url: str) -> None:
    """Check the MD5 of a file.

    Args:
        file: The file, open for reading.
        what: Its name, for the error message.
        expected: The published MD5, in hexadecimal.
        url: Where the file was published, for the error message.

    Raises:
        ValueError: The file has another MD5.
    """
    # The MD5 detects damage, not attacks. Saying so makes Python builds with FIPS allow it.
    md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if md5 != expected:
        raise ValueError(f"{what} is damaged or altered: expected MD5 {expected}, found {md5}; get it again from {url}")


def unpack_archive(archive: Path, folder: str, names: Collection[str], target: Path) -> None:
    """Unpack selected files of a .tar.gz archive.

    Args:
        archive: The archive.
        folder: The only folder that the archive may hold.
        names: The names of the files in that folder to unpack. All others are skipped.
        target: The new folder for the files.

    Raises:
        ValueError: The archive cannot be read, lacks a file, or has a link or a member outside `folder`.
    """
    target.mkdir()
    missing = set(names)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                # A hostile archive could otherwise write outside of the target by a path or a link.
                parts = Path(member.name).parts
                if parts[:1] != (folder,) or ".." in parts or not (member.isfile() or member.isdir()):
                    raise ValueError(f"{archive.name}: refused, since {member.name!r} is not a file inside {folder}")
                content = tar.extractfile(member)
                if content is not None and len(parts) == 2 and parts[1] in missing:
                    with (target / parts[1]).open("wb") as out:
                        shutil.copyfileobj(content, out)
                    missing.discard(parts[1])
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{archive.name} cannot be unpacked into {target.parent}: {error}") from error
    if missing:
        raise ValueError(f"{archive.name} lacks {', '.join(sorted(missing))}")


def _resume_download(url: str, path: Path, present: int, progress: Callable[[int, int], None] | None) -> None:
    """Download in one connection what is missing, or everything if the server cannot resume."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={present}-"} if present else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        resumed = present > 0 and getattr(response, "status", None) == http.HTTPStatus.PARTIAL_CONTENT
        done = present if resumed else 0
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


def _get_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
