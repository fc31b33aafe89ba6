"""The mixture of a denoised picture with its source: strength, strength of the colors, and recovered detail."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from daelab.denoising.backends import Backend
from daelab.models.layers import NO_MARGINS, Margins, crop_margins
from daelab.models.unet import compute_window_means

MAX_STRENGTH = 2.0
"""The largest strength, for backends that take the noise level."""
_MORE = f", or in [1, {MAX_STRENGTH:g}] for a model that takes the noise level"
_LUMA = (0.299, 0.587, 0.114)
"""The weights of red, green and blue in the brightness (ITU-R BT.601), as JPEG has them."""
_SPLINE = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
"""The B3 spline, the smoothing kernel of the wavelets (Starck and Murtagh, 1994)."""
_SCALES = 3
"""The number of wavelet scales, of 1, 2 and 4 pixels."""
_WIDE, _NEAR = 32, 2
"""The radii in pixels of the windows in which the sizes of noise and of structure are measured."""
_FAINT_CHANGE = 4.0
"""The deviation in 8-bit steps from which a change is not limited: it is more than the detail that photo-m loses."""
_ROWS = 256
"""The number of rows that are changed at a time, to save memory."""
_HALO = 2 * (2**_SCALES - 1) + _WIDE
"""The distance in pixels up to which other pixels affect the detail at a pixel."""


@dataclass(frozen=True)
class Blend:
    """How a denoised picture is mixed with its source. By default, the result is the denoised picture."""

    strength: float = 1.0
    """From 0, the unchanged picture, to 1, the denoised one.

    Above 1, up to `MAX_STRENGTH`, it multiplies the noise level that a conditioned backend is told."""
    chroma: float | None = None
    """The strength for the two color-difference channels, from 0 to 1. Default: that of `strength`."""
    detail: float = 0.0
    """The part of the brightness detail to recover from the source, from 0 to 1; see `find_detail`."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: One is not a number within its range.
        """
        limits = {"strength": (self.strength, MAX_STRENGTH), "chroma": (self.chroma, 1), "detail": (self.detail, 1)}
        for name, (value, most) in limits.items():
            if value is None and name == "chroma":
                continue
            number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if value is None or not (number and 0 <= value <= most):
                raise ValueError(f"{name} must lie in [0, 1]{_MORE if most > 1 else ''}, not {value}")

    def apply(self, method: Backend) -> Backend:
        """Return the backend whose result is the mixture.

        Args:
            method: The backend of the fully denoised picture.

        Raises:
            ValueError: The strength is above 1, and the backend does not take the noise level.
        """
        self.check_model(method.name, method.conditioned)
        if self._luma == self._chroma == 1 and not self.detail:
            return method
        if method.channels != 3 and (self._luma != self._chroma or self.detail):
            raise ValueError(
                f"chroma and detail are for color pictures, but {method.name} takes {method.channels} channels"
            )
        # Detail is found from the pixels around it, so a tile must include them.
        reach = _HALO if self.detail else 0
        halo = None if method.halo is None else method.halo + math.ceil(reach / method.multiple) * method.multiple

        def run(x: Tensor, margins: Margins = NO_MARGINS, /) -> Tensor:
            # The mixture needs `reach` pixels around the inside, so only what lies beyond them is left out.
            top, bottom, left, right = (max(0, margin - reach) for margin in margins)
            outer = (top, bottom, left, right)
            source = crop_margins(x[:, : method.channels], outer)
            return crop_margins(self.mix(source, method.denoise_inside(x, outer)), margins, outer)

        return replace(method, run=run, halo=halo, run_inside=run)

    def check_model(self, name: str, conditioned: bool) -> None:
        """Check that a model can denoise with this strength.

        Args:
            name: The name of the model.
            conditioned: Whether it takes the noise level as an input.

        Raises:
            ValueError: It cannot.
        """
        if self.strength > 1 and not conditioned:
            more = f"a model that takes the noise level, such as photo-s.level, allows up to {MAX_STRENGTH:g}"
            raise ValueError(f"strength must lie in [0, 1] for {name}, not {self.strength:g}; {more}")

    def mix(self, source: Tensor, denoised: Tensor) -> Tensor:
        """Mix a denoised picture with its source.

        Args:
            source: (N, 3, H, W) in [0, 1].
            denoised: The denoised picture, of the same shape.

        Returns:
            The mixture, of the same shape.
        """
        if self._luma == self._chroma and not self.detail:
            return torch.lerp(source, denoised, self._luma)
        before, after = (torch.einsum("nchw,c->nhw", x, x.new_tensor(_LUMA))[:, None] for x in (source, denoised))
        change = after - before
        chroma = denoised - source - change
        if self.detail:
            change = change + self.detail * find_detail(-change, after)
        return source + self._luma * change + self._chroma * chroma

    @property
    def _luma(self) -> float:
        return min(self.strength, 1.0)

    @property
    def _chroma(self) -> float:
        return self._luma if self.chroma is None else self.chroma


FULL = Blend()
"""The denoised picture as it is."""


def limit_change(
    source: npt.NDArray[Any], denoised: npt.NDArray[Any], deviation: float, strength: float = 1.0
) -> npt.NDArray[Any]:
    """Mix a denoised picture with its source, so that no more is removed than the noise that was found.

    If all noise is in the part R that full strength removes, then the share deviation^2 / mean(R^2) of R is the change
    with the least squared error (from its derivative), and the rest of R is detail. A share below 1 is applied.

    Args:
        source: A picture; uint8, uint16 or floats in [0, 1].
        denoised: The denoised picture, of the same shape and type.
        deviation: The estimated standard deviation of the noise, in 8-bit steps.
        strength: The strength that the picture was denoised with, so that the result is this part of the full change.

    Returns:
        The mixture, or `denoised` itself if its change is small enough, or so large that it is more than lost detail.
    """
    white = np.iinfo(source.dtype).max if source.dtype.kind == "u" else 1
    strips = [slice(row, row + _ROWS) for row in range(0, len(source), _ROWS)]
    squares = (
        np.square(np.subtract(source[rows], denoised[rows], dtype=np.float32)).sum(dtype=float) for rows in strips
    )
    change = 255 / white * math.sqrt(sum(squares) / max(1, source.size)) / max(min(strength, 1.0), 1e-3)
    if not deviation < change < _FAINT_CHANGE:
        return denoised
    share = np.float32((deviation / change) ** 2)
    mixed = np.empty_like(denoised)
    for rows in strips:
        values = source[rows] + share * np.subtract(denoised[rows], source[rows], dtype=np.float32)
        mixed[rows] = values.round() if source.dtype.kind == "u" else values
    return mixed


def find_detail(removed: Tensor, denoised: Tensor) -> Tensor:
    """Find the detail in what denoising has removed from a picture.

    What was removed is mostly noise, which is as strong in smooth areas as elsewhere. Detail lies where the denoised
    picture has structure too. So each wavelet coefficient of the removed part is multiplied by (S / (S + R))^2, where S
    is the size of the denoised picture's coefficients nearby, and R that of the removed ones in a wide window.

    Args:
        removed: The source minus the denoised picture, (N, 1, H, W).
        denoised: The denoised picture, of the same shape.

    Returns:
        The detail, of the same shape.
    """
    detail = torch.zeros_like(removed)
    for scale in range(_SCALES):
        smoother, structure = (_smooth(x, 2**scale) for x in (removed, denoised))
        wavelet, near = removed - smoother, compute_window_means((denoised - structure).abs(), _NEAR)
        # Flat pictures have neither, and stay without detail.
        total = near + compute_window_means(wavelet.abs(), _WIDE)
        detail += wavelet * (near / total.clamp_min(torch.finfo(total.dtype).tiny)).square()
        removed, denoised = smoother, structure
    return detail


def _smooth(x: Tensor, step: int) -> Tensor:
    """Smooth (N, 1, H, W) by the B3 spline, whose taps are `step` pixels apart."""
    kernel = _SPLINE.to(x)
    for shape, padding, dilation in (
        ((1, 1, 5, 1), (0, 0, 2 * step, 2 * step), (step, 1)),
        ((1, 1, 1, 5), (2 * step, 2 * step, 0, 0), (1, step)),
    ):
        x = F.conv2d(F.pad(x, padding, mode="replicate"), kernel.view(shape), dilation=dilation)
    return x
