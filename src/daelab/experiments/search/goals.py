"""What a space may name: samplers, pruners and goals. To add one is to add a row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

TrialResult = Mapping[str, float]
"""What a finished trial came to: psnr, loss, macs, parameters, images_per_second."""


@dataclass(frozen=True)
class SearchGoal:
    """What a search wants more, or less, of."""

    title: str
    more: bool
    """Whether more is better."""
    of: Callable[[TrialResult], float]


SEARCH_GOALS: dict[str, SearchGoal] = {
    "psnr": SearchGoal("PSNR (dB)", True, lambda found: found["psnr"]),
    "loss": SearchGoal("validation loss", False, lambda found: found["loss"]),
    "macs": SearchGoal("multiplications per image", False, lambda found: found["macs"]),
    "parameters": SearchGoal("parameters", False, lambda found: found["parameters"]),
    "seconds": SearchGoal(
        "seconds of training per 1,000 images", False, lambda found: 1e3 / found["images_per_second"]
    ),
}
"""Of the validation images, in the best epoch."""


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
    # every point stands in the queue from the beginning, so nothing is sampled
    "grid": _random,
    "random": _random,
    "tpe": _tpe,
    "nsga2": _nsga2,
}
"""Name -> sampler of a seed."""


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
"""Name -> pruner of trials that are so many epochs long."""


def make_numbered_sampler(kind: str, seed: int) -> BaseSampler:
    """A sampler that draws for trial n by (seed, n): the same whichever worker asks, and however many there are."""
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
