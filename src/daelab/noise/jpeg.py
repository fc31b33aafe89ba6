"""JPEG compression of a whole batch at once, as libjpeg does it by default.

Baseline JPEG (ITU-T T.81; JFIF): 8-bit YCbCr, chroma halved in both directions, 8x8 DCT, the
quantization tables of T.81's Annex K scaled by quality as libjpeg scales them, and libjpeg's
smooth ("fancy") upsampling. Huffman coding is lossless and changes no pixel, so it is left out.

Shapes: planes are (N, H, W) float32 with whole values in 0..255, for N images.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# T.81, tables K.1 and K.2, row by row
LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)


def compress_jpeg(x: Tensor, quality: float | Tensor) -> Tensor:
    """Compress images with JPEG and decompress them.

    Args:
        x: (N, 3, H, W) RGB. It is clipped to [0, 1] and rounded to 8 bits first.
        quality: 1 to 100, on the scale of libjpeg and Pillow: one number, or one per image in a tensor of N
            numbers in any shape. It is rounded to whole numbers.

    Returns:
        (N, 3, H, W) float32, multiples of 1/255 in [0, 1].
    """
    height, width = x.shape[-2:]
    red, green, blue = x.clamp(0, 1).mul(255).round().unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    differences = (128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402)
    scale = torch.as_tensor(quality, dtype=torch.float32, device=x.device).reshape(-1).round()
    y = _quantize(_pad(luma.round(), 8), LUMA, scale)[:, :height, :width]
    cb, cr = (_compress_chroma(plane.round(), scale) - 128 for plane in differences)
    rgb = (y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb)
    return torch.stack(rgb, 1).round_().clamp_(0, 255).div_(255)


def make_quantization_tables(base: tuple[int, ...], quality: Tensor) -> Tensor:
    """Scale a quantization table to qualities as libjpeg does.

    Args:
        base: The table at quality 50, 64 numbers row by row.
        quality: (n,), 1 to 100.

    Returns:
        (n, 64) float64, whole numbers in 1..255.
    """
    percent = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality).double()
    steps = torch.tensor(base, dtype=torch.float64, device=quality.device)
    return ((steps * percent[:, None] + 50) / 100).floor().clamp(1, 255)


def _compress_chroma(plane: Tensor, quality: Tensor) -> Tensor:
    """Halve a plane, quantize it and double it again."""
    height, width = plane.shape[-2:]
    padded = _pad(plane, 16)
    rows = padded[:, ::2] + padded[:, 1::2]
    halved = (rows[..., ::2] + rows[..., 1::2]) / 4
    # libjpeg rounds halves down in even columns and up in odd ones
    bias = torch.tensor([0.25, 0.5], device=plane.device).repeat(halved.shape[-1] // 2)
    coded = _quantize((halved + bias).floor(), CHROMA, quality)
    # Without the padding, which the smooth upsampling would mix into the border.
    coded = coded[:, : -(-height // 2), : -(-width // 2)]
    return _double(_double(coded).mT).mT[:, :height, :width].round()


def _quantize(plane: Tensor, base: tuple[int, ...], quality: Tensor) -> Tensor:
    """Quantize the DCT frequencies of the 8x8 blocks of planes (N, H, W) whose sides are multiples of 8."""
    n, height, width = plane.shape
    basis = _make_basis(plane.device)
    steps = make_quantization_tables(base, quality)[:, None]
    tiles = plane.double().sub_(128).reshape(n, height // 8, 8, width // 8, 8).transpose(2, 3)
    levels = (tiles.reshape(n, height * width // 64, 64) @ basis.T) / steps
    # libjpeg rounds halves away from zero, while `torch.round` rounds them to even numbers.
    levels = torch.trunc(levels + 0.5 * levels.sign())
    tiles = (levels.mul_(steps) @ basis).reshape(n, height // 8, width // 8, 8, 8).transpose(2, 3)
    return tiles.reshape(n, height, width).add_(128).round_().clamp_(0, 255).float()


def _make_basis(device: torch.device) -> Tensor:
    """Return the basis (64, 64) float64, with a row for each frequency of the 8x8 DCT and a column for each pixel.

    It is rounded to 36 bits, so that products with a block's whole numbers are exact in float64. The
    pixels then depend neither on the order in which a matrix product adds, nor on the batch.
    """
    at = torch.arange(8, dtype=torch.float64, device=device)
    waves = torch.cos((2 * at + 1) * at[:, None] * (math.pi / 16)) / 2
    waves[0] = math.sqrt(1 / 8)
    return torch.kron(waves, waves).mul_(2.0**36).round_().div_(2.0**36)


def _pad(plane: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column of planes (N, H, W) up to a multiple."""
    below, right = (-side % multiple for side in plane.shape[-2:])
    return F.pad(plane[:, None], (0, right, 0, below), mode="replicate")[:, 0]


def _double(x: Tensor) -> Tensor:
    """Double the width of (..., W): each new value is three quarters of the nearest and a quarter of the next."""
    before = torch.cat([x[..., :1], x[..., :-1]], -1)
    after = torch.cat([x[..., 1:], x[..., -1:]], -1)
    return torch.stack([(3 * x + before) / 4, (3 * x + after) / 4], -1).flatten(-2)
