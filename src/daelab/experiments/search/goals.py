"""The tables of goals, samplers and pruners that a search space can use. To add one is to add a row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daelab.evaluation.metrics import METRICS

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

TrialResult = Mapping[str, float]
"""The results of a finished trial: psnr, loss, macs, parameters, images_per_second."""


@dataclass(frozen=True)
class SearchGoal:
    """A quantity that a search maximizes or minimizes."""

    title: str
    """The label of the goal in figures."""
    more: bool
    """Whether a larger value is better."""
    of: Callable[[TrialResult], float]
    """A function of a trial's results to the value of the goal."""


SEARCH_GOALS: dict[str, SearchGoal] = {
    "psnr": SearchGoal(METRICS["psnr"].axis, METRICS["psnr"].direction == "higher", lambda result: result["psnr"]),
    "loss": SearchGoal("validation loss", False, lambda result: result["loss"]),
    "macs": SearchGoal("multiplications per image", False, lambda result: result["macs"]),
    "parameters": SearchGoal("parameters", False, lambda result: result["parameters"]),
    "seconds": SearchGoal(
        "seconds of training per 1,000 images", False, lambda result: 1e3 / result["images_per_second"]
    ),
}
"""The goals by name. PSNR and loss are those of the validation images in the best epoch."""


def _random(seed: int) -> BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def _tpe(seed: int) -> BaseSampler:
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, n_startup_trials=8)


def _nsga2(seed: int) -> BaseSampler:
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=seed, population_size=12)


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    # All points of a grid are enqueued at the beginning, so that this sampler is never asked.
    "grid": _random,
    "random": _random,
    "tpe": _tpe,
    "nsga2": _nsga2,
}
"""The samplers by name: functions of a seed."""


def _halving(epochs: int) -> BasePruner:
    from optuna.pruners import SuccessiveHalvingPruner

    return SuccessiveHalvingPruner(min_resource=max(1, epochs // 8), reduction_factor=2)


def _median(epochs: int) -> BasePruner:
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=4, n_warmup_steps=epochs // 8)


def _none(_epochs: int) -> BasePruner:
    from optuna.pruners import NopPruner

    return NopPruner()


PRUNERS: dict[str, Callable[[int], BasePruner]] = {"none": _none, "halving": _halving, "median": _median}
"""The pruners by name: functions of the number of epochs of a trial."""


def make_numbered_sampler(kind: str, seed: int) -> BaseSampler:
    """Make a sampler whose draws depend on the seed and the number of the trial alone.

    So the draws are the same whichever worker asks, and however many workers there are.

    Args:
        kind: The name of a sampler of `SAMPLERS`.
        seed: The seed.
    """
    from optuna.samplers import BaseSampler

    class Numbered(BaseSampler):
        def __init__(self) -> None:
            self.number, self.inner = -1, SAMPLERS[kind](seed)

        def _of(self, trial: Any) -> BaseSampler:
            if trial.number != self.number:
                digest = hashlib.sha256(f"{seed} {trial.number}".encode()).digest()
                self.number, self.inner = trial.number, SAMPLERS[kind](int.from_bytes(digest[:4], "big"))
            return self.inner

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            return self._of(trial).infer_relative_search_space(study, trial)

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
            return self._of(trial).sample_relative(study, trial, search_space)

        def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
            return self._of(trial).sample_independent(study, trial, name, distribution)

        def before_trial(self, study: Any, trial: Any) -> None:
            self._of(trial).before_trial(study, trial)

        def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
            self._of(trial).after_trial(study, trial, state, values)

    return Numbered()
