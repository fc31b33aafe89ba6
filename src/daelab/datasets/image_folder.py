"""The images of a folder, read as crops of one size, from memory or streamed from disk."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daelab._util.distributed import read_local_world
from daelab._util.memory import get_free_memory
from daelab.datasets.base import Dataset, DatasetSource, Images, Indices, Labels, Pixels, check_labels
from daelab.datasets.decoding import ImageCache, count_pixels
from daelab.datasets.picture_names import PathList, has_pairs, is_training_picture, walk_files
from daelab.datasets.splits import split_indices
from daelab.image_io.formats import list_training_suffixes

RandomBits = NDArray[np.uint64]
"""64 random bits for each image: the upper half places the crop's top, the lower half its left side."""
CropJob = tuple[Indices, RandomBits | None]
"""The positions of a batch's images, and their random bits; None cuts the centers."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""SplitMix64's step: 2^64 divided by the golden ratio, rounded to an odd number."""


@dataclass(frozen=True, eq=False)
class ImageFolder(Images):
    """A set of images of any size, of which each batch has a crop."""

    name: str
    names: PathList
    """The files of all images in the folder's part."""
    places: Indices
    """int64 (N,): the positions in `names` of the images in this set."""
    labels: Labels
    """int64 (N,)."""
    classes: tuple[str, ...]
    crop: int
    """The side of a crop, in pixels. A smaller image is mirrored at its edges."""
    cache: ImageCache
    """The decoded images, which the parts of one folder share."""
    buffer: int | None = None
    """The number of crops that a worker process reads at once; None means one batch.

    Each image is decoded once for all of them."""

    def __post_init__(self) -> None:
        """Raise a ValueError if the labels have the wrong type or shape."""
        check_labels(self.name, self.labels, len(self.places), len(self.classes))

    @property
    def paired(self) -> bool:  # type: ignore[override]
        """Whether a batch holds six channels; see `Images`."""
        return self.cache.channels == 6

    @property
    def size(self) -> tuple[int, int]:
        """(crop, crop), in pixels."""
        return self.crop, self.crop

    def path(self, i: int) -> Path:
        """Return the file of an image.

        Args:
            i: The position of the image in this set.
        """
        return self.names[int(self.places[i])]

    def take(self, indices: Indices) -> ImageFolder:
        """Select images; see `Images.take`."""
        return replace(self, places=self.places[indices], labels=self.labels[indices])

    def batch(self, indices: Indices, rng: np.random.Generator | None = None) -> Pixels:
        """Cut a random crop of each image, or the center without `rng`.

        Args:
            indices: (B,) positions in this set.
            rng: The generator that places the crops.

        Returns:
            uint8 (B, 3, crop, crop), RGB.

        Raises:
            ValueError: An image is broken. The message names the file.
        """
        bits = None if rng is None else rng.integers(0, 2**64, size=len(indices), dtype=np.uint64)
        return self.read([(indices, bits)])[0]

    def batches(
        self,
        orders: Iterable[Indices],
        seed: int | None,
        workers: int | None = None,
        start: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[Pixels]:
        """Read a stream of batches; see `Images.batches`.

        A folder within its memory budget is decoded once, in this process. Otherwise `workers` processes decode as
        many batches at a time as make a `buffer`. Each reads two batches ahead, or one buffer. Closing the
        iterator ends the processes.

        Args:
            orders: (B,) indices of each batch.
            seed: The seed of the crops; None cuts the center.
            workers: The number of processes, at most one per core; None means up to 4.
            start: The number of images before the first of `orders`.
            share: (r, n): only the r-th of the orders and every n-th after it are read.

        Returns:
            uint8 (B, 3, crop, crop) for each order that is read, in order.

        Raises:
            ValueError: An image is broken. The message names the file.
        """
        jobs = islice(_make_jobs(orders, seed, start), share[0], None, share[1])
        windows = ([job] for job in jobs) if self.buffer is None else _group_jobs(jobs, self.buffer)
        cores = max(1, _count_cores() // read_local_world()[1])
        if workers is None:
            workers = min(4, cores)
        # More processes than cores are not faster, and PyTorch warns about them.
        workers = 0 if self.cache.keeps else min(workers, cores)
        ahead = 2 if self.buffer is None else 1
        read = map(self.read, windows) if workers <= 0 else _decode_in_workers(self, windows, workers, ahead)
        return (batch for window in read for batch in window)

    def read(self, jobs: Sequence[CropJob]) -> list[Pixels]:
        """Cut the crops of several batches, image by image, so that each image is decoded once.

        Args:
            jobs: The batches.

        Returns:
            uint8 (B, 3, crop, crop) for each batch.
        """
        shape = (self.cache.channels, self.crop, self.crop)
        out = [np.empty((len(indices), *shape), np.uint8) for indices, _ in jobs]
        # (image, batch, position in the batch) of every crop
        crops = [(int(self.places[i]), n, k) for n, (indices, _) in enumerate(jobs) for k, i in enumerate(indices)]
        for place, crops_of_image in groupby(sorted(crops), key=itemgetter(0)):
            picture = self.cache.read_image(self.names[place])
            for _, n, k in crops_of_image:
                bits = jobs[n][1]
                top, left = _place_crop(picture, self.crop, None if bits is None else int(bits[k]))
                out[n][k] = picture[top : top + self.crop, left : left + self.crop].transpose(2, 0, 1)
        return out


def load_image_folder(source: DatasetSource) -> Dataset:
    """Load every image in a folder and its subfolders, as crops of `source.crop`.

    Subfolders are the classes. Without any there is one class, named after the folder. If there are
    subfolders `train` and `val` or `test` (or `train` alone), they are the parts, and
    their subfolders are the classes. Otherwise a fixed tenth of the images is the test part.

    Args:
        source: The request: `path`, `crop`, `memory_budget` and `buffer` apply.

    Returns:
        The data set.

    Raises:
        ValueError: There is no such folder, too few images, or an image that cannot be opened.
    """
    sets, note = split_image_folder(source)
    whole = None if "test" in sets else sets["train"]
    if whole is not None:
        train_indices, test_indices = split_indices(len(whole), f"folder {source.path}")
        sets |= {"test": whole.take(test_indices), "train": whole.take(train_indices)}
    train = sets["train"]
    return Dataset("folder", train, sets.get("val"), sets["test"], train.classes, note, whole)


def split_image_folder(source: DatasetSource) -> tuple[dict[str, ImageFolder], str]:
    """Split a folder by its subfolders `train`, `val` and `test`. Without them all images are in `train`.

    Args:
        source: The request: `path`, `crop`, `memory_budget` and `buffer` apply.

    Returns:
        The sets by part, and a line that describes the folder.

    Raises:
        ValueError: There is no such folder, no image, or an image that cannot be opened.
    """
    root, crop = source.path, source.crop
    if not root.is_dir():
        raise ValueError(f"folder: {root} is not a folder")
    if has_pairs(root):
        raise ValueError(f"folder: {root} holds pairs of noisy and clean pictures; use paired:{root}")
    if crop < 1:
        raise ValueError(f"folder: a crop must be at least 1 pixel, not {crop}")
    parts, skipped = _find_parts(root)
    budget = get_free_memory() // 4 if source.memory_budget is None else source.memory_budget
    keeps = source.buffer is None and _fits(parts.values(), crop, budget)
    access = "kept in memory" if keeps else "streamed from disk"
    note = f"{sum(map(len, parts.values())):,} pictures in {root}, {skipped:,} other files skipped; {access}"
    return _make_sets(root, parts, ImageCache(crop, keeps), source.buffer), note


def _fits(parts: Iterable[PathList], crop: int, budget: int) -> bool:
    """Return whether all images fit the budget when decoded. Headers are read until the answer is known."""
    for names in parts:
        for place in range(len(names)):
            budget -= 3 * count_pixels(names[place], crop)
            if budget < 0:
                return False
    return True


def _find_parts(root: Path) -> tuple[dict[Path, PathList], int]:
    """Find the images under each part's folder, sorted, and count the other files.

    The only key is `root` if the folder has no parts.
    """
    inside = {child.name for child in root.iterdir() if child.is_dir() and not child.name.startswith(".")}
    has_parts = "train" in inside and (len(inside) == 1 or bool(inside & {"val", "test"}))
    parts: dict[Path, PathList] = {}
    skipped = 0
    for top in [root / part for part in ("train", "val", "test") if part in inside] if has_parts else [root]:
        files = list(walk_files(top))
        parts[top] = PathList(top, sorted(filter(is_training_picture, files)))
        skipped += len(files) - len(parts[top])
        if not len(parts[top]):
            suffixes = " ".join(list_training_suffixes())
            raise ValueError(f"folder: no pictures in {top} ({len(files)} other files); looked for {suffixes}")
    return parts, skipped


def _make_sets(
    root: Path, parts: dict[Path, PathList], cache: ImageCache, buffer: int | None
) -> dict[str, ImageFolder]:
    names_of_classes = {
        top: [_get_class(names, place, root) for place in range(len(names))] for top, names in parts.items()
    }
    classes = tuple(sorted({name for part in names_of_classes.values() for name in part}))
    numbers = {name: place for place, name in enumerate(classes)}
    sets = {}
    for top, names in parts.items():
        labels = np.array([numbers[name] for name in names_of_classes[top]], np.int64)
        part = "train" if top == root else top.name
        places = np.arange(len(names))
        sets[part] = ImageFolder(f"folder/{part}", names, places, labels, classes, cache.crop, cache, buffer)
    return sets


def _get_class(names: PathList, place: int, root: Path) -> str:
    """Return the class of an image: its first subfolder, or the root's name for an image in no subfolder."""
    parts = names[place].relative_to(names.root).parts
    return parts[0] if len(parts) > 1 else root.resolve().name


def _place_crop(picture: Pixels, crop: int, bits: int | None) -> tuple[int, int]:
    rows, columns = picture.shape[0] - crop, picture.shape[1] - crop
    if bits is None:
        return rows // 2, columns // 2
    return ((bits >> 32) * (rows + 1)) >> 32, ((bits & 0xFFFFFFFF) * (columns + 1)) >> 32


def _make_jobs(orders: Iterable[Indices], seed: int | None, start: int) -> Iterator[CropJob]:
    """Combine each order with its random bits, which depend only on (seed, position)."""
    for order in orders:
        yield order, None if seed is None else draw_random_bits(seed, start, len(order))
        start += len(order)


def draw_random_bits(seed: int, start: int, count: int) -> RandomBits:
    """Draw 64 random bits for each of the positions start, start + 1, ..., start + count - 1.

    The generator is SplitMix64 (Steele, Lea and Flood, 2014). Its state is a counter, so any position can be
    computed without those before it.

    Args:
        seed: The seed, which is taken modulo 2**64.
        start: The first position.
        count: The number of positions.

    Returns:
        uint64 (count,).

    >>> bool((draw_random_bits(7, 0, 5)[2:] == draw_random_bits(7, 2, 3)).all())
    True
    """
    position = np.arange(start, start + count, dtype=np.uint64)
    # Hash the seed first, or the streams of neighbouring seeds would overlap.
    state = _mix_bits(np.array([seed % 2**64], np.uint64) + GOLDEN)
    return _mix_bits(state + position * GOLDEN)


def _mix_bits(z: RandomBits) -> RandomBits:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _group_jobs(jobs: Iterator[CropJob], images: int) -> Iterator[list[CropJob]]:
    """Group consecutive batches into windows of about `images` images."""
    for first in jobs:
        batches = -(-images // max(1, len(first[0])))
        yield [first, *islice(jobs, batches - 1)]


class _Reader:
    """A data set for worker processes that turns a window of batches into their pixels.

    An error is returned instead of raised, since a worker's error would arrive as a long traceback.
    """

    def __init__(self, pictures: ImageFolder) -> None:
        self.pictures = pictures

    def __getitem__(self, window: list[CropJob]) -> list[Pixels] | ValueError:
        try:
            return self.pictures.read(window)
        except ValueError as error:
            return error


def _decode_in_workers(
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
        collate_fn=_return_unchanged,
        generator=torch.Generator(),  # otherwise the loader would draw from the global generator
    )
    with warnings.catch_warnings():
        # Python 3.12 warns when a process with threads forks. It is safe here: the workers only decode images.
        warnings.simplefilter("ignore", DeprecationWarning)
        read_windows = iter(loader)
    try:
        for window in read_windows:
            if isinstance(window, ValueError):
                raise window
            yield window
    finally:
        del read_windows  # ends the workers now, not when an error's traceback is released


def _return_unchanged(batch: Any) -> Any:
    return batch


def _count_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
