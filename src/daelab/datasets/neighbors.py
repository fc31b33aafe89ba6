"""Pairs made of noisy images alone: two neighbors of each square of pixels, whose noise is independent.

Each 2x2 square gives one pixel to a first image and a neighbor of it to a second one. If the noise has mean zero and is
independent from pixel to pixel, a network that predicts the second from the first learns to denoise, without any clean
image (Neighbor2Neighbor; Huang et al., 2021; without its regularizing term).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from daelab.datasets.base import Dataset, DatasetSource, Images, Indices, Pixels
from daelab.datasets.image_folder import load_image_folder

_PAIRS = np.array([(0, 1), (0, 2), (1, 0), (1, 3), (2, 0), (2, 3), (3, 1), (3, 2)])
"""The places in a 2x2 square, row by row, of the pixels of the first and the second image: neighbors only."""


class NeighborPairs(Images):
    """A set of noisy images as pairs of half their size: (B, 6, H / 2, W / 2), the target first.

    Args:
        images: The noisy images; height and width are even.
    """

    paired = True

    def __init__(self, images: Images) -> None:
        """Keep the images."""
        self.images = images
        self.name, self.labels, self.classes = images.name, images.labels, images.classes

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every image of a pair, in pixels."""
        height, width = self.images.size
        return height // 2, width // 2

    def take(self, indices: Indices) -> NeighborPairs:
        """Select images; see `Images.take`."""
        return NeighborPairs(self.images.take(indices))

    def batch(self, indices: Indices, rng: np.random.Generator | None = None) -> Pixels:
        """Read some pairs; see `Images.batch`."""
        return split_neighbors(self.images.batch(indices, rng))

    def batches(
        self,
        orders: Iterable[Indices],
        seed: int | None,
        workers: int | None = None,
        start: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[Pixels]:
        """Read a stream of batches; see `Images.batches`."""
        return (split_neighbors(batch) for batch in self.images.batches(orders, seed, workers, start, share))


def split_neighbors(pixels: Pixels) -> Pixels:
    """Split images into two images of half their size, whose pixels were neighbors.

    Args:
        pixels: uint8 (B, 3, H, W), with even sides. The choice of the neighbors follows from the pixels alone, so that
            it is the same wherever a stream of batches begins.

    Returns:
        uint8 (B, 6, H / 2, W / 2): the second image, which is the target, then the first.

    >>> split_neighbors(np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)).shape
    (1, 6, 1, 1)
    """
    count, channels, height, width = pixels.shape
    squares = pixels.reshape(count, channels, height // 2, 2, width // 2, 2).transpose(0, 1, 2, 4, 3, 5)
    squares = squares.reshape(count, channels, height // 2, width // 2, 4)
    out = np.empty((count, 2 * channels, height // 2, width // 2), np.uint8)
    for image, square in enumerate(squares):
        rng = np.random.default_rng(zlib.crc32(pixels[image].tobytes()))
        first, second = _PAIRS[rng.integers(len(_PAIRS), size=square.shape[1:3])].transpose(2, 0, 1)
        for part, places in enumerate((second, first)):
            chosen = np.take_along_axis(square, np.broadcast_to(places, square.shape[:3])[..., None], 3)
            out[image, part * channels : (part + 1) * channels] = chosen[..., 0]
    return out


def load_neighbors(source: DatasetSource) -> Dataset:
    """Load the noisy images of a folder as pairs of neighbors; see `load_image_folder`.

    Args:
        source: The request, of which `crop` is the side of the images of a pair.

    Raises:
        ValueError: There is no such folder, too few images, or an image that cannot be opened.
    """
    found = load_image_folder(replace(source, crop=2 * source.crop))
    val, whole = (part and NeighborPairs(part) for part in (found.val, found.whole))
    train, test = NeighborPairs(found.train), NeighborPairs(found.test)
    return Dataset("neighbors", train, val, test, found.classes, f"{found.note}, as pairs of neighbors", whole)


def measure_correlation(pixels: Pixels) -> float | None:
    """Measure how far the noise of neighboring pixels is correlated, in the flattest parts of images.

    Args:
        pixels: uint8 (B, 3, H, W) noisy images.

    Returns:
        The correlation at a distance of one pixel beyond that at a distance of two: about 0 for independent noise, and
        towards 1 for smooth noise; None if the images are too small or have no noise.
    """
    count, channels, height, width = pixels.shape
    side = 16
    rows, columns = height // side, width // side
    if not count * rows * columns:
        return None
    cut = pixels[:, :, : rows * side, : columns * side].astype(np.float32)
    blocks = cut.reshape(count, channels, rows, side, columns, side).transpose(0, 2, 4, 1, 3, 5)
    blocks = blocks.reshape(-1, channels, side, side)
    # The means over squares of four pixels show structure more than noise.
    means = blocks.reshape(-1, channels, side // 4, 4, side // 4, 4).mean((3, 5))
    order = means.var((2, 3)).mean(1).argsort()
    flat = blocks[order[: max(1, len(order) // 10)]]
    one, two = (float(np.diff(flat[..., ::step], axis=-1).var()) for step in (1, 2))
    return 1 - one / two if two > 0 else None
