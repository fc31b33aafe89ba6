"""A study: a space and its trials in a database that workers on any number of machines share.

No process leads. What must be done by one process at a time (taking a trial, noticing that a worker died, adding
trials) is done under `runs.alone`; everything else is the database's own business. A trial that waits, runs or ended
is a row of Optuna's; what daelab adds to it:

    seed            which further seed of the recipe it is
    point           of a further seed: the number of the point's first trial
    owner, beat     the process that runs it, and a number that grows as long as that one lives
    run, epochs     the run's name, and how far it is
    result, reason  what it came to; why it failed

and of the study: the space; `repeats`, how many runs the point of each first trial has in all; `stop`.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from daelab.errors import unknown_name
from daelab.experiments.search.goals import PRUNERS, SEARCH_GOALS, make_numbered_sampler
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
from daelab.runs.database import hide_password, lock_database, resolve_database_url
from daelab.runs.folder import get_run_folder, get_runs_root
from daelab.runs.ledger import Ledger
from daelab.runs.process_lock import describe_process, has_died

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial, TrialState

BEAT = 20.0
"""Seconds between two signs of life of a worker."""
GRACE = 180.0
"""Seconds without one after which a worker of another machine is taken for dead."""
_MOST_DEATHS = 3
"""A trial whose worker died so often fails: it may be what kills them."""


class Study:
    """One study of a database; see `create` and `open_`."""

    def __init__(self, name: str, url: str | None = None) -> None:
        require_optuna()
        get_run_folder(name)
        self.name, self.url = name, resolve_database_url(url)
        self.ledger = Ledger(self.url)
        self._seen: dict[int, tuple[Any, float]] = {}
        with self._alone():
            self.storage = connect_study_storage(self.url)

    @property
    def space(self) -> SearchSpace:
        """The space that it searches."""
        return self.changed()

    def changed(self, overrides: Iterable[str] = ()) -> SearchSpace:
        """The space that it searches, with `a.b=value` overrides."""
        with self._told():
            kept = self.study.user_attrs["space"]
        return parse_search_space(kept["fields"], overrides, where=kept["name"])

    def open(self) -> Study:
        """The study, which must be there.

        Raises:
            ValueError: it is not; lists the names and the nearest match.
        """
        import optuna

        with self._told():
            names = optuna.get_all_study_names(self.storage)
            if self.name not in names:
                if not names:
                    raise ValueError(f"no study in {hide_password(self.url)}; daelab explore SPACE begins one")
                raise unknown_name("study", self.name, names)
            self.study = optuna.load_study(study_name=self.name, storage=self.storage)
        return self

    def create(self, space: SearchSpace) -> Study:
        """A new study of a space, with its trials waiting.

        Raises:
            ValueError: a study or a run of this name is there.
        """
        import optuna

        taken = [
            run.name for run in get_runs_root().glob(f"{self.name}-*") if run.name[len(self.name) + 1 :].isdecimal()
        ]
        with self._alone():
            if self.name in optuna.get_all_study_names(self.storage):
                raise ValueError(
                    f"study {self.name} exists; go on with it by --resume, or take another --name for a new one"
                )
            if taken:
                raise ValueError(f"run {min(taken)} exists, which study {self.name} would make; take another --name")
            both = optuna.study.StudyDirection
            directions = [both.MAXIMIZE if SEARCH_GOALS[goal].more else both.MINIMIZE for goal in space.search.goals]
            self.study = optuna.create_study(storage=self.storage, study_name=self.name, directions=directions)
            self.study.set_user_attr("space", {"name": space.name, "fields": space.to_dict()})
            self._plan(space, space.search.trials)
        return self

    def same(self, space: SearchSpace) -> None:
        """Raise unless this is the space of the study, but for its table `[explore]`.

        Raises:
            ValueError: it is another.
        """
        mine = self.space
        if {**mine.fields, "explore": 0} != {**space.fields, "explore": 0}:
            raise ValueError(f"study {self.name} is of another space ({mine.name}); take another --name for this one")

    def extend(self, space: SearchSpace) -> None:
        """Go on with a changed `[explore]`, which may ask for more trials.

        Raises:
            ValueError: it changes what cannot change, or asks for fewer trials than there are.
        """
        self.same(space)
        before = self.space
        fixed = ("sampler", "goals", "pruner", "seeds", "seed")
        for key in fixed:
            if getattr(before.search, key) != getattr(space.search, key):
                raise ValueError(f"study {self.name}: explore.{key} cannot change; take another --name for a new study")
        with self._alone():
            self.study.set_user_attr("space", {"name": before.name, "fields": space.to_dict()})
            self.study.set_user_attr("stop", False)
            self._plan(space, space.search.trials)

    def _plan(self, space: SearchSpace, trials: int | None) -> None:
        """Let as many trials wait as are asked for in all."""
        from optuna.trial import TrialState

        there = self._trials()
        first, seeds = [trial for trial in there if "point" not in trial.user_attrs], space.search.seeds
        repeats = self.study.user_attrs.get("repeats", {})
        counts = [repeats[str(trial.number)] for trial in first]
        grid = list(itertools.islice(space.points(), len(first), None)) if space.search.sampler == "grid" else None
        if trials is None:
            trials = sum(counts) if grid is None else seeds * (len(first) + len(grid))
        left = trials - sum(counts)
        if left < 0:
            raise ValueError(
                f"study {self.name} has {trials - left} trials; --trials is how many there are to be in all"
            )
        # a grid is first covered and then repeated
        fresh = min(len(grid), left) if grid is not None else math.ceil((left - sum(seeds - n for n in counts)) / seeds)
        points = [{}] * max(0, fresh) if grid is None else grid[:fresh]
        counts += [1] * len(points)
        left -= len(points)
        for level, at in itertools.product(range(2, seeds + 1), range(len(counts))):
            if left and counts[at] < level:
                counts[at], left = level, left - 1
        numbers = [trial.number for trial in first] + [len(there) + at for at in range(len(points))]
        self.study.set_user_attr("repeats", dict(zip(map(str, numbers), counts, strict=True)))
        for point in points:
            self.study.enqueue_trial(point, {"seed": 0})
        for trial in first:
            if trial.state == TrialState.COMPLETE:
                self._repeat(trial.number)

    def _repeat(self, number: int) -> None:
        """Let the further seeds of a point wait."""
        there = self._trials()
        seeds = {trial.user_attrs["seed"] for trial in there if trial.user_attrs.get("point") == number}
        for seed in range(1, self.study.user_attrs["repeats"].get(str(number), 1)):
            if seed not in seeds:
                self.study.enqueue_trial(there[number].params, {"point": number, "seed": seed})

    def take(self, space: SearchSpace) -> Trial | None:
        """The next trial, now this process's; None where none waits."""
        from optuna.trial import TrialState

        with self._alone():
            self._settle()
            there = self._trials()
            if not any(trial.state == TrialState.WAITING for trial in there):
                if space.search.sampler == "grid" or space.search.trials is not None:
                    return None
                self._plan(space, sum(self.study.user_attrs["repeats"].values()) + space.search.seeds)
            self.study.sampler = make_numbered_sampler(space.search.sampler, space.search.seed)
            trial = self.study.ask()
            trial.set_user_attr("owner", describe_process())
            # an earlier worker may have left it in the middle
            trial.set_user_attr("run", f"{self.name}-{trial.number}")
        return trial

    def _settle(self) -> None:
        """Let the trials of dead workers wait again."""
        from optuna.trial import TrialState

        for trial in self._trials():
            if trial.state != TrialState.RUNNING or not self._died(trial):
                continue
            deaths = trial.user_attrs.get("deaths", 0) + 1
            self._set(trial.number, deaths=deaths, owner={})
            if deaths >= _MOST_DEATHS:
                self._set(trial.number, reason=f"its worker died {deaths} times")
                self._state(trial.number, TrialState.FAIL)
            else:
                self._state(trial.number, TrialState.WAITING)

    def _died(self, trial: FrozenTrial) -> bool:
        owner, beat = trial.user_attrs.get("owner") or {}, trial.user_attrs.get("beat")
        if owner and has_died(**owner):
            return True
        sign, now = (owner.get("pid"), beat), time.monotonic()
        before, since = self._seen.get(trial.number, (None, now))
        # by this machine's clock alone: others' may go wrong
        self._seen[trial.number] = (sign, since if sign == before else now)
        return sign == before and now - since > GRACE

    def seed(self, trial: Trial) -> int:
        """Which further seed of the recipe this trial has: another than any earlier trial of the same point."""
        with self._alone():
            alike = [one for one in self._trials() if one.params == trial.params and one.number != trial.number]
            mine = int(self._trials()[trial.number].user_attrs["seed"])
            if any(one.number < trial.number and one.user_attrs["seed"] == mine for one in alike):
                mine = 1 + max(one.user_attrs["seed"] for one in alike)
                self._set(trial.number, seed=mine)
        return mine

    def put_back(self, number: int) -> None:
        """Let a trial of this process wait, unless it has ended: its run goes on from its checkpoint."""
        from optuna.trial import TrialState

        with self._alone():
            if self.owned(number) and not self._trials()[number].state.is_finished():
                self._set(number, owner={})
                self._state(number, TrialState.WAITING)

    def finish(self, trial: Trial, space: SearchSpace, result: Mapping[str, float]) -> None:
        """Write what a trial came to; the first of a point lets its further seeds wait."""
        with self._alone():
            self._repeat(trial.number)
            self._set(trial.number, result=dict(result))
            self.study.tell(trial, [SEARCH_GOALS[goal].of(result) for goal in space.search.goals])

    def end(self, number: int, state: TrialState, reason: str) -> None:
        """End a trial without a result: pruned or failed."""
        with self._alone():
            self._set(number, reason=reason)
            self._state(number, state)

    def note(self, number: int, **attributes: Any) -> None:
        """Write attributes of a trial."""
        with self._told():
            self._set(number, **attributes)

    def owned(self, number: int) -> bool:
        """Whether a trial is still this process's: another may have taken this one for dead."""
        with self._told():
            attrs = self.storage.get_trial(self._id(number)).user_attrs
        return bool(attrs.get("owner") == describe_process())

    @contextmanager
    def beating(self, number: int) -> Iterator[None]:
        """Show signs of life of a trial as long as the block runs."""
        over = threading.Event()

        def beat() -> None:
            for count in itertools.count():
                if over.wait(BEAT):
                    return
                try:
                    self._set(number, beat=count)
                except Exception:  # the trial itself will say what is wrong with the database
                    continue

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def stop(self) -> None:
        """Ask every worker to stop at its epoch's end."""
        with self._told():
            self.study.set_user_attr("stop", True)

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called since the study went on."""
        with self._told():
            return bool(self.study.user_attrs.get("stop"))

    def prunes(self, space: SearchSpace, trial: Trial, epoch: int, psnr: float, epochs: int) -> bool:
        """Tell a validation PSNR (dB); whether the trial should end now."""
        if len(space.search.goals) > 1:
            return False
        with self._told():
            self.study.pruner = PRUNERS[space.search.pruner](epochs)
            if epoch not in self.storage.get_trial(self._id(trial.number)).intermediate_values:
                trial.report(psnr, epoch)
            return trial.should_prune()

    def rows(self) -> list[TrialRow]:
        """Every trial, in the order in which they were planned."""
        with self._told():
            repeats = self.study.user_attrs.get("repeats", {})
            return [make_trial_row(trial, repeats.get(str(trial.number), 1)) for trial in self._trials()]

    def counts(self) -> dict[str, int]:
        """State -> trials."""
        states = [row.state for row in self.rows()]
        return {state: states.count(state) for state in STATES.values()}

    def best(self) -> list[SearchPoint]:
        """The best point; with several goals, all that no other beats in every one."""
        goals = self.space.search.goals
        return find_best_points(group_trials(self.rows(), goals), goals)

    def to_dict(self) -> dict[str, Any]:
        """What `daelab explore --json` prints."""
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
    def _alone(self) -> Iterator[None]:
        with self._told(), lock_database(self.url, "storage"):
            yield

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A failing database is a ValueError in one line."""
        from optuna.exceptions import StorageInternalError

        try:
            yield
        except (SQLAlchemyError, StorageInternalError) as error:
            raise ValueError(f"storage {hide_password(self.url)}: {str(error).splitlines()[0]}") from None
