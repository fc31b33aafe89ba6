"""Options that several commands take, so that each reads the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the noise: the same seed gives the same noise.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="Where CIFAR-10 and cbsd68 are kept; else $DAELAB_DATA, else the user's data folder."),
]
LedgerUrl = Annotated[
    str | None,
    typer.Option("--ledger", help="Database URL of the ledger; else $DAELAB_LEDGER, else runs/ledger.db."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
