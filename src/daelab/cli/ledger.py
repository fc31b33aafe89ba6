"""ledger list, show, export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daelab.cli.console import print_json, print_result
from daelab.cli.help import HelpfulCommand, complete_runs
from daelab.cli.options import Json, LedgerUrl, Overwrite

app = typer.Typer(no_args_is_help=True, help="The ledger of all runs.")


@app.command("list", cls=HelpfulCommand)
def list_(ledger: LedgerUrl = None, as_json: Json = False) -> None:
    """Every run: how it went and how well.

    Example: daelab ledger list
    """
    from daelab.experiments.reports.table import Table
    from daelab.runs.ledger import Ledger

    book = Ledger(ledger)
    book.settle()
    rows = book.rows()
    if as_json:
        print_json(rows)
        return
    if not rows:
        print_result("no runs yet; daelab train --recipe quick makes one")
        return
    shown = [
        [
            row["name"],
            row["status"],
            row["architecture"],
            f"{row['epochs_done']}/{row['epochs']}",
            _number(row["val_loss"], 6),
            _number(row["val_psnr_image"], 2),
            _number(row["val_psnr"], 2),
            _number(row["images_per_second"], 0),
        ]
        for row in rows
    ]
    columns = ["run", "status", "architecture", "epochs", "val loss", "PSNR, dB", "batch PSNR", "images/s"]
    print_result(Table("runs", columns, shown).to_text())


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


@app.command(cls=HelpfulCommand)
def show(
    run: Annotated[str, typer.Argument(help="Its name.", autocompletion=complete_runs)],
    ledger: LedgerUrl = None,
    as_json: Json = False,
) -> None:
    """Everything the ledger knows of a run.

    Example: daelab ledger show spine
    """
    from daelab.runs.ledger import Ledger

    book = Ledger(ledger)
    book.settle()
    row = book.row(run)
    if as_json:
        print_json(row)
        return
    for key, value in row.items():
        if value not in (None, ""):
            print_result(f"{key:<20}{value}")


@app.command("export", cls=HelpfulCommand)
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="The file to write.")],
    ledger: LedgerUrl = None,
    overwrite: Overwrite = False,
) -> None:
    """Write all runs in the columns of the paper's log.

    Example: daelab ledger export tests.csv
    """
    from daelab._util.files import write_text
    from daelab.runs.ledger import Ledger

    if file.exists() and not overwrite:
        raise FileExistsError(f"{file} exists; --overwrite replaces it")
    book = Ledger(ledger)
    write_text(file, book.export_csv())
    print_result(f"{len(book.rows())} runs -> {file}")


@app.command("import", cls=HelpfulCommand)
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="The log.")], ledger: LedgerUrl = None
) -> None:
    """Add runs from a log in the paper's columns, named FILE-TEST_ID.

    Example: daelab ledger import tests_fully.csv
    """
    from daelab.runs.ledger import Ledger

    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    print_result(f"{Ledger(ledger).import_csv(file)} runs <- {file}")
