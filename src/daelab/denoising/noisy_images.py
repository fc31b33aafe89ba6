"""Pictures under noise, and what noise is in them."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from daelab.denoising.noise_identification.identify import IdentifiedNoise, identify_noise
from daelab.denoising.pipeline import DenoiseResult, map_pages
from daelab.image_io.picture import Picture
from daelab.image_io.read import read_picture
from daelab.image_io.write import check_target, write_picture
from daelab.noise.base import Noise
from daelab.noise.random_streams import IndexedStream


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
    noisy = noise.apply(x, IndexedStream(list(range(index, index + len(x))), seed)).clamp(0, 1)
    noisy = noisy.mul(white).permute(0, 2, 3, 1)
    return (noisy.round() if white > 1 else noisy).numpy().astype(image.dtype).reshape(image.shape)


def derive_image_index(src: str) -> int:
    """Which image of an evaluation a picture is: its name says, so that its place among others is no matter."""
    return zlib.crc32(Path(src).name.encode())


def make_noisy_picture(picture: Picture, name: str, noise: Noise, seed: int = 0) -> Picture:
    """A picture's file under noise, which follows from seed and name. See `make_noisy`."""
    index = derive_image_index(name)
    return map_pages(picture, lambda image: (make_noisy(image, noise, seed, index), None))[0]


def write_noisy_file(src: str, dst: Path, noise: Noise, seed: int = 0, *, overwrite: bool = False) -> DenoiseResult:
    """Write a picture's file under noise, of the same kind; its noise follows from seed and name. See `make_noisy`."""
    check_target(dst, overwrite=overwrite)
    picture = read_picture(src)
    noisy = make_noisy_picture(picture, src, noise, seed)
    write_picture(dst, noisy, overwrite=overwrite)
    return DenoiseResult(src, str(dst), "made noisy", note=picture.note, height=picture.size[0], width=picture.size[1])


def identify_file_noise(picture: str | Path | npt.NDArray[Any]) -> IdentifiedNoise:
    """Estimate which noise is in a picture, and which shipped model was trained for it.

    Args:
        picture: a file, `photo:NAME`, or an array (H, W) or (H, W, 3); see `inspector.inspect`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture; names it and says why.
    """
    if isinstance(picture, str | Path):
        picture = read_picture(picture).colour().pixels
    return identify_noise(picture)
