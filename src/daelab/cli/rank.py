"""leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daelab.cli import manual
from daelab.cli.console import bar, say, say_json, tell
from daelab.cli.options import DataRoot, Json, Seed


def leaderboard(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Shipped models, files, runs or baseline:NAME; if none, those that ship and were made for such images,"
            " and classical methods.",
            autocompletion=manual.models,
        ),
    ] = None,
    data: Annotated[str, typer.Option(help="The test images: cifar10, cbsd68 or photos.")] = "cifar10",
    out: Annotated[
        Path | None,
        typer.Option(help="Also write the page, CSV and figures here; a second run measures only what is new."),
    ] = None,
    data_root: DataRoot = None,
    paper_checkpoints: Annotated[Path | None, typer.Option(help="Folder of the paper's .pt files.")] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Only the first so many images.")] = None,
    seed: Seed = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure anew what --out has kept of earlier runs.")] = False,
    as_json: Json = False,
) -> None:
    """Rank models and classical methods on the same noisy images: quality, cost, and what a lead is worth.

    Example: daelab leaderboard --data-root .data --out leaderboard
    """
    from daelab import leaderboard as board

    board.check(out)
    request = board.Request(
        data, data_root, tuple(models or ()), paper_checkpoints, limit, seed, out and out / "measured", fresh
    )
    with bar("images") as count:
        shape, rows = board.measure(request, tell, count)
    if out is not None:
        board.write(out, data, shape, rows)
    if as_json:
        say_json({"data": data, "rows": board.records(shape, rows)})
        return
    say(board.ranking(shape, rows).to_text())
    say()
    say(board.speed(rows).to_text())
    say()
    say(board.unseen(shape, rows).to_text())
    if out is not None:
        say(f"\npage   {out / 'leaderboard.html'}")
