"""CIFAR-10: 50,000 training and 10,000 test images of 32x32 in 10 classes (Krizhevsky, 2009)."""

from __future__ import annotations

import io
import os
import pickle
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from daelab.datasets.base import Dataset, DatasetSource, ImageSet
from daelab.datasets.download import check_md5, download_file, unpack_archive

FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
"""The published MD5 of each file in the folder."""
TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_SIDE = 32


def load_cifar10(source: DatasetSource) -> Dataset:
    """Find CIFAR-10 or download it, check every file and read it.

    The folder `cifar-10-batches-py` (or the published archive) is looked for in `source.root`
    (which may be that folder itself), then in $DAELAB_DATA, then in the user's data folder.

    Args:
        source: The request: `root`, `download`, `train` and `progress` apply.

    Returns:
        The data set.

    Raises:
        ValueError: It was not found and cannot be downloaded, or a file is missing or altered.
    """
    folder = find_cifar10(source.root) or _unpack_or_download(source)
    meta = _read_checked(folder, "batches.meta")
    classes = tuple(name.decode("ascii") for name in meta[b"label_names"])
    return Dataset(
        name="cifar10",
        train=_read_image_set("cifar10/train", folder, TRAIN if source.train else (), classes),
        val=None,
        test=_read_image_set("cifar10/test", folder, ("test_batch",), classes),
        classes=classes,
        note=f"CIFAR-10 (Krizhevsky, 2009), each file's published MD5 checked; from {folder}",
    )


def list_data_folders(root: Path | None) -> list[Path]:
    """List the folders in which data sets are looked for, in order. A download goes to the first.

    Args:
        root: The folder that the user named, if any.

    Returns:
        `root`, $DAELAB_DATA and the user's data folder, as far as they are set.
    """
    from_environment = os.environ.get("DAELAB_DATA")
    folders = [root] if root is not None else []
    folders += [Path(from_environment).expanduser()] if from_environment else []
    return [*folders, platformdirs.user_data_path("daelab", appauthor=False)]


def find_cifar10(root: Path | None) -> Path | None:
    """Find the folder with the files of CIFAR-10.

    Args:
        root: The folder to look in first, if any.

    Returns:
        The folder, or None if there is none.
    """
    for place in list_data_folders(root):
        if (place / FOLDER).is_dir():
            return place / FOLDER
        if (place.name == FOLDER and place.is_dir()) or (place / "test_batch").is_file():
            return place
    return None


def _unpack_or_download(source: DatasetSource) -> Path:
    """Unpack the archive, downloading it first if necessary. The folder appears complete or not at all."""
    folders = list_data_folders(source.root)
    archive = next((place / ARCHIVE for place in folders if (place / ARCHIVE).is_file()), None)
    target = archive.parent if archive is not None else folders[0]
    if archive is None and not source.download:
        raise ValueError(_describe_missing(folders, "and downloading is off"))
    try:
        target.mkdir(parents=True, exist_ok=True)
        # In the target itself, since a folder can be renamed only within one file system.
        with tempfile.TemporaryDirectory(prefix=".cifar10-", dir=target) as part:
            if archive is None:
                archive = Path(part) / ARCHIVE
                download_file(URL, archive, source.progress)
            with archive.open("rb") as file:
                check_md5(file, archive.name, ARCHIVE_MD5, URL)
            unpack_archive(archive, FOLDER, MD5, Path(part) / FOLDER)
            if not (target / FOLDER).exists():  # another process may have been faster
                (Path(part) / FOLDER).rename(target / FOLDER)
    except OSError as error:
        raise ValueError(_describe_missing(folders, f"and could not be downloaded ({error})")) from error
    return target / FOLDER


def _describe_missing(folders: list[Path], why: str) -> str:
    where = ", ".join(str(place) for place in folders)
    return f"cifar10 is not in {where} {why}; put {ARCHIVE} from {URL}, or its folder {FOLDER}, into {folders[0]}"


def _read_image_set(name: str, folder: Path, files: Sequence[str], classes: tuple[str, ...]) -> ImageSet:
    """Read the images of several files. A row of a file is 1,024 red, then green, then blue values."""
    # MD5 and copying run outside the interpreter lock, so threads halve the time on two cores.
    with ThreadPoolExecutor() as pool:
        batches = list(pool.map(lambda file: _read_checked(folder, file), files))
    empty = {b"data": np.empty((0, 3 * _SIDE * _SIDE), np.uint8), b"labels": []}
    images = np.concatenate([batch[b"data"] for batch in [empty, *batches]])
    labels = np.concatenate([np.asarray(batch[b"labels"], np.int64) for batch in [empty, *batches]])
    return ImageSet(name, images.reshape(-1, 3, _SIDE, _SIDE), labels, classes)


def _read_checked(folder: Path, name: str) -> dict[bytes, Any]:
    """Read a file once, check its bytes, and unpickle those same bytes."""
    path = folder / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{path} cannot be read ({error.strerror}); expected the file with MD5 {MD5[name]}; get it from {URL}"
        ) from error
    check_md5(io.BytesIO(data), str(path), MD5[name], URL)
    return unpickle(data, str(path))


def unpickle(data: bytes, name: str) -> dict[bytes, Any]:
    """Unpickle a dictionary of lists, bytes and NumPy arrays. Nothing else can be built or called.

    Args:
        data: The pickle.
        name: The file's name, for the error message.

    Returns:
        The dictionary.

    Raises:
        ValueError: The pickle is damaged, holds something else, or asks for anything that is not allowed.

    >>> unpickle(pickle.dumps({b"labels": [1, 2]}), "batch")
    {b'labels': [1, 2]}
    """
    try:
        content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f"{name} is not a CIFAR-10 file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{name} is not a CIFAR-10 file: it holds a {type(content).__name__}, not a dictionary")
    return content


def _make_dtype(code: Any, align: object = False, copy: object = False) -> np.dtype[Any]:
    # The files give 0 and 1 for these flags, which NumPy 2.4 deprecates.
    kind: np.dtype[Any] = np.dtype(code, align=bool(align), copy=bool(copy))
    return kind


_RECONSTRUCT: Callable[..., Any] = np.empty(0).__reduce__()[0]  # type: ignore[assignment]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _make_dtype,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"loading {module}.{name} is not allowed") from None
