"""Pictures under noise, and what noise is in them."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from daelab import imagefiles, inspector
from daelab.cleaning import Cleaned, mapped
from daelab.noise import IndexedDraws, Noise


def make_noisy(image: npt.NDArray[Any], noise: Noise, seed: int = 0, index: int = 0) -> npt.NDArray[Any]:
    """A picture under the noise that evaluation gives image `index` of a set.

    Args:
        image: (H, W), (H, W, 3) or (N, H, W, 3); uint8, uint16, or floats in [0, 1].

    Returns:
        the same shape and type.
    """
    white = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    pixels = image if image.ndim == 4 else image[None, ..., None] if image.ndim == 2 else image[None]
    x = torch.from_numpy(np.array(pixels, np.float32)).div_(white).permute(0, 3, 1, 2).contiguous()
    # a file holds nothing beyond black and white, which an unclipped noise passes
    noisy = noise.apply(x, IndexedDraws(list(range(index, index + len(x))), seed)).clamp(0, 1)
    noisy = noisy.mul(white).permute(0, 2, 3, 1)
    return (noisy.round() if white > 1 else noisy).numpy().astype(image.dtype).reshape(image.shape)


def noise_index(src: str) -> int:
    """Which image of an evaluation a picture is: its name says, so that its place among others is no matter."""
    return zlib.crc32(Path(src).name.encode())


def noisy_picture(picture: imagefiles.Picture, name: str, noise: Noise, seed: int = 0) -> imagefiles.Picture:
    """A picture's file under noise, which follows from seed and name. See `make_noisy`."""
    index = noise_index(name)
    return mapped(picture, lambda image: (make_noisy(image, noise, seed, index), None))[0]


def noise_file(src: str, dst: Path, noise: Noise, seed: int = 0, *, overwrite: bool = False) -> Cleaned:
    """Write a picture's file under noise, of the same kind; its noise follows from seed and name. See `make_noisy`."""
    imagefiles.check_place(dst, overwrite=overwrite)
    picture = imagefiles.read(src)
    noisy = noisy_picture(picture, src, noise, seed)
    imagefiles.write(dst, noisy, overwrite=overwrite)
    return Cleaned(src, str(dst), "made noisy", note=picture.note, height=picture.size[0], width=picture.size[1])


def inspect(picture: str | Path | npt.NDArray[Any]) -> inspector.Inspection:
    """Estimate which noise is in a picture, and which shipped model was trained for it.

    Args:
        picture: a file, `photo:NAME`, or an array (H, W) or (H, W, 3); see `inspector.inspect`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture; names it and says why.
    """
    if isinstance(picture, str | Path):
        picture = imagefiles.read(picture).colour().pixels
    return inspector.inspect(picture)
