"""Pictures of any size, whole: test sets of photographs, such as CBSD68."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from daelab.data.cifar10 import places
from daelab.data.pictures import SUFFIXES, decode, sides
from daelab.data.sets import Dataset, Images, Indices, Labels, Pixels, Source, check_labels

CBSD68 = 68
"""Pictures of the set."""


@dataclass(frozen=True, eq=False)
class PictureSet(Images):
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
        found = [sides(path) for path in self.paths] or [(0, 0)]
        return max(height for height, _ in found), max(width for _, width in found)

    def take(self, indices: Indices) -> PictureSet:
        """The same set with only these pictures, in this order."""
        paths = tuple(self.paths[i] for i in indices.tolist())
        return PictureSet(self.name, paths, self.labels[indices], self.classes)

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
        pictures = [decode(self.paths[i]) for i in indices.tolist()]
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


def cbsd68(source: Source) -> Dataset:
    """CBSD68, the 68 colour photographs that denoisers are compared on (Martin et al., 2001; Roth and Black, 2009).

    A test set: it has no training part. Looks for a folder `cbsd68` in `source.root` (which may be
    that folder itself), then in $DAELAB_DATA, then in the user's data folder; it is never downloaded.

    Raises:
        ValueError: it is nowhere, or its pictures are not 68.
    """
    folder = _find(source.root)
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES.split())
    files = [path for path in files if path.is_file() and not path.name.startswith(".")]
    if len(files) != CBSD68:
        raise ValueError(f"cbsd68: {folder} holds {len(files)} pictures; the set has {CBSD68}")
    test = PictureSet("cbsd68/test", tuple(files), np.zeros(CBSD68, np.int64), ("photograph",))
    return Dataset(
        "cbsd68",
        train=test.take(np.arange(0)),
        val=None,
        test=test,
        classes=test.classes,
        note=f"CBSD68, whole pictures, to test on only; from {folder}",
    )


def _find(root: Path | None) -> Path:
    looked = places(root)
    for place in looked:
        for folder in (place / "cbsd68", place / "CBSD68", place):
            if folder.name.lower() == "cbsd68" and folder.is_dir():
                return folder
    where = ", ".join(str(place) for place in looked)
    raise ValueError(f"cbsd68 is not in {where}; put its 68 pictures into {looked[0] / 'cbsd68'}")
