"""The training images of a classifier: their selection, their check, and how a batch is moved and split."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from daelab.datasets.base import Dataset, Images
from daelab.evaluation.classifiers.recipe import ClassifierRecipe
from daelab.training.seeds import derive_seed


def translate_images(x: Tensor, corners: NDArray[np.int64], reach: int) -> Tensor:
    """Move each image over a reflected border.

    Args:
        x: Images (N, 3, H, W).
        corners: Top and left (2, N) of each image in its padded one, from 0 to 2 * `reach`.
        reach: Width of the border, in pixels.
    """
    height, width = x.shape[-2:]
    # A view (N, 3, 2R + 1, 2R + 1, H, W) of every possible position, which copies nothing but the padded images.
    windows = F.pad(x, (reach,) * 4, "reflect").unfold(2, height, 1).unfold(3, width, 1)
    top, left = torch.from_numpy(corners).to(x.device)
    moved: Tensor = windows[torch.arange(len(x), device=x.device), :, top, left]
    return moved


def split_evenly(x: Tensor, size: int) -> list[Tensor]:
    """Split a batch into parts of almost equal size, none too small for the variance of a batch norm.

    Args:
        x: A batch (N, ...).
        size: The size that the parts are to have about.
    """
    return list(torch.tensor_split(x, max(1, round(len(x) / size))))


def select_train_images(dataset: Dataset, recipe: ClassifierRecipe) -> Images:
    """Return the training images: all of them, or the first of a seeded permutation.

    Args:
        dataset: The recipe's data set.
        recipe: The recipe.

    Raises:
        ValueError: The data set has fewer images than the recipe asks for.
    """
    count, available = recipe.data.train, len(dataset.train)
    if count is None:
        return dataset.train
    if count > available:
        raise ValueError(f"data.train is {count:,}, but {recipe.data.name} has {available:,} training images")
    order = np.random.default_rng(derive_seed(recipe.seed, "classifier subset")).permutation(available)
    return dataset.train.take(order[:count])


def check_images(images: Images, recipe: ClassifierRecipe) -> tuple[int, int]:
    """Return height and width of the images, if the network and the recipe fit them.

    Args:
        images: The training images.
        recipe: The recipe.

    Raises:
        ValueError: The images are too small, or have fewer than 2 classes.
    """
    smallest = 2 ** len(recipe.network.widths) + recipe.network.kernel - 1
    if min(images.size) < smallest:
        size = "x".join(map(str, images.size))
        raise ValueError(
            f"{recipe.data.name}: images of {size}; a network of this depth needs {smallest} pixels a side"
        )
    if len(images.classes) < 2:
        raise ValueError(f"{recipe.data.name}: a classifier needs at least 2 classes")
    if recipe.training.translate >= min(images.size):
        raise ValueError(
            f"training.translate is {recipe.training.translate}, but the images are only {min(images.size)} pixels wide"
        )
    return images.size
