"""The ledger of all runs: one row per run, in SQLite by default or in another database that SQLAlchemy supports."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    insert,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from daelab.errors import make_unknown_name_error
from daelab.runs.database import connect_database, describe_database_error, hide_password, resolve_database_url
from daelab.runs.process_lock import has_died

_metadata = MetaData()
_schema = Table("daelab_schema", _metadata, Column("version", Integer, nullable=False))
_runs = Table(
    "runs",
    _metadata,
    Column("id", Integer, primary_key=True),
    # the columns of the paper's log, in its order
    Column("test_id", Integer),
    Column("batch_size", Integer),
    Column("learning_rate", Float(53)),
    Column("epochs", Integer),
    Column("amsgrad", Boolean),
    Column("val_loss", Float(53)),
    Column("val_psnr", Float(53)),
    Column("val_f1", Float(53)),
    Column("train_size", Integer),
    Column("val_size", Integer),
    Column("weight_decay", Float(53)),
    Column("beta_1", Float(53)),
    Column("beta_2", Float(53)),
    Column("comments", String, nullable=False, default=""),
    # daelab's own columns
    Column("name", String, nullable=False, unique=True),
    Column("status", String, nullable=False),
    Column("reason", String, nullable=False, default=""),
    Column("started", String, nullable=False),
    Column("finished", String),
    Column("epochs_done", Integer, nullable=False, default=0),
    Column("val_psnr_image", Float(53)),
    Column("architecture", String),
    Column("parameters", Integer),
    Column("noise", String),
    Column("optimiser", String),
    Column("seed", Integer),
    Column("precision", String),
    Column("seconds", Float(53)),
    Column("images_per_second", Float(53)),
    Column("folder", String),
    Column("recipe", JSON),
    Column("recipe_sha256", String),
    # the process that trains the run, since schema 2
    Column("host", String),
    Column("pid", Integer),
    Column("born", String),
)
PAPER_COLUMNS = {
    "test_id": "test_id",
    "batch_size": "batch_size",
    "learning_rate": "learning_rate",
    "epochs": "epochs",
    "amsgrad": "amsgrad",
    "Val Loss": "val_loss",
    "Val PSNR": "val_psnr",
    "Val F1": "val_f1",
    "Train Size": "train_size",
    "Val Size": "val_size",
    "weight_decay": "weight_decay",
    "beta_1": "beta_1",
    "beta_2": "beta_2",
    "Comments": "comments",
}
"""The columns of `runs` by the columns of the paper's log, whose "Val PSNR" is the batch PSNR."""
_LOCK_ID = 0x6461656C
SCHEMA = 2
"""The version of the tables."""
_MIGRATIONS: dict[int, tuple[str, ...]] = {1: ("host", "pid", "born")}
"""The columns of `runs` that the next version adds, by version."""
STATUSES = ("running", "finished", "interrupted", "pruned", "failed", "imported")
"""The values of the column `status`."""


class Ledger:
    """A table with one row per run, in a database that many processes may share."""

    def __init__(self, url: str | None = None) -> None:
        """Open the ledger, and create or update its tables.

        Args:
            url: A URL of SQLAlchemy. None means $DAELAB_LEDGER, or `ledger.db` in the folder of all runs.

        Raises:
            ValueError: The database cannot be opened, or was written by a newer daelab.
        """
        self.url = resolve_database_url(url)
        self.engine = connect_database(self.url)
        self._prepare()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Commit the block as a whole or not at all. An error of the database becomes a ValueError that names it."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise ValueError(f"ledger {hide_password(self.url)}: {describe_database_error(error)}") from None

    def _prepare(self) -> None:
        with self._transaction() as connection:
            if self.engine.dialect.name == "postgresql":
                # one process creates the tables while the others wait; SQLite's transactions wait anyway
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_ID})")
            _metadata.create_all(connection)
            version = connection.execute(select(_schema.c.version)).scalar()
            if version is None:
                connection.execute(insert(_schema).values(version=SCHEMA))
            elif version > SCHEMA:
                raise ValueError(
                    f"ledger {hide_password(self.url)}: schema {version} needs a newer daelab;"
                    f" this version knows schema {SCHEMA}"
                )
            elif version < SCHEMA:
                _migrate(connection, version)

    def record(self, name: str, **values: Any) -> None:
        """Write values of a run. The first call for a name adds its row and needs `status`; later calls change the row.

        Args:
            name: The name of the run.
            **values: The values by column.
        """
        with self._transaction() as connection:
            _put(connection, name, values)

    def mark_dead_runs(self) -> list[str]:
        """Mark runs whose process is known to have died as interrupted.

        Returns:
            The names of these runs.
        """
        names = []
        with self._transaction() as connection:
            running = connection.execute(select(_runs).where(_runs.c.status == "running")).mappings().all()
            for row in running:
                if has_died(row["host"], row["pid"], row["born"]):
                    command = "train-judge" if str(row["architecture"]).startswith("classifier ") else "train"
                    reason = f"process {row['pid']} died; resume the run with: daelab {command} --resume {row['name']}"
                    _put(connection, row["name"], {"status": "interrupted", "reason": reason})
                    names.append(row["name"])
        return names

    def list_runs(self) -> list[dict[str, Any]]:
        """List every run with all columns, in the order of their first record."""
        with self._transaction() as connection:
            return [dict(row._mapping) for row in connection.execute(select(_runs).order_by(_runs.c.id))]

    def get_run(self, name: str) -> dict[str, Any]:
        """Return the row of a run.

        Args:
            name: The name of the run.

        Returns:
            The values by column.

        Raises:
            ValueError: There is no such run. The message lists the names and the nearest match.
        """
        with self._transaction() as connection:
            row = connection.execute(select(_runs).where(_runs.c.name == name)).first()
            if row is None:
                raise make_unknown_name_error("run", name, connection.execute(select(_runs.c.name)).scalars())
            return dict(row._mapping)

    def export_csv(self) -> str:
        """Export the runs in the columns of the paper's log. Imported rows come out byte for byte.

        Returns:
            The text of the CSV file.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(PAPER_COLUMNS)
        for row in self.list_runs():
            writer.writerow([_format_cell(row[column]) for column in PAPER_COLUMNS.values()])
        return text.getvalue()

    def import_csv(self, path: Path, prefix: str = "") -> int:
        """Add the rows of a log in the paper's columns, named PREFIX-TEST_ID.

        An existing row of that name is replaced, so importing twice changes nothing.

        Args:
            path: The CSV file.
            prefix: The start of the names; by default the file's name without its suffix.

        Returns:
            The number of rows.

        Raises:
            ValueError: The file is wrong, and nothing was imported. The message names the file, the line and the fault.
        """
        try:
            rows = list(_read_log(path))
        except csv.Error as error:
            raise ValueError(f"{path}: {error}") from None
        prefix = prefix or Path(path).stem
        with self._transaction() as connection:
            for row in rows:
                _put(connection, f"{prefix}-{row['test_id']}", {"status": "imported", **row})
        return len(rows)


def _migrate(connection: Connection, oldest: int) -> None:
    """Update the tables of an older schema to this one, without losing a row."""
    for version in range(oldest, SCHEMA):
        for name in _MIGRATIONS[version]:
            kind = _runs.c[name].type.compile(connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE runs ADD COLUMN {name} {kind}")
    connection.execute(update(_schema).values(version=SCHEMA))


def _put(connection: Connection, name: str, values: Mapping[str, Any]) -> None:
    """Change the row of a run, or add it if there is none."""
    changed = connection.execute(update(_runs).where(_runs.c.name == name).values(**values))
    if changed.rowcount == 0:
        connection.execute(insert(_runs).values({"name": name, "started": get_utc_time(), **values}))


def _read_log(path: Path) -> Iterable[dict[str, Any]]:
    readers: dict[str, Any] = {
        column.name: {Integer: _parse_integer, Float: float, Boolean: _parse_boolean}.get(type(column.type), str)
        for column in _runs.columns
    }
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file in UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if list(reader.fieldnames or ()) != list(PAPER_COLUMNS):
        raise ValueError(f"{path}: line 1 must name the columns {','.join(PAPER_COLUMNS)}")
    for cells in reader:
        row: dict[str, Any] = {}
        for title, column in PAPER_COLUMNS.items():
            cell = cells.get(title)
            if cell is None or None in cells:
                raise ValueError(f"{path}: line {reader.line_num} must have {len(PAPER_COLUMNS)} cells")
            try:
                row[column] = readers[column](cell) if cell or column == "comments" else None
            except ValueError:
                raise ValueError(f"{path}: line {reader.line_num}, {title}: cannot read {cell!r}") from None
        if row["test_id"] is None:
            raise ValueError(f"{path}: line {reader.line_num} has no test_id")
        yield row


def _parse_integer(text: str) -> int:
    number = int(text)
    if abs(number) >= 2**63:  # a database's integer has 64 bits
        raise ValueError(text)
    return number


def _parse_boolean(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(text)
    return text == "True"


def _format_cell(value: object) -> object:
    return "" if value is None else value


def get_utc_time() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
