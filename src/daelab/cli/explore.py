"""explore: run, status, best, stop, spaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from daelab.cli.console import format_duration, print_json, print_note, print_result, show_progress
from daelab.cli.help import HelpfulCommand, complete_spaces
from daelab.cli.options import DataRoot, Json

if TYPE_CHECKING:
    from collections.abc import Callable

    from daelab.experiments.search.study import Study
    from daelab.experiments.search.trials import TrialRow

Storage = Annotated[
    str | None,
    typer.Option(help="Database URL of studies and ledger; else $DAELAB_LEDGER, else runs/ledger.db."),
]
Name = Annotated[str, typer.Argument(metavar="STUDY", help="Its name.")]


class _Group(TyperGroup):
    """`daelab explore SPACE` is `daelab explore run SPACE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    help="Search a space of recipes: `daelab explore SPACE` trains many of its points, on one machine or several.\n\n"
    "Example: daelab explore explore/depth --trials 12 --workers 2",
)


class _Watcher:
    """A line for each trial, a bar within."""

    def __init__(self, count: Callable[[float, int], None]) -> None:
        self.count = count

    def say(self, text: str) -> None:
        """A remark."""
        print_note(text)

    def trial(self, row: TrialRow, ended: int, trials: int | None, left: float | None) -> None:
        """What became of a trial."""
        from daelab.experiments.search.search_space import format_point

        what = row.state if row.psnr is None else f"{row.state}  PSNR {row.psnr:.2f} dB"
        number = f"{ended}/{trials}" if trials else str(ended)
        why = f": {row.reason}" if row.state == "failed" else ""
        remain = "" if left is None else f"  left {format_duration(left)}"
        print_note(f"{number}  {row.run}  {format_point(row.point)} seed {row.seed}  {what}{why}{remain}")


@app.command(cls=HelpfulCommand)
def run(
    space: Annotated[
        str | None,
        typer.Argument(metavar="[SPACE]", help="explore/NAME, or a TOML file.", autocompletion=complete_spaces),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field; a list makes it vary.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Runs in all; else the space's own, or its whole grid.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of each trial: short for --set training.epochs=N.")] = None,
    total_epochs: Annotated[int | None, typer.Option(help="Begin no trial once so many epochs are trained.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long, at an epoch's end.")] = None,
    workers: Annotated[int, typer.Option(help="Processes on this machine.")] = 1,
    storage: Storage = None,
    name: Annotated[str | None, typer.Option(help="Of the study; its runs are NAME-0, NAME-1, ...")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a study, or join it.")] = False,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Search a space. Each trial is a run: a folder in runs/, a row of the ledger.

    Workers anywhere share a study by its --storage: one that is killed loses nothing, its trial is gone on with.

    Example: daelab explore explore/depth --trials 12 --workers 2
    """
    from daelab.experiments.explore import explore

    limits = {"trials": trials, "total_epochs": total_epochs, "minutes": minutes}
    with show_progress("epochs") as count:
        study = explore(
            space,
            name,
            changes=[*(changes or []), *([] if epochs is None else [f"training.epochs={epochs}"])],
            limits=limits,
            workers=workers,
            storage=storage,
            resume=resume,
            data_root=data_root,
            watcher=_Watcher(count),
        )
    _say_study(study, as_json)


@app.command(cls=HelpfulCommand)
def status(study: Name, storage: Storage = None, as_json: Json = False) -> None:
    """How far a study is, and who runs what.

    Example: daelab explore status depth
    """
    from daelab.experiments.search.study import Study

    found = Study(study, storage).open()
    if as_json:
        print_json(found.to_dict())
        return
    _say_counts(found)
    from daelab.experiments.search.search_space import format_point

    for row in found.rows():
        if row.state == "running":
            who = f"{row.owner.get('host', '')}, process {row.owner.get('pid', '')}"
            psnr = "" if row.psnr is None else f", PSNR {row.psnr:.2f} dB"
            print_result(f"  {row.run:<14}{format_point(row.point)} seed {row.seed}: epoch {row.epochs}{psnr}, {who}")
        if row.state == "failed":
            print_result(f"  {row.run:<14}{format_point(row.point)} seed {row.seed}: failed: {row.reason}")


@app.command(cls=HelpfulCommand)
def best(study: Name, storage: Storage = None, as_json: Json = False) -> None:
    """The best point of a study, or all that nothing beats in every goal.

    Example: daelab explore best depth
    """
    from daelab.experiments.search.study import Study

    found = Study(study, storage).open()
    if as_json:
        print_json([point.to_dict() for point in found.best()])
        return
    _say_best(found)


@app.command(cls=HelpfulCommand)
def stop(study: Name, storage: Storage = None) -> None:
    """Let every worker of a study stop at its epoch's end, wherever it runs.

    Example: daelab explore stop depth
    """
    from daelab.experiments.search.study import Study

    Study(study, storage).open().stop()
    print_result(
        f"study {study}: every worker stops at its epoch's end; go on with: daelab explore --name {study} --resume"
    )


@app.command(cls=HelpfulCommand)
def spaces(as_json: Json = False) -> None:
    """The spaces that ship.

    Example: daelab explore spaces
    """
    from daelab.experiments.search.search_space import list_search_spaces, load_search_space

    found = {name: load_search_space(name) for name in list_search_spaces()}
    if as_json:
        print_json([{"name": name, **space.to_dict()} for name, space in found.items()])
        return
    for name, space in found.items():
        print_result(f"{name:<20}{space.note}")


def _say_study(study: Study, as_json: bool) -> None:
    if as_json:
        print_json(study.to_dict())
        return
    _say_counts(study)
    if any(row.state == "finished" for row in study.rows()):
        print_result()
        _say_best(study)
        print_result(f"  compare    daelab compare --study {study.name} --plot {study.name}")


def _say_counts(study: Study) -> None:
    counts = ", ".join(f"{count} {state}" for state, count in study.counts().items() if count)
    print_result(f"study {study.name} of {study.space.name}: {counts}")


def _say_best(study: Study) -> None:
    from daelab.experiments.search.search_space import format_point

    for point in study.best():
        goals = ", ".join(f"{goal} {value:.4g}" for goal, value in point.values.items())
        over = f", mean of {len(point.runs)} seeds" if len(point.runs) > 1 else ""
        print_result(f"{format_point(point.point)}: {goals}{over}")
        print_result(f"  best run   {point.runs[0]}; next: daelab evaluate {point.runs[0]}")
