"""The sample images of a run: what its network makes of some validation images, in a file that may be damaged."""

from __future__ import annotations

import re
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from daelab._util.files import check_ordinary_file

_LARGEST_SAMPLES = 64 << 20
"""Largest size of the sample images of a run, in bytes when read."""


def read_samples(path: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """Return the sample images of a run: clean, noisy, `epoch_N` for some epochs, and denoised, (N, C, H, W) each.

    Args:
        path: The file, which may be a stranger's.

    Returns:
        The images by name, or none if they are missing or damaged.
    """
    samples = {}
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError):
        check_ordinary_file(path)
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST_SAMPLES:
                return {}
        with np.load(path, allow_pickle=False) as parts:
            for name in parts.files:
                part = parts[name]
                if re.fullmatch(r"clean|noisy|denoised|epoch_\d+", name) and part.dtype == np.uint8 and part.ndim == 4:
                    samples[name] = part
    return samples
