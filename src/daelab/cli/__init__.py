"""Every command; no logic. `console` holds what they share, the other modules the commands."""

from __future__ import annotations

import sys

import typer

from daelab import processes
from daelab.cli import compare, explore, export, inspect, judge, ledger, look, paper, pictures, rank, serve, use
from daelab.cli.console import guarded, say
from daelab.cli.manual import EPILOG, Command

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
    use.train,
    use.evaluate,
    judge.train_judge,
    paper.reproduce,
    rank.leaderboard,
    inspect.train_inspector,
    pictures.denoise,
    inspect.inspect,
    compare.compare,
    export.export,
    serve.serve,
    look.models,
    look.recipes,
    pictures.noise,
    look.data,
):
    app.command(cls=Command)(command)
app.add_typer(explore.app, name="explore")
app.add_typer(ledger.app, name="ledger")

SHARED = ("train", "evaluate", "denoise")
"""What several processes, started by torchrun, do as one."""


def _version(wanted: bool) -> None:
    if wanted:
        from daelab import __version__

        say(f"daelab {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show it and exit."),  # noqa: ARG001
) -> None:
    """Options before the command."""
    if processes.started()[1] > 1 and context.invoked_subcommand not in SHARED:
        raise ValueError(
            f"{context.invoked_subcommand} is the work of one process; torchrun is for {', '.join(SHARED)}"
        )


def main() -> None:
    """The `daelab` command."""
    sys.exit(guarded(lambda: app(prog_name="daelab")))  # its name also where it is run as a module
