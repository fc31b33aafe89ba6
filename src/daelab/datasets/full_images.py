"""Images of any size, uncropped: test sets of photographs such as CBSD68."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from daelab.datasets.base import Dataset, DatasetSource, Images, Indices, Labels, Pixels, check_labels
from daelab.datasets.cifar10 import list_data_folders
from daelab.datasets.decoding import decode_rgb, read_image_size
from daelab.datasets.image_folder import split_image_folder
from daelab.image_io.formats import find_training_format


@dataclass(frozen=True, eq=False)
class FullImageSet(Images):
    """A set of uncropped images, which are decoded each time they are read."""

    name: str
    paths: tuple[Path, ...]
    """The file of each image."""
    labels: Labels
    """int64 (N,)."""
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise a ValueError if the labels have the wrong type or shape."""
        check_labels(self.name, self.labels, len(self.paths), len(self.classes))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W): the height of the highest image and the width of the widest, in pixels."""
        return self._largest

    @cached_property
    def _largest(self) -> tuple[int, int]:
        sizes = [read_image_size(path) for path in self.paths] or [(0, 0)]
        return max(height for height, _ in sizes), max(width for _, width in sizes)

    def take(self, indices: Indices) -> FullImageSet:
        """Select images; see `Images.take`."""
        paths = tuple(self.paths[i] for i in indices.tolist())
        return replace(self, paths=paths, labels=self.labels[indices])

    def read(self, i: int) -> Pixels:
        """Decode an image.

        Args:
            i: The position of the image.

        Returns:
            uint8 (H, W, C).
        """
        return decode_rgb(self.paths[i])

    def groups(self, batch: int) -> Iterator[Indices]:
        """Return one image at a time, since the next may have another size; see `Images.groups`."""
        del batch
        return (np.array([i]) for i in range(len(self)))

    def batch(self, indices: Indices, rng: np.random.Generator | None = None) -> Pixels:
        """Decode images of one size.

        Args:
            indices: (B,) positions in this set.
            rng: Unused, since nothing is cropped.

        Returns:
            uint8 (B, 3, H, W), RGB.

        Raises:
            ValueError: An image is broken, or differs in size from the others. The message names the file.
        """
        del rng  # nothing is cropped
        pictures = [self.read(i) for i in indices.tolist()]
        other = next((k for k, picture in enumerate(pictures) if picture.shape != pictures[0].shape), None)
        if other is not None:
            raise ValueError(f"{self.name}: {self.paths[indices[other]]} has another size; read it by itself")
        return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))


def load_cbsd68(source: DatasetSource) -> Dataset:
    """Load CBSD68, the 68 color photographs on which denoisers are compared.

    It was selected by Roth and Black (2009) from the photographs of Martin et al. (2001), and is a test set
    without a training part. It is looked for in a folder `cbsd68` in `source.root` (which may be that folder
    itself), then in $DAELAB_DATA, then in the user's data folder. It is never downloaded.

    Args:
        source: The request. Only `root` applies.

    Returns:
        The data set.

    Raises:
        ValueError: It was not found, or does not have 68 images.
    """
    folder = _find_folder(source.root, "cbsd68", 68)
    files = sorted(path for path in folder.iterdir() if find_training_format(path.suffix))
    files = [path for path in files if path.is_file() and not path.name.startswith(".")]
    _check_count("cbsd68", folder, len(files), 68)
    test = FullImageSet("cbsd68/test", tuple(files), np.zeros(68, np.int64), ("photograph",))
    note = f"CBSD68, whole pictures, to test on only; from {folder}"
    return Dataset("cbsd68", test.take(np.arange(0)), None, test, test.classes, note)


def load_cbsd432(source: DatasetSource) -> Dataset:
    """Load the 432 photographs of the Berkeley Segmentation Data Set 500 that are not in CBSD68, as crops.

    The test part is CBSD68. The literature has trained and tested on these two sets since DnCNN (Zhang et al.,
    2017). The folder is `cbsd432`, or `train` beside `cbsd68`, in the places where `cbsd68` is looked for.

    Args:
        source: The request. `root`, `crop`, `memory_budget` and `buffer` apply.

    Returns:
        The data set.

    Raises:
        ValueError: One of the sets was not found, or does not have 432 and 68 images.
    """
    test_set = load_cbsd68(source)
    folder = _find_folder(source.root, "cbsd432", 432, "train")
    train = split_image_folder(replace(source, path=folder))[0]["train"]
    _check_count("cbsd432", folder, len(train), 432)
    note = f"432 photographs of BSDS500 as crops, from {folder}; tested on CBSD68"
    train = replace(train, name="cbsd432/train", classes=test_set.classes, labels=np.zeros(432, np.int64))
    return Dataset("cbsd432", train, None, test_set.test, test_set.classes, note)


def _find_folder(root: Path | None, name: str, pictures: int, *also: str) -> Path:
    places = list_data_folders(root)
    for place in places:
        for folder in (*(place / folder_name for folder_name in (name, name.upper(), *also)), place):
            if folder.name.lower() in (name, *also) and folder.is_dir():
                return folder
    where = ", ".join(str(place) for place in places)
    raise ValueError(f"{name} is not in {where}; put its {pictures} pictures into {places[0] / name}")


def _check_count(name: str, folder: Path, count: int, pictures: int) -> None:
    if count != pictures:
        raise ValueError(f"{name}: {folder} holds {count} pictures; the set has {pictures}")
