"""Arrays from a NumPy .npz file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daelab._util.hardware import get_free_memory
from daelab.datasets.base import Dataset, DatasetSource, ImageSet, Pixels
from daelab.datasets.splits import split_indices

KEYS = "`images` (and `labels`), or `train_images`, `test_images` (and `train_labels`, `test_labels`, `val_...`)"


def load_arrays(source: DatasetSource) -> Dataset:
    """Read `images` and optional `labels`, or `train_images`, `test_images` and so on, as MedMNIST has them.

    Images are uint8, (N, H, W, 3), (N, 3, H, W) or grey (N, H, W), which becomes three equal
    channels. Labels are any values, (N,) or (N, 1); each distinct one is a class. Without labels
    all images are of one class. Without a test part a fixed tenth of the images is it.

    Raises:
        ValueError: the file cannot be read, an array is missing or of another kind or shape.
    """
    path = source.path
    arrays = _arrays(path)
    parts = ("train", "val", "test") if "train_images" in arrays else ("",)
    keys = {part: f"{part}_images".lstrip("_") for part in parts}
    images = {
        part: _images(path, key, arrays[key])
        for part, key in keys.items()
        if key in arrays or part not in ("val", "test")
    }
    return _dataset(path, images, _labels(path, arrays, {part: len(pixels) for part, pixels in images.items()}))


def _dataset(path: Path, images: dict[str, Pixels], labels: dict[str, NDArray[Any]]) -> Dataset:
    values, codes = np.unique(np.concatenate(list(labels.values())), return_inverse=True)
    classes = tuple(str(value) for value in values.tolist())
    ends = np.cumsum([len(part) for part in labels.values()])[:-1]
    coded = dict(zip(labels, np.split(codes.reshape(-1).astype(np.int64), ends), strict=True))
    sets = {
        part or "train": ImageSet(f"npz/{part or 'train'}", pixels, coded[part], classes)
        for part, pixels in images.items()
    }
    train, test = sets["train"], sets.get("test")
    if test is None:
        kept, held = split_indices(len(train), str(path))
        train, test = train.take(kept), train.take(held)
    return Dataset("npz", train, sets.get("val"), test, classes, note=f"arrays from {path}")


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array the file has under one of our names."""
    try:
        # Opened here, since NumPy leaves a damaged file open.
        with path.open("rb") as file:
            return _named(np.load(file, allow_pickle=False))
    except FileNotFoundError as error:
        raise ValueError(f"npz: there is no file {path}") from error
    except Exception as error:  # NumPy and zipfile raise nearly every kind; none may reach the user raw
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read: {reason}") from error


def _named(content: Any) -> dict[str, NDArray[Any]]:
    if not isinstance(content, np.lib.npyio.NpzFile):
        raise ValueError("it is a single array; save it with np.savez(path, images=...)")
    wanted = [key for key in content.files if key.split("_")[-1] in ("images", "labels")]
    assert content.zip is not None
    sizes = {info.filename.removesuffix(".npy"): info.file_size for info in content.zip.infolist()}
    needed, free = sum(sizes[key] for key in wanted), get_free_memory()
    if needed > free:
        raise ValueError(f"its arrays are {needed:,} bytes unpacked; {free:,} are free")
    found = {key: content[key] for key in wanted}
    for key, array in found.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"`{key}` is no array")
    if "images" not in found and "train_images" not in found:
        raise ValueError(f"it has the arrays {', '.join(content.files) or 'none'}; expected {KEYS}")
    return found


def _images(path: Path, key: str, array: NDArray[Any]) -> Pixels:
    """Any accepted layout -> contiguous uint8 (N, 3, H, W)."""
    if array.dtype != np.uint8:
        raise ValueError(f"{path}: `{key}` must be uint8 from 0 to 255, not {array.dtype}")
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim == 4 and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or 0 in array.shape:
        raise ValueError(f"{path}: `{key}` must be (N, H, W, 3), (N, 3, H, W) or (N, H, W), not {array.shape}")
    return np.ascontiguousarray(np.broadcast_to(array, (len(array), 3, *array.shape[2:])))


def _labels(path: Path, arrays: Mapping[str, NDArray[Any]], counts: dict[str, int]) -> dict[str, NDArray[Any]]:
    """Each part's labels as the file has them; a file without any has one class."""
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
