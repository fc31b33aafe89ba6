"""Seeded training and validation parts."""

from __future__ import annotations

import numpy as np

from daelab.datasets.base import Dataset, Images, Indices

HELD_OUT = 0.1
"""The share of images that is held out by default."""


def split_dataset(
    dataset: Dataset, train: int | None, val: int | None, seed: int, replacement: bool = False
) -> tuple[Images, Images]:
    """Split a data set into a training and a validation part. Its test part is never touched.

    Validation takes the first images of a seeded permutation of `dataset.train` and training
    takes the next, so the same seed and `val` give the same validation images for every `train`.
    A set with its own validation part gives the first images of a seeded permutation of each part.

    Args:
        dataset: The data set.
        train: The number of training images; None means all that validation leaves.
        val: The number of validation images; None means a tenth, or all of the set's own validation part.
        seed: The seed of the permutations, at least 0.
        replacement: Whether to draw as the paper's published code did, for its recipes only. Each part is
            then drawn *with replacement* from its own pool (`val` images for validation, all others
            for training; the pools stay disjoint). Drawing k of n images gives about
            n (1 - (1 - 1/n)^k) distinct ones: 20,000 of 45,000 give 16,147 and 40,000 of 40,000
            give 25,285, the paper's counts at 5,000 and 10,000 validation images.

    Returns:
        The training part and the validation part.

    Raises:
        ValueError: A part is empty, or larger than the number of available images.
    """
    if seed < 0:
        raise ValueError(f"a split's seed must be at least 0, not {seed}")
    if not len(dataset.train):
        raise ValueError(f"{dataset.name} is a test set; it has no images to train on")
    rng = np.random.Generator(np.random.PCG64(seed))
    order = rng.permutation(len(dataset.train))
    if dataset.val is None:
        held = _check_size("validation", val, count_held_out(len(order)), len(order) - 1, dataset.name)
        val_pool, train_pool, val_source = order[:held], order[held:], dataset.train
    else:
        val_order = rng.permutation(len(dataset.val))
        held = _check_size("validation", val, len(val_order), len(val_order), dataset.name)
        val_pool, train_pool, val_source = val_order[:held], order, dataset.val
    count = _check_size("training", train, len(train_pool), len(train_pool), dataset.name)
    if replacement:
        train_pool = rng.choice(train_pool, count, replace=True)
        val_pool = rng.choice(val_pool, held, replace=True)
    return dataset.train.take(train_pool[:count]), val_source.take(val_pool)


def count_held_out(images: int) -> int:
    """Count how many images to hold out: a tenth, but at least one.

    Args:
        images: The number of images.

    Returns:
        The number to hold out.
    """
    return max(1, int(images * HELD_OUT))


def split_indices(images: int, name: str) -> tuple[Indices, Indices]:
    """Split the images of a set without a test part into training and test images.

    The test images are the same tenth in every run and for every seed, so that no two runs are tested on
    different images.

    Args:
        images: The number of images.
        name: The set's name, for the error message.

    Returns:
        The positions of the training images and of the test images, each in ascending order.

    Raises:
        ValueError: There are fewer than 2 images.
    """
    if images < 2:
        raise ValueError(f"{name}: {images} image(s) cannot be split into training and test; give at least 2")
    order = np.random.Generator(np.random.PCG64(0)).permutation(images)
    held = count_held_out(images)
    return np.sort(order[held:]), np.sort(order[:held])


def _check_size(part: str, requested: int | None, default: int, available: int, name: str) -> int:
    count = default if requested is None else requested
    if count > available:
        raise ValueError(f"{name}: {count:,} {part} images are requested, but {available:,} are available")
    if count < 1:
        raise ValueError(f"{name}: a {part} part needs at least 1 image, not {count}")
    return count
