"""Stacks of grey slices, each denoised alone or with its neighbors: volumes (Z, H, W), films (T, H, W), zarr arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from daelab._util.files import check_new_folder, fill_new_folder
from daelab._util.text import summarize_error
from daelab.denoising.blending import FULL, Blend
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.planes import split_planes
from daelab.denoising.tiling import ProgressCallback
from daelab.image_io.picture import Picture, find_value_range

_Array = npt.NDArray[Any]

_SLAB = 16
"""The number of slices of a zarr array that are in memory at once, unless its chunks have more."""
_SAMPLE = 4096
"""The number of values of each slab that, with its extremes, determine the value range of a zarr array."""


def denoise_stack(
    denoiser: Denoiser,
    stack: npt.ArrayLike,
    *,
    neighbors: int = 0,
    blend: Blend = FULL,
    self_ensemble: bool = False,
    progress: ProgressCallback | None = None,
) -> _Array:
    """Denoise a stack of grey slices. All slices share one range of values.

    Args:
        denoiser: The denoiser.
        stack: (Z, H, W) or (T, H, W); integers or floats.
        neighbors: The slices on each side that are given to the network as further channels (2.5D). The network must
            take 2 `neighbors` + 1 channels, as those for color pictures do for 1. Beyond the ends, the stack is
            mirrored. 0 denoises each slice alone.
        blend: How the result is mixed with its source.
        self_ensemble: Average over the eight flips and rotations, which takes eight times as long.
        progress: Called with the numbers of slices done and of all slices.

    Returns:
        The denoised stack, of the same shape and type.

    Raises:
        ValueError: The array has another shape or type, or the network takes other channels.
    """
    array = np.asarray(stack)
    if array.ndim != 3 or array.dtype.kind not in "uif":
        raise ValueError(f"a stack must be (Z, H, W) of integers or floats, not {array.shape} of {array.dtype}")
    _check_neighbors(denoiser, neighbors)
    places = range(len(array))
    return _denoise_slices(denoiser, array, neighbors, blend, self_ensemble, None, places, progress)


def denoise_slices(
    denoiser: Denoiser, picture: Picture, neighbors: int, blend: Blend = FULL, self_ensemble: bool = False
) -> list[_Array]:
    """Denoise the pages of a picture, or the slices of an array, as a stack.

    Args:
        denoiser: The denoiser.
        picture: A picture of several grey pages of one size, or of an array of slices (Z, H, W, 1).
        neighbors: See `denoise_stack`.
        blend: How the result is mixed with its source.
        self_ensemble: Average over the eight flips and rotations, which takes eight times as long.

    Returns:
        The denoised pixels of each of `Picture.layers`.

    Raises:
        ValueError: The picture is no such stack.
    """
    options: dict[str, Any] = {"neighbors": neighbors, "blend": blend, "self_ensemble": self_ensemble}
    if picture.pixels.ndim == 4 and picture.pixels.shape[-1] == 1:
        return [denoise_stack(denoiser, picture.pixels[..., 0], **options)[..., None]]
    pixels = [layer.pixels for layer in picture.layers]
    first = pixels[0]
    if len(pixels) < 2 or any((one.ndim, one.shape, one.dtype) != (2, first.shape, first.dtype) for one in pixels):
        raise ValueError("neighbors need a stack of slices: several grey pages of one size and type")
    return list(denoise_stack(denoiser, np.stack(pixels), **options))


def denoise_zarr(
    denoiser: Denoiser,
    source: str | Path,
    target: str | Path,
    *,
    neighbors: int = 0,
    blend: Blend = FULL,
    self_ensemble: bool = False,
    progress: ProgressCallback | None = None,
) -> tuple[int, ...]:
    """Denoise a zarr array into a new one of the same shape, type, chunks and attributes, a few slices at a time.

    The last two axes are those of the slices, so (T, C, Z, H, W) is denoised too. All slices share one range of values.

    Args:
        denoiser: The denoiser.
        source: The folder of the array.
        target: The folder to write, which is new or empty. A failure leaves it as it was.
        neighbors: See `denoise_stack`. The neighbors are those along the axis before the last two.
        blend: How the result is mixed with its source.
        self_ensemble: Average over the eight flips and rotations, which takes eight times as long.
        progress: Called with the numbers of slices done and of all slices.

    Returns:
        The shape of the array.

    Raises:
        ValueError: zarr is not installed, or the folder holds no array of numbers (..., Z, H, W).
        FileExistsError: The target exists and is not an empty folder.
    """
    if find_spec("zarr") is None:
        raise ValueError(f"{source} needs zarr: pip install 'daelab[zarr]'")
    import zarr

    check_new_folder(Path(target))
    _check_neighbors(denoiser, neighbors)
    try:
        array: Any = zarr.open_array(str(source), mode="r")
    except Exception as error:  # zarr raises errors of many classes
        reason = summarize_error(error)
        raise ValueError(f"{source}: not an array of zarr; name the array inside a group: {reason}") from None
    if array.ndim < 3 or array.dtype.kind not in "uif" or 0 in array.shape:
        raise ValueError(
            f"{source}: an array (..., Z, H, W) of integers or floats is needed, not {array.shape} of {array.dtype}"
        )
    declared = find_value_range(_sample_values(array))
    done, total = 0, math.prod(array.shape[:-2])
    with fill_new_folder(Path(target)) as part:
        result: Any = zarr.create_array(
            str(part),
            shape=array.shape,
            dtype=array.dtype,
            chunks=array.chunks,
            attributes=dict(array.attrs),
            fill_value=array.fill_value,
            dimension_names=getattr(array.metadata, "dimension_names", None),
            zarr_format=array.metadata.zarr_format,
        )
        for place, first, last in _list_slabs(array):
            # The neighbors of the first and the last slice are read too, and then left out.
            low, high = max(0, first - neighbors), min(array.shape[-3], last + neighbors)
            slab = np.asarray(array[(*place, slice(low, high))])
            slices = _denoise_slices(
                denoiser, slab, neighbors, blend, self_ensemble, declared, range(first - low, last - low)
            )
            result[(*place, slice(first, last))] = slices
            done += last - first
            if progress is not None:
                progress(done, total)
    return tuple(array.shape)


def _check_neighbors(denoiser: Denoiser, neighbors: int) -> None:
    channels = denoiser.method.channels
    if type(neighbors) is not int or neighbors < 0:
        raise ValueError(f"neighbors must be a whole number of at least 0, not {neighbors!r}")
    if neighbors and channels != 2 * neighbors + 1:
        raise ValueError(
            f"{neighbors} neighbors on each side are {2 * neighbors + 1} channels, and {denoiser.name} takes {channels}"
        )


def _denoise_slices(
    denoiser: Denoiser,
    stack: _Array,
    neighbors: int,
    blend: Blend,
    self_ensemble: bool,
    declared: tuple[float, float] | None,
    places: range,
    progress: ProgressCallback | None = None,
) -> _Array:
    """Return some slices of a stack (Z, H, W), denoised."""
    planes = split_planes(Picture(stack[..., None], declared_range=declared))
    slices = planes.arrays[0][..., 0]
    denoised = slices.copy()
    for number, z in enumerate(places, 1):
        near = [_mirror(z + step, len(slices)) for step in range(-neighbors, neighbors + 1)]
        plane = np.stack([slices[other] for other in near], -1) if neighbors else slices[z]
        result, _ = denoiser.denoise_plane(plane, blend=blend, self_ensemble=self_ensemble)
        denoised[z] = result[..., neighbors] if neighbors else result
        if progress is not None:
            progress(number, len(places))
    joined: _Array = planes.join([denoised[..., None]])[..., 0]
    return joined[places.start : places.stop]


def _mirror(place: int, count: int) -> int:
    """Return the position of a slice beyond the ends of a stack, as in a mirror at the first and the last slice."""
    if count == 1:
        return 0
    place %= 2 * count - 2
    return min(place, 2 * count - 2 - place)


def _list_slabs(array: Any) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Yield the parts of a zarr array that are in memory at once: the place in the first axes, and the slices."""
    height = max(_SLAB, array.chunks[-3])
    for place in np.ndindex(array.shape[:-3]):
        for first in range(0, array.shape[-3], height):
            yield place, first, min(first + height, array.shape[-3])


def _sample_values(array: Any) -> _Array:
    """Return values of a zarr array for the search of its range: the extremes of each slab, and evenly spaced ones."""
    values: list[_Array] = []
    for place, first, last in _list_slabs(array):
        slab = np.asarray(array[(*place, slice(first, last))]).reshape(-1)
        values += [np.array([slab.min(), slab.max()]), slab[:: max(1, slab.size // _SAMPLE)]]
    return np.concatenate(values)
