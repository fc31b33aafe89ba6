"""Data sets from the arrays of a NumPy .npz file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from daelab._util.memory import get_free_memory
from daelab._util.text import shorten_error
from daelab.datasets.base import Dataset, DatasetSource, ImageSet, Pixels
from daelab.datasets.splits import split_indices

KEYS = "`images` (and `labels`), or `train_images`, `test_images` (and `train_labels`, `test_labels`, `val_...`)"


def load_arrays(source: DatasetSource) -> Dataset:
    """Read `images` and optional `labels`, or `train_images`, `test_images` and so on, named as in MedMNIST.

    Images are uint8, (N, H, W, C), (N, C, H, W) or gray (N, H, W), which becomes C equal channels. C is 3 unless
    the request says otherwise. Labels are any values, (N,) or (N, 1), and each distinct value is a class. Without
    labels all images belong to one class. Without a test part, a fixed tenth of the images becomes it.

    Args:
        source: The request. Its `path` is the file.

    Returns:
        The data set.

    Raises:
        ValueError: The file cannot be read, or an array is missing or has the wrong type or shape.
    """
    path = source.path
    arrays = _read_arrays(path)
    parts = ("train", "val", "test") if "train_images" in arrays else ("",)
    keys = {part: f"{part}_images".lstrip("_") for part in parts}
    images = {
        part: _check_images(path, key, arrays[key], source.channels)
        for part, key in keys.items()
        if key in arrays or part not in ("val", "test")
    }
    return _make_dataset(
        path, images, _collect_labels(path, arrays, {part: len(pixels) for part, pixels in images.items()})
    )


def make_dataset(
    images: ArrayLike, name: str = "arrays", labels: ArrayLike | None = None, channels: int = 3
) -> Dataset:
    """Make a data set of clean images in memory. A fixed tenth of them becomes the test part.

    Args:
        images: uint8, (N, H, W, C), (N, C, H, W) or gray (N, H, W), which becomes C equal channels.
        name: The name of the data set.
        labels: (N,) labels, each of whose values is a class. Default: all images belong to one class.
        channels: C, the channels of an image.

    Raises:
        ValueError: The array has the wrong type or shape.

    >>> make_dataset(np.zeros((20, 8, 8, 3), np.uint8)).train.size
    (8, 8)
    """
    pixels = _check_images(Path(name), "images", np.asarray(images), channels)
    values = np.full(len(pixels), "image") if labels is None else np.asarray(labels)
    if values.shape != (len(pixels),):
        raise ValueError(f"{name}: labels must be ({len(pixels)},), one for each image, not {values.shape}")
    return replace(_make_dataset(Path(name), {"": pixels}, {"": values}, name), note="images from memory", name=name)


def _make_dataset(path: Path, images: dict[str, Pixels], labels: dict[str, NDArray[Any]], name: str = "npz") -> Dataset:
    values, codes = np.unique(np.concatenate(list(labels.values())), return_inverse=True)
    classes = tuple(str(value) for value in values.tolist())
    ends = np.cumsum([len(part) for part in labels.values()])[:-1]
    coded = dict(zip(labels, np.split(codes.reshape(-1).astype(np.int64), ends), strict=True))
    sets = {
        part or "train": ImageSet(f"{name}/{part or 'train'}", pixels, coded[part], classes)
        for part, pixels in images.items()
    }
    train, test, whole = sets["train"], sets.get("test"), None
    if test is None:
        whole = train
        training_indices, test_indices = split_indices(len(whole), str(path))
        train, test = whole.take(training_indices), whole.take(test_indices)
    return Dataset("npz", train, sets.get("val"), test, classes, f"arrays from {path}", whole)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read every array of the file that has one of the expected names."""
    try:
        # The file is opened here, since NumPy leaves a damaged file open.
        with path.open("rb") as file:
            if file.read(2) != b"PK":  # NumPy would take it for a pickle and advise to load it unsafely
                raise ValueError("it is not an .npz file")
            file.seek(0)
            return _select_arrays(np.load(file, allow_pickle=False))
    except FileNotFoundError as error:
        raise ValueError(f"npz: the file {path} does not exist") from error
    except Exception as error:  # NumPy and zipfile raise errors of nearly every class
        reason = shorten_error(error)
        raise ValueError(f"{path} cannot be read: {reason}") from error


def _select_arrays(content: Any) -> dict[str, NDArray[Any]]:
    if not isinstance(content, np.lib.npyio.NpzFile):
        raise ValueError("it is a single array; save it with np.savez(path, images=...)")
    keys = [key for key in content.files if key.split("_")[-1] in ("images", "labels")]
    assert content.zip is not None
    # The sizes are checked before unpacking, since a small file may unpack to any size.
    sizes = {info.filename.removesuffix(".npy"): info.file_size for info in content.zip.infolist()}
    needed, free = sum(sizes[key] for key in keys), get_free_memory()
    if needed > free:
        raise ValueError(f"its arrays are {needed:,} bytes unpacked; {free:,} are free")
    arrays = {key: content[key] for key in keys}
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"`{key}` is not an array")
    if "images" not in arrays and "train_images" not in arrays:
        raise ValueError(f"it has the arrays {', '.join(content.files) or 'none'}; expected {KEYS}")
    return arrays


def _check_images(path: Path, key: str, array: NDArray[Any], channels: int) -> Pixels:
    """Convert any accepted layout to contiguous uint8 (N, C, H, W)."""
    if array.dtype != np.uint8:
        raise ValueError(f"{path}: `{key}` must be uint8 from 0 to 255, not {array.dtype}")
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim == 4 and array.shape[3] in (1, channels):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, channels) or 0 in array.shape:
        layouts = dict.fromkeys([f"(N, H, W, {channels})", f"(N, {channels}, H, W)", "(N, H, W)"])
        raise ValueError(f"{path}: `{key}` must be {', '.join(layouts)}, not {array.shape}")
    return np.ascontiguousarray(np.broadcast_to(array, (len(array), channels, *array.shape[2:])))


def _collect_labels(path: Path, arrays: Mapping[str, NDArray[Any]], counts: dict[str, int]) -> dict[str, NDArray[Any]]:
    """Return the labels of each part as they are in the file. Without any, all images belong to one class."""
    keys = {part: f"{part}_labels".lstrip("_") for part in counts}
    present = [key for key in keys.values() if key in arrays]
    if not present:
        return {part: np.full(count, "image") for part, count in counts.items()}
    labels = {}
    for part, key in keys.items():
        if key not in arrays:
            raise ValueError(f"{path} has `{present[0]}` but not `{key}`; give labels for every part or for none")
        if arrays[key].size != counts[part] or arrays[key].ndim > 2:
            raise ValueError(f"{path}: `{key}` must be ({counts[part]},), one for each image, not {arrays[key].shape}")
        labels[part] = arrays[key].reshape(-1)
    return labels
