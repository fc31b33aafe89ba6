"""The storage of studies: Optuna's tables in the ledger's database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import NullPool

from daelab.runs.database import LOCK_TIMEOUT, add_database_driver, serialize_sqlite_writes

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


def require_optuna() -> None:
    """Check that Optuna is installed.

    Raises:
        ValueError: Optuna is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        raise ValueError("a search needs Optuna: pip install 'daelab[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def connect_study_storage(url: str) -> RDBStorage:
    """Connect Optuna to a database; on SQLite, write transactions wait for each other.

    Args:
        url: The URL of the database.
    """
    from optuna.storages import RDBStorage

    options: dict[str, Any] = {"poolclass": NullPool}
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": LOCK_TIMEOUT}
    storage = RDBStorage(add_database_driver(url), options)
    serialize_sqlite_writes(storage.engine)
    return storage
