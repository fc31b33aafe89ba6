"""A picture of any size through a method, tile by tile, so that the result equals the untiled one.

Each tile is computed from a window: the tile, out to multiples, with the halo around it. Beyond the
picture's edge at the bottom and the right the window goes on as its mirror image. Windows of a turned
picture are windows of the picture, turned: no copy of the picture is ever made.
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

ProgressCallback = Callable[[int, int], None]
"""Called with (tiles done, tiles in all)."""
Symmetry = tuple[bool, bool, bool]
SYMMETRIES: tuple[Symmetry, ...] = tuple(product((False, True), (False, True), (False, True)))
"""Rows backwards, columns backwards, rows and columns exchanged: the eight flips and rotations."""


@dataclass(frozen=True)
class TilePlace:
    """Part of a batch of pictures (N, H, W)."""

    images: slice
    rows: slice
    columns: slice


FetchFunction = Callable[[TilePlace], Tensor]
"""Gives a part as (n, 3, h, w) float32 in [0, 1], on the method's device; what a conditioned one is told behind."""
StoreFunction = Callable[[TilePlace, Tensor, Tensor | None], None]
"""Takes a part's clean pixels, shaped so, and with self-ensemble their spread (n, h, w)."""


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
    """Clean a batch of pictures (N, H, W).

    Args:
        side: of a tile, in pixels; a multiple of the method's. Small pictures go through together,
            as many as have a tile's pixels. Where memory runs out, the tiles that are left are halved.
        self_ensemble: average over the eight flips and rotations.

    Raises:
        ValueError: memory runs out even for the smallest tile.
    """
    if 0 in shape:
        return
    todo, done = list(_places(method, shape, side))[::-1], 0
    while todo:
        short = False
        try:
            store(todo[-1], *_cleaned(method, shape, todo[-1], fetch, self_ensemble))
        except Exception as error:
            if not _out_of_memory(error):
                raise
            short = True
        if short:  # halved here, where what the failed attempt held has been given back
            todo = [half for place in todo for half in _halves(method, place, last=place is todo[-1])]
            continue
        todo.pop()
        done += 1
        if progress:
            progress(done, done + len(todo))


def _cleaned(
    method: Backend, shape: tuple[int, int, int], place: TilePlace, fetch: FetchFunction, self_ensemble: bool
) -> tuple[Tensor, Tensor | None]:
    """A tile's clean pixels, and with self-ensemble their spread."""
    if not self_ensemble:
        return _turned(method, shape, place, fetch, SYMMETRIES[0]), None
    results = torch.stack([_turned(method, shape, place, fetch, symmetry) for symmetry in SYMMETRIES])
    return results.mean(0), results.var(0, correction=0).mean(1).sqrt()


def _turned(
    method: Backend, shape: tuple[int, int, int], place: TilePlace, fetch: FetchFunction, symmetry: Symmetry
) -> Tensor:
    """A tile of the picture that is turned, cleaned, and turned back."""
    _, height, width = shape
    upside_down, mirrored, exchanged = symmetry
    rows = _window(method, place.rows, height, upside_down)
    columns = _window(method, place.columns, width, mirrored)
    x = fetch(replace(place, rows=rows.span, columns=columns.span))
    for axis, window in ((2, rows), (3, columns)):
        if window.order is not None:
            x = x.index_select(axis, window.order.to(x.device))
    result = method.run(x.transpose(2, 3)).transpose(2, 3) if exchanged else method.run(x)
    result = result[..., rows.inner, columns.inner]
    return result.flip([axis for axis, flip in ((2, upside_down), (3, mirrored)) if flip])


@dataclass(frozen=True)
class _Window:
    """One side of what is computed for a tile."""

    span: slice
    """What of the picture it is made of."""
    order: Tensor | None
    """Which pixel of the span stands where; None: as they are."""
    inner: slice
    """Where the tile is in it."""


def _window(method: Backend, side: slice, length: int, backwards: bool) -> _Window:
    """What of a side of `length` pixels, perhaps backwards, must be computed to know the pixels `side`."""
    multiple = method.multiple
    halo = length if method.halo is None else method.halo
    start, stop = (length - side.stop, length - side.start) if backwards else (side.start, side.stop)
    first = max(0, (start - halo) // multiple * multiple)
    last = min(-(-length // multiple), -(-(stop + halo) // multiple)) * multiple
    order = reflect_indices(first, last, length)
    if backwards:
        order = length - 1 - order
    low, high = int(order.min()), int(order.max()) + 1
    as_it_is = not backwards and last <= length
    return _Window(
        slice(low, high), None if as_it_is else torch.from_numpy(order - low), slice(start - first, stop - first)
    )


def reflect_indices(first: int, last: int, length: int) -> npt.NDArray[np.int64]:
    """The pixels that stand at first..last of a side of `length` that goes on as its mirror image, for ever.

    The edge pixel is not repeated, unless it is all there is.

    >>> reflect_indices(0, 8, 3).tolist()
    [0, 1, 2, 1, 0, 1, 2, 1]
    """
    if length == 1:
        return np.zeros(last - first, np.int64)
    period = 2 * (length - 1)
    at = np.arange(first, last) % period
    return np.minimum(at, period - at)


def _places(method: Backend, shape: tuple[int, int, int], side: int) -> Iterator[TilePlace]:
    """The tiles, from left to right and top to bottom, of as many pictures at once as fill a tile."""
    count, height, width = shape
    tall, wide = (height, width) if method.halo is None else (min(side, height), min(side, width))
    several = max(1, side * side // (tall * wide))
    for image, top, left in product(range(0, count, several), range(0, height, tall), range(0, width, wide)):
        yield TilePlace(
            slice(image, min(image + several, count)),
            slice(top, min(top + tall, height)),
            slice(left, min(left + wide, width)),
        )


def _halves(method: Backend, place: TilePlace, *, last: bool) -> list[TilePlace]:
    """A batch in two; one picture's tile in two along its longer side, while it is longer than the multiple.

    Raises:
        ValueError: `last`, the tile that memory ran out for, cannot be cut.
    """
    images, rows, columns = ((side.stop - side.start) for side in (place.images, place.rows, place.columns))
    if images > 1:
        return [replace(place, images=part) for part in _cut(place.images, 1)]
    if method.halo is None or max(rows, columns) <= method.multiple:
        if last:
            raise ValueError(f"memory runs out even for {rows}x{columns} pixels at once; free some of it")
        return [place]
    if rows >= columns:
        return [replace(place, rows=part) for part in _cut(place.rows, method.multiple)]
    return [replace(place, columns=part) for part in _cut(place.columns, method.multiple)]


def _cut(side: slice, multiple: int) -> tuple[slice, slice]:
    """In two, at a multiple from its start."""
    middle = side.start + max(multiple, (side.stop - side.start) // 2 // multiple * multiple)
    return slice(side.start, middle), slice(middle, side.stop)


def _out_of_memory(error: Exception) -> bool:
    """Whether it says so; on a CPU torch raises a plain RuntimeError, onnxruntime one of its own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(hint in text for hint in ("allocate memory", "not enough memory", "out of memory", "bad_alloc"))
