"""Every command; no logic. `console` holds what they share, the other modules the commands."""

from __future__ import annotations

import sys

import typer

from daelab._util.distributed import read_world
from daelab.cli import explore, ledger
from daelab.cli.compare import compare
from daelab.cli.console import print_result, run_guarded
from daelab.cli.denoise import denoise, noise
from daelab.cli.export import export
from daelab.cli.help import EPILOG, HelpfulCommand
from daelab.cli.inspect import inspect, train_inspector
from daelab.cli.leaderboard import leaderboard
from daelab.cli.models import data, models, recipes
from daelab.cli.reproduce import reproduce
from daelab.cli.serve import serve
from daelab.cli.train import evaluate, train
from daelab.cli.train_judge import train_judge

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A workbench for denoising auto-encoders. `daelab COMMAND --help` shows an example of each.",
    epilog=EPILOG,
)
for command in (
    train,
    evaluate,
    train_judge,
    reproduce,
    leaderboard,
    train_inspector,
    denoise,
    inspect,
    compare,
    export,
    serve,
    models,
    recipes,
    noise,
    data,
):
    app.command(cls=HelpfulCommand)(command)
app.add_typer(explore.app, name="explore")
app.add_typer(ledger.app, name="ledger")

SHARED = ("train", "evaluate", "denoise")
"""What several processes, started by torchrun, do as one."""


def _version(wanted: bool) -> None:
    if wanted:
        from daelab import __version__

        print_result(f"daelab {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show it and exit."),  # noqa: ARG001
) -> None:
    """Options before the command."""
    if read_world()[1] > 1 and context.invoked_subcommand not in SHARED:
        raise ValueError(
            f"{context.invoked_subcommand} is the work of one process; torchrun is for {', '.join(SHARED)}"
        )


def main() -> None:
    """The `daelab` command."""
    sys.exit(run_guarded(lambda: app(prog_name="daelab")))  # its name also where it is run as a module
