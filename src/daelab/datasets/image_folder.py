"""Any pictures in a folder, read as crops of one size; kept in memory, or streamed from disk."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daelab._util.distributed import read_local_world
from daelab._util.hardware import get_free_memory
from daelab.datasets.base import Dataset, DatasetSource, Images, Indices, Labels, Pixels, check_labels
from daelab.datasets.decoding import TRAINING_SUFFIXES, ImageCache, count_pixels
from daelab.datasets.splits import split_indices

RandomBits = NDArray[np.uint64]
"""64 random bits for each picture: its upper half places the crop's top, its lower half the left."""
CropJob = tuple[Indices, RandomBits | None]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""SplitMix64's step: 2^64 divided by the golden ratio, made odd."""


class PathList:
    """Many pictures' places in one piece of memory.

    A path each would take twenty times as much, and every worker process would come to hold a copy.
    """

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self.root = root
        self._text = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, place: int) -> Path:
        return self.root / os.fsdecode(self._text[self._ends[place] : self._ends[place + 1]])


@dataclass(frozen=True, eq=False)
class ImageFolder(Images):
    """Pictures of any size, of which each batch has a crop."""

    name: str
    names: PathList
    """Of all pictures of the folder's part."""
    places: Indices
    """int64 (N,): which of them are in this set."""
    labels: Labels
    """int64 (N,)."""
    classes: tuple[str, ...]
    crop: int
    """Side of a crop, in pixels; a smaller picture is mirrored at its edges up to it."""
    shelf: ImageCache
    """Where the decoded pictures are kept; the parts of one folder share it."""
    buffer: int | None = None
    """Crops that a worker process reads at once, each picture of them decoded once; None: those of a batch."""

    def __post_init__(self) -> None:
        check_labels(self.name, self.labels, len(self.places), len(self.classes))

    @property
    def size(self) -> tuple[int, int]:
        """(crop, crop), in pixels."""
        return self.crop, self.crop

    def path(self, i: int) -> Path:
        """Of the i-th picture."""
        return self.names[int(self.places[i])]

    def take(self, indices: Indices) -> ImageFolder:
        """The same set with only these pictures, in this order."""
        return replace(self, places=self.places[indices], labels=self.labels[indices])

    def batch(self, indices: Indices, rng: np.random.Generator | None = None) -> Pixels:
        """A random crop of each picture, or its centre without `rng`: uint8 (B, 3, crop, crop).

        Raises:
            ValueError: a picture is broken; names the file.
        """
        draws = None if rng is None else rng.integers(0, 2**64, size=len(indices), dtype=np.uint64)
        return self.read([(indices, draws)])[0]

    def batches(
        self,
        orders: Iterable[Indices],
        seed: int | None,
        workers: int | None = None,
        start: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[Pixels]:
        """One array (B, 3, crop, crop) per order; see `Images.batches`.

        A folder within its memory budget is decoded once, in this process. Of another, `workers` processes
        decode as many batches at a time as make a `buffer`, each at most two such ahead, and with a buffer
        one; closing the iterator ends them.

        Raises:
            ValueError: a picture is broken; names the file.
        """
        jobs = islice(_jobs(orders, seed, start), share[0], None, share[1])
        windows = ([job] for job in jobs) if self.buffer is None else _windows(jobs, self.buffer)
        cores = max(1, _cores() // read_local_world()[1])
        if workers is None:
            workers = min(4, cores)
        # More processes than cores bring nothing but a warning.
        workers = 0 if self.shelf.keeps else min(workers, cores)
        ahead = 2 if self.buffer is None else 1
        read = map(self.read, windows) if workers <= 0 else _stream(self, windows, workers, ahead)
        return (batch for window in read for batch in window)

    def read(self, jobs: Sequence[CropJob]) -> list[Pixels]:
        """The crops of some batches, picture by picture, so that each picture is decoded once."""
        out = [np.empty((len(indices), 3, self.crop, self.crop), np.uint8) for indices, _ in jobs]
        wanted = [(int(self.places[i]), n, k) for n, (indices, _) in enumerate(jobs) for k, i in enumerate(indices)]
        for place, crops in groupby(sorted(wanted), key=itemgetter(0)):
            picture = self.shelf.picture(self.names[place])
            for _, n, k in crops:
                draws = jobs[n][1]
                top, left = _corner(picture, self.crop, None if draws is None else int(draws[k]))
                out[n][k] = picture[top : top + self.crop, left : left + self.crop].transpose(2, 0, 1)
        return out


def load_image_folder(source: DatasetSource) -> Dataset:
    """Every picture in a folder and its sub-folders, as crops of `source.crop`.

    Sub-folders are the classes; without any there is one class, named after the folder. Where
    there are sub-folders `train` and `val` or `test` (or `train` alone), they are the parts, and
    their sub-folders the classes. Otherwise a fixed tenth of the pictures is the test part.

    Raises:
        ValueError: no such folder, too few pictures, or a picture that cannot be opened.
    """
    sets, note = split_image_folder(source)
    if "test" not in sets:
        kept, held = split_indices(len(sets["train"]), f"folder {source.path}")
        sets |= {"test": sets["train"].take(held), "train": sets["train"].take(kept)}
    train = sets["train"]
    return Dataset("folder", train, sets.get("val"), sets["test"], train.classes, note)


def split_image_folder(source: DatasetSource) -> tuple[dict[str, ImageFolder], str]:
    """The sets of a folder by its sub-folders `train`, `val` and `test`, or the whole as `train`; and a line on it.

    Raises:
        ValueError: no such folder, no pictures, or one that cannot be opened.
    """
    root, crop = source.path, source.crop
    if not root.is_dir():
        raise ValueError(f"folder: {root} is no folder")
    if crop < 1:
        raise ValueError(f"folder: a crop must be at least 1 pixel, not {crop}")
    found, skipped = _scan(root)
    budget = get_free_memory() // 4 if source.memory_budget is None else source.memory_budget
    keeps = source.buffer is None and _fit(found.values(), crop, budget)
    kept = "kept in memory" if keeps else "streamed from disk"
    note = f"{sum(map(len, found.values())):,} pictures in {root}, {skipped:,} other files skipped; {kept}"
    return _sets(root, found, ImageCache(crop, keeps), source.buffer), note


def _fit(parts: Iterable[PathList], crop: int, budget: int) -> bool:
    """Whether all pictures, decoded, take no more than the budget; headers are read until it is known."""
    for names in parts:
        for place in range(len(names)):
            budget -= 3 * count_pixels(names[place], crop)
            if budget < 0:
                return False
    return True


def _scan(root: Path) -> tuple[dict[Path, PathList], int]:
    """The pictures under each part's folder, sorted, and how many other files there are.

    The one key is `root` where the folder has no parts.
    """
    inside = {child.name for child in root.iterdir() if child.is_dir() and not child.name.startswith(".")}
    has_parts = "train" in inside and (len(inside) == 1 or bool(inside & {"val", "test"}))
    parts: dict[Path, PathList] = {}
    skipped = 0
    for top in [root / part for part in ("train", "val", "test") if part in inside] if has_parts else [root]:
        files = list(_files(top))
        parts[top] = PathList(top, sorted(filter(_is_picture, files)))
        skipped += len(files) - len(parts[top])
        if not len(parts[top]):
            raise ValueError(f"folder: no pictures in {top} ({len(files)} other files); looked for {TRAINING_SUFFIXES}")
    return parts, skipped


def _files(top: Path, inside: str = "") -> Iterator[str]:
    """Every file under a folder, by its path within it, with slashes; a million of them take little memory."""
    with suppress(PermissionError), os.scandir(top / inside) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(top, f"{inside}{entry.name}/")
            elif entry.is_file():
                yield inside + entry.name


def _is_picture(name: str) -> bool:
    hidden = name.startswith(".") or "/." in name
    return os.path.splitext(name)[1].lower() in TRAINING_SUFFIXES.split() and not hidden  # noqa: PTH122


def _sets(root: Path, parts: dict[Path, PathList], shelf: ImageCache, buffer: int | None) -> dict[str, ImageFolder]:
    found = {top: [_class(names, place, root) for place in range(len(names))] for top, names in parts.items()}
    classes = tuple(sorted({name for part in found.values() for name in part}))
    numbers = {name: place for place, name in enumerate(classes)}
    sets = {}
    for top, names in parts.items():
        labels = np.array([numbers[name] for name in found[top]], np.int64)
        part = "train" if top == root else top.name
        places = np.arange(len(names))
        sets[part] = ImageFolder(f"folder/{part}", names, places, labels, classes, shelf.crop, shelf, buffer)
    return sets


def _class(names: PathList, place: int, root: Path) -> str:
    """The first folder of a picture's place, or the root's name for a picture in no sub-folder."""
    parts = names[place].relative_to(names.root).parts
    return parts[0] if len(parts) > 1 else root.resolve().name


def _corner(picture: Pixels, crop: int, draw: int | None) -> tuple[int, int]:
    rows, columns = picture.shape[0] - crop, picture.shape[1] - crop
    if draw is None:
        return rows // 2, columns // 2
    return ((draw >> 32) * (rows + 1)) >> 32, ((draw & 0xFFFFFFFF) * (columns + 1)) >> 32


def _jobs(orders: Iterable[Indices], seed: int | None, start: int) -> Iterator[CropJob]:
    """Each order with its draws, which depend on (seed, position) alone."""
    for order in orders:
        yield order, None if seed is None else draw_random_bits(seed, start, len(order))
        start += len(order)


def draw_random_bits(seed: int, start: int, count: int) -> RandomBits:
    """64 random bits for each of the positions start, start + 1, ..., start + count - 1.

    SplitMix64 (Steele, Lea and Flood, 2014), whose state is a counter, so any position is had
    without the ones before it.

    >>> bool((draw_random_bits(7, 0, 5)[2:] == draw_random_bits(7, 2, 3)).all())
    True
    """
    position = np.arange(start, start + count, dtype=np.uint64)
    # Hash the seed first, or the streams of neighbouring seeds would overlap.
    state = _mix(np.array([seed % 2**64], np.uint64) + GOLDEN)
    return _mix(state + position * GOLDEN)


def _mix(z: RandomBits) -> RandomBits:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _windows(jobs: Iterator[CropJob], images: int) -> Iterator[list[CropJob]]:
    """Batches that follow each other, as many as have so many images."""
    for first in jobs:
        batches = -(-images // max(1, len(first[0])))
        yield [first, *islice(jobs, batches - 1)]


class _Reader:
    """What a worker process runs: a window of batches -> their pixels, or the error that names the file."""

    def __init__(self, pictures: ImageFolder) -> None:
        self.pictures = pictures

    def __getitem__(self, window: list[CropJob]) -> list[Pixels] | ValueError:
        try:
            return self.pictures.read(window)
        except ValueError as error:
            return error  # handed over as it is; raised in a worker it would come as a traceback


def _stream(
    pictures: ImageFolder, windows: Iterable[list[CropJob]], workers: int, ahead: int
) -> Iterator[list[Pixels]]:
    import torch
    from torch.utils.data import DataLoader

    loader: DataLoader[list[Pixels]] = DataLoader(
        _Reader(pictures),  # type: ignore[arg-type]
        sampler=windows,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=ahead,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # or it would draw from the global one
    )
    with warnings.catch_warnings():
        # Python 3.12 warns when a process with threads forks; these workers only decode pictures.
        warnings.simplefilter("ignore", DeprecationWarning)
        found = iter(loader)
    try:
        for window in found:
            if isinstance(window, ValueError):
                raise window
            yield window
    finally:
        del found  # ends the workers now, not when an error's traceback is dropped


def _as_it_is(batch: Any) -> Any:
    return batch


def _cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
