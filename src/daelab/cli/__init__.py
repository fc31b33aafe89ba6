"""The command line: one module per command.

`console` prints, `process` handles errors, `options` holds the options that several commands share, and `help` lays out
the help.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from daelab._util.distributed import read_world
from daelab._util.memory import limit_prepared_convolutions
from daelab.cli import explore, ledger
from daelab.cli.adapt import adapt
from daelab.cli.compare import compare
from daelab.cli.console import print_result
from daelab.cli.data import data
from daelab.cli.denoise import denoise
from daelab.cli.evaluate import evaluate
from daelab.cli.export import export
from daelab.cli.help import EPILOG, HelpfulCommand, HelpfulGroup
from daelab.cli.inspect import inspect
from daelab.cli.leaderboard import leaderboard
from daelab.cli.models import models
from daelab.cli.noise import noise
from daelab.cli.plugins import plugins
from daelab.cli.process import limit_spinning, run_guarded, silence_libraries
from daelab.cli.publish import publish
from daelab.cli.recipes import recipes
from daelab.cli.reproduce import reproduce
from daelab.cli.serve import serve
from daelab.cli.train import train
from daelab.cli.train_inspector import train_inspector
from daelab.cli.train_judge import train_judge

app = typer.Typer(
    cls=HelpfulGroup,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A workbench for denoising auto-encoders. `daelab COMMAND --help` explains a command and shows an example.",
    epilog=EPILOG,
)
COMMANDS: dict[str, tuple[typer.Typer | Callable[..., None], ...]] = {
    "Denoise pictures": (denoise, inspect, noise, serve, export, publish),
    "Train and evaluate": (train, adapt, evaluate, compare, train_judge, train_inspector),
    "Experiments": (explore.app, ledger.app, leaderboard, reproduce),
    "Show what is available": (models, recipes, data, plugins),
}
"""The commands under the headings of `daelab --help`."""
for heading, commands in COMMANDS.items():
    for command in commands:
        if isinstance(command, typer.Typer):
            app.add_typer(command, rich_help_panel=heading)
        else:
            app.command(cls=HelpfulCommand, rich_help_panel=heading)(command)

SHARED = ("train", "train-judge", "evaluate", "denoise")
"""The commands that several processes, started by torchrun, can run together."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from daelab import __version__

        print_result(f"daelab {__version__}")
        raise typer.Exit


@app.callback()
def _check_world(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),  # noqa: ARG001
) -> None:
    """Refuse a command that cannot run under torchrun."""
    if read_world()[1] > 1 and context.invoked_subcommand not in SHARED:
        raise ValueError(
            f"{context.invoked_subcommand} runs in one process; only {', '.join(SHARED)} can run under torchrun"
        )


def main() -> None:
    """Run the `daelab` command and exit with its code."""
    limit_spinning()
    limit_prepared_convolutions()
    with silence_libraries():
        # The name is given, since `python -m daelab` would otherwise show the module's path in the usage line. typer
        # raises its errors instead of printing them in several lines.
        code = run_guarded(lambda: app(prog_name="daelab", standalone_mode=False))
    sys.exit(code)
