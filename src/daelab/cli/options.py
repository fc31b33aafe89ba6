"""Options that several commands share, so that each reads the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daelab._util.distributed import read_world
from daelab.cli.help import complete_runs

PERFORMANCE = "Performance"
"""The heading of the options that change the speed and not the result."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the noise. The same seed gives the same noise.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder of CIFAR-10 and cbsd68. Default: $DAELAB_DATA, or the user's data folder."),
]
LedgerUrl = Annotated[
    str | None,
    typer.Option("--ledger", help="Database URL of the ledger. Default: $DAELAB_LEDGER, or runs/ledger.db."),
]


def _use_device(name: str | None) -> str | None:
    if name is not None:
        # A device of its own is what torchrun gives to each process.
        if ":" in name and read_world()[1] > 1:
            raise ValueError(f"--device {name}: torchrun gives each process a device of its own; leave out the number")
        from daelab._util.hardware import use_device

        use_device(name)
    return name


# The callback does all, before a group of processes is joined, so the commands themselves have no use for the value.
Device = Annotated[
    str | None,
    typer.Option(
        metavar="DEVICE",
        help="Device that computes: auto, cpu, cuda, cuda:1, mps or xpu. Default: $DAELAB_DEVICE, or auto: the GPU if "
        "there is one.",
        callback=_use_device,
        rich_help_panel=PERFORMANCE,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
MaxPixels = Annotated[
    int, typer.Option(min=1, help="Largest picture to accept, in pixels. It is checked before the picture is decoded.")
]
SelfEnsemble = Annotated[
    bool,
    typer.Option(
        "--self-ensemble", help="Average the results of eight flips and rotations. It takes eight times as long."
    ),
]
JudgePath = Annotated[
    Path | None,
    typer.Option(help="Folder with the weights of the classifier vit, or the word hub to download them."),
]
RunName = Annotated[
    str | None,
    typer.Option("--name", help="Name of the run. It is stored in runs/NAME. Default: made from the recipe's name."),
]
Resume = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="Continue this run from its last checkpoint, exactly where it stopped.",
        autocompletion=complete_runs,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe. Can be repeated."),
]
