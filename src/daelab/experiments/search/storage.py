"""Where studies are kept: Optuna's tables in the ledger's database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import NullPool

from daelab.runs.database import add_database_driver, serialize_sqlite_writes

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


def require_optuna() -> None:
    """Raise unless Optuna is installed.

    Raises:
        ValueError: says how to install it.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        raise ValueError("exploring needs Optuna: pip install 'daelab[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def connect_study_storage(url: str) -> RDBStorage:
    """Optuna's storage, whose transactions on SQLite wait for each other."""
    from optuna.storages import RDBStorage

    options: dict[str, Any] = {"poolclass": NullPool}
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": 60}
    made = RDBStorage(add_database_driver(url), options)
    serialize_sqlite_writes(made.engine)
    return made
