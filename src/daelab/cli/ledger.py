"""The commands `daelab ledger list`, `show`, `export` and `import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daelab.cli.console import format_command, format_count, print_json, print_result, print_table
from daelab.cli.help import HelpfulCommand, HelpfulGroup, complete_runs
from daelab.cli.options import Json, LedgerUrl, Overwrite

if TYPE_CHECKING:
    from daelab.runs.ledger import Ledger

_METRIC_COLUMNS = {"val_psnr": "val_psnr_batch", "val_psnr_image": "val_psnr"}
"""Columns of the ledger whose names are those of the paper's log -> the columns of metrics.csv with the same values."""


app = typer.Typer(name="ledger", cls=HelpfulGroup, help="Show, export and import the ledger of all runs.")


def _open(url: str | None) -> Ledger | None:
    """Open the ledger to read it; None if it does not exist yet. A file that the user names must exist."""
    from daelab.runs.database import find_missing_file, resolve_database_url
    from daelab.runs.ledger import Ledger

    missing = find_missing_file(resolve_database_url(url))
    if missing and url:
        raise FileNotFoundError(f"--ledger: no file {missing}")
    if missing:
        return None
    ledger = Ledger(url)
    ledger.mark_dead_runs()
    return ledger


@app.command("list", cls=HelpfulCommand)
def list_(ledger: LedgerUrl = None, as_json: Json = False) -> None:
    """List all runs, with their status and scores.

    Example: daelab ledger list
    """
    from daelab.experiments.reports.ledger import make_ledger_table

    opened = _open(ledger)
    rows = opened.list_runs() if opened else []
    if as_json:
        print_json(rows)
    elif rows:
        print_table(make_ledger_table(rows))
    else:
        print_result(f"no runs yet; start one with: {format_command('train', '--recipe', 'quick')}")


@app.command(cls=HelpfulCommand)
def show(
    run: Annotated[str, typer.Argument(help="Name of the run.", autocompletion=complete_runs)],
    ledger: LedgerUrl = None,
    as_json: Json = False,
) -> None:
    """Show all that the ledger stores about a run.

    Example: daelab ledger show spine
    """
    from daelab.experiments.reports.table import Table, list_fields

    opened = _open(ledger)
    if opened is None:
        raise ValueError(f"unknown run {run!r}: there are no runs yet")
    row = opened.get_run(run)
    if as_json:
        print_json(row)
        return
    shown = {_METRIC_COLUMNS.get(key, key): value for key, value in row.items() if value not in (None, "")}
    print_table(Table(run, ["field", "value"], list(list_fields(shown))))


@app.command("export", cls=HelpfulCommand)
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="File to write.")],
    ledger: LedgerUrl = None,
    overwrite: Overwrite = False,
) -> None:
    """Write all runs to a CSV file with the columns of the paper's log.

    Example: daelab ledger export tests.csv
    """
    from daelab._util.files import write_text

    if file.exists() and not overwrite:
        raise FileExistsError(f"{file} exists; --overwrite replaces it")
    opened = _open(ledger)
    if opened is None:
        raise ValueError("there are no runs to export yet")
    write_text(file, opened.export_csv())
    print_result(f"{format_count(len(opened.list_runs()), 'run')} -> {file}")


@app.command("import", cls=HelpfulCommand)
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="CSV file with the columns of the paper's log.")],
    ledger: LedgerUrl = None,
) -> None:
    """Add the runs of a CSV file with the columns of the paper's log.

    Each run is named FILE-TEST_ID.

    Example: daelab ledger import tests_fully.csv
    """
    from daelab.runs.ledger import Ledger

    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    print_result(f"{format_count(Ledger(ledger).import_csv(file), 'run')} <- {file}")
