"""Any pictures in a folder, read as crops of one size; kept in memory, or streamed from disk."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daelab.data.pictures import SUFFIXES, Shelf, area, free_memory
from daelab.data.sets import Dataset, Images, Indices, Labels, Pixels, Source, check_labels
from daelab.data.splits import parted

Draws = NDArray[np.uint64]
"""64 random bits for each picture: its upper half places the crop's top, its lower half the left."""
Job = tuple[Indices, Draws | None]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""SplitMix64's step: 2^64 divided by the golden ratio, made odd."""


@dataclass(frozen=True, eq=False)
class FolderSet(Images):
    """Pictures of any size, of which each batch has a crop."""

    name: str
    paths: tuple[Path, ...]
    labels: Labels
    """int64 (N,)."""
    classes: tuple[str, ...]
    crop: int
    """Side of a crop, in pixels; a smaller picture is mirrored at its edges up to it."""
    shelf: Shelf
    """Where the decoded pictures are kept; the parts of one folder share it."""

    def __post_init__(self) -> None:
        check_labels(self.name, self.labels, len(self.paths), len(self.classes))

    @property
    def size(self) -> tuple[int, int]:
        """(crop, crop), in pixels."""
        return self.crop, self.crop

    def take(self, indices: Indices) -> FolderSet:
        """The same set with only these pictures, in this order."""
        paths = tuple(self.paths[i] for i in indices.tolist())
        return FolderSet(self.name, paths, self.labels[indices], self.classes, self.crop, self.shelf)

    def batch(self, indices: Indices, rng: np.random.Generator | None = None) -> Pixels:
        """A random crop of each picture, or its centre without `rng`: uint8 (B, 3, crop, crop).

        Raises:
            ValueError: a picture is broken; names the file.
        """
        draws = None if rng is None else rng.integers(0, 2**64, size=len(indices), dtype=np.uint64)
        return self._read((indices, draws))

    def batches(
        self,
        orders: Iterable[Indices],
        seed: int | None,
        workers: int | None = None,
        start: int = 0,
    ) -> Iterator[Pixels]:
        """One array (B, 3, crop, crop) per order; see `Images.batches`.

        A folder within its memory budget is decoded once, in this process. A larger one is decoded
        anew for every batch by `workers` processes, each at most two batches ahead; closing the
        iterator ends them.

        Raises:
            ValueError: a picture is broken; names the file.
        """
        jobs = _jobs(orders, seed, start)
        if workers is None:
            workers = min(4, _cores())
        # More processes than cores bring nothing but a warning.
        workers = 0 if self.shelf.keeps else min(workers, _cores())
        return (self._read(job) for job in jobs) if workers <= 0 else _stream(self, jobs, workers)

    def _read(self, job: Job) -> Pixels:
        indices, draws = job
        out = np.empty((len(indices), 3, self.crop, self.crop), np.uint8)
        for k, i in enumerate(indices.tolist()):
            picture = self.shelf.picture(self.paths[i])
            top, left = _corner(picture, self.crop, None if draws is None else int(draws[k]))
            out[k] = picture[top : top + self.crop, left : left + self.crop].transpose(2, 0, 1)
        return out


def folder(source: Source) -> Dataset:
    """Every picture in a folder and its sub-folders, as crops of `source.crop`.

    Sub-folders are the classes; without any there is one class, named after the folder. Where
    there are sub-folders `train` and `val` or `test` (or `train` alone), they are the parts, and
    their sub-folders the classes. Otherwise a fixed tenth of the pictures is the test part.

    Raises:
        ValueError: no such folder, too few pictures, or a picture that cannot be opened.
    """
    root, crop = source.path, source.crop
    if not root.is_dir():
        raise ValueError(f"folder: {root} is no folder")
    if crop < 1:
        raise ValueError(f"folder: a crop must be at least 1 pixel, not {crop}")
    parts, skipped = _scan(root)
    paths = [path for part in parts.values() for path in part]
    budget = free_memory() // 4 if source.memory_budget is None else source.memory_budget
    shelf = Shelf(crop, keeps=sum(3 * area(path, crop) for path in paths) <= budget)
    sets = _sets(root, parts, shelf)
    kept = "kept in memory" if shelf.keeps else "streamed from disk"
    return Dataset(
        "folder",
        train=sets["train"],
        val=sets.get("val"),
        test=sets["test"],
        classes=sets["train"].classes,
        note=f"{len(paths):,} pictures in {root}, {skipped:,} other files skipped; {kept}",
    )


def _scan(root: Path) -> tuple[dict[Path, list[Path]], int]:
    """The pictures under each part's folder, sorted, and how many other files there are.

    The one key is `root` where the folder has no parts.
    """
    inside = {child.name for child in root.iterdir() if child.is_dir() and not child.name.startswith(".")}
    has_parts = "train" in inside and (len(inside) == 1 or bool(inside & {"val", "test"}))
    parts: dict[Path, list[Path]] = {}
    skipped = 0
    for top in [root / part for part in ("train", "val", "test") if part in inside] if has_parts else [root]:
        files = sorted((path for path in top.rglob("*") if path.is_file()), key=Path.as_posix)
        parts[top] = [path for path in files if _is_picture(path.relative_to(top))]
        skipped += len(files) - len(parts[top])
        if not parts[top]:
            raise ValueError(f"folder: no pictures in {top} ({len(files)} other files); looked for {SUFFIXES}")
    return parts, skipped


def _is_picture(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in SUFFIXES.split() and not hidden


def _sets(root: Path, parts: dict[Path, list[Path]], shelf: Shelf) -> dict[str, FolderSet]:
    names = {top: [_class(path.relative_to(top), root) for path in paths] for top, paths in parts.items()}
    classes = tuple(sorted({name for part in names.values() for name in part}))
    places = {name: place for place, name in enumerate(classes)}
    sets = {}
    for top, paths in parts.items():
        labels = np.array([places[name] for name in names[top]], np.int64)
        part = "train" if top == root else top.name
        sets[part] = FolderSet(f"folder/{part}", tuple(paths), labels, classes, shelf.crop, shelf)
    if "test" not in sets:
        kept, held = parted(len(sets["train"]), f"folder {root}")
        sets |= {"test": sets["train"].take(held), "train": sets["train"].take(kept)}
    return sets


def _class(path: Path, root: Path) -> str:
    """The first folder of a relative path, or the root's name for a picture in no sub-folder."""
    return path.parts[0] if len(path.parts) > 1 else root.resolve().name


def _corner(picture: Pixels, crop: int, draw: int | None) -> tuple[int, int]:
    rows, columns = picture.shape[0] - crop, picture.shape[1] - crop
    if draw is None:
        return rows // 2, columns // 2
    return ((draw >> 32) * (rows + 1)) >> 32, ((draw & 0xFFFFFFFF) * (columns + 1)) >> 32


def _jobs(orders: Iterable[Indices], seed: int | None, start: int) -> Iterator[Job]:
    """Each order with its draws, which depend on (seed, position) alone."""
    for order in orders:
        yield order, None if seed is None else draws(seed, start, len(order))
        start += len(order)


def draws(seed: int, start: int, count: int) -> Draws:
    """64 random bits for each of the positions start, start + 1, ..., start + count - 1.

    SplitMix64 (Steele, Lea and Flood, 2014), whose state is a counter, so any position is had
    without the ones before it.

    >>> bool((draws(7, 0, 5)[2:] == draws(7, 2, 3)).all())
    True
    """
    position = np.arange(start, start + count, dtype=np.uint64)
    # Hash the seed first, or the streams of neighbouring seeds would overlap.
    state = _mix(np.array([seed % 2**64], np.uint64) + GOLDEN)
    return _mix(state + position * GOLDEN)


def _mix(z: Draws) -> Draws:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class _Reader:
    """What a worker process runs: a job -> its batch, or the error that names the file."""

    def __init__(self, pictures: FolderSet) -> None:
        self.pictures = pictures

    def __getitem__(self, job: Job) -> Pixels | ValueError:
        try:
            return self.pictures._read(job)
        except ValueError as error:
            return error  # handed over as it is; raised in a worker it would come as a traceback


def _stream(pictures: FolderSet, jobs: Iterable[Job], workers: int) -> Iterator[Pixels]:
    import torch
    from torch.utils.data import DataLoader

    loader: DataLoader[Pixels] = DataLoader(
        _Reader(pictures),  # type: ignore[arg-type]
        sampler=jobs,
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # or it would draw from the global one
    )
    with warnings.catch_warnings():
        # Python 3.12 warns when a process with threads forks; these workers only decode pictures.
        warnings.simplefilter("ignore", DeprecationWarning)
        batches = iter(loader)
    try:
        for batch in batches:
            if isinstance(batch, ValueError):
                raise batch
            yield batch
    finally:
        del batches  # ends the workers now, not when an error's traceback is dropped


def _as_it_is(batch: Any) -> Any:
    return batch


def _cores() -> int:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
