"""The test images of an evaluation: all of them, or a part that represents every class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from daelab.datasets.base import Dataset, Images, Labels
from daelab.datasets.image_folder import ImageFolder


def select_test_images(dataset: Dataset, limit: int | None) -> tuple[Images, str]:
    """Select the test images of a data set.

    Args:
        dataset: The data set.
        limit: The number of images; None for all of its test part.

    Returns:
        The images, and a line that says which part of the data set they are; empty for all images as they are.

    Raises:
        ValueError: The limit is below 1.
    """
    test, remarks = dataset.test, []
    if dataset.whole is test:
        remarks.append(f"all {len(test):,} images, also those that a training on them would use")
    elif dataset.whole is not None and len(test) < len(dataset.whole):
        total = f"{len(dataset.whole):,} images"
        remarks.append(f"a fixed tenth of the {total}, since {dataset.name} has no test part (--all uses all)")
    images = test if limit is None else take_representative(test, limit)
    if len(images) < len(test):
        spread = "evenly spaced, since they are sorted by class" if _is_sorted_by_class(test.labels) else "the first"
        remarks.append(f"{len(images):,} of {len(test):,} test images, {spread}")
    if isinstance(images, ImageFolder):
        remarks.append(f"only the central {images.crop}x{images.crop} pixels of each")
    return images, "; ".join(remarks)


def use_all_images(dataset: Dataset) -> Dataset:
    """Return a data set without a test part as one whose test part is all of its images.

    Args:
        dataset: The data set.

    Raises:
        ValueError: The data set has a test part.
    """
    if dataset.whole is None:
        raise ValueError(f"{dataset.name} has a test part of its own, which is always used whole; leave out --all")
    # Nothing is left to train or to tune on, since it would be tested as well.
    return replace(dataset, train=dataset.whole.take(np.arange(0)), val=None, test=dataset.whole)


def take_representative(images: Images, count: int) -> Images:
    """Take the first images of a set; evenly spaced ones if the set is sorted by class.

    Args:
        images: The set.
        count: The number of images to take. If there are fewer, all are taken.

    Raises:
        ValueError: The number is below 1.
    """
    if count < 1:
        raise ValueError(f"limit must be at least 1, not {count}")
    total = len(images)
    places = np.arange(min(count, total))
    # The first images of a sorted set would all be of one class.
    return images.take(places * total // len(places) if _is_sorted_by_class(images.labels) else places)


def _is_sorted_by_class(labels: Labels) -> bool:
    """Return whether neighbors are of one class at least twice as often as in a random order, or classes are blocks."""
    shares = np.unique(labels, return_counts=True)[1] / max(1, len(labels))
    changes, random_changes = np.count_nonzero(np.diff(labels)), (len(labels) - 1) * (1 - np.square(shares).sum())
    return 1 < len(shares) < len(labels) and changes <= max(len(shares) - 1, random_changes / 2)
