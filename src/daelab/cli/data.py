"""The command `daelab data`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daelab.cli.console import print_json, print_result, print_table, show_progress
from daelab.cli.options import DataRoot, Json

if TYPE_CHECKING:
    from daelab.datasets.base import Dataset
    from daelab.experiments.dataset_summary import DatasetSummary


def data(
    dataset: Annotated[str, typer.Argument(help="Data set: {datasets}.")],
    train: Annotated[
        int | None, typer.Option(help="Number of training images. Default: the data set's own split.")
    ] = None,
    val: Annotated[
        int | None, typer.Option(help="Number of validation images. Default: the data set's own split.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split into training and validation images.")] = 0,
    data_root: DataRoot = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the class balance: .png or .svg.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how many images of each class a data set has.

    The training, validation and test images are counted separately, as in the paper's Figure 2.

    Example: daelab data cifar10 --train 40000 --val 10000 --plot balance.svg
    """
    from daelab.datasets.registry import load_dataset
    from daelab.experiments.dataset_summary import summarize_dataset
    from daelab.experiments.reports.charts import class_balance_figure

    with show_progress("downloading", "bytes") as download:
        images = load_dataset(dataset, data_root, progress=download)
    summary = summarize_dataset(images, train, val, seed)
    if plot is not None:
        class_balance_figure(summary.counts, plot)
    if as_json:
        print_json(summary.to_dict() | ({"plot": str(plot)} if plot else {}))
        return
    _print_summary(images, summary)
    if plot is not None:
        print_result()
        print_result(f"class balance -> {plot}")


def _print_summary(images: Dataset, summary: DatasetSummary) -> None:
    from daelab.datasets.full_images import FullImageSet

    height, width = images.test.size
    largest = "up to " if isinstance(images.test, FullImageSet) else ""
    print_result(f"{images.name}: {largest}{height}x{width} pixels, {len(images.classes)} classes. {images.note}")
    print_result()
    print_table(summary.to_table())
