"""What a denoiser works on: batches of tensors, and arrays of images as users have them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from daelab._util.text import shorten_error
from daelab.denoising.tiling import TilePlace

_Array = npt.NDArray[Any]


def convert_to_array(image: npt.ArrayLike, channels: int = 3) -> _Array:
    """Convert what users have to an array of an image or a batch.

    Args:
        image: An array, a tensor, an image of Pillow, or nested lists.
        channels: The channels that a network takes, beside the three of color pictures.

    Returns:
        (H, W), (H, W, C) or (N, H, W, C); integers or floats.

    Raises:
        ValueError: It is another kind of object, or an array of another shape or type.
    """
    if isinstance(image, str | bytes | os.PathLike):
        raise ValueError(
            "an image must be an array of numbers, not a file or its name; daelab.denoise_file takes a name"
        )
    if isinstance(image, np.ma.MaskedArray):
        raise ValueError("an image must have no mask: fill it first, such as by image.filled(0)")
    # The numbers in a palette image are not brightness, and neither are those of some color spaces.
    mode = image.mode if isinstance(image, Image.Image) else "L"
    if mode not in ("L", "RGB", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"):
        raise ValueError(f"an image of Pillow must have the mode L or RGB, not {mode}: image.convert('RGB')")
    try:
        array = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image)
    except Exception as error:  # the libraries of other arrays raise errors of nearly every class
        raise ValueError(f"an image must be an array of numbers: {shorten_error(error)}") from None
    if array.dtype.kind not in "uif":
        kind = type(image).__name__ if array.ndim == 0 else array.dtype
        raise ValueError(f"an image must have integers or floats, not {kind}")
    if array.ndim != 2 and not (array.ndim in (3, 4) and array.shape[-1] in (3, channels)):
        raise ValueError(
            f"an image must be (H, W), (H, W, {channels}) or (N, H, W, {channels}), not {array.shape}; "
            "denoise_stack takes (Z, H, W)"
        )
    return array


class TensorJob:
    """A batch (N, 3, H, W), and its denoised version."""

    def __init__(self, x: Tensor, device: torch.device) -> None:
        """Allocate the result.

        Args:
            x: (N, 3, H, W) on any device.
            device: The device that computes.
        """
        self.x, self.out = x, torch.empty(x.shape, device=device)
        self.grey = (x == x[:, :1]).flatten(1).all(1)
        self.shape = (x.shape[0], x.shape[2], x.shape[3])

    def fetch(self, place: TilePlace) -> Tensor:
        """Return a part of the noisy images; see `FetchFunction`.

        Args:
            place: The part.
        """
        window = self.x[place.images, :, place.rows, place.columns]
        return window.to(self.out.device, torch.float32)

    def store(self, place: TilePlace, denoised: Tensor, spread: Tensor | None) -> None:
        """Store a part of the denoised images; see `StoreFunction`.

        Args:
            place: The part.
            denoised: Its denoised pixels.
            spread: Its uncertainty map, with self-ensemble.
        """
        self.out[place.images, :, place.rows, place.columns] = _keep_grey(denoised, self.grey[place.images])


def _keep_grey(denoised: Tensor, grey: Tensor) -> Tensor:
    """Make the channels of images equal that were equal before, so that a grey picture does not get a color."""
    if not grey.any():
        return denoised
    return torch.where(grey.to(denoised.device).view(-1, 1, 1, 1), denoised.mean(1, keepdim=True), denoised)


class ArrayJob:
    """A picture or a batch as `split_planes` returns it, and its denoised version."""

    def __init__(self, plane: _Array, device: torch.device, channels: int = 3) -> None:
        """Allocate the result.

        Args:
            plane: (H, W), (H, W, C) or (N, H, W, C); uint8, uint16 or floats in [0, 1].
            device: The device that computes.
            channels: C.
        """
        self.device, self.channels = device, channels
        self.scale = np.iinfo(plane.dtype).max if plane.dtype.kind == "u" else 1
        self.denoised = np.empty(plane.shape, plane.dtype)
        self.spreads: npt.NDArray[np.float32] | None = None
        # views of both as (N, H, W, C), without a copy
        self.inputs, self.outputs = _view_as_batch(plane), _view_as_batch(self.denoised)
        self.grey = torch.tensor([_is_grey(image) for image in self.inputs], dtype=torch.bool)
        self.shape = (self.inputs.shape[0], self.inputs.shape[1], self.inputs.shape[2])

    def fetch(self, place: TilePlace) -> Tensor:
        """Return a part of the noisy images; see `FetchFunction`.

        Args:
            place: The part.
        """
        # Only the window is converted to float32, so that the picture is never copied as a whole.
        window = np.array(self.inputs[place.images, place.rows, place.columns], np.float32, order="C")
        x = torch.from_numpy(window).to(self.device).div_(self.scale).permute(0, 3, 1, 2)
        return x.expand(-1, self.channels, -1, -1)  # a grayscale image as equal channels

    def store(self, place: TilePlace, denoised: Tensor, spread: Tensor | None) -> None:
        """Store a part of the denoised images; see `StoreFunction`.

        Args:
            place: The part.
            denoised: Its denoised pixels.
            spread: Its uncertainty map, with self-ensemble.
        """
        if self.inputs.shape[3] == 1:
            denoised = denoised.mean(1, keepdim=True)
        denoised = _keep_grey(denoised, self.grey[place.images])
        # Clamped before the conversion, since integers would wrap around.
        values = denoised.clamp(0, 1).mul_(self.scale).permute(0, 2, 3, 1)
        at = (place.images, place.rows, place.columns)
        self.outputs[at] = (values.round() if self.scale > 1 else values).cpu().numpy()
        if self.spreads is not None and spread is not None:
            self.spreads[at] = spread.cpu().numpy()


def _is_grey(image: _Array) -> bool:
    """Return whether the channels of an image (H, W, C) are equal."""
    return all(np.array_equal(image[..., 0], image[..., channel]) for channel in range(1, image.shape[2]))


def _view_as_batch(image: _Array) -> _Array:
    if image.ndim == 2:
        return image[None, :, :, None]
    return image if image.ndim == 4 else image[None]


def estimate_noise_level(x: Tensor) -> Tensor:
    """Estimate the standard deviation of zero-mean white noise in each image.

    It is the median size of the finest diagonal details of Haar's wavelet, divided by 0.6745 (Donoho and Johnstone,
    1994).

    Args:
        x: (N, C, H, W) images in [0, 1].

    Returns:
        (N,) on the CPU; 0 for images of less than 2x2 pixels.
    """
    # The wavelet takes pixels in blocks of 2x2, so an odd last row or column is left out.
    height, width = (side // 2 * 2 for side in x.shape[2:])
    if not height or not width:
        return torch.zeros(len(x))
    x = x[..., :height, :width]
    details = x[..., ::2, ::2] - x[..., 1::2, ::2] - x[..., ::2, 1::2] + x[..., 1::2, 1::2]
    # A detail is a sum of four pixels, so its standard deviation is twice that of the noise.
    return details.flatten(1).abs().median(1).values.div(2 * 0.6745).cpu()
