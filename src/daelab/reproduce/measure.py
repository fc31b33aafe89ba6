"""What is measured: every model under a noise, with a judge; and seconds per epoch on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daelab import api, data, judge, modelfile, recipe, runs, training
from daelab.denoiser import Denoiser
from daelab.reproduce import paper

QUICK = 1_000
"""Images of a quick look."""

Say = Callable[[str], None]
Count = Callable[[int, int], None]


@dataclass(frozen=True)
class Setting:
    """What all measurements share."""

    dataset: data.Dataset
    judge: judge.Judge | None
    judging: Mapping[str, str | None]
    """The judge as a recipe names it: name and path."""
    quick: bool
    seed: int = 0

    @property
    def limit(self) -> int | None:
        """Test images to look at; all for None."""
        return QUICK if self.quick else None


@dataclass(frozen=True)
class Measured:
    """A model and its scores."""

    name: str
    card: modelfile.Card
    found: api.Evaluated

    def metric(self, name: str) -> float:
        """Of the denoised images, over all of them."""
        return self.found.scores.overall.metrics[name].denoised

    @property
    def f1(self) -> Mapping[str, float]:
        """Full-set macro F1: clean, noisy, denoised, recovered; empty without a judge."""
        judged = self.found.scores.overall.judged
        return judged.macro_f1 if judged else {}

    @property
    def f1_batch4(self) -> Mapping[str, float]:
        """The paper's macro F1."""
        judged = self.found.scores.overall.judged
        return judged.macro_f1_batch4 if judged else {}


def measure(models: Mapping[str, Path], setting: Setting, say: Say, count: Count) -> dict[str, Measured]:
    """Every model on the test images, under the noise it was trained for.

    Args:
        models: name -> file.
        say: told what comes next.
        count: told (images done, images in all) of each.
    """
    found = {}
    for name, path in models.items():
        say(f"evaluating {name}")
        denoiser, (_, card) = Denoiser.load(path), modelfile.load(path)
        scores = api.evaluate(
            denoiser,
            setting.dataset,
            limit=setting.limit,
            seed=setting.seed,
            judge=setting.judge,
            progress=count,
        )
        found[name] = Measured(name, card, scores)
    return found


@dataclass(frozen=True)
class Speed:
    """Seconds per epoch on this machine, scaled from a few steps."""

    row: paper.Runtime
    seconds: float
    images_per_second: float
    """In training."""
    steps: int
    """That were timed."""


def speeds(setting: Setting, say: Say) -> list[Speed]:
    """The paper's Table 3 here: each row's recipe for a few steps and validation images, scaled to its sizes."""
    found = []
    for row in paper.TABLE_3:
        if row.judged and setting.judge is None:
            continue
        say(f"timing {row.title}, batches of {row.batch}")
        found.append(_speed(row, setting))
    return found


def _speed(row: paper.Runtime, setting: Setting) -> Speed:
    steps, val = (4, 128) if setting.quick else (40, 1_000)
    wanted = recipe.load(row.recipe).to_dict()
    wanted["training"] |= {"batch": row.batch, "epochs": 2}
    wanted["data"] |= {"train": steps * row.batch, "val": val}
    if row.judged and setting.judge:
        wanted["judge"] = dict(setting.judging)
    with tempfile.TemporaryDirectory() as folder:
        ledger = runs.Ledger(f"sqlite:///{folder}/ledger.db")
        done = training.fit(
            recipe.parse(wanted), "timed", runs_root=Path(folder), ledger=ledger, dataset=setting.dataset
        )
    # the first epoch is slower: memory is touched for the first time
    last: dict[str, Any] = done.rows[-1]
    in_training = steps * row.batch / last["images_per_second"]
    per_image = (last["seconds"] - in_training) / val
    seconds = row.train / last["images_per_second"] + row.val * per_image
    return Speed(row, seconds, last["images_per_second"], steps)
