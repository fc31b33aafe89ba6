"""reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daelab.cli.console import ConsoleProgress, print_note, print_result, show_progress
from daelab.cli.options import DataRoot, Json, Seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from daelab.experiments.paper.measurements import Measurements


class _Watcher:
    """A line for each step, bars within."""

    def __init__(self, count: Callable[[int, int], None]) -> None:
        self.count = count

    def say(self, text: str) -> None:
        """What comes next."""
        print_note(text)

    def training(self) -> ConsoleProgress:
        """A line per epoch."""
        return ConsoleProgress()


def reproduce(
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("report"),
    data_root: DataRoot = None,
    paper_checkpoints: Annotated[
        Path | None, typer.Option(help="Folder of the paper's 35.pt, 37.pt, 38.pt and tests_fully.csv.")
    ] = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="Train our weights anew first: hours.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="All of it on 1,000 images: a minute.")] = False,
    judge: Annotated[
        str, typer.Option(help="The classifier of Table 2: builtin, vit, a file, module:factory; or none.")
    ] = "builtin",
    judge_path: Annotated[
        Path | None, typer.Option(help="Folder of the weights of the judge vit; `hub` downloads them.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Reproduce the paper: every table and figure beside our own measurement, in one report.

    The exit code is 1 if a stated tolerance is missed.

    Example: daelab reproduce --out report --quick
    """
    from daelab.experiments.paper.measurements import ReproductionRequest
    from daelab.experiments.paper.reproduce import reproduce_paper

    request = ReproductionRequest(
        out,
        data_root,
        paper_checkpoints,
        judge=None if judge == "none" else judge,
        judge_path=judge_path,
        retrain=retrain,
        quick=quick,
        seed=seed,
    )
    with show_progress("images") as count:
        found = reproduce_paper(request, _Watcher(count))
    if as_json:
        print_result((out / "report.json").read_text(encoding="utf-8").rstrip())
    else:
        _say_found(found)
    if found.missed:
        raise typer.Exit(1)


def _say_found(found: Measurements) -> None:
    from daelab.experiments.paper.tables import make_check_table, make_weights_table

    print_result(make_check_table(found.checks).to_text())
    print_result()
    print_result(make_weights_table(found.ours).to_text())
    print_result()
    out = found.request.out
    print_result(f"report   {out / 'report.html'}")
    print_result(f"         {out / 'report.md'}, {out / 'report.json'}, {out / 'tables'}, {out / 'figures'}")
    for check in found.missed:
        print_note(f"missed: {check.what}: wanted {check.wanted}, found {check.found}")
