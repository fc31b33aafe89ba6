"""Denoiser.load(name)(image): any size, any of the usual types, the same shape and type back.

Pictures are padded by reflection to the multiple that the network needs, computed in
tiles with the halo its receptive field needs, and cropped: the result equals the untiled one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daelab import modelfile, runs
from daelab.errors import unknown
from daelab.model import Network, inference
from daelab.modelfile import Card

Array = npt.NDArray[Any]

TILE = 512
"""Side of a tile, in pixels, without its halo."""


class Denoiser:
    """A trained network, ready for pictures.

    Args:
        network: in evaluation mode.
        card: what its file says of it.
        device: where it computes, in float32.
    """

    def __init__(self, network: Network, card: Card, device: torch.device | str | None = None) -> None:
        self.card = card
        self.spec = network.spec
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._run = inference(network, self.device)

    @classmethod
    def load(cls, name: str | Path, device: torch.device | str | None = None) -> Denoiser:
        """A denoiser from a model file, the name of a shipped model, or the name of a run.

        Raises:
            FileNotFoundError: it is none of these; lists the names and the nearest match.
            ValueError: the file is not a model; names it and says what is wrong.
        """
        return cls(*modelfile.load(find(name)), device)

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def parameters(self) -> int:
        return self.spec.parameters

    def __call__(self, image: npt.ArrayLike) -> Array:
        """Clean one picture, or a batch of pictures of one size.

        Args:
            image: (H, W), (H, W, 3) or (N, H, W, 3); uint8, uint16, or floats in [0, 1].

        Returns:
            the same shape and type.

        Raises:
            ValueError: another shape, type or range.
        """
        given = np.asarray(image)
        scale = _scale(given)
        pixels = torch.from_numpy(np.ascontiguousarray(given, dtype=np.float32) / np.float32(scale))
        if given.ndim == 2:
            # grey goes through as three equal channels and comes back as their mean
            cleaned = self.batch(pixels.expand(1, 3, *given.shape)).mean(1)[0]
        elif given.ndim in (3, 4) and given.shape[-1] == 3:
            stacked = pixels.reshape(-1, *given.shape[-3:]).permute(0, 3, 1, 2)
            cleaned = self.batch(stacked).permute(0, 2, 3, 1).reshape(given.shape)
        else:
            raise ValueError(f"an image must be (H, W), (H, W, 3) or (N, H, W, 3), not {given.shape}")
        result = cleaned.clamp(0, 1).cpu().numpy() * scale
        return (result.round() if scale > 1 else result).astype(given.dtype)

    def batch(self, x: Tensor, progress: Callable[[int, int], None] | None = None) -> Tensor:
        """Clean a batch as tensors.

        Args:
            x: (N, 3, H, W) float32 in [0, 1], any height and width.
            progress: called with (tiles done, tiles in all).

        Returns:
            the same shape, on this denoiser's device.
        """
        height, width = x.shape[-2:]
        if 0 in x.shape:
            return x
        multiple = self.spec.multiple
        padded = reflect(x.to(self.device), -height % multiple, -width % multiple)
        if max(padded.shape[-2:]) <= TILE:
            return self._run(padded)[..., :height, :width]
        out = torch.empty_like(padded)
        tiles = list(self._tiles(*padded.shape[-2:]))
        for done, (rows, columns, window, inner) in enumerate(tiles, 1):
            out[..., rows, columns] = self._run(padded[..., window[0], window[1]])[..., inner[0], inner[1]]
            if progress:
                progress(done, len(tiles))
        return out[..., :height, :width]

    def _tiles(self, height: int, width: int) -> Iterator[tuple[slice, slice, tuple[slice, ...], tuple[slice, ...]]]:
        """Each tile's place, the window to compute it from, and the place of the tile in the window."""
        step = -(-TILE // self.spec.multiple) * self.spec.multiple
        for top in range(0, height, step):
            for left in range(0, width, step):
                sides = [_side(top, step, height, self.spec.halo), _side(left, step, width, self.spec.halo)]
                (rows, tall, inner_rows), (columns, wide, inner_columns) = sides
                yield rows, columns, (tall, wide), (inner_rows, inner_columns)


def _side(start: int, step: int, length: int, halo: int) -> tuple[slice, slice, slice]:
    stop = min(start + step, length)
    first, last = max(0, start - halo), min(length, stop + halo)
    return slice(start, stop), slice(first, last), slice(start - first, stop - first)


def reflect(x: Tensor, bottom: int, right: int) -> Tensor:
    """(..., H, W) padded by reflection at the bottom and the right, however small the picture is."""
    for axis, more in ((-2, bottom), (-1, right)):
        while more > 0:
            side = x.shape[axis]
            # the edge pixel is not repeated, unless it is all there is
            take = min(more, max(side - 1, 1))
            first = max(side - 1 - take, 0)
            mirrored = x.narrow(axis, first, take).flip(axis)
            x = torch.cat([x, mirrored], dim=axis)
            more -= take
    return x


def find(name: str | Path) -> Path:
    """The file of a model: a path, the name of a shipped model, or the name of a run.

    Raises:
        FileNotFoundError: none of these; lists the names and the nearest match.
    """
    try:
        return modelfile.find(name)
    except FileNotFoundError:
        pass
    there = {path.parent.name: path for path in runs.root().glob("*/best.safetensors")}
    if str(name) in there:
        return there[str(name)]
    valid = [*modelfile.shipped(), *there]
    if not valid:
        raise FileNotFoundError(f"no model {name}: there is no such file, and no run has one yet")
    raise FileNotFoundError(str(unknown("model or run", str(name), valid)))


def _scale(image: Array) -> int:
    """What stands for white."""
    if image.dtype == np.uint8:
        return 255
    if image.dtype == np.uint16:
        return 65535
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"an image must be uint8, uint16 or float, not {image.dtype}")
    if image.size and not (np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
        raise ValueError("an image of floats must lie in [0, 1]; scale it first")
    return 1
