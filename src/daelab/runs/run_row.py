"""The ledger's row of a run that is trained: a ledger that cannot be written must not end the training."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from daelab.runs.database import DatabaseError, wait_for_database
from daelab.runs.ledger import Ledger

_TIMEOUT = 2.0
"""The seconds for which a training waits for a locked ledger before it goes on without it."""


class RunRow:
    """The row of a run. Values that cannot be written wait in memory until the next attempt.

    Args:
        ledger: The ledger.
        name: The name of the run.
    """

    def __init__(self, ledger: Ledger, name: str) -> None:
        """Write nothing yet."""
        self._ledger, self._name = ledger.with_timeout(_TIMEOUT), name
        self._values: dict[str, Any] = {}

    def mark_dead_runs(self) -> None:
        """Mark runs whose process has died, if the ledger can be written now."""
        with suppress(DatabaseError):
            self._ledger.mark_dead_runs()

    def record(self, **values: Any) -> None:
        """Change values of the row. If the ledger cannot be written now, a later call writes them.

        Args:
            **values: The values by column.
        """
        self._values |= values
        with suppress(DatabaseError):
            self._write()

    def finish(self, **values: Any) -> None:
        """Change values of the row for the last time. A ledger that is locked or out of reach is waited for.

        Args:
            **values: The values by column.

        Raises:
            DatabaseError: The ledger cannot be written.
        """
        self._values |= values
        wait_for_database(self._write)

    def _write(self) -> None:
        """Write the whole row, and not only what changed, since the ledger may be a new one."""
        try:
            self._ledger.record(self._name, **self._values)
        except DatabaseError as error:
            if error.transient:
                raise
            # The ledger may have been deleted or replaced by an empty one.
            self._ledger.prepare()
            self._ledger.record(self._name, **self._values)
