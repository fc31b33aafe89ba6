"""Pictures of any size, whole: test sets of photographs, such as CBSD68."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from daelab.datasets.base import Dataset, DatasetSource, Images, Indices, Labels, Pixels, check_labels
from daelab.datasets.cifar10 import list_cifar10_folders
from daelab.datasets.decoding import TRAINING_SUFFIXES, decode_rgb, read_image_size
from daelab.datasets.image_folder import split_image_folder


@dataclass(frozen=True, eq=False)
class FullImageSet(Images):
    """Pictures that are read one at a time, uncropped; decoded anew each time."""

    name: str
    paths: tuple[Path, ...]
    labels: Labels
    """int64 (N,)."""
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        check_labels(self.name, self.labels, len(self.paths), len(self.classes))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W): no picture is higher, none is wider."""
        return self._largest

    @cached_property
    def _largest(self) -> tuple[int, int]:
        found = [read_image_size(path) for path in self.paths] or [(0, 0)]
        return max(height for height, _ in found), max(width for _, width in found)

    def take(self, indices: Indices) -> FullImageSet:
        """The same set with only these pictures, in this order."""
        paths = tuple(self.paths[i] for i in indices.tolist())
        return FullImageSet(self.name, paths, self.labels[indices], self.classes)

    def groups(self, batch: int) -> Iterator[Indices]:
        """One picture at a time, since the next may have another size."""
        del batch
        return (np.array([i]) for i in range(len(self)))

    def batch(self, indices: Indices, rng: np.random.Generator | None = None) -> Pixels:
        """Pictures of one size, uint8 (B, 3, H, W).

        Raises:
            ValueError: a picture is broken, or they differ in size; names the file.
        """
        del rng  # nothing to crop
        pictures = [decode_rgb(self.paths[i]) for i in indices.tolist()]
        other = next((k for k, picture in enumerate(pictures) if picture.shape != pictures[0].shape), None)
        if other is not None:
            raise ValueError(f"{self.name}: {self.paths[indices[other]]} has another size; read it by itself")
        return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))

    def batches(
        self,
        orders: Iterable[Indices],
        seed: int | None,
        workers: int | None = None,
        start: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[Pixels]:
        """One array (B, 3, H, W) per order, each of pictures of one size; nothing is drawn."""
        del seed, workers, start
        return (self.batch(order) for order in islice(orders, share[0], None, share[1]))


def load_cbsd68(source: DatasetSource) -> Dataset:
    """CBSD68, the 68 colour photographs that denoisers are compared on (Martin et al., 2001; Roth and Black, 2009).

    A test set: it has no training part. Looks for a folder `cbsd68` in `source.root` (which may be
    that folder itself), then in $DAELAB_DATA, then in the user's data folder; it is never downloaded.

    Raises:
        ValueError: it is nowhere, or its pictures are not 68.
    """
    folder = _find(source.root, "cbsd68", 68)
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in TRAINING_SUFFIXES.split())
    files = [path for path in files if path.is_file() and not path.name.startswith(".")]
    _check("cbsd68", folder, len(files), 68)
    test = FullImageSet("cbsd68/test", tuple(files), np.zeros(68, np.int64), ("photograph",))
    note = f"CBSD68, whole pictures, to test on only; from {folder}"
    return Dataset("cbsd68", test.take(np.arange(0)), None, test, test.classes, note)


def load_cbsd432(source: DatasetSource) -> Dataset:
    """The 432 photographs of the Berkeley Segmentation Data Set 500 that are not in CBSD68, as crops; tested on CBSD68.

    Both as the literature does since DnCNN (Zhang et al., 2017). Looks for a folder `cbsd432`, or `train` beside
    `cbsd68`, where `cbsd68` is looked for.

    Raises:
        ValueError: one of them is nowhere, or its pictures are not 432 and 68.
    """
    tested = load_cbsd68(source)
    folder = _find(source.root, "cbsd432", 432, "train")
    train = split_image_folder(replace(source, path=folder))[0]["train"]
    _check("cbsd432", folder, len(train), 432)
    note = f"432 photographs of BSDS500 as crops, from {folder}; tested on CBSD68"
    train = replace(train, name="cbsd432/train", classes=tested.classes, labels=np.zeros(432, np.int64))
    return Dataset("cbsd432", train, None, tested.test, tested.classes, note)


def _find(root: Path | None, name: str, pictures: int, *also: str) -> Path:
    looked = list_cifar10_folders(root)
    for place in looked:
        for folder in (*(place / one for one in (name, name.upper(), *also)), place):
            if folder.name.lower() in (name, *also) and folder.is_dir():
                return folder
    where = ", ".join(str(place) for place in looked)
    raise ValueError(f"{name} is not in {where}; put its {pictures} pictures into {looked[0] / name}")


def _check(name: str, folder: Path, found: int, pictures: int) -> None:
    if found != pictures:
        raise ValueError(f"{name}: {folder} holds {found} pictures; the set has {pictures}")
