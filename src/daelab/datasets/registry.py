"""The data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from daelab.datasets.arrays import load_arrays
from daelab.datasets.base import Dataset, DatasetSource
from daelab.datasets.bundled_photos import load_bundled_photos
from daelab.datasets.cifar10 import load_cifar10
from daelab.datasets.full_images import load_cbsd68, load_cbsd432
from daelab.datasets.image_folder import load_image_folder
from daelab.errors import unknown_name

DATASETS: dict[str, Callable[[DatasetSource], Dataset]] = {
    "photos": load_bundled_photos,
    "cifar10": load_cifar10,
    "cbsd68": load_cbsd68,
    "cbsd432": load_cbsd432,
    "folder:PATH": load_image_folder,
    "npz:PATH": load_arrays,
}
"""What `load` knows, as it is written; PATH stands for a path."""
_BERKELEY = (
    "photographs of the Berkeley Segmentation Data Set 500 (Arbelaez et al., 2011), which Berkeley lets be used for "
    "non-commercial research and educational purposes"
)
TERMS = {"cbsd432": _BERKELEY, "cbsd68": _BERKELEY}
"""Under which terms a set's pictures may be used, if there are any; a model that ships says it of its training's."""
CROPPED = ("folder:", "cbsd432")
"""How the names of those begin whose training pictures are read as crops, and may be streamed."""


def match_dataset_name(name: str) -> str:
    """The name of a data set as it is given, if there is such a one.

    Raises:
        ValueError: there is none; lists the names and the nearest match.
    """
    kind, colon, path = name.partition(":")
    if (f"{kind}:PATH" if colon else kind) not in DATASETS or bool(colon) != bool(path):
        raise unknown_name("data set", name, DATASETS)
    return name


def load_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    download: bool = True,
    train: bool = True,
    crop: int = 32,
    memory_budget: int | None = None,
    buffer: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Load a data set.

    Args:
        name: one of `DATASETS`: `photos`, `cifar10`, `cbsd68`, `cbsd432`, `folder:PATH`, `npz:PATH`.
        root: the folder where sets are kept; None looks in $DAELAB_DATA, then in the
            user's data folder.
        download: whether a set that is nowhere may be downloaded.
        train: False lets the training part come empty where reading it takes time; for those who
            only test.
        crop: side of the crops that a folder's pictures are read as, in pixels.
        memory_budget: bytes that a folder's decoded pictures may take; None is a quarter of the
            free memory. A larger folder is streamed from disk.
        buffer: stream a folder whatever its size, and read so many crops at once.
        progress: called with (bytes done, bytes in all or 0) during a download.

    Raises:
        ValueError: there is no such data set, or it is missing, damaged or unfit; one line that
            says what is wrong, where, and what to do.

    >>> load_dataset("cifar")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: unknown data set 'cifar'; did you mean 'cifar10'? Valid: cbsd432, cbsd68, ...
    """
    kind, colon, path = match_dataset_name(name).partition(":")
    return DATASETS[f"{kind}:PATH" if colon else kind](
        DatasetSource(
            path=Path(path).expanduser(),
            root=None if root is None else Path(root).expanduser(),
            download=download,
            train=train,
            crop=crop,
            memory_budget=memory_budget,
            buffer=buffer,
            progress=progress,
        )
    )
