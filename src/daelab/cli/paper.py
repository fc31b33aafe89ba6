"""reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daelab.cli.console import TrainingProgress, bar, say, tell
from daelab.cli.options import DataRoot, Json, Seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from daelab.reproduce import Found


class _Watcher:
    """A line for each step, bars within."""

    def __init__(self, count: Callable[[int, int], None]) -> None:
        self.count = count

    def say(self, text: str) -> None:
        """What comes next."""
        tell(text)

    def training(self) -> TrainingProgress:
        """A line per epoch."""
        return TrainingProgress()


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
    from daelab import reproduce as paper

    request = paper.Request(
        out,
        data_root,
        paper_checkpoints,
        judge=None if judge == "none" else judge,
        judge_path=judge_path,
        retrain=retrain,
        quick=quick,
        seed=seed,
    )
    with bar("images") as count:
        found = paper.reproduce(request, _Watcher(count))
    if as_json:
        say((out / "report.json").read_text(encoding="utf-8").rstrip())
    else:
        _say_found(found)
    if found.missed:
        raise typer.Exit(1)


def _say_found(found: Found) -> None:
    from daelab.reproduce import tables

    say(tables.checked(found.checks).to_text())
    say()
    say(tables.weights(found.ours).to_text())
    say()
    out = found.request.out
    say(f"report   {out / 'report.html'}")
    say(f"         {out / 'report.md'}, {out / 'report.json'}, {out / 'tables'}, {out / 'figures'}")
    for check in found.missed:
        tell(f"missed: {check.what}: wanted {check.wanted}, found {check.found}")
