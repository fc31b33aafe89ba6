"""Denoising of pictures tile by tile. The result equals that of denoising the full image at once.

Each tile is computed from a window: the tile with the halo around it, extended to multiples of the network's stride.
Beyond the bottom and the right edge of the picture, the window continues as the mirror image. A window of a flipped or
rotated picture is a flipped or rotated window of the picture, so the picture itself is never copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daelab.denoising.backends import Backend
from daelab.errors import is_out_of_memory

ProgressCallback = Callable[[int, int], None]
"""A function that is called with the numbers of tiles done and of all tiles."""
Symmetry = tuple[bool, bool, bool]
"""Whether rows are reversed, columns are reversed, and rows and columns are exchanged."""
SYMMETRIES: tuple[Symmetry, ...] = tuple(product((False, True), (False, True), (False, True)))
"""The eight flips and rotations."""


@dataclass(frozen=True)
class TilePlace:
    """A part of a batch of pictures (N, H, W)."""

    images: slice
    rows: slice
    columns: slice


FetchFunction = Callable[[TilePlace], Tensor]
"""A function that returns a part as (n, 3, h, w) float32 in [0, 1] on the backend's device.

For a conditioned backend, the noise level is a fourth channel.
"""
StoreFunction = Callable[[TilePlace, Tensor, Tensor | None], None]
"""A function that stores the denoised pixels of a part, and with self-ensemble their spread (n, h, w)."""


def check_tile(tile: int | None) -> None:
    """Check the side of a tile.

    Args:
        tile: The side in pixels, or None for the default.

    Raises:
        ValueError: It is not a whole number of at least 1.
    """
    if tile is not None and (isinstance(tile, bool) or not isinstance(tile, int | np.integer) or tile < 1):
        raise ValueError(f"tile must be at least 1 pixel, and a whole number, not {tile}")


@torch.no_grad()
def denoise_tiles(
    method: Backend,
    shape: tuple[int, int, int],
    fetch: FetchFunction,
    store: StoreFunction,
    *,
    side: int,
    self_ensemble: bool = False,
    progress: ProgressCallback | None = None,
) -> None:
    """Denoise a batch of pictures tile by tile.

    Args:
        method: The backend.
        shape: The (N, H, W) of the batch.
        fetch: Returns a part of the noisy pictures.
        store: Stores a part of the denoised pictures.
        side: The largest side of a tile in pixels, a multiple of the backend's `multiple`. Small pictures are computed
            together, as many as fill a tile. If memory runs out, the remaining tiles are halved.
        self_ensemble: Average over the eight flips and rotations.
        progress: Called with the numbers of tiles done and of all tiles.

    Raises:
        ValueError: Memory runs out even for the smallest tile, or a result is NaN or infinite.
    """
    if 0 in shape:
        return
    # Reversed, since the next tile is taken from the end of the list.
    todo, done = list(_places(method, shape, side))[::-1], 0
    while todo:
        short = False
        try:
            denoised, spread = _denoise_tile(method, shape, todo[-1], fetch, self_ensemble)
            # Checked here for every path: pixels of a picture that a broken model spoilt must never be written.
            if not torch.isfinite(denoised).all():
                raise ValueError(f"{method.name} returned NaN or infinite values; its weights may be damaged")
            store(todo[-1], denoised, spread)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            short = True
        if short:  # outside the handler, where the memory of the failed attempt is free again
            todo = [half for place in todo for half in _halves(method, place, last=place is todo[-1])]
            continue
        todo.pop()
        done += 1
        if progress:
            progress(done, done + len(todo))


def _denoise_tile(
    method: Backend, shape: tuple[int, int, int], place: TilePlace, fetch: FetchFunction, self_ensemble: bool
) -> tuple[Tensor, Tensor | None]:
    """Denoise a tile; with self-ensemble also compute the spread of the eight results."""
    if not self_ensemble:
        return _denoise_turned(method, shape, place, fetch, SYMMETRIES[0]), None
    # All eight results are kept until the end, since their spread needs each of them.
    results = torch.stack([_denoise_turned(method, shape, place, fetch, symmetry) for symmetry in SYMMETRIES])
    # Without Bessel's correction: the eight symmetries are all there are, not a sample of more.
    return results.mean(0), results.var(0, correction=0).mean(1).sqrt()


def _denoise_turned(
    method: Backend, shape: tuple[int, int, int], place: TilePlace, fetch: FetchFunction, symmetry: Symmetry
) -> Tensor:
    """Flip or rotate a tile's window, denoise it, and turn the result back."""
    _, height, width = shape
    upside_down, mirrored, exchanged = symmetry
    rows = _window(method, place.rows, height, upside_down)
    columns = _window(method, place.columns, width, mirrored)
    x = fetch(replace(place, rows=rows.span, columns=columns.span))
    for axis, window in ((2, rows), (3, columns)):
        if window.order is not None:
            x = x.index_select(axis, window.order.to(x.device))
    if exchanged:
        result = method.denoise_inside(x.transpose(2, 3), (*columns.margins, *rows.margins)).transpose(2, 3)
    else:
        result = method.denoise_inside(x, (*rows.margins, *columns.margins))
    return result.flip([axis for axis, flip in ((2, upside_down), (3, mirrored)) if flip])


@dataclass(frozen=True)
class _Window:
    """One side of the window that a tile is computed from."""

    span: slice
    """The pixels of the picture that the window is made of."""
    order: Tensor | None
    """The indices of the window's pixels in the span; None if they are those of the span in order."""
    margins: tuple[int, int]
    """The pixels of the window before the tile and after it."""


def _window(method: Backend, side: slice, length: int, backwards: bool) -> _Window:
    """Return the window of the pixels `side` of an axis of `length` pixels, perhaps reversed."""
    multiple = method.multiple
    # A method without a halo depends on every pixel, so its window is the whole side.
    halo = length if method.halo is None else method.halo
    start, stop = (length - side.stop, length - side.start) if backwards else (side.start, side.stop)
    # The window begins at a multiple of the stride, so that it is on the same grid as the full picture.
    first = max(0, (start - halo) // multiple * multiple)
    last = min(-(-length // multiple), -(-(stop + halo) // multiple)) * multiple
    order = reflect_indices(first, last, length)
    if backwards:
        # The mirror image of the window's indices makes a window of the flipped picture from the picture itself.
        order = length - 1 - order
    # Only the pixels in use are fetched; those beyond the edge are reflected from among them.
    low, high = int(order.min()), int(order.max()) + 1
    unchanged = not backwards and last <= length
    return _Window(slice(low, high), None if unchanged else torch.from_numpy(order - low), (start - first, last - stop))


def reflect_indices(first: int, last: int, length: int) -> npt.NDArray[np.int64]:
    """Return the indices of the pixels at first..last of an axis that is continued by reflection.

    The edge pixel is not repeated, unless it is the only one.

    Args:
        first: The first position; it may be negative.
        last: The position after the last one.
        length: The number of pixels of the axis.

    >>> reflect_indices(0, 8, 3).tolist()
    [0, 1, 2, 1, 0, 1, 2, 1]
    """
    if length == 1:
        return np.zeros(last - first, np.int64)
    period = 2 * (length - 1)
    at = np.arange(first, last) % period
    return np.minimum(at, period - at)


def _places(method: Backend, shape: tuple[int, int, int], side: int) -> Iterator[TilePlace]:
    """Yield the tiles from left to right and top to bottom, each of as many pictures as fill a tile.

    The tiles of a picture are about as large as each other.
    """
    count, height, width = shape
    tall, wide = height, width
    if method.halo is not None:
        tall, wide = _balance(height, side, method.multiple), _balance(width, side, method.multiple)
    # Small pictures are computed together, since each call has a cost of its own.
    around = 2 * (method.halo or 0)
    several = max(1, side * side // (min(height, tall + around) * min(width, wide + around)))
    for image, top, left in product(range(0, count, several), range(0, height, tall), range(0, width, wide)):
        yield TilePlace(
            slice(image, min(image + several, count)),
            slice(top, min(top + tall, height)),
            slice(left, min(left + wide, width)),
        )


def _balance(length: int, side: int, multiple: int) -> int:
    """Return the length of each tile if a side is cut into as few as possible, of about the same length.

    It is a multiple of `multiple`, or the whole side.
    """
    tiles = -(-length // side)
    return min(-(-length // tiles // multiple) * multiple, length)


def _halves(method: Backend, place: TilePlace, *, last: bool) -> list[TilePlace]:
    """Halve a batch of pictures, or the tile of one picture along its longer side.

    A tile no longer than the multiple stays as it is, unless it is `last`, the one that memory ran out for: then a
    ValueError is raised.
    """
    images, rows, columns = ((side.stop - side.start) for side in (place.images, place.rows, place.columns))
    if images > 1:
        return [replace(place, images=part) for part in _cut(place.images, 1)]
    # Such a tile cannot be cut any further without another result.
    if method.halo is None or max(rows, columns) <= method.multiple:
        if last:
            raise ValueError(
                f"the free memory is too small even for a tile of {rows}x{columns} pixels; close other programs"
            )
        return [place]
    if rows >= columns:
        return [replace(place, rows=part) for part in _cut(place.rows, method.multiple)]
    return [replace(place, columns=part) for part in _cut(place.columns, method.multiple)]


def _cut(side: slice, multiple: int) -> tuple[slice, slice]:
    """Cut a side in two at a multiple from its start."""
    middle = side.start + max(multiple, (side.stop - side.start) // 2 // multiple * multiple)
    return slice(side.start, middle), slice(middle, side.stop)
