"""The commands `daelab explore run`, `status`, `best`, `stop` and `spaces`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daelab._util.files import list_shipped_configs
from daelab.cli.console import (
    format_command,
    format_duration,
    print_json,
    print_note,
    print_result,
    print_table,
    show_progress,
)
from daelab.cli.help import HelpfulCommand, HelpfulGroup, complete_spaces
from daelab.cli.options import DataRoot, Device, Json
from daelab.errors import make_unknown_name_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from daelab.experiments.search.study import Study
    from daelab.experiments.search.trials import TrialRow

Storage = Annotated[
    str | None,
    typer.Option(help="Database URL of the studies and the ledger. Default: $DAELAB_LEDGER, or runs/ledger.db."),
]
StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="Name of the study.")]


class _Group(HelpfulGroup):
    """A group in which `daelab explore SPACE` stands for `daelab explore run SPACE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments after `explore`.

        Args:
            ctx: Click's context.
            args: The words.
        """
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            # A search space has a slash or a suffix in its name, so a plain word is a mistyped command or name.
            if args[0].isidentifier() and not Path(args[0]).is_file():
                spaces = list_shipped_configs("explore")
                raise make_unknown_name_error("command or search space", args[0], [*self.commands, *spaces])
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="explore",
    cls=_Group,
    help="Search a space of recipes.\n\n"
    "`daelab explore SPACE` trains many points of a search space, on one machine or several.\n\n"
    "Example: daelab explore explore/depth --trials 12 --workers 2",
)


class _Progress:
    """The progress of a search: a line for each trial, and a bar of the epochs."""

    def __init__(self, count: Callable[[float, int], None]) -> None:
        """Count epochs with `count`, which takes the trained epochs and their total."""
        self.count = count

    def say(self, text: str) -> None:
        """Print a note.

        Args:
            text: The note.
        """
        print_note(text)

    def trial(self, row: TrialRow, ended: int, trials: int | None, left: float | None) -> None:
        """Print how a trial ended.

        Args:
            row: The trial.
            ended: Number of trials that have ended.
            trials: Number of trials in all, or None if it is unlimited.
            left: Estimated seconds until the end, or None if it is unknown.
        """
        from daelab.experiments.search.search_space import format_point

        state = row.state if row.psnr is None else f"{row.state}  PSNR {row.psnr:.2f} dB"
        number = f"{ended}/{trials}" if trials else str(ended)
        reason = f": {row.reason}" if row.state == "failed" else ""
        remaining = "" if left is None else f"  left {format_duration(left)}"
        print_note(f"{number}  {row.run}  {format_point(row.point)} seed {row.seed}  {state}{reason}{remaining}")


Space = Annotated[
    str | None,
    typer.Argument(
        metavar="SPACE",
        help="Search space: explore/NAME, or a TOML file. Not needed with --resume.",
        autocompletion=complete_spaces,
    ),
]
_Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change a field. A list makes the field vary. Can be repeated."),
]
Trials = Annotated[
    int | None, typer.Option(help="Number of trials. Default: the number in the search space, or the whole grid.")
]
_Epochs = Annotated[
    int | None, typer.Option(help="Epochs of each trial. Default: the recipe's. Short for --set training.epochs=N.")
]
TotalEpochs = Annotated[
    int | None, typer.Option(help="Start no new trial after this many epochs in all. Default: no limit.")
]
Minutes = Annotated[
    float | None, typer.Option(help="Stop at the end of an epoch after this many minutes. Default: no limit.")
]
_Workers = Annotated[int, typer.Option(help="Number of processes on this machine.")]
NewStudyName = Annotated[
    str | None,
    typer.Option(help="Name of the study. Its runs are NAME-0, NAME-1, ... Default: the last part of SPACE."),
]
_Resume = Annotated[bool, typer.Option("--resume", help="Continue a study, or join it as another worker.")]


@app.command(cls=HelpfulCommand)
def run(
    space: Space = None,
    changes: _Changes = None,
    trials: Trials = None,
    epochs: _Epochs = None,
    total_epochs: TotalEpochs = None,
    minutes: Minutes = None,
    workers: _Workers = 1,
    storage: Storage = None,
    name: NewStudyName = None,
    resume: _Resume = False,
    data_root: DataRoot = None,
    device: Device = None,  # noqa: ARG001
    as_json: Json = False,
) -> None:
    """Search a space of recipes.

    Each trial is a run, with a folder in runs/ and a row in the ledger. Workers on several machines share a study
    through its --storage. If a worker is killed, another one continues its trial from the last checkpoint.

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
            watcher=_Progress(count),
        )
    if as_json:
        print_json(study.to_dict())
        return
    _print_counts(study)
    if any(row.state == "finished" for row in study.rows()):
        print_result()
        _print_best(study)
        print_result(f"  compare    {format_command('compare', '--study', study.name, '--plot', study.name)}")


@app.command(cls=HelpfulCommand)
def status(study: StudyName, storage: Storage = None, as_json: Json = False) -> None:
    """Show the progress of a study, and which worker runs each trial.

    Example: daelab explore status depth
    """
    from daelab.experiments.search.search_space import format_point
    from daelab.experiments.search.study import Study

    opened = Study(study, storage).open()
    if as_json:
        print_json(opened.to_dict())
        return
    _print_counts(opened)
    for row in opened.rows():
        trial = f"  {row.run:<14}{format_point(row.point)} seed {row.seed}"
        if row.state == "running":
            owner = f"{row.owner.get('host', '')}, process {row.owner.get('pid', '')}"
            psnr = "" if row.psnr is None else f", PSNR {row.psnr:.2f} dB"
            print_result(f"{trial}: epoch {row.epochs}{psnr}, {owner}")
        if row.state == "failed":
            print_result(f"{trial}: failed: {row.reason}")


@app.command(cls=HelpfulCommand)
def best(study: StudyName, storage: Storage = None, as_json: Json = False) -> None:
    """Show the best points of a study.

    With several goals, these are all points that no other point beats in every goal.

    Example: daelab explore best depth
    """
    from daelab.experiments.search.study import Study

    opened = Study(study, storage).open()
    if as_json:
        print_json([point.to_dict() for point in opened.best()])
        return
    _print_best(opened)


@app.command(cls=HelpfulCommand)
def stop(study: StudyName, storage: Storage = None) -> None:
    """Stop all workers of a study at the end of their epoch.

    Workers on other machines stop too.

    Example: daelab explore stop depth
    """
    from daelab.experiments.search.study import Study

    Study(study, storage).open().stop()
    print_result(
        f"study {study}: every worker stops at the end of its epoch;"
        f" continue with: {format_command('explore', '--name', study, '--resume')}"
    )


@app.command(cls=HelpfulCommand)
def spaces(as_json: Json = False) -> None:
    """List the shipped search spaces.

    Example: daelab explore spaces
    """
    from daelab.experiments.reports.table import Table
    from daelab.experiments.search.search_space import list_search_spaces, load_search_space

    shipped = {name: load_search_space(name) for name in list_search_spaces()}
    if as_json:
        print_json([{"name": name, **space.to_dict()} for name, space in shipped.items()])
        return
    print_table(
        Table("search spaces", ["search space", "note"], [[name, space.note] for name, space in shipped.items()])
    )


def _print_counts(study: Study) -> None:
    counts = ", ".join(f"{count} {state}" for state, count in study.counts().items() if count)
    print_result(f"study {study.name} of {study.space.name}: {counts}")


def _print_best(study: Study) -> None:
    from daelab.experiments.fields import name_evaluation
    from daelab.experiments.search.search_space import format_point

    space = study.space
    for point in study.best():
        goals = ", ".join(f"{goal} {value:.4g}" for goal, value in point.values.items())
        seeds = f", mean of {len(point.runs)} seeds" if len(point.runs) > 1 else ""
        print_result(f"{format_point(point.point)}: {goals}{seeds}")
        evaluation = name_evaluation(point.runs[0], space.recipe(point.point).to_dict())
        print_result(f"  best run   {point.runs[0]}; next: {format_command('evaluate', *evaluation)}")
