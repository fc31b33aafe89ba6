"""A study: a search space and its trials in a database that workers on any number of computers share.

No process coordinates the others. Work that only one process may do at a time (taking a trial, detecting a dead
worker, adding trials) runs under `lock_database`; the database orders everything else. A trial is a row of Optuna
with these attributes of daelab:

    seed            the number that is added to the recipe's seed
    point           for a further seed: the number of the point's first trial
    owner, beat     the process that runs the trial, and a number that grows as long as that process lives
    run, epochs     the name of the run, and the number of its epochs so far
    result, reason  the results of a finished trial; the reason why a trial failed

The study has the attributes `space`; `repeats`, the number of runs that the point of each first trial will have; and
`stop`.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from daelab.experiments.search.goals import PRUNERS, SEARCH_GOALS, make_numbered_sampler
from daelab.experiments.search.search_space import SearchSpace
from daelab.experiments.search.study_records import StudyRecords
from daelab.experiments.search.trials import make_trial_row
from daelab.runs.folder import get_runs_root
from daelab.runs.process_lock import describe_process, has_died

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial, TrialState

BEAT = 20.0
"""The seconds between two signs of life of a worker."""
GRACE = 180.0
"""The seconds without a sign of life after which a worker on another computer counts as dead."""
_MOST_DEATHS = 3
"""The number of dead workers after which a trial fails: the trial may be the cause."""


class Study(StudyRecords):
    """A study in a database; `create` or `open` gives access to it."""

    def create(self, space: SearchSpace) -> Study:
        """Create the study, with its trials waiting.

        Args:
            space: The search space.

        Raises:
            ValueError: A study of this name exists, or a run that would belong to it.
        """
        import optuna

        # A run of this name would be taken for an interrupted trial, and would go on.
        taken = [
            run.name for run in get_runs_root().glob(f"{self.name}-*") if run.name[len(self.name) + 1 :].isdecimal()
        ]
        self.connect()
        with self._lock():
            if self.name in optuna.get_all_study_names(self.storage):
                raise ValueError(
                    f"study {self.name} exists; resume it with --resume, or use another --name for a new study"
                )
            if taken:
                raise ValueError(f"run {min(taken)} exists, but study {self.name} needs this name; use another --name")
            both = optuna.study.StudyDirection
            directions = [both.MAXIMIZE if SEARCH_GOALS[goal].more else both.MINIMIZE for goal in space.search.goals]
            self.study = optuna.create_study(storage=self.storage, study_name=self.name, directions=directions)
            self.study.set_user_attr("space", {"name": space.name, "fields": space.to_dict()})
            self._plan(space, space.search.trials)
        return self

    def check_space(self, space: SearchSpace) -> None:
        """Check that a search space is that of the study, except for its table `[explore]`.

        Args:
            space: The search space.

        Raises:
            ValueError: It is another search space.
        """
        mine = self.space
        if {**mine.fields, "explore": 0} != {**space.fields, "explore": 0}:
            raise ValueError(
                f"study {self.name} has another search space ({mine.name}); use another --name for this one"
            )

    def extend(self, space: SearchSpace) -> None:
        """Resume the study with a changed table `[explore]`, such as more trials.

        Args:
            space: The search space with the changed table.

        Raises:
            ValueError: A setting changed that cannot change, or the number of trials is smaller than before.
        """
        self.check_space(space)
        before = self.space
        fixed = ("sampler", "goals", "pruner", "seeds", "seed")
        for key in fixed:
            if getattr(before.search, key) != getattr(space.search, key):
                raise ValueError(f"study {self.name}: explore.{key} cannot change; use another --name for a new study")
        with self._lock():
            self.study.set_user_attr("space", {"name": before.name, "fields": space.to_dict()})
            self.study.set_user_attr("stop", False)
            self._plan(space, space.search.trials)

    def _plan(self, space: SearchSpace, trials: int | None) -> None:
        """Enqueue trials until there are as many as the search should have in total."""
        from optuna.trial import TrialState

        trials_before = self._trials()
        first, seeds = [trial for trial in trials_before if "point" not in trial.user_attrs], space.search.seeds
        repeats = self.study.user_attrs.get("repeats", {})
        counts = [repeats[str(trial.number)] for trial in first]
        grid = list(itertools.islice(space.points(), len(first), None)) if space.search.sampler == "grid" else None
        if trials is None:
            trials = sum(counts) if grid is None else seeds * (len(first) + len(grid))
        left = trials - sum(counts)
        if left < 0:
            raise ValueError(
                f"study {self.name} has {trials - left} trials; --trials is the number of all trials, old and new"
            )
        # Every point of a grid is run once before any is repeated.
        fresh = min(len(grid), left) if grid is not None else math.ceil((left - sum(seeds - n for n in counts)) / seeds)
        points = [{}] * max(0, fresh) if grid is None else grid[:fresh]
        counts += [1] * len(points)
        left -= len(points)
        for level, at in itertools.product(range(2, seeds + 1), range(len(counts))):
            if left and counts[at] < level:
                counts[at], left = level, left - 1
        numbers = [trial.number for trial in first] + [len(trials_before) + at for at in range(len(points))]
        self.study.set_user_attr("repeats", dict(zip(map(str, numbers), counts, strict=True)))
        for point in points:
            self.study.enqueue_trial(point, {"seed": 0})
        self._repeat([trial.number for trial in first if trial.state == TrialState.COMPLETE])

    def _repeat(self, numbers: Sequence[int]) -> None:
        """Enqueue the further seeds of points, which the numbers of their first trials name."""
        # Each is read once for all points, since a study may have thousands.
        existing, repeats = self._trials(), self.study.user_attrs["repeats"]
        there = {(trial.user_attrs.get("point"), trial.user_attrs.get("seed")) for trial in existing}
        for number in numbers:
            for seed in range(1, repeats.get(str(number), 1)):
                if (number, seed) not in there:
                    self.study.enqueue_trial(existing[number].params, {"point": number, "seed": seed})

    def take(self, space: SearchSpace) -> Trial | None:
        """Take the next trial for this process; return None if no trial waits.

        Args:
            space: The search space of the study.
        """
        from optuna.trial import TrialState

        with self._lock():
            # First of all, so that an abandoned trial is taken up before a new point is sampled.
            self._release_trials_of_dead_workers()
            if not any(trial.state == TrialState.WAITING for trial in self._trials()):
                if space.search.sampler == "grid" or space.search.trials is not None:
                    return None
                self._plan(space, sum(self.study.user_attrs["repeats"].values()) + space.search.seeds)
            # The draws follow from the trial's number, so that they are the same whichever worker asks.
            self.study.sampler = make_numbered_sampler(space.search.sampler, space.search.seed)
            trial = self.study.ask()
            trial.set_user_attr("owner", describe_process())
            # A worker that died may have left a run of this name, which then goes on.
            trial.set_user_attr("run", f"{self.name}-{trial.number}")
        return trial

    def _release_trials_of_dead_workers(self) -> None:
        """Enqueue the trials of dead workers again."""
        from optuna.trial import TrialState

        for trial in self._trials():
            if trial.state != TrialState.RUNNING or not self._has_died(trial):
                continue
            deaths = trial.user_attrs.get("deaths", 0) + 1
            self._set(trial.number, deaths=deaths, owner={})
            if deaths >= _MOST_DEATHS:
                self._set(trial.number, reason=f"its worker died {deaths} times")
                self._state(trial.number, TrialState.FAIL)
            else:
                self._state(trial.number, TrialState.WAITING)

    def _has_died(self, trial: FrozenTrial) -> bool:
        owner, beat = make_trial_row(trial, 0).owner, trial.user_attrs.get("beat")
        if owner and has_died(owner.get("host"), owner.get("pid"), owner.get("born")):
            return True
        sign, now = (owner.get("pid"), beat), time.monotonic()
        before, since = self._signs.get(trial.number, (None, now))
        # The clock of this computer alone decides, since those of others may be wrong.
        self._signs[trial.number] = (sign, since if sign == before else now)
        return sign == before and now - since > GRACE

    def seed(self, trial: Trial) -> int:
        """Return the number that is added to the recipe's seed: another than in any earlier trial of the point.

        Args:
            trial: The trial, after its point is sampled.
        """
        with self._lock():
            alike = [one for one in self._trials() if one.params == trial.params and one.number != trial.number]
            mine = int(self._trials()[trial.number].user_attrs["seed"])
            if any(one.number < trial.number and one.user_attrs["seed"] == mine for one in alike):
                mine = 1 + max(one.user_attrs["seed"] for one in alike)
                self._set(trial.number, seed=mine)
        return mine

    def put_back(self, number: int) -> None:
        """Enqueue a trial of this process again, unless it has ended; its run resumes from its checkpoint.

        Args:
            number: The number of the trial.
        """
        from optuna.trial import TrialState

        with self._lock():
            if self.owns(number) and not self._trials()[number].state.is_finished():
                self._set(number, owner={})
                self._state(number, TrialState.WAITING)

    def finish(self, trial: Trial, space: SearchSpace, result: Mapping[str, float]) -> None:
        """Store the results of a trial; the first trial of a point enqueues the point's further seeds.

        Args:
            trial: The finished trial.
            space: The search space of the study.
            result: The results by name.
        """
        with self._lock():
            # Enqueued before the trial ends, so that no worker finds the study finished in between.
            self._repeat([trial.number])
            self._set(trial.number, result=dict(result))
            self.study.tell(trial, [SEARCH_GOALS[goal].of(result) for goal in space.search.goals])

    def end(self, number: int, state: TrialState, reason: str) -> None:
        """End a trial without a result.

        Args:
            number: The number of the trial.
            state: Pruned or failed.
            reason: The reason, in one line.
        """
        with self._lock():
            self._set(number, reason=reason)
            self._state(number, state)

    @contextmanager
    def keep_alive(self, number: int) -> Iterator[None]:
        """Give signs of life for a trial as long as the block runs.

        Args:
            number: The number of the trial.
        """
        over = threading.Event()

        def beat() -> None:
            for count in itertools.count():
                if over.wait(BEAT):
                    return
                try:
                    self._set(number, beat=count)
                except Exception:  # the trial itself reports a failing database
                    continue

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def prunes(self, space: SearchSpace, trial: Trial, epoch: int, psnr: float, epochs: int) -> bool:
        """Report an epoch of a trial, and return whether the trial should end now.

        Args:
            space: The search space of the study.
            trial: The trial.
            epoch: The number of the epoch.
            psnr: The validation PSNR of the epoch, in dB.
            epochs: The number of epochs of the whole trial.
        """
        if len(space.search.goals) > 1:
            return False
        with self._translate_errors():
            self.study.pruner = PRUNERS[space.search.pruner](epochs)
            # A resumed run repeats epochs that were reported before.
            if epoch not in self.storage.get_trial(self._id(trial.number)).intermediate_values:
                trial.report(psnr, epoch)
            return trial.should_prune()
