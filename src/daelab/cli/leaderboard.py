"""The command `daelab leaderboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daelab.cli.console import print_json, print_note, print_result, print_table, show_progress
from daelab.cli.evaluate import Metrics
from daelab.cli.help import complete_models
from daelab.cli.options import DataRoot, Device, Json, Seed

_Models = Annotated[
    list[str] | None,
    typer.Argument(
        help="Shipped models, runs, model files, baseline:NAME, or package.module:factory. Default: the "
        "shipped models made for such images, and classical methods.",
        autocompletion=complete_models,
    ),
]


def leaderboard(
    models: _Models = None,
    data: Annotated[str, typer.Option(help="Data set of the test images: {boards}.")] = "cifar10",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write the page, the CSV file and the figures to this folder. A second run reuses what was"
            " measured before.",
        ),
    ] = None,
    data_root: DataRoot = None,
    device: Device = None,  # noqa: ARG001
    paper_checkpoints: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the paper's .pt files, which are then ranked too. Default: none."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Number of test images to use. Default: all.")] = None,
    seed: Seed = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure everything again, even if --out has earlier measurements.")
    ] = False,
    metric: Metrics = None,
    as_json: Json = False,
) -> None:
    """Rank models and classical methods on the same images.

    The table shows quality, speed and size, and how certain each lead is.

    Example: daelab leaderboard --data-root .data --out leaderboard
    """
    from daelab.experiments.leaderboard.measure import LeaderboardRequest, measure_leaderboard
    from daelab.experiments.leaderboard.tables import make_leaderboard_tables, make_records, write_leaderboard
    from daelab.experiments.reports.page import check_report_folder

    if out is not None:
        check_report_folder("--out", out, "a leaderboard")
    elif fresh:
        raise ValueError("--fresh needs --out DIR: only a folder holds earlier measurements")
    request = LeaderboardRequest(
        data,
        data_root,
        tuple(models or ()),
        paper_checkpoints,
        limit,
        seed,
        out and out / "measured",
        fresh,
        tuple(metric or ()),
    )
    with show_progress("images") as count:
        shape, rows = measure_leaderboard(request, print_note, count)
    if out is not None:
        write_leaderboard(out, data, shape, rows)
    if as_json:
        print_json({"data": data, "rows": make_records(shape, rows)})
        return
    print_table(*make_leaderboard_tables(shape, rows))
    if out is not None:
        print_result()
        print_result(f"page   {out / 'leaderboard.html'}")
