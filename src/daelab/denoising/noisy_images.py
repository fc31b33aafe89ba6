"""Noisy versions of images, and the identification of noise in files."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from daelab.denoising.arrays import convert_to_array
from daelab.denoising.noise_identification.identify import IdentifiedNoise, identify_noise
from daelab.denoising.pipeline import DenoiseResult
from daelab.denoising.planes import split_planes
from daelab.image_io.picture import Picture
from daelab.image_io.read import read_picture
from daelab.image_io.write import check_target, write_picture
from daelab.noise.base import Noise
from daelab.noise.random_streams import IndexedStream


def make_noisy(image: npt.NDArray[Any], noise: Noise, seed: int = 0, index: int = 0) -> npt.NDArray[Any]:
    """Return an image under the noise that evaluation gives image `index` of a data set.

    Args:
        image: (H, W), (H, W, 3) or (N, H, W, 3); uint8, uint16, or floats in [0, 1].
        noise: The noise.
        seed: The seed of the noise.
        index: The index of the image, or of the first one of a stack.

    Returns:
        The noisy image, of the same shape and type.
    """
    white = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    pixels = image if image.ndim == 4 else image[None, ..., None] if image.ndim == 2 else image[None]
    x = torch.from_numpy(np.array(pixels, np.float32)).div_(white).permute(0, 3, 1, 2).contiguous()
    # clipped even if the noise is not, since a file holds nothing beyond black and white
    noisy = noise.apply(x, IndexedStream(list(range(index, index + len(x))), seed)).clamp(0, 1)
    noisy = noisy.mul(white).permute(0, 2, 3, 1)
    return (noisy.round() if white > 1 else noisy).numpy().astype(image.dtype).reshape(image.shape)


def derive_image_index(src: str) -> int:
    """Derive the index of a picture from its name, so that its noise does not depend on its place among others.

    Args:
        src: The path or the name of the picture.
    """
    # Python's own hash of a text differs from process to process.
    return zlib.crc32(os.fsencode(Path(src).name))


def make_noisy_picture(picture: Picture, name: str, noise: Noise, seed: int = 0) -> Picture:
    """Add noise to every page of a picture. See `make_noisy`.

    Args:
        picture: The picture.
        name: The name of its file, from which the noise follows together with the seed.
        noise: The noise.
        seed: The seed of the noise.

    Raises:
        ValueError: A value of the picture is NaN or infinite.
    """
    index = derive_image_index(name)
    pages = [split_planes(page) for page in picture.layers]
    return picture.with_layer_pixels(
        [page.join([make_noisy(plane, noise, seed, index) for plane in page.arrays]) for page in pages]
    )


def make_noisy_versions(
    src: str, noises: Sequence[Noise], seed: int = 0
) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[Any]]]:
    """Read a picture in color, and add each of several noises to it.

    Args:
        src: A path, or photo:NAME for a bundled photograph.
        noises: The noises.
        seed: The seed of the noises.

    Returns:
        The picture, (H, W, 3) uint8, and the text of each noise with the noisy picture.

    Raises:
        FileNotFoundError: The picture does not exist.
        ValueError: The picture is damaged.
    """
    image = read_picture(src).colour().pixels
    index = derive_image_index(src)
    return image, {str(noise): make_noisy(image, noise, seed, index) for noise in noises}


def write_noisy_file(src: str, dst: Path, noise: Noise, seed: int = 0, *, overwrite: bool = False) -> DenoiseResult:
    """Write a picture file with noise added. See `make_noisy_picture`.

    Args:
        src: A path, or photo:NAME for a bundled photograph.
        dst: The file to write, in the format of its suffix.
        noise: The noise.
        seed: The seed of the noise.
        overwrite: Whether to replace an existing file.

    Raises:
        FileNotFoundError: The picture does not exist.
        FileExistsError: `dst` exists and `overwrite` is False.
        ValueError: The picture is damaged, or the format of `dst` cannot hold it.
    """
    check_target(dst, overwrite=overwrite)
    picture = read_picture(src)
    noisy = make_noisy_picture(picture, src, noise, seed)
    write_picture(dst, noisy, overwrite=overwrite)
    return DenoiseResult(src, str(dst), "made noisy", note=picture.note, height=picture.size[0], width=picture.size[1])


def identify_file_noise(picture: str | Path | Picture | npt.NDArray[Any]) -> IdentifiedNoise:
    """Identify the noise in a picture as `daelab denoise` does, and the shipped models that were trained for it.

    Args:
        picture: A path, `photo:NAME`, a picture, or an array (H, W) or (H, W, 3) that `Denoiser` takes. The first page
            counts, and of CMYK the colors.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not a picture, or damaged. The error names it.
    """
    name = ""
    if isinstance(picture, str | Path):
        name, picture = f"{picture}: ", read_picture(picture)
    try:
        page = picture if isinstance(picture, Picture) else Picture(convert_to_array(picture))
        return identify_noise(split_planes(page).samples[0])
    except ValueError as error:
        raise ValueError(f"{name}{error}") from None
