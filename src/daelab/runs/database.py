"""The database that runs and studies share: SQLite by default, or PostgreSQL for several machines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from daelab.runs.folder import get_runs_root

_LOCK = 0x6461656D


def resolve_database_url(url: str | None = None) -> str:
    """The URL that is meant: as given, else $DAELAB_LEDGER, else `ledger.db` among the runs."""
    return url or os.environ.get("DAELAB_LEDGER") or f"sqlite:///{get_runs_root() / 'ledger.db'}"


def add_database_driver(url: str) -> str:
    """The URL with the driver that daelab installs: psycopg 3, not the one that SQLAlchemy means by the plain name."""
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)


def connect_database(url: str, what: str = "ledger") -> Engine:
    """An engine whose transactions on SQLite wait for each other instead of failing.

    Args:
        what: what the database is to the user; begins a mistake's message.

    Raises:
        ValueError: no such kind of database, or its driver is missing.
    """
    options: dict[str, Any] = {"poolclass": NullPool}
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": 60}
    try:
        if url.startswith("sqlite") and (file := make_url(url).database):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(add_database_driver(url), **options)
    except SQLAlchemyError as error:
        raise ValueError(f"{what} {hide_password(url)}: {describe_database_error(error)}") from None
    except ModuleNotFoundError as error:
        raise ValueError(f"{what} {hide_password(url)}: this database needs the package {error.name}") from None
    serialize_sqlite_writes(engine)
    return engine


def serialize_sqlite_writes(engine: Engine) -> None:
    """Let SQLite's transactions begin with the write lock; other databases need nothing."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _take_part_in_transactions)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))


def _take_part_in_transactions(connection: Any, _record: object) -> None:
    # Python's sqlite3 starts transactions too late; SQLAlchemy begins them itself, and at once
    # takes the write lock, so that two processes wait for each other instead of failing
    connection.isolation_level = None


@contextmanager
def lock_database(url: str, what: str) -> Iterator[None]:
    """Only one process at a time, of all that use this database, does what is done inside.

    It ends with its process, so a killed one locks nobody out. What is done inside may use the database itself.

    Raises:
        ValueError: the database cannot be reached, or is neither a SQLite file nor PostgreSQL.
    """
    try:
        wanted = make_url(url)
        kind = wanted.get_backend_name()
        if kind == "sqlite" and wanted.database:
            # beside it: whoever holds the lock writes into the database by another connection
            url = wanted.set(database=f"{wanted.database}.lock").render_as_string(hide_password=False)
        elif kind not in ("postgresql", "postgres"):
            raise ValueError(f"{what} {hide_password(url)}: a SQLite file (sqlite:///FILE) or PostgreSQL is needed")
        with connect_database(url, what).begin() as connection:
            if kind != "sqlite":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            yield
    except SQLAlchemyError as error:
        raise ValueError(f"{what} {hide_password(url)}: {describe_database_error(error)}") from None


def hide_password(url: str) -> str:
    """The URL without its password, for messages."""
    return re.sub(r"(://[^:/@]+):[^@]*@", r"\1:***@", url)


def describe_database_error(error: Exception) -> str:
    """What a database says, in one line."""
    return str(error).splitlines()[0]
