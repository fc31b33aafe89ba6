"""The interface of image sets, `Images`, and `ImageSet`, which holds all images in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Indices = NDArray[np.integer[Any]]


MOST_CHANNELS = 64
"""The largest number of channels of an image."""


class Images(ABC):
    """Labeled images that are read in batches. Training and evaluation need nothing else of a data set."""

    name: str
    labels: Labels
    """(N,), positions in `classes`."""
    classes: tuple[str, ...]
    """The names of the classes."""
    paired: bool = False
    """Whether a batch holds six channels: a clean image, then the noisy image of the same scene."""
    channels: int = 3
    """The channels of an image."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(H, W) of every image in a batch, in pixels. For images of several sizes, the largest sides."""

    @abstractmethod
    def take(self, indices: Indices) -> Images:
        """Select images.

        Args:
            indices: (M,) positions in this set. A position may appear twice.

        Returns:
            The set of only these images, in this order.
        """

    def groups(self, batch: int) -> Iterator[Indices]:
        """Divide the positions into batches whose images have the same size.

        Args:
            batch: The largest number of images in a batch.

        Returns:
            Indices for the method `batch`; each position appears once, in order.
        """
        return (np.arange(at, min(at + batch, len(self))) for at in range(0, len(self), batch))

    @abstractmethod
    def batch(self, indices: Indices, rng: np.random.Generator | None = None) -> Pixels:
        """Read some images.

        Args:
            indices: (B,) positions in this set.
            rng: The generator that places crops, in a set that cuts crops; None cuts the center.

        Returns:
            uint8 (B, 3, H, W), RGB; (B, 6, H, W) if the set is paired.
        """

    def batches(
        self,
        orders: Iterable[Indices],
        seed: int | None,
        workers: int | None = None,
        start: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[Pixels]:
        """Read a stream of batches. A set that cuts no crops needs no more than this default, which ignores the seed.

        The crop of the k-th image depends only on (seed, start + k). The pixels are therefore the same from
        memory and from disk, with any number of workers, and in a run that resumes in the middle.

        Args:
            orders: (B,) indices of each batch. They may be read ahead of the batches that were yielded.
            seed: The seed of the crops, in a set that cuts crops; None cuts the center.
            workers: The number of processes that decode, in a set that decodes. 0 decodes in this process, and
                None chooses.
            start: The number of images before the first of `orders`, in a run that resumes.
            share: (r, n): only the r-th of the orders and every n-th after it are read. The others only count
                as images that came before.

        Returns:
            uint8 (B, 3, H, W) for each order that is read, in order.
        """
        return (self.batch(order) for order in islice(orders, share[0], None, share[1]))

    def count_classes(self) -> dict[str, int]:
        """Count the images of each class, in the order of `classes`, including classes without images."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class ImageSet(Images):
    """A set of images of one size, held in memory.

    >>> two = ImageSet("two", np.zeros((2, 3, 4, 5), np.uint8), np.array([0, 1]), ("cat", "dog"))
    >>> len(two), two.size, two.count_classes()
    (2, (4, 5), {'cat': 1, 'dog': 1})
    """

    name: str
    images: Pixels
    """uint8 (N, C, H, W), contiguous; RGB if C is 3."""
    labels: Labels
    """int64 (N,)."""
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise a ValueError if the images or the labels have the wrong type or shape."""
        shape = self.images.shape
        # Three columns are the colors of images whose axes are in another order.
        is_turned = len(shape) == 4 and shape[3] == 3 != shape[1]
        if self.images.dtype != np.uint8 or len(shape) != 4 or is_turned or not 1 <= shape[1] <= MOST_CHANNELS:
            raise ValueError(
                f"{self.name}: images must be uint8 (N, C, H, W), for color images (N, 3, H, W), of at most "
                f"{MOST_CHANNELS} channels, not {self.images.dtype} {shape}"
            )
        if not self.images.flags.c_contiguous:
            raise ValueError(f"{self.name}: images must be contiguous; use np.ascontiguousarray")
        check_labels(self.name, self.labels, shape[0], len(self.classes))

    @property
    def channels(self) -> int:  # type: ignore[override]
        """The channels of an image."""
        return int(self.images.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every image, in pixels."""
        return self.images.shape[2], self.images.shape[3]

    def take(self, indices: Indices) -> ImageSet:
        """Select images, which are copied; see `Images.take`."""
        return ImageSet(self.name, self.images[indices], self.labels[indices], self.classes)

    def batch(self, indices: Indices, rng: np.random.Generator | None = None) -> Pixels:
        """Copy the images at `indices`; see `Images.batch`."""
        del rng  # nothing is cropped
        pixels: Pixels = self.images[indices]
        return pixels


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set as `load_dataset` returns it."""

    name: str
    train: Images
    val: Images | None
    """The set's own validation part, or None, in which case `split_dataset` makes one."""
    test: Images
    classes: tuple[str, ...]
    note: str
    """A line on what it is and where it came from."""
    whole: Images | None = None
    """All images of a set without a test part, of which `test` is a fixed tenth. None if it has a test part."""


@dataclass(frozen=True)
class DatasetSource:
    """A request for a data set, which a function of the table `DATASETS` answers."""

    path: Path = Path()
    """PATH of `folder:PATH` and `npz:PATH`."""
    root: Path | None = None
    """The folder of downloaded sets; None means $DAELAB_DATA, then the user's data folder."""
    download: bool = True
    """Whether a set may be downloaded if it is not found."""
    train: bool = True
    """Whether the training part is needed. If not, it may be empty, which saves time."""
    channels: int = 3
    """The channels that images of an array should have, which tells what its axes are."""
    crop: int = 32
    """The side of a folder's crops, in pixels."""
    memory_budget: int | None = None
    """The bytes that a folder's decoded images may take; None means a quarter of the free memory."""
    buffer: int | None = None
    """The number of crops that are read at once from a streamed folder.

    None streams a folder only if it does not fit the budget, and then reads one batch at once."""
    progress: Callable[[int, int], None] | None = None
    """A function that is called with (bytes done, total bytes or 0) during a download."""


def check_labels(name: str, labels: Labels, images: int, classes: int) -> None:
    """Check the labels of an image set.

    Args:
        name: The set's name, for the error message.
        labels: The labels.
        images: The number of images.
        classes: The number of classes.

    Raises:
        ValueError: The labels are not int64 (images,) with values in [0, classes).
    """
    if labels.dtype != np.int64 or labels.shape != (images,):
        raise ValueError(f"{name}: labels must be int64 ({images},), not {labels.dtype} {labels.shape}")
    if images and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"{name}: labels go from {labels.min()} to {labels.max()}, but there are {classes} classes")
