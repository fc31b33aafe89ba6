"""The pictures that the arguments of a command mean: files, folders, glob patterns and bundled photographs."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from daelab.image_io.formats import find_format
from daelab.image_io.optional_formats import is_installed


@dataclass
class FoundFiles:
    """The files in a folder, or those that match a pattern."""

    pictures: list[Path] = field(default_factory=list)
    """The files with the suffix of a picture format, sorted by name."""
    unread: list[Path] = field(default_factory=list)
    """The other files, and the folders that cannot be read, sorted by name."""
    not_entered: list[Path] = field(default_factory=list)
    """The folders inside the folder that were not asked for."""


def is_several(text: str) -> bool:
    """Return whether an argument means any number of pictures, and not one.

    Args:
        text: A path, a glob pattern, or photo:NAME.
    """
    return Path(text).is_dir() or (not Path(text).exists() and not text.startswith("photo:") and glob.has_magic(text))


def find_files(text: str, recursive: bool, results: Path | None) -> FoundFiles:
    """Find the files in a folder, or those that match a pattern. Files whose names begin with a dot are left out.

    Args:
        text: A folder or a glob pattern.
        recursive: Whether folders inside a folder are entered. Links to folders are followed, and a folder that several
            links lead to is entered once.
        results: The folder of the results. If it lies inside the folder, it is not entered.
    """
    if Path(text).is_dir():
        return _walk(Path(text), recursive, results)
    # The same file is found several times if a link leads to its folder.
    paths = sorted(_expand(text), key=lambda path: (len(path.parts), path), reverse=True)
    files = {(path.parent.resolve(), path.name): path for path in paths if not path.is_dir()}
    # Unlike `Path.resolve`, `realpath` does not fail for links in a circle.
    if results is not None and not _find_glob_folder(text).is_relative_to(place := os.path.realpath(results)):
        files = {key: path for key, path in files.items() if not key[0].is_relative_to(place)}
    return _sort_files(files.values(), FoundFiles())


def _walk(folder: Path, recursive: bool, results: Path | None) -> FoundFiles:
    found = FoundFiles()
    files: list[Path] = []
    entered = {_identify(results)} if results is not None and results.is_dir() else set()
    entered.discard(_identify(folder))
    for here, entries in _enter_folders(folder, entered, recursive):
        if entries is None:
            found.unread.append(here)
            continue
        files.extend(entry for entry in entries if not entry.is_dir())
        if not recursive:
            folders = (entry for entry in entries if entry.is_dir() and not entry.name.startswith("."))
            found.not_entered.extend(entry for entry in folders if _identify(entry) not in entered)
    return _sort_files(files, found)


def _enter_folders(
    folder: Path, entered: set[tuple[int, int]], recursive: bool = True
) -> Iterator[tuple[Path, list[Path] | None]]:
    """Yield a folder and those inside it, each once, with what it holds; None if it cannot be read."""
    folders, links = [folder], list[Path]()
    while folders or links:
        # Links come last, so that a picture is found under the name of the folder in which it lies.
        here = folders.pop() if folders else links.pop()
        if _identify(here) in entered:
            continue
        entered.add(_identify(here))
        try:
            entries = list(here.iterdir())
        except OSError:
            if here == folder:
                raise
            yield here, None
            continue
        yield here, entries
        for entry in entries if recursive else ():
            if entry.is_dir():
                (links if entry.is_symlink() else folders).append(entry)


def _expand(pattern: str) -> Iterator[Path]:
    """Yield what a pattern matches.

    `glob` itself follows links in circles, whose number of ways grows without limit, so `**` is expanded here.
    """
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from map(Path, glob.glob(pattern))  # noqa: PTH207
        return
    place = parts.index("**")
    rest = parts[place + 1 :] or ("*",)
    for base in map(Path, glob.glob(str(Path(*parts[:place])))):  # noqa: PTH207
        for folder, _ in _enter_folders(base, set()) if base.is_dir() else ():
            if not any(name.startswith(".") for name in folder.relative_to(base).parts):
                yield from _expand(str(Path(glob.escape(str(folder)), *rest)))


def _sort_files(files: Iterable[Path], found: FoundFiles) -> FoundFiles:
    for file in files:
        if not file.name.startswith("."):
            row = find_format(file.suffix)
            # A format whose package is not installed is counted among those that are not read.
            is_picture = row is not None and is_installed(row) and file.is_file()
            (found.pictures if is_picture else found.unread).append(file)
    return FoundFiles(sorted(found.pictures), sorted(found.unread), sorted(found.not_entered))


def _identify(folder: Path) -> tuple[int, int]:
    """Return what identifies a folder under all of its names."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _find_glob_folder(pattern: str) -> Path:
    """Return the folder in which a pattern is searched: its part before the first wildcard."""
    folder = Path(pattern)
    while glob.has_magic(str(folder)):
        folder = folder.parent
    return Path(os.path.realpath(folder))
