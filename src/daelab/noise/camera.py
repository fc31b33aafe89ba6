"""The noises of photographs: of sensors, of film and scanners, and of files.

A `sigma` is a standard deviation in the literature's 8-bit units: `awgn(25)` is 25/255. A `std`
is one for values in [0, 1]. A `radius`, in pixels, is the standard deviation of the Gaussian
that smoothed the noise: values d pixels apart correlate as exp(-d^2 / (4 radius^2)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from daelab.noise.base import Level, Term, draw_level, get_level_bounds
from daelab.noise.jpeg import compress_jpeg
from daelab.noise.light import draw_phases, expose, make_bayer_masks, smooth, sum_neighbors, to_linear, to_srgb
from daelab.noise.random_streams import RandomStream

_SIGMA = (0.0, math.inf)
_RADIUS = (0.0, 32.0)
_GAIN = (1e-6, 1.0)


@dataclass(frozen=True)
class Awgn(Term):
    """Additive white Gaussian noise: x + n, n ~ N(0, sigma / 255), neither clipped nor rounded.

    It is the only noise whose result leaves [0, 1], and the protocol of published figures (CBM3D, DnCNN,
    DRUNet). `awgn(25) > quantised` is the part of it that an 8-bit file can hold.
    """

    name = "awgn"
    bounds = {"sigma": _SIGMA}  # noqa: RUF012
    sigma: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Add white Gaussian noise; see `Noise.apply`."""
        sigma = draw_level(self.sigma, x, stream)
        return stream.normal(*x.shape[1:]).mul_(sigma / 255).add_(x)


@dataclass(frozen=True)
class Quantised(Term):
    """The rounding of an 8-bit file: clip(x), rounded to a multiple of 1/255. Nothing is random."""

    name = "quantised"

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Round to 8 bits; see `Noise.apply`."""
        return x.clamp(0, 1).mul_(255).round_().div_(255)


@dataclass(frozen=True)
class Camera(Term):
    """The noise of a sensor, in linear light y: gain * Poisson(y / gain) + N(0, read), clipped.

    The variance is gain * y + read^2 (Foi et al., 2008). The image is converted to linear light and
    back by the sRGB curve (IEC 61966-2-1), so shadows become noisier than highlights. 1 / gain
    is the number of electrons at white; `read` is the read noise as a share of white. A good
    camera has gain 0.0001 at its base ISO and 0.01 at 12,800 (Brooks et al., 2019).
    """

    name = "camera"
    bounds = {"gain": _GAIN, "read": (0.0, 1.0)}  # noqa: RUF012
    gain: Level
    read: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Add shot noise and read noise in linear light; see `Noise.apply`."""
        gain, read = draw_level(self.gain, x, stream), draw_level(self.read, x, stream)
        return to_srgb(expose(to_linear(x), gain, read, stream).clamp_(0, 1))


@dataclass(frozen=True)
class Demosaicked(Term):
    """The noise of a sensor behind a Bayer filter, spread over pixels and channels by demosaicking.

    One value per pixel is measured, in the pattern RGGB with a random phase for each image. The noise
    of the other values is interpolated bilinearly in linear light. The image itself is not interpolated:
    cameras demosaick better than bilinearly, and a network should learn to denoise here, not to sharpen.
    """

    name = "demosaicked"
    bounds = {"gain": _GAIN, "read": (0.0, 1.0)}  # noqa: RUF012
    gain: Level
    read: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Add demosaicked sensor noise; see `Noise.apply`.

        Args:
            x: Images (N, 3, H, W), float32 in [0, 1], with at least 2 pixels on each side.
            stream: The source of random numbers.

        Returns:
            Noisy images of the same shape.

        Raises:
            ValueError: The images are smaller than the mosaic.
        """
        gain, read = draw_level(self.gain, x, stream), draw_level(self.read, x, stream)
        phases = draw_phases(self.name, x, stream)
        masks = make_bayer_masks(x.shape[-2], x.shape[-1], x.device)
        weights = sum_neighbors(masks)
        mask, light = masks[phases], to_linear(x)
        mosaic = (light * mask).sum(1, keepdim=True)
        noise = (expose(mosaic, gain, read, stream).clamp_(0, 1) - mosaic) * mask
        return to_srgb(light + sum_neighbors(noise) / weights[phases])


@dataclass(frozen=True)
class Correlated(Term):
    """Smoothed Gaussian noise, as after scaling or filtering: clip(x + n), n ~ N(0, sigma / 255)."""

    name = "correlated"
    bounds = {"sigma": _SIGMA, "radius": _RADIUS}  # noqa: RUF012
    sigma: Level
    radius: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Add smoothed Gaussian noise; see `Noise.apply`."""
        sigma = draw_level(self.sigma, x, stream)
        return _draw_smooth_normal(x, 3, self.radius, stream).mul_(sigma / 255).add_(x).clamp_(0, 1)


@dataclass(frozen=True)
class Jpeg(Term):
    """JPEG compression at a quality of 1 to 100, on the scale of libjpeg and Pillow. Only the quality is random."""

    name = "jpeg"
    bounds = {"quality": (1.0, 100.0)}  # noqa: RUF012
    quality: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Compress the images; see `Noise.apply`."""
        return compress_jpeg(x, draw_level(self.quality, x, stream))


@dataclass(frozen=True)
class Grain(Term):
    """Film grain: clip(x + 2 sqrt(L (1 - L)) n), L the luma, n ~ N(0, std), smoothed, the same for all channels.

    The grain of film covers a share of the area that grows with density. Its standard deviation is that
    of a proportion, largest (`std`) in the mid-tones (Newson et al., 2017).
    """

    name = "grain"
    bounds = {"std": (0.0, math.inf), "radius": _RADIUS}  # noqa: RUF012
    std: Level
    radius: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Add film grain; see `Noise.apply`."""
        std = draw_level(self.std, x, stream)
        red, green, blue = x.clamp(0, 1).unbind(1)
        # Rounding may carry the luma of white past 1, where the square root below would be NaN.
        luma = (0.299 * red + 0.587 * green + 0.114 * blue).clamp_(0, 1)[:, None]
        strength = (luma * (1 - luma)).sqrt_().mul_(2 * std)
        return (x + _draw_smooth_normal(x, 1, self.radius, stream).mul_(strength)).clamp_(0, 1)


@dataclass(frozen=True)
class Chroma(Term):
    """Blotches of color, as in low light: smoothed N(0, sigma / 255) in Cb and Cr, while the luma stays.

    The colors are those of JFIF: R gains 1.402 Cr, G loses 0.344 Cb + 0.714 Cr, B gains 1.772 Cb.
    """

    name = "chroma"
    bounds = {"sigma": _SIGMA, "radius": _RADIUS}  # noqa: RUF012
    sigma: Level
    radius: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Add blotches of color; see `Noise.apply`."""
        sigma = draw_level(self.sigma, x, stream)
        cb, cr = _draw_smooth_normal(x, 2, self.radius, stream).mul_(sigma / 255).unbind(1)
        noise = torch.stack([1.402 * cr, -0.344136 * cb - 0.714136 * cr, 1.772 * cb], 1)
        return noise.add_(x).clamp_(0, 1)


@dataclass(frozen=True)
class Stripes(Term):
    """The stripes of a scanner, whose cells differ: clip(x + n), n ~ N(0, std), one for each line and channel.

    The lines are vertical in half of the images and horizontal in the others, as pictures lie on a scanner.
    """

    name = "stripes"
    bounds = {"std": (0.0, math.inf)}  # noqa: RUF012
    std: Level

    def apply(self, x: Tensor, stream: RandomStream) -> Tensor:
        """Add stripes; see `Noise.apply`."""
        std, channels = draw_level(self.std, x, stream), x.shape[1]
        down = stream.uniform(1, 1, 1) < 0.5
        # Both are drawn for every image, so that later draws do not depend on the direction.
        columns, rows = stream.normal(channels, 1, x.shape[3]), stream.normal(channels, x.shape[2], 1)
        return (x + torch.where(down, columns, rows).mul_(std)).clamp_(0, 1)


def _draw_smooth_normal(x: Tensor, channels: int, radius: Level, stream: RandomStream) -> Tensor:
    """Return standard normal noise (N, channels, H, W), smoothed by each image's Gaussian, with deviation 1.

    The field that is smoothed is larger than the image, so the noise is the same at the borders.
    """
    reach = math.ceil(3 * get_level_bounds(radius)[1])
    wide = draw_level(radius, x, stream)
    field = stream.normal(channels, x.shape[2] + 2 * reach, x.shape[3] + 2 * reach)
    return smooth(field, wide, reach, keep_deviation=True)
