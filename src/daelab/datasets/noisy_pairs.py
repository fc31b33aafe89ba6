"""Pairs of a noisy and a clean image as a PyTorch data set, for training loops of the user's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from daelab.datasets.base import Images


class NoisyPairs(TorchDataset[tuple[Tensor, Tensor]]):
    """Images of a data set with their noisy versions: (noisy, clean), each (3, H, W) float32 in [0, 1].

    Args:
        images: The images, such as `load_dataset("cifar10").train`.
        noise: A function of an image and a seed to the noisy image, such as `parse_noise("awgn(25)")`. Default: None,
            for a data set that holds pairs.
        seed: The seed. An image then always has the same noise. Default: each access adds new noise.
    """

    def __init__(
        self, images: Images, noise: Callable[[Tensor, int | None], Tensor] | None = None, seed: int | None = None
    ) -> None:
        """Check that exactly the pairs come without a noise."""
        if images.paired != (noise is None):
            raise ValueError(f"{images.name} {'holds pairs, so noise must be None' if noise else 'needs a noise'}")
        self.images, self.noise, self.seed = images, noise, seed

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the noisy and the clean image at a position."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"position {index} of {len(self)} images")
        place = index % len(self)
        pixels = torch.from_numpy(self.images.batch(np.array([place]))[0]).float() / 255
        if self.noise is None:
            middle = self.images.channels
            return pixels[middle:], pixels[:middle]
        # A seed of its own for each image, far from those of its neighbors.
        seed = None if self.seed is None else (self.seed * 1_000_003 + place * 7_919) % 2**62
        return self.noise(pixels, seed), pixels
