"""Batches for training, each a function of (seed, step) alone, so that a resumed run repeats them.

Nothing of the random state needs saving: the order depends on (seed, epoch), the noise,
flips and crops of a step on (seed, step).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from daelab._util.distributed import count_processes, distribute_batches, get_rank, select_share
from daelab.datasets.base import Dataset, Images, ImageSet
from daelab.datasets.splits import split_dataset
from daelab.training.recipe import Recipe

_PURPOSES = {"order": 0, "noise": 1, "weights": 2, "crops": 3}


def derive_seed(seed: int, purpose: str, number: int = 0) -> int:
    """A seed of its own for a purpose and a number, 0 to 2**63 - 1."""
    words = np.random.SeedSequence([seed, _PURPOSES[purpose], number]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


@dataclass(frozen=True)
class ShuffleWindow:
    """How far a shuffle reaches: so many images follow each other in any order, but for crops of one picture."""

    images: int
    crops: int
    """Of each picture, which are then all in one window."""


def get_shuffle_window(recipe: Recipe) -> ShuffleWindow | None:
    """That of a recipe; None: all images of an epoch may follow each other."""
    crops, buffer = recipe.data.crops or 1, recipe.data.buffer
    return None if buffer is None else ShuffleWindow(max(1, buffer // crops) * crops, crops)


def shuffle_epoch(
    images: int, seed: int, epoch: int, window: ShuffleWindow | None = None
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A permutation of the images for an epoch, in which a window's worth of images is of few pictures."""
    rng = np.random.default_rng(derive_seed(seed, "order", epoch))
    if window is None:
        return rng.permutation(images)
    pictures = rng.permutation(images // window.crops)
    order = (pictures[:, None] * window.crops + np.arange(window.crops)).reshape(-1)
    for at in range(0, images, window.images):
        rng.shuffle(order[at : at + window.images])
    return order


def select_images(recipe: Recipe, dataset: Dataset) -> tuple[Images, Images]:
    """The images that a recipe trains on, each as often as an epoch has it, and those it validates on.

    Raises:
        ValueError: the set is too small, or its images have sides that do not fit.
    """
    wanted = recipe.data
    train, val = split_dataset(dataset, wanted.train, wanted.val, recipe.seed, wanted.replacement)
    height, width = train.size
    if height % recipe.spec.multiple or width % recipe.spec.multiple:
        multiple = recipe.spec.multiple
        raise ValueError(f"{wanted.name}: {height}x{width} images; this spec needs multiples of {multiple}")
    if recipe.training.turns and height != width:
        raise ValueError(f"{wanted.name}: {height}x{width} images; training.turns needs square ones")
    if wanted.crops:  # every picture so many times, and each time another crop
        train = train.take(np.repeat(np.arange(len(train)), wanted.crops))
    return train, val


class BatchLoader:
    """The training images by the batch, on a device; of several processes each reads every `count`-th batch.

    An `ImageSet` lives on the device whole, as uint8; other sets are read as they go.
    """

    def __init__(
        self, images: Images, batch: int, seed: int, device: torch.device, window: ShuffleWindow | None = None
    ) -> None:
        self.images, self.size, self.seed, self.device, self.window = images, batch, seed, device, window
        self.resident = torch.from_numpy(images.images).to(device) if isinstance(images, ImageSet) else None

    @property
    def steps(self) -> int:
        """Batches in an epoch; the last may be smaller."""
        return -(-len(self.images) // self.size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        """This process's batches of an epoch from the `start`-th on, (N, C, H, W) float32 in [0, 1]."""
        order = shuffle_epoch(len(self.images), self.seed, epoch, self.window)
        cuts = [order[at : at + self.size] for at in range(start * self.size, len(order), self.size)]
        share = get_rank(), count_processes()
        if self.resident is None:
            crops = derive_seed(self.seed, "crops", epoch)
            raw = map(torch.from_numpy, self.images.batches(cuts, crops, start=start * self.size, share=share))
            batches = (batch.to(self.device, non_blocking=True) for batch in raw)
        else:
            resident, places = self.resident, (torch.from_numpy(cut) for cut in select_share(cuts))
            batches = (resident[place.to(self.device, non_blocking=True)] for place in places)
        return (batch.float().div_(255) for batch in batches)

    def pairs(
        self, shown: Callable[[Tensor, int], tuple[Tensor, Tensor]], inputs: int, epoch: int, start: int = 0
    ) -> Iterator[tuple[Tensor, Tensor, int]]:
        """The batches of an epoch from the `start`-th on, as the network meets them.

        A batch is made whole by one process, and each gets its part, so that none depends on their number.

        Args:
            shown: (clean images, step) -> the clean images that are wanted, and what the network is given.
            inputs: channels of what it is given.

        Yields:
            the two, of this process's part, and how many images the whole batch has.
        """
        steps = select_share(range(epoch * self.steps + start, (epoch + 1) * self.steps))
        made = (shown(clean, step) for step, clean in zip(steps, self.epoch(epoch, start), strict=True))
        sizes = [min(self.size, len(self.images) - at * self.size) for at in range(start, self.steps)]
        none = [torch.empty(0, channels, *self.images.size, device=self.device) for channels in (3, inputs)]
        for (clean, given), size in zip(distribute_batches(made, sizes, none), sizes, strict=True):
            yield clean, given, size


def flip_randomly(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored left to right, or not, at random."""
    chosen = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
    return torch.where(chosen, x.flip(-1), x)


def rotate_randomly(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each image (square) turned by 0, 1, 2 or 3 quarters at random."""
    quarters = torch.randint(4, (len(x), 1, 1, 1), generator=generator, device=x.device)
    x = torch.where(quarters >= 2, x.flip(-2, -1), x)
    return torch.where(quarters % 2 == 1, x.rot90(1, (-2, -1)), x)
