"""The command `daelab train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daelab._util.distributed import is_first_process, join_group, run_on_first
from daelab.cli.console import (
    ConsoleProgress,
    format_command,
    format_count,
    format_duration,
    print_error,
    print_json,
    print_note,
    print_result,
    show_progress,
)
from daelab.cli.help import complete_recipes
from daelab.cli.options import Changes, DataRoot, Device, Json, LedgerUrl, Resume, RunName

if TYPE_CHECKING:
    from daelab.training.engine import TrainingResult
    from daelab.training.recipe import Recipe

RecipeFile = Annotated[
    Path | None, typer.Argument(metavar="RECIPE.toml", help="Recipe file. Default: the recipe that --recipe names.")
]
RecipeName = Annotated[
    str | None,
    typer.Option(help="Name of a shipped recipe. `daelab recipes` lists them.", autocompletion=complete_recipes),
]
Epochs = Annotated[
    int | None, typer.Option(help="Number of epochs. Default: the recipe's. Short for --set training.epochs=N.")
]
CheckpointEvery = Annotated[
    str, typer.Option(metavar="N|Nm", help="Save a checkpoint every N epochs, or every N minutes (10m).")
]
Track = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME[=WHERE]", help="Also report to a tracker: tensorboard, or mlflow=URI. Can be repeated."),
]
NoReport = Annotated[
    bool, typer.Option("--no-report", help="Do not draw the report. A finished run that is resumed gets it later.")
]


@join_group()
def train(
    file: RecipeFile = None,
    recipe: RecipeName = None,
    changes: Changes = None,
    name: RunName = None,
    resume: Resume = None,
    epochs: Epochs = None,
    checkpoint_every: CheckpointEvery = "1",
    track: Track = None,
    no_report: NoReport = False,
    data_root: DataRoot = None,
    device: Device = None,  # noqa: ARG001
    ledger: LedgerUrl = None,
    as_json: Json = False,
) -> None:
    """Train an auto-encoder from a recipe.

    The checkpoints, the metrics, the best model and a report are stored in runs/NAME.

    Several processes can share each batch: torchrun --nproc-per-node 2 -m daelab train --recipe quick. The results are
    the same as with one process.

    --set spec=NAME takes the architectures {architectures}. --set loss=TEXT takes a sum of the losses {losses}, with
    weights as in "mse + 0.1 * dssim". --set data.name=NAME takes the data sets {datasets}.

    Example: daelab train --recipe paper/38 --set training.lr=0.01 --name warmer
    """
    from daelab.experiments import train as experiment
    from daelab.experiments.reports.style import is_matplotlib_installed
    from daelab.runs.ledger import Ledger
    from daelab.training.checkpoint_schedule import parse_checkpoint_schedule
    from daelab.training.tasks.denoising import load_run_recipe

    schedule = parse_checkpoint_schedule(checkpoint_every)
    if (file is not None) + (recipe is not None) + (resume is not None) != 1:
        raise ValueError("give exactly one of: a recipe file, --recipe NAME, --resume RUN")
    if resume and (epochs or name):
        raise ValueError("--resume uses the run's own recipe; it cannot be combined with --epochs or --name")
    shortcut = [f"training.epochs={epochs}"] if epochs is not None else []
    parsed, run = run_on_first(
        lambda: (
            (load_run_recipe(resume, changes or ()), resume)
            if resume
            else _load_recipe(str(file or recipe), [*(changes or []), *shortcut], name)
        )
    )
    with show_progress("downloading", "bytes") as download:
        result = experiment.train(
            parsed,
            run,
            resume=resume is not None,
            data_root=data_root,
            ledger=Ledger(ledger) if is_first_process() else None,
            progress=ConsoleProgress(),
            download=download,
            checkpoint_every=schedule,
            track=track or (),
            report=not no_report,
            warn=print_error,
        )
    if not is_first_process():
        return
    if not no_report and not is_matplotlib_installed():
        print_note("no figures were drawn, because matplotlib is missing: pip install 'daelab[report]'")
    print_json(_describe_result(result)) if as_json else _print_training(result)


def _load_recipe(source: str, changes: list[str], name: str | None) -> tuple[Recipe, str]:
    """Return the changed recipe, and the run's name: one that this group of processes has begun, or a free one."""
    from daelab.runs.folder import choose_run_name
    from daelab.training.engine import find_begun_run
    from daelab.training.recipe import load_recipe

    recipe = load_recipe(source, changes)
    return recipe, name or find_begun_run(recipe) or choose_run_name(source.removesuffix(".toml"))


def _describe_result(result: TrainingResult) -> dict[str, Any]:
    return {
        "run": result.run.name,
        "folder": str(result.run.path),
        "model": str(result.run.best),
        "epochs": len(result.rows),
        "seconds": result.seconds,
        "best": vars(result.best),
        "rows": result.rows,
    }


def _print_training(result: TrainingResult) -> None:
    from daelab.experiments.fields import name_evaluation
    from daelab.training.recipe import load_recipe

    best, run = result.best, result.run
    print_result(f"run {run.name}: {format_count(len(result.rows), 'epoch')} in {format_duration(result.seconds)}")
    print_result(f"  best     epoch {best.epoch}: validation loss {best.val_loss:.6f}, PSNR {best.val_psnr:.2f} dB")
    print_result(f"  model    {run.best}")
    page = run.path / "report.html"
    if page.exists():
        print_result(f"  report   {page}")
    evaluation = name_evaluation(run.name, load_recipe(run.recipe, trusted=True).to_dict())
    print_result(f"  next     {format_command('evaluate', *evaluation)}")
