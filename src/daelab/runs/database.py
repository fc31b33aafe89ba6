"""The database that runs and studies share: SQLite by default, or PostgreSQL for several hosts."""

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

_LOCK_ID = 0x6461656D


def resolve_database_url(url: str | None = None) -> str:
    """Resolve the URL of the database.

    Args:
        url: The URL that the user gave, if any.

    Returns:
        That URL, else $DAELAB_LEDGER, else `ledger.db` in the folder of all runs.
    """
    return url or os.environ.get("DAELAB_LEDGER") or f"sqlite:///{get_runs_root() / 'ledger.db'}"


def add_database_driver(url: str) -> str:
    """Add the driver that daelab installs to a URL of PostgreSQL.

    Args:
        url: A URL of SQLAlchemy.

    Returns:
        The URL with psycopg 3. SQLAlchemy takes the plain name for psycopg 2.
    """
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)


def connect_database(url: str, what: str = "ledger") -> Engine:
    """Connect to a database. Transactions on SQLite wait for each other instead of failing.

    Args:
        url: A URL of SQLAlchemy.
        what: The name of the database's purpose, with which error messages start.

    Returns:
        The engine.

    Raises:
        ValueError: There is no such kind of database, or its driver is missing.
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
    """Let SQLite's transactions begin with the write lock. Other databases need nothing.

    Args:
        engine: The engine, of any database.
    """
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _disable_implicit_transactions)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))


def _disable_implicit_transactions(connection: Any, _record: object) -> None:
    # Python's sqlite3 starts transactions too late. SQLAlchemy begins them itself and takes the
    # write lock at once, so that two processes wait for each other instead of failing.
    connection.isolation_level = None


@contextmanager
def lock_database(url: str, what: str) -> Iterator[None]:
    """Let only one of all processes that use a database run the block at a time.

    The lock ends with its process, so a killed process does not block the others. The block may use the database.

    Args:
        url: A URL of SQLAlchemy.
        what: The name of the database's purpose, with which error messages start.

    Raises:
        ValueError: The database cannot be reached, or is neither a SQLite file nor PostgreSQL.
    """
    try:
        parsed_url = make_url(url)
        kind = parsed_url.get_backend_name()
        if kind == "sqlite" and parsed_url.database:
            # a file of its own, since the block writes to the database through another connection
            url = parsed_url.set(database=f"{parsed_url.database}.lock").render_as_string(hide_password=False)
        elif kind not in ("postgresql", "postgres"):
            raise ValueError(f"{what} {hide_password(url)}: a SQLite file (sqlite:///FILE) or PostgreSQL is needed")
        with connect_database(url, what).begin() as connection:
            if kind != "sqlite":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_ID})")
            yield
    except SQLAlchemyError as error:
        raise ValueError(f"{what} {hide_password(url)}: {describe_database_error(error)}") from None


def hide_password(url: str) -> str:
    """Hide the password in a URL, for messages.

    Args:
        url: A URL of SQLAlchemy.

    Returns:
        The URL with `***` for the password.
    """
    return re.sub(r"(://[^:/@]+):[^@]*@", r"\1:***@", url)


def describe_database_error(error: Exception) -> str:
    """Return the first line of a database's error.

    Args:
        error: The error.

    Returns:
        Its first line.
    """
    return str(error).splitlines()[0]
