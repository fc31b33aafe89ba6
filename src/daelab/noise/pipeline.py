"""The steps of a camera's pipeline, from the sensor to the file.

`raw` makes the noise of a sensor as the camera develops it. The other steps filter the noise that the steps before
them made, as a camera's denoising, sharpening and enlarging do. They leave the clean image as it is, so that a network
learns to remove noise, not to sharpen or to blur: for a linear filter F they give clean + F(noisy - clean).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from daelab.noise.base import Level, Term, draw_level, get_level_bounds
from daelab.noise.light import demosaic, draw_phases, expose, make_bayer_masks, smooth, to_linear, to_srgb
from daelab.noise.random_streams import RandomStream

_SHARE = (0.0, 1.0)
_RADIUS = (0.0, 32.0)
_BALANCE = (1.0, 10.0)


@dataclass(frozen=True)
class Raw(Term):
    """The noise of a sensor behind a Bayer filter, as the camera develops it.

    The development is undone (as by Brooks et al., 2019): the tone curve, the sRGB curve, the color matrix and the
    white balance. The sensor adds shot noise and read noise (see `Camera`) and an offset N(0, row) for each
    row or column, and clips at white. The noise is balanced, demosaicked with gradient-corrected filters (Malvar et
    al., 2004), and passes the color matrix and the curves with the image, which is clipped at black and white.

    `red` and `blue` are the gains of the white balance; that of green is 1. The color matrix is
    I + color (I - J / 3), with ones in J: its rows add up to 1, as those of cameras do, and `color` is
    about 1 for many. The tone curve w -> w (1 + contrast) / (1 + contrast |w|), for w = 2 x - 1, is steep in the
    mid-tones. Like `demosaicked`, it interpolates the noise and not the image.
    """

    name = "raw"
    bounds = {  # noqa: RUF012
        "gain": (1e-6, 1.0),
        "read": _SHARE,
        "row": _SHARE,
        "red": _BALANCE,
        "blue": _BALANCE,
        "color": (0.0, 10.0),
        "contrast": (0.0, 10.0),
    }
    gain: Level
    read: Level
    row: Level
    red: Level
    blue: Level
    color: Level
    contrast: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Add the developed noise of a sensor.

        Args:
            x: Images (N, 3, H, W), float32 in [0, 1], with at least 2 pixels on each side.
            stream: The source of random numbers.

        Returns:
            Noisy images of the same shape.

        Raises:
            ValueError: The images are smaller than the mosaic.
        """
        phases = draw_phases(self.name, x, stream)
        levels = (draw_level(level, x, stream) for level in self.levels())
        gain, read, row, red, blue, color, contrast = levels
        masks = make_bayer_masks(x.shape[-2], x.shape[-1], x.device)[phases]
        light = to_linear(_bend(x.clamp(0, 1), contrast, undo=True))
        camera = (light + color * _mean(light)) / (1 + color)
        balance = torch.cat([_as_plane(level, x) for level in (red, 1.0, blue)], 1)
        gains = (masks * balance).sum(1, keepdim=True)
        mosaic = (camera * masks).sum(1, keepdim=True) / gains
        noise = expose(mosaic.clamp(0, 1), gain, read, stream).add_(_draw_lines(x, stream).mul_(row)).clamp_(max=1)
        noise = demosaic((noise - mosaic) * gains, masks)
        return _bend(to_srgb(light + (1 + color) * noise - color * _mean(noise)), contrast).clamp_(0, 1)


@dataclass(frozen=True)
class HotPixels(Term):
    """Hot pixels: a share p of the pixels becomes brighter on all channels, by an amount uniform in [0, 1), clipped."""

    name = "hot-pixels"
    bounds = {"p": _SHARE}  # noqa: RUF012
    p: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Brighten random pixels; see `Noise.apply`."""
        p = draw_level(self.p, x, stream)
        chance, amount = stream.uniform(1, *x.shape[2:]), stream.uniform(1, *x.shape[2:])
        return (x + amount * (chance < p)).clamp_(0, 1)


class NoiseFilter(Term):
    """A filter of the noise that the steps before it made. Alone, it changes nothing."""

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Filter no noise; see `Noise.apply`."""
        return self.apply_after(x, x, stream)

    def apply_after(self, noisy: Tensor, clean: Tensor, stream: RandomStream) -> Tensor:
        """Filter the noise; see `Noise.apply_after`."""
        return (clean + self.filter_noise(noisy - clean, stream)).clamp_(0, 1)

    @abstractmethod
    def filter_noise(self, noise: Tensor, stream: RandomStream) -> Tensor:
        """Filter noise.

        Args:
            noise: The noise (N, 3, H, W), which may be negative.
            stream: The source of random numbers.

        Returns:
            The filtered noise, of the same shape.
        """


@dataclass(frozen=True)
class LumaSmoothed(NoiseFilter):
    """A camera's denoising of the brightness: Gaussian smoothing of a share of the luma's noise."""

    name = "luma-smoothed"
    bounds = {"share": _SHARE, "radius": _RADIUS}  # noqa: RUF012
    share: Level
    radius: Level

    def filter_noise(self, noise: Tensor, stream: RandomStream) -> Tensor:
        """Smooth the luma; see `NoiseFilter.filter_noise`."""
        share = draw_level(self.share, noise, stream)
        return noise + share * _luma(_blur(noise, self.radius, stream) - noise)


@dataclass(frozen=True)
class ChromaSmoothed(NoiseFilter):
    """A camera's denoising of the colors: Gaussian smoothing of a share of the noise, except of its luma."""

    name = "chroma-smoothed"
    bounds = {"share": _SHARE, "radius": _RADIUS}  # noqa: RUF012
    share: Level
    radius: Level

    def filter_noise(self, noise: Tensor, stream: RandomStream) -> Tensor:
        """Smooth the chroma; see `NoiseFilter.filter_noise`."""
        share = draw_level(self.share, noise, stream)
        change = _blur(noise, self.radius, stream) - noise
        return noise + share * (change - _luma(change))


@dataclass(frozen=True)
class Sharpened(NoiseFilter):
    """A camera's sharpening (unsharp masking): the noise plus `amount` times what a Gaussian of `radius` removes."""

    name = "sharpened"
    bounds = {"amount": (0.0, 10.0), "radius": _RADIUS}  # noqa: RUF012
    amount: Level
    radius: Level

    def filter_noise(self, noise: Tensor, stream: RandomStream) -> Tensor:
        """Sharpen the noise; see `NoiseFilter.filter_noise`."""
        amount = draw_level(self.amount, noise, stream)
        return noise + amount * (noise - _blur(noise, self.radius, stream))


@dataclass(frozen=True)
class Resized(NoiseFilter):
    """The noise of an enlarged photograph: values `scale` pixels apart, and linear interpolation between them."""

    name = "resized"
    bounds = {"scale": (1.0, 16.0)}  # noqa: RUF012
    scale: Level

    def filter_noise(self, noise: Tensor, stream: RandomStream) -> Tensor:
        """Enlarge the noise, which stays where it is; see `NoiseFilter.filter_noise`."""
        scale = _as_plane(draw_level(self.scale, noise, stream), noise)
        for axis in (-1, -2):
            last = noise.shape[axis] - 1
            place = torch.arange(last + 1, device=noise.device).reshape((-1,) if axis == -1 else (-1, 1)) / scale
            below = place.floor()
            near, far = (
                noise.gather(axis, (cell * scale).round().long().clamp_(max=last).expand_as(noise))
                for cell in (below, below + 1)
            )
            noise = near + (far - near) * (place - below)
        return noise


def _blur(x: Tensor, radius: Level, stream: RandomStream) -> Tensor:
    """Smooth images by each image's Gaussian, with the values at the borders repeated outside."""
    reach = math.ceil(3 * get_level_bounds(radius)[1])
    return smooth(F.pad(x, (reach,) * 4, mode="replicate"), draw_level(radius, x, stream), reach)


def _bend(x: Tensor, contrast: float | Tensor, *, undo: bool = False) -> Tensor:
    """Apply the tone curve of `Raw` to images in [0, 1], or undo it."""
    wide = 2 * x - 1
    size = wide.abs()
    size = 1 + contrast - contrast * size if undo else (1 + contrast * size) / (1 + contrast)
    return (1 + wide / size) / 2


def _mean(x: Tensor) -> Tensor:
    # `Tensor.mean` may add in another order for another number of images.
    return (x[:, :1] + x[:, 1:2] + x[:, 2:]) / 3


def _luma(x: Tensor) -> Tensor:
    return 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]


def _as_plane(level: float | Tensor, x: Tensor) -> Tensor:
    return torch.as_tensor(level, dtype=x.dtype, device=x.device).expand(len(x), 1, 1, 1)


def _draw_lines(x: Tensor, stream: RandomStream) -> Tensor:
    """Return a standard normal number for each row, or for each column of half of the images: (N, 1, H, W)."""
    down = stream.uniform(1, 1, 1) < 0.5
    # Both are drawn for every image, so that later draws do not depend on the direction.
    columns, rows = stream.normal(1, 1, x.shape[3]), stream.normal(1, x.shape[2], 1)
    return torch.where(down, columns, rows)
