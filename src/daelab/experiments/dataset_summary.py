"""Sizes and class balance of a data set's parts: the paper's Figure 2 as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from daelab.datasets.base import Dataset, Images
from daelab.datasets.splits import split_dataset
from daelab.experiments.reports.table import Table


@dataclass(frozen=True)
class DatasetSummary:
    """The parts of a data set, and how many images of each class they hold."""

    data: Dataset
    """The data set."""
    parts: dict[str, Images]
    """The images of each part: train, validation and test."""

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """The number of images: part -> class -> images."""
        return {part: images.count_classes() for part, images in self.parts.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the output of `daelab data --json`."""
        sizes = {part: {"images": len(images), "size": list(images.size)} for part, images in self.parts.items()}
        return {"name": self.data.name, "note": self.data.note, "parts": sizes, "classes": self.counts}

    def to_table(self) -> Table:
        """Return a row for each class, a column for each part, and the sums below."""
        counts = self.counts
        rows = [[name, *(counts[part][name] for part in self.parts)] for name in self.data.classes]
        total = ["all", *(len(images) for images in self.parts.values())]
        return Table(self.data.name, ["class", *self.parts], [*rows, total])


def summarize_dataset(data: Dataset, train: int | None, val: int | None, seed: int = 0) -> DatasetSummary:
    """Split a data set as a training would, and count the images of each part.

    Args:
        data: The data set.
        train: Number of training images, or None for the data set's own number.
        val: Number of validation images, or None for the data set's own number.
        seed: Seed of the split.

    Returns:
        The parts. A data set of test images only has the one part `test`.

    Raises:
        ValueError: The data set has too few images.
    """
    parts = {"test": data.test}
    if len(data.train) or train or val:
        parts = dict(zip(("train", "validation"), split_dataset(data, train, val, seed), strict=True)) | parts
    return DatasetSummary(data, parts)
