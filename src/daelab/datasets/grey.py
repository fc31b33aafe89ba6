"""The images of a data set in grey, for networks of one channel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from daelab.datasets.base import Images, ImageSet, Indices, Pixels

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""The weights of red, green and blue in the brightness (ITU-R BT.601)."""


def match_channels(images: Images, channels: int) -> Images:
    """Return images of as many channels as a network takes: as they are, or color images in grey.

    Args:
        images: The images.
        channels: The channels of the network.

    Raises:
        ValueError: They have other channels.
    """
    if images.channels == channels:
        return images
    if (images.channels, channels) != (3, 1):
        raise ValueError(f"{images.name} has images of {images.channels} channels, and the network takes {channels}")
    if isinstance(images, ImageSet):
        return ImageSet(images.name, _to_grey(images.images), images.labels, images.classes)
    return GreyImages(images)


class GreyImages(Images):
    """A set of color images, whose batches are in grey.

    Args:
        images: The color images.
    """

    channels = 1

    def __init__(self, images: Images) -> None:
        """Keep the images."""
        self.images = images
        self.name, self.labels, self.classes, self.paired = images.name, images.labels, images.classes, images.paired

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every image in a batch, in pixels."""
        return self.images.size

    def take(self, indices: Indices) -> GreyImages:
        """Select images; see `Images.take`."""
        return GreyImages(self.images.take(indices))

    def groups(self, batch: int) -> Iterator[Indices]:
        """Divide the positions into batches; see `Images.groups`."""
        return self.images.groups(batch)

    def batch(self, indices: Indices, rng: np.random.Generator | None = None) -> Pixels:
        """Read some images: uint8 (B, 1, H, W), or (B, 2, H, W) if the set is paired; see `Images.batch`."""
        return _to_grey(self.images.batch(indices, rng))

    def batches(
        self,
        orders: object,
        seed: int | None,
        workers: int | None = None,
        start: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[Pixels]:
        """Read a stream of batches; see `Images.batches`."""
        return map(_to_grey, self.images.batches(orders, seed, workers, start, share))  # type: ignore[arg-type]


def _to_grey(pixels: NDArray[np.uint8]) -> Pixels:
    """Convert (N, 3 K, H, W) to (N, K, H, W)."""
    colors = pixels.reshape(len(pixels), -1, 3, *pixels.shape[2:])
    grey: Pixels = np.einsum("nkchw,c->nkhw", colors, _LUMA).round().astype(np.uint8)
    return grey
