"""Seeded training and validation parts."""

from __future__ import annotations

import numpy as np

from daelab.datasets.base import Dataset, Images, Indices

HELD_OUT = 0.1
"""The share that is held out where nobody said how much."""


def split_dataset(
    dataset: Dataset, train: int | None, val: int | None, seed: int, replacement: bool = False
) -> tuple[Images, Images]:
    """The training and the validation part of a data set; its test part is never touched.

    Validation takes the first images of a seeded permutation of `dataset.train` and training
    the next, so the same seed and `val` give the same validation images at every `train`.
    A set with its own validation part gives the first of a seeded permutation of each.

    Args:
        dataset: as `load` gives it.
        train: images to train on; None is all that validation leaves.
        val: images to validate on; None is a tenth, or all of a set's own validation part.
        seed: of the permutations, at least 0.
        replacement: draw as the paper's published code did, for its recipes only: each part is
            drawn *with replacement* from its own pool (`val` images for validation, all others
            for training; the pools stay disjoint). k draws from n images give about
            n (1 - (1 - 1/n)^k) distinct ones: 20,000 of 45,000 give 16,147 and 40,000 of 40,000
            give 25,285, the paper's counts at 5,000 and 10,000 validation images.

    Raises:
        ValueError: a part is empty or larger than what there is.
    """
    if seed < 0:
        raise ValueError(f"a split's seed must be at least 0, not {seed}")
    if not len(dataset.train):
        raise ValueError(f"{dataset.name} is a test set; it has no images to train on")
    rng = np.random.Generator(np.random.PCG64(seed))
    order = rng.permutation(len(dataset.train))
    if dataset.val is None:
        held = _size("validation", val, count_held_out(len(order)), len(order) - 1, dataset.name)
        val_pool, train_pool, val_source = order[:held], order[held:], dataset.train
    else:
        val_order = rng.permutation(len(dataset.val))
        held = _size("validation", val, len(val_order), len(val_order), dataset.name)
        val_pool, train_pool, val_source = val_order[:held], order, dataset.val
    count = _size("training", train, len(train_pool), len(train_pool), dataset.name)
    if replacement:
        train_pool = rng.choice(train_pool, count, replace=True)
        val_pool = rng.choice(val_pool, held, replace=True)
    return dataset.train.take(train_pool[:count]), val_source.take(val_pool)


def count_held_out(images: int) -> int:
    """How many of `images` to hold out: a tenth, at least one."""
    return max(1, int(images * HELD_OUT))


def split_indices(images: int, name: str) -> tuple[Indices, Indices]:
    """Places of the training and the test images of a set that brings no test part.

    The same tenth at every run and under every seed, so that no two runs are tested on
    different images; both in ascending order.
    """
    if images < 2:
        raise ValueError(f"{name}: {images} image(s) cannot be parted into training and test; give at least 2")
    order = np.random.Generator(np.random.PCG64(0)).permutation(images)
    held = count_held_out(images)
    return np.sort(order[held:]), np.sort(order[:held])


def _size(part: str, asked: int | None, default: int, available: int, name: str) -> int:
    count = default if asked is None else asked
    if count > available:
        raise ValueError(f"{name}: {count:,} {part} images were asked for, but {available:,} are available")
    if count < 1:
        raise ValueError(f"{name}: a {part} part needs at least 1 image, not {count}")
    return count
