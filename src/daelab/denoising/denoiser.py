"""The denoiser of pictures of any size and of the usual types; the result has the same shape and type.

A picture is padded by reflection to the multiple that the backend needs, and computed in tiles with the halo that it
needs, so the result equals that of the full image at once. Reflection, rotation and the conversion of types happen
tile by tile, so that neither the picture nor the result is copied.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from daelab._util.hardware import get_free_device_memory
from daelab._util.memory import parse_memory_size
from daelab._util.text import format_html_table
from daelab.denoising.arrays import ArrayJob, TensorJob, convert_to_array, estimate_noise_level
from daelab.denoising.backends import CPU_DEVICE, Backend, make_module_backend, make_network_backend, make_onnx_backend
from daelab.denoising.blending import FULL, Blend
from daelab.denoising.classical import CLASSICAL_PREFIX, parse_classical_method
from daelab.denoising.named_models import find_model, load_tiled_network
from daelab.denoising.planes import split_planes
from daelab.denoising.tiling import FetchFunction, ProgressCallback, TilePlace, check_tile, denoise_tiles
from daelab.image_io.picture import Picture
from daelab.models.external import Halo, split_model_name
from daelab.models.int8 import choose_ranges
from daelab.models.layers import AnySizeNetwork, append_noise_level

_Array = npt.NDArray[Any]

TILE = 768
"""The largest side of a tile in pixels, without its halo. Larger tiles save little, and take more memory."""
SAMPLED = 1024
"""The side of the middle of a picture from which a noise level is estimated, in pixels."""


class Denoiser:
    """A denoiser of pictures.

    Args:
        method: A backend; or an nn.Module or a function of (N, C, H, W) float32 in [0, 1] to the same shape.
        multiple: The number of pixels of which height and width must be multiples, for a module or a function.
            Default: its attribute `multiple`, or else it is measured.
        halo: The pixels around a tile that a result depends on, for a module or a function. None computes whole
            pictures. Default: its attribute `halo`, or else the reach of its gradient on random pictures; `repr` says
            how certain that is.
        channels: C, for a module or a function. Default: its attribute `channels`, or else 3. A network of one channel
            takes each channel of a picture as a grey one.
        tile: The largest side of a tile in pixels, without its halo. Default: up to 768.
        memory: The memory that computing a tile may take, in bytes or as text ("512MB"), beside the picture and the
            result. Default: a quarter of the free memory.
        sigma: The standard deviation of the noise in 8-bit steps, for a conditioned backend. Default: it is estimated
            from each picture.

    Raises:
        ValueError: A number is out of range, or `sigma` is given for a backend that is not conditioned.
    """

    def __init__(
        self,
        method: Backend | nn.Module | Callable[[Tensor], Tensor],
        *,
        multiple: int | None = None,
        halo: Halo = "measured",
        channels: int | None = None,
        tile: int | None = None,
        memory: int | str | None = None,
        sigma: float | None = None,
    ) -> None:
        """Check the settings; see the class."""
        check_tile(tile)
        if not isinstance(method, Backend):
            method = make_module_backend(method, multiple=multiple, halo=halo, channels=channels)
        elif multiple is not None or halo != "measured" or channels is not None:
            raise ValueError("multiple, halo and channels are for a module or a function; a backend has its own")
        if sigma is not None and not method.conditioned:
            raise ValueError(f"{method.name} takes no sigma: it was trained for all noise levels at once")
        if sigma is not None and not 0 <= sigma <= method.largest_sigma:
            limits = f"[0, {method.largest_sigma:g}], the levels that {method.name} was trained for"
            raise ValueError(f"sigma must lie in {limits}, not {sigma:g}")
        self.method, self.sigma = method, sigma
        self._tile = tile
        self._memory = None if memory is None else parse_memory_size(memory)

    @classmethod
    def load(
        cls,
        name: str | Path,
        device: torch.device | str | None = None,
        *,
        tile: int | None = None,
        memory: int | str | None = None,
        sigma: float | None = None,
        precision: str = "auto",
    ) -> Denoiser:
        """Load a denoiser.

        Args:
            name: A model file, the name of a shipped model, the name of a run, an ONNX file of `daelab export`, a
                model of the hub (`hf://OWNER/NAME`), which this downloads, a classical method with all its settings
                (`baseline:median,size=3,raw`; see `classical`), or code of yours, which this runs:
                `package.module:factory`, or `package.module:factory@MODEL` with weights.
            device: The device. Default: the GPU if there is one.
            tile: The largest side of a tile in pixels; see the class.
            memory: The memory of a tile, in bytes or as text; see the class.
            sigma: The standard deviation of the noise in 8-bit steps; see the class.
            precision: `float32`; `int8`, which is faster on an x86 CPU with AVX2 and changes a PSNR by a few hundredths
                of a decibel, for models whose file says how; or `auto`, which is int8 where it can be.

        Raises:
            FileNotFoundError: There is no such model or run.
            TypeError: The name is neither a text nor a path.
            ValueError: The file is not a model, or it cannot compute in int8.

        >>> denoised = Denoiser.load("model-c", tile=256)(np.full((5, 7), 128, np.uint8))
        >>> denoised.shape, str(denoised.dtype)
        ((5, 7), 'uint8')
        """
        return cls(_load_backend(name, device, precision), tile=tile, memory=memory, sigma=sigma)

    @property
    def name(self) -> str:
        """The name of the model or of the classical method."""
        return self.method.name

    @property
    def device(self) -> torch.device:
        """The device that computes."""
        return self.method.device

    @property
    def parameters(self) -> int:
        """The number of trained parameters; 0 for a classical method."""
        return self.method.parameters

    @property
    def precision(self) -> str:
        """The precision of most of the computation: float32 or int8."""
        return self.method.precision

    @property
    def module(self) -> nn.Module:
        """The network as an nn.Module of images (N, 3, H, W) in [0, 1] of any size, in evaluation mode.

        It pads and crops by itself. It has gradients, and can be pickled, trained and exported with `torch.export`. Its
        weights are those of the denoiser. A conditioned network takes the noise level as a fourth channel.

        Raises:
            ValueError: The denoiser has no network.
        """
        if self.method.network is None:
            raise ValueError(f"{self.name} is no network of PyTorch, so it has no module")
        return AnySizeNetwork(self.method.network).eval()

    def __repr__(self) -> str:
        """Return what the denoiser is, for people."""
        method = self.method
        tiles = "whole pictures" if method.halo is None else f"halo {method.halo}"
        parts = [
            f"{method.parameters:,} parameters",
            f"multiple {method.multiple}",
            tiles,
            f"{method.precision} on {method.device}",
        ]
        if method.noise:
            parts.insert(0, f"trained on {method.noise}")
        return f"<Denoiser {method.name}: {', '.join(parts)}{f'; {method.note}' if method.note else ''}>"

    def _repr_html_(self) -> str:
        """Return the facts of `repr` as a table for a notebook."""
        method = self.method
        facts = {
            "trained on": method.noise,
            "parameters": f"{method.parameters:,}",
            "multiple": method.multiple,
            "halo": "the whole picture" if method.halo is None else method.halo,
            "how they are known": method.note,
            "device": method.device,
            "precision": method.precision,
        }
        return format_html_table(f"Denoiser {method.name}", (), [fact for fact in facts.items() if fact[1] != ""])

    def __call__(
        self,
        image: npt.ArrayLike,
        *,
        strength: float = 1.0,
        chroma: float | None = None,
        detail: float = 0.0,
        self_ensemble: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Any:
        """Denoise one picture, or a batch of pictures of one size.

        Args:
            image: (H, W), (H, W, 3) or (N, H, W, 3), or a tensor (3, H, W) or (N, 3, H, W); integers or floats. Black
                and white are 0 and 1 for floats within [0, 1]; see `find_value_range` for other values. Outliers stay
                as they are.
            strength: A number from 0, the unchanged picture, to 1, the denoised one; see `Blend`.
            chroma: The strength for the two color-difference channels. Default: that of `strength`.
            detail: The part of the brightness detail to recover from the source, from 0 to 1.
            self_ensemble: Average over the eight flips and rotations, which takes eight times as long.
            progress: Called with the numbers of tiles done and of all tiles.

        Returns:
            the denoised picture or batch, of the same shape and type; for a tensor with the channels first a tensor on
            its device.

        Raises:
            ValueError: The shape or the type is another, or a value is NaN or infinite.
        """
        blend = Blend(strength, chroma, detail)
        channels = (3, self.method.channels)
        is_image = isinstance(image, Tensor) and image.ndim in (3, 4)
        if isinstance(image, Tensor) and is_image and image.shape[-3] in channels and image.shape[-1] not in channels:
            channels_last = image.movedim(-3, -1).contiguous()
            denoised = self._denoise_array(channels_last, blend, self_ensemble, False, progress)[0]
            return torch.from_numpy(denoised).movedim(-1, -3).contiguous().to(image.device)
        return self._denoise_array(image, blend, self_ensemble, False, progress)[0]

    def with_spread(
        self,
        image: npt.ArrayLike,
        *,
        strength: float = 1.0,
        chroma: float | None = None,
        detail: float = 0.0,
        progress: ProgressCallback | None = None,
    ) -> tuple[_Array, npt.NDArray[np.float32]]:
        """Denoise by self-ensemble, and also return how much the eight results differ at each pixel.

        Args:
            image: A picture or a batch; see `__call__`.
            strength: A number from 0, the unchanged picture, to 1, the denoised one; see `Blend`.
            chroma: The strength for the two color-difference channels. Default: that of `strength`.
            detail: The part of the brightness detail to recover from the source, from 0 to 1.
            progress: Called with the numbers of tiles done and of all tiles.

        Returns:
            the denoised picture or batch, and the uncertainty map, (H, W) or (N, H, W): the standard deviation of the
            eight results for a range of [0, 1], root mean square over the channels.
        """
        denoised, spread = self._denoise_array(image, Blend(strength, chroma, detail), True, True, progress)
        assert spread is not None
        return denoised, spread

    def _denoise_array(
        self,
        image: npt.ArrayLike,
        blend: Blend,
        self_ensemble: bool,
        uncertainty: bool,
        progress: ProgressCallback | None,
    ) -> tuple[_Array, npt.NDArray[np.float32] | None]:
        array = convert_to_array(image, self.method.channels)
        # `split_planes` takes (H, W, 4) for CMYK, so an array of bands becomes a batch of one.
        is_single = array.ndim == 3 and array.shape[2] != 3
        planes = split_planes(Picture(array[None] if is_single else array))
        denoised, spread = self.denoise_plane(
            planes.arrays[0],
            blend=blend,
            self_ensemble=self_ensemble,
            uncertainty=uncertainty,
            progress=progress,
        )
        joined = planes.join([denoised])
        return (joined[0], None if spread is None else spread[0]) if is_single else (joined, spread)

    def denoise_plane(
        self,
        plane: _Array,
        *,
        blend: Blend = FULL,
        self_ensemble: bool = False,
        uncertainty: bool = False,
        progress: ProgressCallback | None = None,
    ) -> tuple[_Array, npt.NDArray[np.float32] | None]:
        """Denoise an array that `split_planes` returned.

        Args:
            plane: (H, W), (H, W, C) or (N, H, W, C); uint8, uint16 or floats in [0, 1].
            blend: How the result is mixed with the array.
            self_ensemble: Average over the eight flips and rotations, which takes eight times as long.
            uncertainty: Return the uncertainty map, which implies the self-ensemble.
            progress: Called with the numbers of tiles done and of all tiles.

        Returns:
            the denoised array, and the uncertainty map if it was asked for; see `with_spread`.
        """
        colors = 1 if plane.ndim == 2 else plane.shape[-1]
        if colors > 1 and self.method.channels == 1:
            denoised, spreads = self.denoise_plane(
                np.moveaxis(plane, -1, 0).reshape(-1, *plane.shape[-3:-1], 1),
                blend=blend,
                self_ensemble=self_ensemble,
                uncertainty=uncertainty,
                progress=progress,
            )
            by_channel = denoised.reshape(colors, *plane.shape[:-1])
            spread = None if spreads is None else spreads.reshape(by_channel.shape)
            # The root mean square over the channels, as for a network that takes them together.
            spread = None if spread is None else np.sqrt(np.square(spread).mean(0))
            return np.ascontiguousarray(np.moveaxis(by_channel, 0, -1)), spread
        self._check_channels(colors)
        job = ArrayJob(plane, self.device, self.method.channels)
        job.spreads = np.empty(job.outputs.shape[:3], np.float32) if uncertainty else None
        self._denoise(job, blend, self_ensemble or uncertainty, progress)
        spreads = job.spreads
        return job.denoised, spreads if spreads is None or plane.ndim == 4 else spreads[0]

    def batch(self, x: Tensor, progress: ProgressCallback | None = None, *, self_ensemble: bool = False) -> Tensor:
        """Denoise a batch of tensors.

        Args:
            x: (N, C, H, W) float32 in [0, 1], of any height and width.
            progress: Called with the numbers of tiles done and of all tiles.
            self_ensemble: Average over the eight flips and rotations, which takes eight times as long.

        Returns:
            (N, C, H, W) on the device of the denoiser.
        """
        if self.method.channels == 1 and x.shape[1] > 1:
            grey = x.reshape(-1, 1, *x.shape[2:])
            return self.batch(grey, progress, self_ensemble=self_ensemble).reshape(x.shape)
        self._check_channels(x.shape[1], batch=True)
        job = TensorJob(x, self.device)
        self._denoise(job, FULL, self_ensemble, progress)
        return job.out

    def _check_channels(self, channels: int, *, batch: bool = False) -> None:
        """Raise a ValueError if the pictures have channels that the backend does not take; grey arrays are repeated."""
        if channels != self.method.channels and (batch or channels != 1):
            raise ValueError(f"{self.name} takes pictures of {self.method.channels} channels, not {channels}")

    def _denoise(
        self, job: ArrayJob | TensorJob, blend: Blend, self_ensemble: bool, progress: ProgressCallback | None
    ) -> None:
        method = blend.apply(self.method)
        side = self._side(method, self_ensemble)
        fetch = self._fetch_with_level(job, max(1.0, blend.strength)) if method.conditioned else job.fetch
        denoise_tiles(method, job.shape, fetch, job.store, side=side, self_ensemble=self_ensemble, progress=progress)

    def _fetch_with_level(self, job: ArrayJob | TensorJob, factor: float) -> FetchFunction:
        """Return a function that fetches parts of the pictures, each with a multiple of its picture's noise level."""
        count, height, width = job.shape
        if self.sigma is not None:
            levels = torch.full((count,), self.sigma / 255)
        elif 0 in job.shape:
            # An empty batch has no middle to estimate the noise level from.
            levels = torch.zeros(count)
        else:
            # The level is estimated once from the middle of each picture, so that all of its tiles are denoised alike.
            middle = TilePlace(slice(0, count), _middle(height), _middle(width))
            levels = estimate_noise_level(job.fetch(middle))
        # Beyond the levels that it was trained for, a network removes anything.
        levels = (factor * levels).clamp_max(self.method.largest_sigma / 255)
        return lambda place: append_noise_level(job.fetch(place), levels[place.images])

    def _side(self, method: Backend, self_ensemble: bool) -> int:
        """Return the largest side of a tile without its halo: the requested one, or less if the memory is short."""
        multiple, halo = method.multiple, method.halo or 0
        memory = get_free_device_memory(self.device) // 4 if self._memory is None else self._memory
        # A self-ensemble keeps its eight results until they are averaged.
        pixel = method.bytes_per_pixel + (8 * 12 if self_ensemble else 0)
        # The halo is computed too, so it counts toward the memory of a tile although its pixels are dropped.
        allowed = (math.isqrt(memory // pixel) - 2 * halo) // multiple * multiple
        # Tiles begin at multiples of the network's stride, or they would be computed on another grid than the full
        # picture.
        requested = -(-(self._tile or TILE) // multiple) * multiple
        # Even where the memory looks too small, the smallest tile is tried: the estimate is rough.
        return max(multiple, min(requested, allowed))


def _middle(side: int) -> slice:
    """Return the middle `SAMPLED` pixels of a side, or all of it."""
    first = max(0, side - SAMPLED) // 2
    return slice(first, min(side, first + SAMPLED))


def _load_backend(name: object, device: torch.device | str | None, precision: str) -> Backend:
    if not isinstance(name, str | Path):
        kind = type(name).__name__
        raise TypeError(f"a model must be a name, a file or a Denoiser, not {kind}; daelab.Denoiser(NETWORK) makes one")
    is_classical = str(name).startswith(CLASSICAL_PREFIX)
    is_code = split_model_name(name)[0] is not None
    if is_classical or (not is_code and (path := find_model(name)).suffix.lower() == ".onnx"):
        choose_ranges(precision, {}, CPU_DEVICE, str(name))
        return parse_classical_method(str(name)).method() if is_classical else make_onnx_backend(path)
    network, metadata, note = load_tiled_network(name)
    return replace(make_network_backend(network, metadata, device, precision), note=note)
