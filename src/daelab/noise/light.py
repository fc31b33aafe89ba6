"""Linear light, sensors and Bayer mosaics: what the noises of cameras share.

Shapes: images are (N, 3, H, W), mosaics (N, 1, H, W), float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from daelab.noise.random_streams import RandomStream


def to_linear(x: Tensor) -> Tensor:
    """Convert sRGB to linear light.

    Args:
        x: Values of sRGB, which are clipped to [0, 1].
    """
    x = x.clamp(0, 1)
    return torch.where(x <= 0.04045, x / 12.92, _raise_to_power((x + 0.055) / 1.055, 2.4))


def to_srgb(y: Tensor) -> Tensor:
    """Convert linear light to sRGB.

    Args:
        y: Linear light, which is clipped to [0, 1].
    """
    y = y.clamp(0, 1)
    return torch.where(y <= 0.0031308, 12.92 * y, 1.055 * _raise_to_power(y, 1 / 2.4) - 0.055).clamp_(0, 1)


def _raise_to_power(x: Tensor, exponent: float) -> Tensor:
    # In float64, since float32 results at the end of a batch may differ by one rounding.
    return (x.double() ** exponent).float()


def expose(y: Tensor, gain: float | Tensor, read: float | Tensor, stream: RandomStream) -> Tensor:
    """Simulate a sensor: add shot noise and read noise.

    Args:
        y: Linear light in [0, 1].
        gain: The value of one photon.
        read: The standard deviation of the read noise.
        stream: The source of random numbers.

    Returns:
        The noisy linear light, which may leave [0, 1].
    """
    return (stream.poisson(y / gain) * gain).add_(stream.normal(*y.shape[1:]).mul_(read))


def draw_phases(term: str, x: Tensor, stream: RandomStream) -> Tensor:
    """Draw a phase of the pattern RGGB for each image: (N,) int64.

    Args:
        term: The name of the noise, for the error message.
        x: The images.
        stream: The source of random numbers.

    Raises:
        ValueError: The images are smaller than the mosaic.
    """
    if min(x.shape[-2:]) < 2:
        raise ValueError(f"{term}: an image of {x.shape[-2]}x{x.shape[-1]} pixels is smaller than the mosaic")
    return stream.pick(4).to(x.device, non_blocking=True)


def make_bayer_masks(height: int, width: int, device: torch.device) -> Tensor:
    """Return which channel each pixel measures, for the four phases of RGGB.

    Args:
        height: The height of the mosaic, in pixels.
        width: Its width.
        device: The device of the masks.

    Returns:
        (4, 3, height, width), 1 where a channel is measured and 0 elsewhere.
    """
    phase = torch.arange(4, device=device)
    row = (torch.arange(height, device=device) + (phase // 2)[:, None])[:, :, None] % 2
    column = (torch.arange(width, device=device) + (phase % 2)[:, None])[:, None, :] % 2
    return torch.stack([(row + column) == 0, (row + column) == 1, (row + column) == 2], 1).float()


def sum_neighbors(planes: Tensor) -> Tensor:
    """Sum the samples of a mosaic around each pixel with bilinear weights, which are not normalized.

    Args:
        planes: The samples (N, 3, H, W), 0 where a channel was not measured.
    """
    padded = F.pad(planes, (1, 1, 1, 1))
    green, both = padded[:, 1:2], padded[:, ::2]
    across = green[..., 1:-1, :-2] + green[..., 1:-1, 2:]
    cross = 4 * green[..., 1:-1, 1:-1] + across + green[..., :-2, 1:-1] + green[..., 2:, 1:-1]
    rows = both[..., :-2, :] + 2 * both[..., 1:-1, :] + both[..., 2:, :]
    square = rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]
    return torch.cat([square[:, :1], cross, square[:, 1:]], 1)


def demosaic(mosaic: Tensor, masks: Tensor) -> Tensor:
    """Interpolate the missing colors of mosaics with the gradient-corrected linear filters of 5 x 5 pixels.

    A color that is missing is interpolated from its neighbors and corrected by the second derivative of the color
    that was measured at the pixel (Malvar, He and Cutler, 2004, figure 2).

    Args:
        mosaic: The measured values (N, 1, H, W).
        masks: Where each channel was measured (N, 3, H, W), as from `make_bayer_masks`.

    Returns:
        (N, 3, H, W), which equals the mosaic where a channel was measured.
    """
    height, width = mosaic.shape[-2:]
    m = _mirror(_mirror(mosaic, -1), -2)

    def shift(down: int, right: int) -> Tensor:
        return m[..., 2 + down : 2 + down + height, 2 + right : 2 + right + width]

    beside, above = shift(0, -1) + shift(0, 1), shift(-1, 0) + shift(1, 0)
    beside2, above2 = shift(0, -2) + shift(0, 2), shift(-2, 0) + shift(2, 0)
    diagonal = shift(-1, -1) + shift(-1, 1) + shift(1, -1) + shift(1, 1)
    green = (4 * mosaic + 2 * (beside + above) - (beside2 + above2)) / 8
    across = (5 * mosaic + 4 * beside - beside2 - diagonal + above2 / 2) / 8
    down = (5 * mosaic + 4 * above - above2 - diagonal + beside2 / 2) / 8
    opposite = (6 * mosaic + 2 * diagonal - 1.5 * (beside2 + above2)) / 8
    is_red, is_green, is_blue = (masks[:, [channel]].bool() for channel in range(3))
    red_row = is_red.any(-1, keepdim=True)
    red = torch.where(is_red, mosaic, torch.where(is_blue, opposite, torch.where(red_row, across, down)))
    blue = torch.where(is_blue, mosaic, torch.where(is_red, opposite, torch.where(red_row, down, across)))
    return torch.cat([red, torch.where(is_green, mosaic, green), blue], 1)


def _mirror(x: Tensor, axis: int) -> Tensor:
    """Add two values at both ends of an axis, mirrored at the last value, which continues the mosaic's pattern."""
    last = x.shape[axis] - 1
    # A side of 2 pixels has no second neighbor to mirror, so the nearest value of the same color stands for it.
    places = [min(2, last - last % 2), 1, *range(last + 1), last - 1, max(last - 2, last % 2)]
    return x.index_select(axis, torch.tensor(places, device=x.device))


def smooth(field: Tensor, radius: float | Tensor, reach: int, *, keep_deviation: bool = False) -> Tensor:
    """Smooth the inner part of fields by each image's Gaussian.

    Args:
        field: (N, C, H + 2 reach, W + 2 reach).
        radius: The standard deviation of the Gaussian in pixels, one number or (N, 1, 1, 1).
        reach: How far the filter reaches from its center, in pixels.
        keep_deviation: Whether white noise keeps its deviation, rather than a constant its value.

    Returns:
        (N, C, H, W).
    """
    # A radius of zero must not divide by zero.
    wide = torch.as_tensor(radius, device=field.device).reshape(-1, 1).clamp_min(1e-3)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=field.device) / wide) ** 2)
    taps = taps / (taps.square().sum(1, keepdim=True).sqrt() if keep_deviation else taps.sum(1, keepdim=True))
    for axis in (-1, -2) if reach else ():
        side = field.shape[axis] - 2 * reach
        inner = torch.zeros_like(field.narrow(axis, 0, side))
        for tap, weight in enumerate(taps.unbind(1)):
            inner.addcmul_(field.narrow(axis, tap, side), weight.reshape(-1, 1, 1, 1))
        field = inner
    return field
