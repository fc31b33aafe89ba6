"""Denoiser.load(name)(image): any size, any of the usual types, the same shape and type back.

A picture is padded by reflection to the multiple that the method needs and computed in tiles with
the halo that it needs: the result equals the untiled one. Reflection, turning and the change of
type happen tile by tile, by index, so that beside the picture and the result no copy of either is made.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daelab._util.hardware import get_free_memory, parse_memory_size
from daelab.denoising.backends import Backend, make_network_backend, make_onnx_backend
from daelab.denoising.classical import parse_classical_method
from daelab.denoising.tiling import FetchFunction, ProgressCallback, TilePlace, denoise_tiles
from daelab.errors import unknown_name
from daelab.models.layers import append_noise_level
from daelab.models.model_file import load_network
from daelab.models.registry import find_model_file, list_shipped_models
from daelab.runs.folder import get_runs_root

Array = npt.NDArray[Any]

TILE = 512
"""Side of a tile at most, in pixels, without its halo: larger ones are no faster."""


class Denoiser:
    """A method, ready for pictures.

    Args:
        method: what cleans.
        tile: side of a tile in pixels, without its halo; up to 512 where it is not given.
        memory: what the computing of a tile may take, in bytes or as text ("512MB"), beside the
            picture and the result; a quarter of the free memory where it is not given.
        sigma: the noise's standard deviation, in steps of 8 bits, which a conditioned method is told;
            estimated from each picture where it is not given.

    Raises:
        ValueError: a number out of range, or a sigma for a method that is not conditioned.
    """

    def __init__(
        self,
        method: Backend,
        *,
        tile: int | None = None,
        memory: int | str | None = None,
        sigma: float | None = None,
    ) -> None:
        if tile is not None and tile < 1:
            raise ValueError(f"tile must be at least 1 pixel, not {tile}")
        if sigma is not None and not method.conditioned:
            raise ValueError(f"{method.name} takes no sigma: it finds the noise's level itself")
        if sigma is not None and not 0 <= sigma <= 255:
            raise ValueError(f"sigma must lie in [0, 255], not {sigma:g}")
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
    ) -> Denoiser:
        """A denoiser from a model file, the name of a shipped model, or the name of a run.

        Or an ONNX file of `daelab export`, or a classical method with all its settings
        (`baseline:median,size=3,raw`; see `baselines`).

        Args:
            name: of the model.
            device: where it computes, in float32; a GPU where there is one.
            tile: side of a tile in pixels.
            memory: of a tile, in bytes or as text; see the class.
            sigma: of the noise, for a model that is told it; see the class.

        Raises:
            FileNotFoundError: it is none of these; lists the names and the nearest match.
            ValueError: the file is not a model; names it and says what is wrong.
        """
        return cls(_method(name, device), tile=tile, memory=memory, sigma=sigma)

    @property
    def name(self) -> str:
        return self.method.name

    @property
    def device(self) -> torch.device:
        return self.method.device

    @property
    def parameters(self) -> int:
        return self.method.parameters

    def __call__(
        self,
        image: npt.ArrayLike,
        *,
        strength: float = 1.0,
        self_ensemble: bool = False,
        progress: ProgressCallback | None = None,
    ) -> Array:
        """Clean one picture, or a batch of pictures of one size.

        Args:
            image: (H, W), (H, W, 3) or (N, H, W, 3); uint8, uint16, or floats in [0, 1].
            strength: from 0, the picture as it came, to 1, the clean one.
            self_ensemble: average over the eight flips and rotations; eight times the work.
            progress: called with (tiles done, tiles in all).

        Returns:
            the same shape and type.

        Raises:
            ValueError: another shape, type or range.
        """
        job = _Arrays(image, self.device, strength)
        self._clean(job, self_ensemble, progress)
        return job.clean

    def with_spread(
        self, image: npt.ArrayLike, *, strength: float = 1.0, progress: ProgressCallback | None = None
    ) -> tuple[Array, npt.NDArray[np.float32]]:
        """Clean by self-ensemble, and say how far the eight results lie apart: where it is unsure.

        Returns:
            the clean picture or batch, and (H, W) or (N, H, W): the standard deviation over the eight
            results of the method, in units of white, root mean square over the channels.
        """
        job = _Arrays(image, self.device, strength)
        job.spreads = np.empty(job.cleans.shape[:3], np.float32)
        self._clean(job, True, progress)
        return job.clean, job.spreads if job.given.ndim == 4 else job.spreads[0]

    def batch(self, x: Tensor, progress: ProgressCallback | None = None, *, self_ensemble: bool = False) -> Tensor:
        """Clean a batch as tensors.

        Args:
            x: (N, 3, H, W) float32 in [0, 1], any height and width.
            self_ensemble: average over the eight flips and rotations; eight times the work.
            progress: called with (tiles done, tiles in all).

        Returns:
            the same shape, on this denoiser's device.
        """
        job = _Tensors(x, self.device)
        self._clean(job, self_ensemble, progress)
        return job.out

    def _clean(self, job: _Arrays | _Tensors, self_ensemble: bool, progress: ProgressCallback | None) -> None:
        side = self._side(self_ensemble)
        fetch = self._telling(job) if self.method.conditioned else job.fetch
        denoise_tiles(
            self.method, job.shape, fetch, job.store, side=side, self_ensemble=self_ensemble, progress=progress
        )

    def _telling(self, job: _Arrays | _Tensors) -> FetchFunction:
        """Parts of the pictures with the level of each one's noise."""
        count, height, width = job.shape
        if self.sigma is not None:
            levels = torch.full((count,), self.sigma / 255)
        elif 0 in job.shape:
            levels = torch.zeros(count)
        else:
            middle = TilePlace(slice(0, count), _middle(height), _middle(width))
            levels = estimate_noise_level(job.fetch(middle))
        return lambda place: append_noise_level(job.fetch(place), levels[place.images])

    def _side(self, self_ensemble: bool) -> int:
        """Of a tile, without its halo: what is asked for, and what the memory allows."""
        multiple, halo = self.method.multiple, self.method.halo or 0
        memory = _free_memory(self.device) // 4 if self._memory is None else self._memory
        # the eight results of a self-ensemble are kept until they are averaged
        pixel = self.method.bytes_per_pixel + (8 * 12 if self_ensemble else 0)
        allowed = (math.isqrt(memory // pixel) - 2 * halo) // multiple * multiple
        wanted = -(-(self._tile or TILE) // multiple) * multiple
        return max(multiple, min(wanted, allowed))


def estimate_noise_level(x: Tensor) -> Tensor:
    """(N,): standard deviation of white noise of mean zero in (N, C, H, W), by its finest diagonal details.

    Their median size over 0.6745 (Donoho and Johnstone, 1994), with Haar's wavelet; 0 for less than 2x2 pixels.
    """
    height, width = (side // 2 * 2 for side in x.shape[2:])
    if not height or not width:
        return torch.zeros(len(x))
    x = x[..., :height, :width]
    details = x[..., ::2, ::2] - x[..., 1::2, ::2] - x[..., ::2, 1::2] + x[..., 1::2, 1::2]
    return details.flatten(1).abs().median(1).values.div(2 * 0.6745).cpu()


def _middle(side: int) -> slice:
    """The middle `2 * TILE` pixels of a side, or all of it."""
    first = max(0, side - 2 * TILE) // 2
    return slice(first, min(side, first + 2 * TILE))


class _Tensors:
    """A batch (N, 3, H, W), and its clean form."""

    def __init__(self, x: Tensor, device: torch.device) -> None:
        self.x, self.out = x, torch.empty(x.shape, device=device)
        self.shape = (x.shape[0], x.shape[2], x.shape[3])

    def fetch(self, place: TilePlace) -> Tensor:
        window = self.x[place.images, :, place.rows, place.columns]
        return window.to(self.out.device, torch.float32)

    def store(self, place: TilePlace, clean: Tensor, spread: Tensor | None) -> None:
        self.out[place.images, :, place.rows, place.columns] = clean


class _Arrays:
    """A picture or a batch of the shapes and types that users have, and its clean form."""

    def __init__(self, image: npt.ArrayLike, device: torch.device, strength: float) -> None:
        self.given = np.asarray(image)
        if self.given.ndim != 2 and not (self.given.ndim in (3, 4) and self.given.shape[-1] == 3):
            raise ValueError(f"an image must be (H, W), (H, W, 3) or (N, H, W, 3), not {self.given.shape}")
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must lie in [0, 1], not {strength}")
        self.device, self.strength, self.scale = device, strength, _scale(self.given)
        self.clean = np.empty(self.given.shape, self.given.dtype)
        self.spreads: npt.NDArray[np.float32] | None = None
        # both as (N, H, W, C)
        self.givens, self.cleans = _batch_of(self.given), _batch_of(self.clean)
        self.shape = (self.givens.shape[0], self.givens.shape[1], self.givens.shape[2])

    def fetch(self, place: TilePlace) -> Tensor:
        window = np.array(self.givens[place.images, place.rows, place.columns], np.float32, order="C")
        x = torch.from_numpy(window).to(self.device).div_(self.scale).permute(0, 3, 1, 2)
        return x.expand(-1, 3, -1, -1)  # grey as three equal channels

    def store(self, place: TilePlace, clean: Tensor, spread: Tensor | None) -> None:
        if self.strength < 1:
            clean = torch.lerp(self.fetch(place), clean, self.strength)
        if self.givens.shape[3] == 1:
            clean = clean.mean(1, keepdim=True)
        values = clean.clamp(0, 1).mul_(self.scale).permute(0, 2, 3, 1)
        at = (place.images, place.rows, place.columns)
        self.cleans[at] = (values.round() if self.scale > 1 else values).cpu().numpy()
        if self.spreads is not None and spread is not None:
            self.spreads[at] = spread.cpu().numpy()


def _batch_of(image: Array) -> Array:
    if image.ndim == 2:
        return image[None, :, :, None]
    return image if image.ndim == 4 else image[None]


def find_model(name: str | Path) -> Path:
    """The file of a model: a path, the name of a shipped model, or a run's name or folder.

    Raises:
        FileNotFoundError: none of these; lists the names and the nearest match.
    """
    try:
        return find_model_file(name)
    except FileNotFoundError:
        pass
    there = {path.parent.name: path for path in get_runs_root().glob("*/best.safetensors")}
    if str(name) in there:
        return there[str(name)]
    if (inside := Path(name) / "best.safetensors").is_file():
        return inside
    valid = [*list_shipped_models(), *there]
    if not valid:
        raise FileNotFoundError(f"no model {name}: there is no such file, and no run has one yet")
    raise FileNotFoundError(str(unknown_name("model or run", str(name), valid)))


def _method(name: str | Path, device: torch.device | str | None) -> Backend:
    """What a name stands for."""
    if str(name).startswith("baseline:"):
        return parse_classical_method(str(name)).method()
    path = find_model(name)
    if path.suffix.lower() == ".onnx":
        return make_onnx_backend(path)
    return make_network_backend(*load_network(path), device)


def _free_memory(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else get_free_memory()


def _scale(image: Array) -> int:
    """What stands for white."""
    if image.dtype.type is np.uint8:
        return 255
    if image.dtype.type is np.uint16:
        return 65535
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"an image must be uint8, uint16 or float, not {image.dtype}")
    # a value that is no number makes both comparisons false
    if image.size and not (image.min() >= 0 and image.max() <= 1):
        raise ValueError("an image of floats must lie in [0, 1]; scale it first")
    return 1
