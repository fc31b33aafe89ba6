"""The ledger of all runs: one row per run, in SQLite by default or in another database that SQLAlchemy supports."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    Inspector,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    insert,
    inspect,
    select,
    type_coerce,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import NullType

from daelab._util.text import hide_password
from daelab.errors import make_unknown_name_error
from daelab.runs.database import (
    DatabaseError,
    connect_database,
    make_database_error,
    resolve_database_url,
)
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

    def __init__(self, url: str | None = None, what: str = "ledger") -> None:
        """Open the ledger, and create or update its tables.

        Args:
            url: A URL of SQLAlchemy. None means $DAELAB_LEDGER, or `ledger.db` in the folder of all runs.
            what: The name of the option that gave the URL, with which error messages start.

        Raises:
            DatabaseError: The database cannot be opened, or was made by a newer daelab or another program.
        """
        self.url, self.what = resolve_database_url(url), what
        self.engine = connect_database(self.url, what)
        self.prepare()

    def with_timeout(self, seconds: float) -> Ledger:
        """Return the same ledger with another patience.

        Args:
            seconds: The seconds for which a transaction waits until other programs have released the database.
        """
        ledger = copy.copy(self)
        ledger.engine = connect_database(self.url, self.what, seconds)
        return ledger

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Commit the block as a whole or not at all. An error of the database becomes one line that names it."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise make_database_error(self.what, self.url, error) from None

    def prepare(self) -> None:
        """Create the tables, or update those of an older version.

        Raises:
            DatabaseError: The database was made by a newer daelab or another program. Nothing is changed then.
        """
        with self._transaction() as connection:
            if self.engine.dialect.name == "postgresql":
                # one process creates the tables while the others wait; SQLite's transactions wait anyway
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_ID})")
            version = self._read_version(connection)
            if version is None:
                _metadata.create_all(connection)
                connection.execute(insert(_schema).values(version=SCHEMA))
            elif version < SCHEMA:
                _migrate(connection, version)

    def _read_version(self, connection: Connection) -> int | None:
        """Return the version of the tables, or None if there are none yet. Refuse those of other programs."""
        shown = f"{self.what} {hide_password(self.url)}"
        foreign = f"{shown}: its tables were made by another program; name another database"
        found = inspect(connection)
        columns = {table.name: _list_columns(found, table.name) for table in (_schema, _runs)}
        if not any(columns.values()):
            return None
        if not columns["daelab_schema"] >= {"version"}:
            raise DatabaseError(foreign)
        version: Any = connection.execute(select(type_coerce(_schema.c.version, NullType()))).scalar()
        if not isinstance(version, int) or version < 1:
            raise DatabaseError(f"{shown}: its schema is {str(version)[:50]!r}, not one that daelab has written")
        if version > SCHEMA:
            raise DatabaseError(f"{shown}: schema {version} needs a newer daelab; this version knows schema {SCHEMA}")
        later = {name for at in range(version, SCHEMA) for name in _MIGRATIONS[at]}
        if missing := sorted({column.name for column in _runs.columns} - later - columns["runs"]):
            raise DatabaseError(f"{foreign} (the column {missing[0]} of its table runs is missing)")
        return int(version)

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
            for row in list(_read_rows(connection, _runs.c.status == "running")):
                if has_died(row["host"], row["pid"], row["born"]):
                    command = "train-judge" if str(row["architecture"]).startswith("classifier ") else "train"
                    reason = f"process {row['pid']} died; resume the run with: daelab {command} --resume {row['name']}"
                    _put(connection, row["name"], {"status": "interrupted", "reason": reason})
                    names.append(row["name"])
        return names

    def list_runs(self) -> list[dict[str, Any]]:
        """List every run with all columns, in the order of their first record.

        A value that is not of its column's type is None, and the row's `reason` names it, so that it hides no other.
        """
        with self._transaction() as connection:
            return list(_read_rows(connection))

    def list_changed_runs(self, seen: dict[int, Any]) -> list[dict[str, Any]]:
        """List the runs that were added or changed since the last call with the same dictionary, without recipes.

        Args:
            seen: The stored values by the number of the row; empty at first. It is brought up to date.
        """
        columns = [column for column in _runs.columns if column is not _runs.c.recipe]
        with self._transaction() as connection:
            stored = {row.id: row for row in connection.execute(_select_stored(columns))}
        # Only rows that differ are converted, since that takes far longer than reading them.
        changed = [_read_row(row._mapping, columns) for number, row in stored.items() if seen.get(number) != row]
        seen.clear()
        seen.update(stored)
        return changed

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
            for row in _read_rows(connection, _runs.c.name == name):
                return row
            names = [row["name"] for row in _read_rows(connection)]
        raise make_unknown_name_error("run", name, names)

    def export_csv(self) -> str:
        """Export the runs in the columns of the paper's log. Imported rows come out byte for byte.

        Returns:
            The text of the CSV file.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(PAPER_COLUMNS)
        for row in self.list_runs():
            writer.writerow(["" if row[column] is None else row[column] for column in PAPER_COLUMNS.values()])
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


def _list_columns(inspector: Inspector, table: str) -> set[str]:
    """Return the names of a table's columns; none if there is no such table."""
    return {column["name"] for column in inspector.get_columns(table)} if inspector.has_table(table) else set()


def _select_stored(columns: Sequence[Column[Any]]) -> Select[Any]:
    """Select columns of `runs` without conversions, since one value that cannot be converted would end the query."""
    labels: list[Any] = [type_coerce(column, NullType()).label(column.name) for column in columns]
    return select(*labels).order_by(_runs.c.id)


def _read_rows(connection: Connection, where: ColumnElement[bool] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of `runs` that a condition selects, whatever other programs have written into them."""
    columns = list(_runs.columns)
    query = _select_stored(columns)
    for stored in connection.execute(query if where is None else query.where(where)).mappings():
        yield _read_row(stored, columns)


def _read_row(stored: Mapping[Any, Any], columns: Sequence[Column[Any]]) -> dict[str, Any]:
    """Convert the stored values of a row to the types of their columns."""
    row = {one.name: None if (value := stored[one.name]) is None else _read_value(one, value) for one in columns}
    unreadable = [name for name, value in row.items() if value is None and stored[name] not in (None, "null")]
    for column in columns:
        if row[column.name] is None and not column.nullable:
            row[column.name] = 0 if isinstance(column.type, Integer) else str(stored[column.name] or "")
    if unreadable:
        row["reason"] = f"unreadable in the ledger: {', '.join(unreadable)}. {row['reason']}".rstrip()
    return row


def _read_value(column: Column[Any], value: Any) -> Any:
    """Convert a stored value to its column's type. Return None if it is of another type."""
    if isinstance(column.type, JSON):
        try:
            value = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None
    if isinstance(column.type, Boolean):
        return bool(value) if value in (0, 1) else None
    if isinstance(column.type, Float):
        return float(value) if isinstance(value, int | float) else None
    return value if isinstance(value, int if isinstance(column.type, Integer) else str) else None


def _migrate(connection: Connection, oldest: int) -> None:
    """Update the tables of an older schema to this one, without losing a row."""
    for version in range(oldest, SCHEMA):
        for name in _MIGRATIONS[version]:
            column = f"{name} {_runs.c[name].type.compile(connection.dialect)}"
            connection.exec_driver_sql(f"ALTER TABLE runs ADD COLUMN {column}")
    connection.execute(update(_schema).values(version=SCHEMA))


def _put(connection: Connection, name: str, values: Mapping[str, Any]) -> None:
    """Change the row of a run, or add it if there is none."""
    if connection.execute(update(_runs).where(_runs.c.name == name).values(**values)).rowcount == 0:
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


def get_utc_time() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
