"""Batches for training, each a function of (seed, step) alone, so that a resumed run repeats them.

Nothing of the random state needs saving: the order depends on (seed, epoch), the noise,
flips and crops of a step on (seed, step).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from daelab.data import Dataset, Images, ImageSet, split
from daelab.recipe import Recipe

_PURPOSES = {"order": 0, "noise": 1, "weights": 2, "crops": 3}


def derive(seed: int, purpose: str, number: int = 0) -> int:
    """A seed of its own for a purpose and a number, 0 to 2**63 - 1."""
    words = np.random.SeedSequence([seed, _PURPOSES[purpose], number]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def epoch_order(images: int, seed: int, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A permutation of the images for an epoch."""
    return np.random.default_rng(derive(seed, "order", epoch)).permutation(images)


def chosen(recipe: Recipe, dataset: Dataset) -> tuple[Images, Images]:
    """The images that a recipe trains on, each as often as an epoch has it, and those it validates on.

    Raises:
        ValueError: the set is too small, or its images have sides that do not fit.
    """
    wanted = recipe.data
    train, val = split(dataset, wanted.train, wanted.val, recipe.seed, wanted.replacement)
    height, width = train.size
    if height % recipe.spec.multiple or width % recipe.spec.multiple:
        multiple = recipe.spec.multiple
        raise ValueError(f"{wanted.name}: {height}x{width} images; this spec needs multiples of {multiple}")
    if recipe.training.turns and height != width:
        raise ValueError(f"{wanted.name}: {height}x{width} images; training.turns needs square ones")
    if wanted.crops:  # every picture so many times, and each time another crop
        train = train.take(np.repeat(np.arange(len(train)), wanted.crops))
    return train, val


class Feed:
    """The training images by the batch, on a device.

    An `ImageSet` lives on the device whole, as uint8; other sets are read as they go.
    """

    def __init__(self, images: Images, batch: int, seed: int, device: torch.device) -> None:
        self.images, self.size, self.seed, self.device = images, batch, seed, device
        self.resident = torch.from_numpy(images.images).to(device) if isinstance(images, ImageSet) else None

    @property
    def steps(self) -> int:
        """Batches in an epoch; the last may be smaller."""
        return -(-len(self.images) // self.size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        """The batches of an epoch from the `start`-th on, (N, C, H, W) float32 in [0, 1]."""
        order = epoch_order(len(self.images), self.seed, epoch)
        cuts = [order[at : at + self.size] for at in range(start * self.size, len(order), self.size)]
        if self.resident is None:
            crops = derive(self.seed, "crops", epoch)
            raw = map(torch.from_numpy, self.images.batches(cuts, crops, start=start * self.size))
            batches = (batch.to(self.device, non_blocking=True) for batch in raw)
        else:
            resident, places = self.resident, (torch.from_numpy(cut) for cut in cuts)
            batches = (resident[place.to(self.device, non_blocking=True)] for place in places)
        return (batch.float().div_(255) for batch in batches)


def mirror(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored left to right, or not, at random."""
    chosen = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
    return torch.where(chosen, x.flip(-1), x)


def turn(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image (square) turned by 0, 1, 2 or 3 quarters at random."""
    quarters = torch.randint(4, (len(x), 1, 1, 1), generator=generator, device=x.device)
    x = torch.where(quarters >= 2, x.flip(-2, -1), x)
    return torch.where(quarters % 2 == 1, x.rot90(1, (-2, -1)), x)
