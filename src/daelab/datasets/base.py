"""What every image set is: an `Images` with labels; one held whole is an `ImageSet`."""

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


class Images(ABC):
    """Labelled pictures that are read by the batch; all that training and evaluation ask of a set."""

    name: str
    labels: Labels
    """(N,), each the place of a name in `classes`."""
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(H, W) of every image in a batch, in pixels; of whole pictures of many sizes, the largest sides."""

    @abstractmethod
    def take(self, indices: Indices) -> Images:
        """The same set with only these images, in this order; an index may come twice."""

    def groups(self, batch: int) -> Iterator[Indices]:
        """Every place in this set once, in order, at most `batch` at a time and of one size: what `batch` takes."""
        return (np.arange(at, min(at + batch, len(self))) for at in range(0, len(self), batch))

    @abstractmethod
    def batch(self, indices: Indices, rng: np.random.Generator | None = None) -> Pixels:
        """Some images, as uint8 (B, 3, H, W).

        Args:
            indices: (B,) places in this set.
            rng: where a set cuts crops, draws them; None cuts the centre. Others ignore it.
        """

    @abstractmethod
    def batches(
        self,
        orders: Iterable[Indices],
        seed: int | None,
        workers: int | None = None,
        start: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[Pixels]:
        """One array (B, 3, H, W) per order, in order.

        The k-th image of the stream is cut by (seed, start + k) alone: the same pixels come from
        memory or from disk, with any number of workers, and from a run that resumes in the middle.

        Args:
            orders: (B,) indices of each batch; may be read ahead of what was yielded.
            seed: of the crops, where a set cuts crops; None cuts the centre.
            workers: processes that decode, where a set decodes; 0 decodes here, None chooses.
            start: images that came before the first of `orders`, in a run that resumes.
            share: (r, n): of the orders only the r-th and every n-th after it are read; the others count as passed.
        """

    def class_counts(self) -> dict[str, int]:
        """Images of each class, zero included, in the order of `classes`."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class ImageSet(Images):
    """Images of one size, held whole.

    >>> two = ImageSet("two", np.zeros((2, 3, 4, 5), np.uint8), np.array([0, 1]), ("cat", "dog"))
    >>> len(two), two.size, two.class_counts()
    (2, (4, 5), {'cat': 1, 'dog': 1})
    """

    name: str
    images: Pixels
    """uint8 (N, 3, H, W), RGB, contiguous."""
    labels: Labels
    """int64 (N,)."""
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = self.images.shape
        if self.images.dtype != np.uint8 or len(shape) != 4 or shape[1] != 3:
            raise ValueError(f"{self.name}: images must be uint8 (N, 3, H, W), not {self.images.dtype} {shape}")
        if not self.images.flags.c_contiguous:
            raise ValueError(f"{self.name}: images must be contiguous; use np.ascontiguousarray")
        check_labels(self.name, self.labels, shape[0], len(self.classes))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W), in pixels."""
        return self.images.shape[2], self.images.shape[3]

    def take(self, indices: Indices) -> ImageSet:
        """The same set with only these images (copied), in this order."""
        return ImageSet(self.name, self.images[indices], self.labels[indices], self.classes)

    def batch(self, indices: Indices, rng: np.random.Generator | None = None) -> Pixels:
        """The images at `indices`, copied, as uint8 (B, 3, H, W)."""
        del rng  # nothing to crop
        pixels: Pixels = self.images[indices]
        return pixels

    def batches(
        self,
        orders: Iterable[Indices],
        seed: int | None,
        workers: int | None = None,
        start: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[Pixels]:
        """One array (B, 3, H, W) per order; nothing is drawn."""
        del seed, workers, start
        return (self.batch(order) for order in islice(orders, share[0], None, share[1]))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set as `load` gives it."""

    name: str
    train: Images
    val: Images | None
    """Only where the set brings its own validation part; `split` makes one otherwise."""
    test: Images
    classes: tuple[str, ...]
    note: str
    """One line: what it is and where it came from."""


@dataclass(frozen=True)
class DatasetSource:
    """What a function of the table `DATASETS` is asked for."""

    path: Path = Path()
    """PATH of `folder:PATH` and `npz:PATH`."""
    root: Path | None = None
    """Where downloaded sets are kept; None looks in $DAELAB_DATA, then the user's data folder."""
    download: bool = True
    train: bool = True
    """False: the training part may come empty, if that saves time."""
    crop: int = 32
    """Side of a folder's crops, in pixels."""
    memory_budget: int | None = None
    """Bytes a folder's decoded pictures may take; None is a quarter of the free memory."""
    buffer: int | None = None
    """Stream a folder, and read so many crops at once; None: only if it does not fit, a batch at once."""
    progress: Callable[[int, int], None] | None = None
    """Called with (bytes done, bytes in all or 0) during a download."""


def check_labels(name: str, labels: Labels, images: int, classes: int) -> None:
    """Raise ValueError unless `labels` is int64 (images,) with values in [0, classes)."""
    if labels.dtype != np.int64 or labels.shape != (images,):
        raise ValueError(f"{name}: labels must be int64 ({images},), not {labels.dtype} {labels.shape}")
    if images and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"{name}: labels go from {labels.min()} to {labels.max()}, but there are {classes} classes")
