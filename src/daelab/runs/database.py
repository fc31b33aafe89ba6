"""The database that runs and studies share: SQLite by default, or PostgreSQL for several hosts."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from daelab._util.text import fit_line, hide_password, shorten_error
from daelab.runs.folder import get_runs_root

_LOCK_ID = 0x6461656D
_FORMS = "write sqlite:///FILE or postgresql://USER@HOST/NAME"
LOCK_TIMEOUT = 60.0
"""The seconds for which a transaction waits until other programs have released a database."""
PATIENCE = 600.0
"""The seconds for which work that must be written waits for a database that is locked or cannot be reached."""
_PAUSE = 1.0
"""The seconds between two attempts."""
_T = TypeVar("_T")


class DatabaseError(ValueError):
    """A failure of a database, described in one line.

    Args:
        message: The line.
        transient: Whether the database may work again soon: it is locked, or its server does not answer.
    """

    def __init__(self, message: str, transient: bool = False) -> None:
        """Store the line."""
        super().__init__(message)
        self.transient = transient


def resolve_database_url(url: str | None = None) -> str:
    """Resolve the URL of the database.

    Args:
        url: The URL that the user gave, if any.

    Returns:
        That URL, else $DAELAB_LEDGER, else `ledger.db` in the folder of all runs.
    """
    return url or os.environ.get("DAELAB_LEDGER") or f"sqlite:///{get_runs_root() / 'ledger.db'}"


def find_missing_file(url: str) -> Path | None:
    """Return the file of a SQLite database that does not exist yet; None for any other URL.

    Args:
        url: A URL of SQLAlchemy, right or wrong.
    """
    try:
        file = make_url(url).database if url.startswith("sqlite") else None
    except (ArgumentError, ValueError):
        return None
    return Path(file) if file and file != ":memory:" and not Path(file).exists() else None


def add_database_driver(url: str) -> str:
    """Add the driver that daelab installs to a URL of PostgreSQL.

    Args:
        url: A URL of SQLAlchemy.

    Returns:
        The URL with psycopg 3. SQLAlchemy takes the plain name for psycopg 2.
    """
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)


def connect_database(url: str, what: str = "ledger", timeout: float = LOCK_TIMEOUT) -> Engine:
    """Connect to a database. Transactions on SQLite wait for each other instead of failing.

    Args:
        url: A URL of SQLAlchemy.
        what: The name of the database's purpose, with which error messages start.
        timeout: The seconds for which a transaction waits for a locked database, and a connection for a server.

    Returns:
        The engine.

    Raises:
        DatabaseError: The URL is wrong, there is no such kind of database, or its driver is missing.
    """
    shown = f"{what} {hide_password(url)}"
    options: dict[str, Any] = {"poolclass": NullPool}
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": timeout}
    elif url.startswith("postgres"):
        # Without it, a host that does not answer is waited for as long as the operating system likes.
        options["connect_args"] = {"connect_timeout": max(2, int(timeout))}
    try:
        file = make_url(url).database if url.startswith("sqlite") else None
        if file:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(add_database_driver(url), **options)
    except NoSuchModuleError:
        raise DatabaseError(f"{shown}: unknown kind of database {url.partition(':')[0]!r}; {_FORMS}") from None
    # ValueError: a port that is no number
    except (ArgumentError, ValueError):
        raise DatabaseError(f"{shown}: this is not the URL of a database; {_FORMS}") from None
    except SQLAlchemyError as error:
        raise make_database_error(what, url, error) from None
    except ModuleNotFoundError as error:
        raise DatabaseError(f"{shown}: this database needs the package {error.name}") from None
    if engine.dialect.name == "sqlite" and file in (None, "", ":memory:"):
        raise DatabaseError(f"{shown}: a SQLite file (sqlite:///FILE) or PostgreSQL is needed")
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
    # Bytes that are not UTF-8 must not hide all other rows.
    connection.text_factory = lambda text: text.decode("utf-8", "replace")


@contextmanager
def lock_database(url: str, what: str) -> Iterator[None]:
    """Let only one of all processes that use a database run the block at a time.

    The lock ends with its process, so a killed process does not block the others. The block may use the database.

    Args:
        url: A URL of SQLAlchemy.
        what: The name of the database's purpose, with which error messages start.

    Raises:
        DatabaseError: The database cannot be reached, or is neither a SQLite file nor PostgreSQL.
    """
    try:
        parsed_url = make_url(url)
        kind = parsed_url.get_backend_name()
        if kind == "sqlite" and parsed_url.database:
            # a file of its own, since the block writes to the database through another connection
            url = parsed_url.set(database=f"{parsed_url.database}.lock").render_as_string(hide_password=False)
        elif kind not in ("postgresql", "postgres"):
            raise DatabaseError(f"{what} {hide_password(url)}: a SQLite file (sqlite:///FILE) or PostgreSQL is needed")
        with connect_database(url, what).begin() as connection:
            if kind != "sqlite":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_ID})")
            yield
    except SQLAlchemyError as error:
        raise make_database_error(what, url, error) from None


def wait_for_database(work: Callable[[], _T]) -> _T:
    """Do work with a database, and repeat it while the database is locked or its server does not answer.

    Args:
        work: The work, which must be repeatable.

    Returns:
        The result of the work.

    Raises:
        DatabaseError: The work failed for another reason, or still fails after `PATIENCE` seconds.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return work()
        except DatabaseError as error:
            if not error.transient or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE)


def make_database_error(what: str, url: str, error: BaseException) -> DatabaseError:
    """Make the error for a database that failed.

    Args:
        what: The name of the database's purpose, with which the message starts.
        url: The URL of the database.
        error: The error of SQLAlchemy.

    Returns:
        An error whose message is one line without passwords.
    """
    cause = getattr(error, "orig", None) or error
    reason = shorten_error(cause)
    # A driver may repeat parts of the URL, and what stands before an "@" may be a password.
    reason = fit_line(re.sub(r"(\"[^\"]*|'[^']*|[^\s'\"]*)@", "***@", reason), 200)
    # Only a file can be read-only, full or damaged. An operational error of a server is about the connection to it.
    transient = isinstance(error, OperationalError) and (not url.startswith("sqlite") or "locked" in reason)
    return DatabaseError(f"{what} {hide_password(url)}: {reason}", transient)
