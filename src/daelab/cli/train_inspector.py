"""The command `daelab train-inspector`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daelab.cli.console import print_json, print_result, print_table, show_progress
from daelab.cli.options import DataRoot, Device, Json


def train_inspector(
    save: Annotated[Path, typer.Option(metavar="FILE.safetensors", help="File to write the trained network to.")],
    data: Annotated[
        list[str] | None,
        typer.Option(help="Data set of clean images. Can be repeated. Default: the bundled photographs."),
    ] = None,
    examples: Annotated[
        int | None, typer.Option(min=1, help="Number of noisy images to train on. Default: 60000.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training. The same seed gives the same network.")] = 0,
    data_root: DataRoot = None,
    device: Device = None,  # noqa: ARG001
    as_json: Json = False,
) -> None:
    """Train the noise identification behind `daelab inspect`.

    Noise of every family is added to clean images, so the labels are known.

    Example: daelab train-inspector --data photos --data folder:pictures --save inspector.safetensors
    """
    from daelab.experiments.reports.noise_identification import make_identification_tables
    from daelab.experiments.train import train_noise_identification

    with show_progress("noisy pictures") as progress:
        identifier = train_noise_identification(
            save, data or ("photos",), examples=examples, seed=seed, data_root=data_root, progress=progress
        )
    if as_json:
        print_json({"file": str(save), **identifier.card})
        return
    for table in make_identification_tables(identifier):
        print_table(table)
        print_result()
    print_result(f"noise identification -> {save}: {save.stat().st_size:,} bytes")
