"""The ledger of all runs: one row each, in SQLite by default or any database SQLAlchemy knows."""

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

from daelab.errors import unknown_name
from daelab.runs.database import connect_database, describe_database_error, hide_password, resolve_database_url
from daelab.runs.process_lock import has_died

_metadata = MetaData()
_schema = Table("daelab_schema", _metadata, Column("version", Integer, nullable=False))
_runs = Table(
    "runs",
    _metadata,
    Column("id", Integer, primary_key=True),
    # the paper's columns, in its log's order
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
    # ours
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
    # since schema 2: the process that runs it
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
"""A column of the paper's log -> ours. Its "Val PSNR" is the batch PSNR."""
_LOCK = 0x6461656C
SCHEMA = 2
_MIGRATIONS: dict[int, tuple[str, ...]] = {1: ("host", "pid", "born")}
"""Schema -> the columns of `runs` that the next one adds."""
STATUSES = ("running", "finished", "interrupted", "pruned", "failed", "imported")


class Ledger:
    """One row per run, in a database that many processes may share.

    Args:
        url: of SQLAlchemy, or None for $DAELAB_LEDGER or `ledger.db` among the runs.

    Raises:
        ValueError: the database cannot be opened, or is of a newer daelab.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = resolve_database_url(url)
        self.engine = connect_database(self.url)
        self._prepare()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """All of what is done inside, or nothing of it; a failing database is a ValueError that names it."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise ValueError(f"ledger {hide_password(self.url)}: {describe_database_error(error)}") from None

    def _prepare(self) -> None:
        with self._transaction() as connection:
            if self.engine.dialect.name == "postgresql":
                # one process makes the tables, the others wait; SQLite's transactions do so anyway
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            _metadata.create_all(connection)
            found = connection.execute(select(_schema.c.version)).scalar()
            if found is None:
                connection.execute(insert(_schema).values(version=SCHEMA))
            elif found > SCHEMA:
                raise ValueError(
                    f"ledger {hide_password(self.url)}: schema {found} is of a newer daelab; this one knows {SCHEMA}"
                )
            elif found < SCHEMA:
                _migrate(connection, found)

    def record(self, name: str, **values: Any) -> None:
        """Write what is known of a run; a first call needs `status`, later ones change the row."""
        with self._transaction() as connection:
            _put(connection, name, values)

    def settle(self) -> list[str]:
        """Mark runs whose process is known to have died as interrupted; gives their names."""
        found = []
        with self._transaction() as connection:
            running = connection.execute(select(_runs).where(_runs.c.status == "running")).mappings().all()
            for row in running:
                if has_died(row["host"], row["pid"], row["born"]):
                    reason = (
                        f"process {row['pid']} ended without a word; go on with: daelab train --resume {row['name']}"
                    )
                    _put(connection, row["name"], {"status": "interrupted", "reason": reason})
                    found.append(row["name"])
        return found

    def rows(self) -> list[dict[str, Any]]:
        """Every run, in the order of their first record."""
        with self._transaction() as connection:
            return [dict(row._mapping) for row in connection.execute(select(_runs).order_by(_runs.c.id))]

    def row(self, name: str) -> dict[str, Any]:
        """One run.

        Raises:
            ValueError: unknown; lists the names and the nearest match.
        """
        with self._transaction() as connection:
            found = connection.execute(select(_runs).where(_runs.c.name == name)).first()
            if found is None:
                raise unknown_name("run", name, connection.execute(select(_runs.c.name)).scalars())
            return dict(found._mapping)

    def export_csv(self) -> str:
        """The runs in the columns of the paper's log; what was imported comes out byte for byte."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(PAPER_COLUMNS)
        for row in self.rows():
            writer.writerow([_cell(row[column]) for column in PAPER_COLUMNS.values()])
        return text.getvalue()

    def import_csv(self, path: Path, prefix: str = "") -> int:
        """Add the rows of a log in the paper's columns, named PREFIX-TEST_ID; gives their number.

        A row that is there already is replaced, so importing twice changes nothing.

        Raises:
            ValueError: names the file, the line and what is wrong; nothing is imported then.
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


def _migrate(connection: Connection, found: int) -> None:
    """Bring the tables of an older schema to this one; no row is lost."""
    for version in range(found, SCHEMA):
        for name in _MIGRATIONS[version]:
            kind = _runs.c[name].type.compile(connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE runs ADD COLUMN {name} {kind}")
    connection.execute(update(_schema).values(version=SCHEMA))


def _put(connection: Connection, name: str, values: Mapping[str, Any]) -> None:
    """Change the row of a run, or add it."""
    changed = connection.execute(update(_runs).where(_runs.c.name == name).values(**values))
    if changed.rowcount == 0:
        connection.execute(insert(_runs).values({"name": name, "started": get_utc_time(), **values}))


def _read_log(path: Path) -> Iterable[dict[str, Any]]:
    readers: dict[str, Any] = {
        column.name: {Integer: _whole, Float: float, Boolean: _boolean}.get(type(column.type), str)
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
                raise ValueError(f"{path}: line {reader.line_num} has not {len(PAPER_COLUMNS)} cells")
            try:
                row[column] = readers[column](cell) if cell or column == "comments" else None
            except ValueError:
                raise ValueError(f"{path}: line {reader.line_num}, {title}: cannot read {cell!r}") from None
        if row["test_id"] is None:
            raise ValueError(f"{path}: line {reader.line_num} has no test_id")
        yield row


def _whole(text: str) -> int:
    number = int(text)
    if abs(number) >= 2**63:  # more than a database's integer holds
        raise ValueError(text)
    return number


def _boolean(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(text)
    return text == "True"


def _cell(value: object) -> object:
    return "" if value is None else value


def get_utc_time() -> str:
    """UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
