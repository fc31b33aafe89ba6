"""The noises that photographs have: of sensors, of film and scanners, and of files.

A `sigma` is a standard deviation in the field's 8-bit units: `awgn(25)` is 25/255. A `std`
is one for values in [0, 1]. A `radius`, in pixels, is the standard deviation of the Gaussian
that a noise was smoothed with: values d pixels apart correlate as exp(-d^2 / (4 radius^2)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from daelab.noise.base import Level, Term, draw_level, get_level_bounds
from daelab.noise.jpeg import compress_jpeg
from daelab.noise.random_streams import RandomStream

_SIGMA = (0.0, math.inf)
_RADIUS = (0.0, 32.0)
_GAIN = (1e-6, 1.0)


@dataclass(frozen=True)
class Awgn(Term):
    """x + n, n ~ N(0, sigma / 255), neither clipped nor rounded: the literature's protocol.

    The only noise whose result leaves [0, 1]; published figures (CBM3D, DnCNN, DRUNet) are of
    this. `awgn(25) > quantised` is what a file of 8 bits can hold of it.
    """

    name = "awgn"
    bounds = {"sigma": _SIGMA}  # noqa: RUF012
    sigma: Level

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        sigma = draw_level(self.sigma, x, draws)
        return draws.normal(*x.shape[1:]).mul_(sigma / 255).add_(x)


@dataclass(frozen=True)
class Quantised(Term):
    """clip(x), rounded to a multiple of 1/255: a file of 8 bits. Draws nothing."""

    name = "quantised"

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        return x.clamp(0, 1).mul_(255).round_().div_(255)


@dataclass(frozen=True)
class Camera(Term):
    """A sensor, in linear light y: gain * Poisson(y / gain) + N(0, read), clipped.

    The variance is gain * y + read^2 (Foi et al., 2008). The picture is taken to linear light and
    back by the sRGB curve (IEC 61966-2-1), so shadows come out noisier than highlights. 1 / gain
    is the number of electrons at white; `read` is the read noise as a share of white. A good
    camera has gain 0.0001 at its base ISO and 0.01 at 12,800 (Brooks et al., 2019).
    """

    name = "camera"
    bounds = {"gain": _GAIN, "read": (0.0, 1.0)}  # noqa: RUF012
    gain: Level
    read: Level

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        gain, read = draw_level(self.gain, x, draws), draw_level(self.read, x, draws)
        return _to_srgb(_exposed(_to_linear(x), gain, read, draws))


@dataclass(frozen=True)
class Demosaicked(Term):
    """`camera` behind a Bayer filter, its noise spread over pixels and channels by demosaicking.

    One value per pixel is measured, in the pattern RGGB, whose phase each image draws; the noise
    of the others is interpolated bilinearly in linear light. The picture itself is not: cameras
    demosaick better than bilinearly, and who trains on this should learn to denoise, not to sharpen.
    """

    name = "demosaicked"
    bounds = {"gain": _GAIN, "read": (0.0, 1.0)}  # noqa: RUF012
    gain: Level
    read: Level

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        if min(x.shape[-2:]) < 2:
            raise ValueError(f"demosaicked: a picture of {x.shape[-2]}x{x.shape[-1]} pixels is smaller than the mosaic")
        gain, read = draw_level(self.gain, x, draws), draw_level(self.read, x, draws)
        phase = draws.pick(4).to(x.device, non_blocking=True)
        masks = _bayer(x.shape[-2], x.shape[-1], x.device)
        weights = _gathered(masks)
        mask, light = masks[phase], _to_linear(x)
        mosaic = (light * mask).sum(1, keepdim=True)
        noise = (_exposed(mosaic, gain, read, draws) - mosaic) * mask
        return _to_srgb(light + _gathered(noise) / weights[phase])


@dataclass(frozen=True)
class Correlated(Term):
    """clip(x + n), n ~ N(0, sigma / 255), smoothed to a radius: noise that was scaled or filtered."""

    name = "correlated"
    bounds = {"sigma": _SIGMA, "radius": _RADIUS}  # noqa: RUF012
    sigma: Level
    radius: Level

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        sigma = draw_level(self.sigma, x, draws)
        return _smooth(x, 3, self.radius, draws).mul_(sigma / 255).add_(x).clamp_(0, 1)


@dataclass(frozen=True)
class Jpeg(Term):
    """JPEG at a quality of 1 to 100, as libjpeg and Pillow count it; see `jpeg`. Draws only the quality."""

    name = "jpeg"
    bounds = {"quality": (1.0, 100.0)}  # noqa: RUF012
    quality: Level

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        return compress_jpeg(x, draw_level(self.quality, x, draws))


@dataclass(frozen=True)
class Grain(Term):
    """clip(x + 2 sqrt(L (1 - L)) n), L the luma, n ~ N(0, std), one for all channels, smoothed.

    The grain of film covers a share of the area that grows with density: its deviation is that
    of a proportion, largest (`std`) in the mid-tones (Newson et al., 2017).
    """

    name = "grain"
    bounds = {"std": (0.0, math.inf), "radius": _RADIUS}  # noqa: RUF012
    std: Level
    radius: Level

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        std = draw_level(self.std, x, draws)
        red, green, blue = x.clamp(0, 1).unbind(1)
        luma = (0.299 * red + 0.587 * green + 0.114 * blue).clamp_(0, 1)[:, None]
        strength = (luma * (1 - luma)).sqrt_().mul_(2 * std)
        return (x + _smooth(x, 1, self.radius, draws).mul_(strength)).clamp_(0, 1)


@dataclass(frozen=True)
class Chroma(Term):
    """Blotches of colour, as in low light: N(0, sigma / 255) in Cb and Cr, smoothed; the luma stays.

    The colours are those of JFIF: R gains 1.402 Cr, G loses 0.344 Cb + 0.714 Cr, B gains 1.772 Cb.
    """

    name = "chroma"
    bounds = {"sigma": _SIGMA, "radius": _RADIUS}  # noqa: RUF012
    sigma: Level
    radius: Level

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        sigma = draw_level(self.sigma, x, draws)
        cb, cr = _smooth(x, 2, self.radius, draws).mul_(sigma / 255).unbind(1)
        noise = torch.stack([1.402 * cr, -0.344136 * cb - 0.714136 * cr, 1.772 * cb], 1)
        return noise.add_(x).clamp_(0, 1)


@dataclass(frozen=True)
class Stripes(Term):
    """clip(x + n), n ~ N(0, std), one for each line and channel, as a scanner's cells differ.

    Lines run down in half of the images and across in the other, as pictures are laid on a scanner.
    """

    name = "stripes"
    bounds = {"std": (0.0, math.inf)}  # noqa: RUF012
    std: Level

    def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
        std, channels = draw_level(self.std, x, draws), x.shape[1]
        down = draws.uniform(1, 1, 1) < 0.5
        columns, rows = draws.normal(channels, 1, x.shape[3]), draws.normal(channels, x.shape[2], 1)
        return (x + torch.where(down, columns, rows).mul_(std)).clamp_(0, 1)


def _smooth(x: Tensor, channels: int, radius: Level, draws: RandomStream) -> Tensor:
    """Standard normal noise (N, channels, H, W), smoothed by each image's Gaussian; its deviation stays 1.

    A field larger than the picture is smoothed, so the noise is the same at its borders.
    """
    reach = math.ceil(3 * get_level_bounds(radius)[1])
    wide = torch.as_tensor(draw_level(radius, x, draws), device=x.device).reshape(-1, 1).clamp_min(1e-3)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device) / wide) ** 2)
    taps = taps / taps.square().sum(1, keepdim=True).sqrt()
    field = draws.normal(channels, x.shape[2] + 2 * reach, x.shape[3] + 2 * reach)
    for axis in (-1, -2) if reach else ():
        side = field.shape[axis] - 2 * reach
        smooth = torch.zeros_like(field.narrow(axis, 0, side))
        for tap, weight in enumerate(taps.unbind(1)):
            smooth.addcmul_(field.narrow(axis, tap, side), weight.reshape(-1, 1, 1, 1))
        field = smooth
    return field


def _to_linear(x: Tensor) -> Tensor:
    """sRGB -> linear light, clipped to [0, 1]."""
    x = x.clamp(0, 1)
    return torch.where(x <= 0.04045, x / 12.92, _power((x + 0.055) / 1.055, 2.4))


def _to_srgb(y: Tensor) -> Tensor:
    """Linear light -> sRGB, clipped to [0, 1]."""
    y = y.clamp(0, 1)
    return torch.where(y <= 0.0031308, 12.92 * y, 1.055 * _power(y, 1 / 2.4) - 0.055).clamp_(0, 1)


def _power(x: Tensor, exponent: float) -> Tensor:
    # In float64: of float32, a value at the end of a batch may come out one rounding apart.
    return (x.double() ** exponent).float()


def _exposed(y: Tensor, gain: float | Tensor, read: float | Tensor, draws: RandomStream) -> Tensor:
    """What a sensor makes of linear light in [0, 1]: shot noise, read noise, black and white levels."""
    return (draws.poisson(y / gain) * gain).add_(draws.normal(*y.shape[1:]).mul_(read)).clamp_(0, 1)


def _bayer(height: int, width: int, device: torch.device) -> Tensor:
    """(4, 3, height, width): 1 where a channel is measured, for the four phases of RGGB."""
    phase = torch.arange(4, device=device)
    row = (torch.arange(height, device=device) + (phase // 2)[:, None])[:, :, None] % 2
    column = (torch.arange(width, device=device) + (phase % 2)[:, None])[:, None, :] % 2
    return torch.stack([(row + column) == 0, (row + column) == 1, (row + column) == 2], 1).float()


def _gathered(planes: Tensor) -> Tensor:
    """(N, 3, H, W) samples of a mosaic, each pixel the bilinear sum of those around it; unnormalised."""
    padded = F.pad(planes, (1, 1, 1, 1))
    green, both = padded[:, 1:2], padded[:, ::2]
    across = green[..., 1:-1, :-2] + green[..., 1:-1, 2:]
    cross = 4 * green[..., 1:-1, 1:-1] + across + green[..., :-2, 1:-1] + green[..., 2:, 1:-1]
    rows = both[..., :-2, :] + 2 * both[..., 1:-1, :] + both[..., 2:, :]
    square = rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]
    return torch.cat([square[:, :1], cross, square[:, 1:]], 1)
