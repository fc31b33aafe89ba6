"""Batches for the training of denoisers, each a function of (seed, step) alone, so that a resumed run repeats them.

The order of the images depends on (seed, epoch), and the noise, flips and crops of a step depend on (seed, step).
Therefore a checkpoint stores no random state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from daelab._util.distributed import count_processes, get_rank
from daelab._util.work_sharing import distribute_batches, select_share
from daelab.datasets.base import Dataset, Images, ImageSet
from daelab.datasets.grey import match_channels
from daelab.datasets.splits import split_dataset
from daelab.training.recipe import Recipe
from daelab.training.seeds import derive_seed


@dataclass(frozen=True)
class ShuffleWindow:
    """The reach of a shuffle: images of one window follow each other in any order."""

    images: int
    """Images of a window."""
    crops: int
    """Crops of each picture, which are all in one window."""


def get_shuffle_window(recipe: Recipe) -> ShuffleWindow | None:
    """Return the shuffle window of a recipe, or None where all images of an epoch are shuffled at once.

    Args:
        recipe: The recipe.
    """
    crops, buffer = recipe.data.crops or 1, recipe.data.buffer
    return None if buffer is None else ShuffleWindow(max(1, buffer // crops) * crops, crops)


def shuffle_epoch(
    images: int, seed: int, epoch: int, window: ShuffleWindow | None = None
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the order of the images in an epoch; within a window it needs few pictures at a time.

    Args:
        images: The number of images.
        seed: The seed of the recipe.
        epoch: The epoch, from 0.
        window: The reach of the shuffle. Default: all images.
    """
    rng = np.random.default_rng(derive_seed(seed, "order", epoch))
    if window is None:
        return rng.permutation(images)
    pictures = rng.permutation(images // window.crops)
    # The crops of a picture stay together, so that it is decoded once for all of them.
    order = (pictures[:, None] * window.crops + np.arange(window.crops)).reshape(-1)
    for at in range(0, images, window.images):
        rng.shuffle(order[at : at + window.images])
    return order


def select_images(recipe: Recipe, dataset: Dataset) -> tuple[Images, Images]:
    """Return the images to train on, each as often as an epoch uses it, and the images to validate on.

    Args:
        recipe: The recipe.
        dataset: The recipe's data set.

    Raises:
        ValueError: The data set is too small, or the sides of its images do not fit.
    """
    data = recipe.data
    train, val = split_dataset(dataset, data.train, data.val, recipe.seed, data.replacement)
    train, val = (match_channels(images, recipe.spec.channels) for images in (train, val))
    height, width = train.size
    recipe.check_size(f"{data.name}: {height}x{width} images", height, width)
    if recipe.training.turns and height != width:
        raise ValueError(f"{data.name}: {height}x{width} images; training.turns needs square ones")
    if data.crops:
        # Every picture occurs several times, each time with another crop.
        train = train.take(np.repeat(np.arange(len(train)), data.crops))
    return train, val


class BatchLoader:
    """The training images in batches on a device; of several processes each reads every `count`-th batch.

    An `ImageSet` is kept on the device as uint8; other sets are read as they are needed.

    Args:
        images: The training images.
        batch: Images of a batch, over all processes.
        seed: The seed of the recipe.
        device: The device.
        window: The reach of the shuffle. Default: all images.
    """

    def __init__(
        self, images: Images, batch: int, seed: int, device: torch.device, window: ShuffleWindow | None = None
    ) -> None:
        """Copy the images to the device if they are in memory."""
        self.images, self.size, self.seed, self.device, self.window = images, batch, seed, device, window
        # As uint8, which takes a quarter of the memory of float32.
        self.resident = torch.from_numpy(images.images).to(device) if isinstance(images, ImageSet) else None

    @property
    def steps(self) -> int:
        """Batches in an epoch; the last may be smaller."""
        return -(-len(self.images) // self.size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Tensor]:
        """Return this process's batches of an epoch, (N, C, H, W) float32 in [0, 1].

        Args:
            epoch: The epoch, from 0.
            start: The first batch, from 0.
        """
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
        return (batch.float().div_(255) for batch in batches)  # each (N, C, H, W)

    def pairs(
        self,
        transform: Callable[[Tensor, int], tuple[Tensor, Tensor]],
        inputs: int,
        epoch: int,
        start: int = 0,
        targets: int = 3,
    ) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yield the batches of an epoch as the network is trained on them.

        One process makes a batch as a whole and every process gets a part of it, so that no batch depends on the number
        of processes.

        Args:
            transform: Makes (target images, input of the network) from (clean images, step).
            inputs: Channels of the network's input.
            epoch: The epoch, from 0.
            start: The first batch, from 0.
            targets: Channels of the target images.

        Yields:
            The targets and the inputs of this process's part, and the number of images of the whole batch.
        """
        # Steps are counted from the beginning of the training, as in the seeds of the noise.
        steps = select_share(range(epoch * self.steps + start, (epoch + 1) * self.steps))
        batches = (transform(clean, step) for step, clean in zip(steps, self.epoch(epoch, start), strict=True))
        sizes = [min(self.size, len(self.images) - at * self.size) for at in range(start, self.steps)]
        # The last round of an epoch may have fewer batches than there are processes.
        none = [torch.empty(0, channels, *self.images.size, device=self.device) for channels in (targets, inputs)]
        for (clean, given), size in zip(distribute_batches(batches, sizes, none), sizes, strict=True):
            yield clean, given, size


def flip_randomly(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with a probability of one half.

    Args:
        x: Images (N, C, H, W).
        generator: The source of randomness, on the device of the images.
    """
    chosen = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
    return torch.where(chosen, x.flip(-1), x)


def rotate_randomly(x: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate each image by 0, 90, 180 or 270 degrees with equal probability.

    Args:
        x: Square images (N, C, S, S).
        generator: The source of randomness, on the device of the images.
    """
    quarters = torch.randint(4, (len(x), 1, 1, 1), generator=generator, device=x.device)
    # Half a turn is a flip of both axes, to which the odd quarters add a quarter turn.
    x = torch.where(quarters >= 2, x.flip(-2, -1), x)
    return torch.where(quarters % 2 == 1, x.rot90(1, (-2, -1)), x)


def reduce_randomly(x: Tensor, factor: int, generator: torch.Generator) -> Tensor:
    """Reduce half of the images by averaging blocks of pixels, and cut the others to the same size at a random place.

    Args:
        x: Images (N, C, H, W) in [0, 1].
        factor: The side of a block, which divides H and W.
        generator: The source of randomness, on the device of the images.

    Returns:
        Images (N, C, H / factor, W / factor).
    """
    height, width = x.shape[-2] // factor, x.shape[-1] // factor
    draws = torch.rand(3, len(x), 1, generator=generator, device=x.device)
    rows = (draws[0] * (x.shape[-2] - height + 1)).long() + torch.arange(height, device=x.device)
    columns = (draws[1] * (x.shape[-1] - width + 1)).long() + torch.arange(width, device=x.device)
    images = torch.arange(len(x), device=x.device)[:, None, None]
    cut = x[images, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
    return torch.where(draws[2, :, :, None, None] < 0.5, F.avg_pool2d(x, factor), cut)


def zoom_randomly(x: Tensor, largest: float, generator: torch.Generator) -> Tensor:
    """Enlarge half of the images by a random factor, around a random point, and keep their size.

    Args:
        x: Images (N, C, H, W) in [0, 1].
        largest: The largest factor; the others are uniform between 1 and it.
        generator: The source of randomness, on the device of the images.
    """
    draws = torch.rand(3, len(x), 1, generator=generator, device=x.device)
    # (N, 1): the share of each side that is enlarged to the whole
    size = 1 / (1 + (2 * draws[0] - 1).clamp_min(0) * (largest - 1))
    center = (2 * draws[1:] - 1) * (1 - size)
    zero = torch.zeros_like(size)
    rows = [torch.stack([size, zero, center[0]], -1), torch.stack([zero, size, center[1]], -1)]
    grid = F.affine_grid(torch.cat(rows, 1), list(x.shape), align_corners=False)
    zoomed = F.grid_sample(x, grid, "bicubic", "reflection", align_corners=False).clamp_(0, 1)
    return torch.where(size[..., None, None] < 1, zoomed, x)
