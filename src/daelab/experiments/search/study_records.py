"""The records of a study in the database: its search space, its trials and their attributes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError

from daelab._util.text import hide_password
from daelab.errors import make_unknown_name_error
from daelab.experiments.search.search_space import SearchSpace, parse_search_space
from daelab.experiments.search.storage import connect_study_storage, require_optuna
from daelab.experiments.search.trials import (
    STATES,
    SearchPoint,
    TrialRow,
    find_best_points,
    group_trials,
    make_trial_row,
)
from daelab.runs.database import lock_database, make_database_error, resolve_database_url
from daelab.runs.folder import get_run_folder
from daelab.runs.ledger import Ledger
from daelab.runs.process_lock import describe_process

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, TrialState


class StudyRecords:
    """The records of a study, without the distribution of its trials to workers.

    Args:
        name: The name of the study.
        url: The URL of the database. Default: that of the ledger.
    """

    def __init__(self, name: str, url: str | None = None) -> None:
        """Open the ledger of the database; `create` or `open` then gives access to the study."""
        require_optuna()
        # The name is checked here, since it becomes part of the names of runs.
        get_run_folder(name)
        self.name, self.url = name, resolve_database_url(url)
        self.ledger = Ledger(self.url, "storage")
        self._signs: dict[int, tuple[Any, float]] = {}

    def connect(self) -> None:
        """Connect Optuna to the database, and create its tables if they are missing."""
        with self._lock():
            self.storage = connect_study_storage(self.url)

    @property
    def space(self) -> SearchSpace:
        """The search space of the study."""
        return self.read_space()

    def read_space(self, overrides: Iterable[str] = ()) -> SearchSpace:
        """Read the search space of the study.

        Args:
            overrides: Changes of fields as `a.b=value` texts.
        """
        with self._translate_errors():
            stored: Any = self.study.user_attrs.get("space")
        try:
            fields, name = dict(stored["fields"]), str(stored["name"])
        except (TypeError, ValueError, LookupError):
            raise ValueError(f"study {self.name} has no search space; it was not created by daelab explore") from None
        return parse_search_space(fields, overrides, where=name)

    def open(self) -> Self:
        """Open the study, which must exist.

        Raises:
            ValueError: There is no such study.
        """
        import optuna

        with self._translate_errors():
            # A search for a study creates neither tables nor the file of the lock.
            is_empty = not inspect(self.ledger.engine).has_table("studies")
        if not is_empty:
            self.connect()
        with self._translate_errors():
            names = [] if is_empty else optuna.get_all_study_names(self.storage)
            if not names:
                raise ValueError(f"there is no study in {hide_password(self.url)}; daelab explore SPACE creates one")
            if self.name not in names:
                raise make_unknown_name_error("study", self.name, names)
            self.study = optuna.load_study(study_name=self.name, storage=self.storage)
        return self

    def note(self, number: int, **attributes: Any) -> None:
        """Store attributes of a trial.

        Args:
            number: The number of the trial.
            **attributes: The attributes by name.
        """
        with self._translate_errors():
            self._set(number, **attributes)

    def owns(self, number: int) -> bool:
        """Return whether a trial still belongs to this process; another may have declared this one dead.

        Args:
            number: The number of the trial.
        """
        with self._translate_errors():
            attrs = self.storage.get_trial(self._id(number)).user_attrs
        return bool(attrs.get("owner") == describe_process())

    def stop(self) -> None:
        """Ask every worker to stop at the end of its epoch."""
        with self._translate_errors():
            self.study.set_user_attr("stop", True)

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called since the study was created or resumed."""
        with self._translate_errors():
            return bool(self.study.user_attrs.get("stop"))

    def rows(self) -> list[TrialRow]:
        """Return every trial, in the order of creation."""
        with self._translate_errors():
            repeats = self.study.user_attrs.get("repeats", {})
            return [make_trial_row(trial, repeats.get(str(trial.number), 1)) for trial in self._trials()]

    def counts(self) -> dict[str, int]:
        """Return the number of trials in each state."""
        states = [row.state for row in self.rows()]
        return {state: states.count(state) for state in STATES.values()}

    def best(self) -> list[SearchPoint]:
        """Return the best point; with several goals, all points that no other point beats in every goal."""
        goals = self.space.search.goals
        return find_best_points(group_trials(self.rows(), goals), goals)

    def to_dict(self) -> dict[str, Any]:
        """Return the output of `daelab explore --json`."""
        trials = [{**vars(row), "point": dict(row.point), "result": dict(row.result)} for row in self.rows()]
        best = [point.to_dict() for point in self.best()]
        return {
            "study": self.name,
            "space": self.space.name,
            "storage": hide_password(self.url),
            **self.counts(),
            "best": best,
            "trials": trials,
        }

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(
            self.storage.get_study_id_from_name(self.name), number
        )

    def _set(self, number: int, **attributes: Any) -> None:
        for key, value in attributes.items():
            self.storage.set_trial_user_attr(self._id(number), key, value)

    def _state(self, number: int, state: TrialState) -> None:
        self.storage.set_trial_state_values(self._id(number), state)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with self._translate_errors(), lock_database(self.url, "storage"):
            yield

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Turn an error of the database into a ValueError of one line."""
        from optuna.exceptions import StorageInternalError

        try:
            yield
        except (SQLAlchemyError, StorageInternalError) as error:
            # Optuna's own message advises its developers; the cause is the database's.
            raise make_database_error("storage", self.url, error.__cause__ or error) from None
