"""The picture files of a folder, and the names that tell a noisy picture from its clean one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from daelab.image_io.formats import find_training_format

PAIR_WORDS = (
    ("noisy", "clean"),
    ("noise", "clean"),
    ("noisy", "gt"),
    ("real", "mean"),
    ("noisy", "mean"),
    ("noisy", "reference"),
    ("noisy", "ref"),
    ("noisy", "target"),
    ("input", "target"),
    ("input", "gt"),
)
"""The words that tell a noisy image from its clean one, in names of files or of folders."""


class PathList:
    """A list of paths in one piece of memory.

    A list of Path objects would take twenty times as much memory, and every worker process would copy it.
    """

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        """Store the paths.

        Args:
            root: The folder that the paths are relative to.
            names: The paths within the folder.
        """
        encoded = [os.fsencode(name) for name in names]
        self.root = root
        self._text = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)])

    def __len__(self) -> int:
        """Return the number of paths."""
        return len(self._ends) - 1

    def __getitem__(self, place: int) -> Path:
        """Return a path, including the folder."""
        return self.root / os.fsdecode(self._text[self._ends[place] : self._ends[place + 1]])


def walk_files(top: Path, inside: str = "") -> Iterator[str]:
    """Yield the path of every file within a folder, with slashes, using little memory for a million files.

    Args:
        top: The folder.
        inside: The path of the subfolder within it that is read, with a slash at its end.
    """
    with suppress(PermissionError), os.scandir(top / inside) as entries:
        for entry in entries:
            # A link to a folder further up would lead to an endless walk.
            if entry.is_dir(follow_symlinks=False):
                yield from walk_files(top, f"{inside}{entry.name}/")
            elif entry.is_file():
                yield inside + entry.name


def is_training_picture(name: str) -> bool:
    """Return whether a file is a picture by its name, and is not hidden.

    Args:
        name: The path of the file.
    """
    hidden = name.startswith(".") or "/." in name
    return find_training_format(os.path.splitext(name)[1]) is not None and not hidden  # noqa: PTH122


def find_picture_names(top: Path) -> list[str]:
    """List the images in a folder and its subfolders, as sorted paths within it.

    Args:
        top: The folder.
    """
    return sorted(filter(is_training_picture, walk_files(top)))


def has_pairs(root: Path) -> bool:
    """Return whether a folder, or a part of it, holds subfolders of noisy and of clean images, which are no classes.

    Args:
        root: The folder.
    """
    for folder in (root, *(root / part for part in ("train", "val", "test"))):
        inside = {child.name.lower() for child in folder.iterdir()} if folder.is_dir() else set()
        if any({noisy, clean} <= inside for noisy, clean in PAIR_WORDS):
            return True
    return False
