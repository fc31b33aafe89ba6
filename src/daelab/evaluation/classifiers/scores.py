"""What a judge says of clean, noisy and denoised images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from daelab.evaluation.f1 import (
    Ints,
    bootstrap_f1,
    confusion_matrix,
    macro_f1,
    macro_f1_batch4,
    per_class_scores,
    recovered_f1,
)

IMAGE_KINDS = ("clean", "noisy", "denoised")


@dataclass(frozen=True)
class ClassifierScores:
    """A judge's answers to a set of images, three times over.

    >>> right = np.array([0, 1, 1, 0])
    >>> scores = ClassifierScores("mine", ("cat", "dog"), right, right, np.zeros(4, np.int64), np.array([0, 1, 1, 1]))
    >>> {kind: round(value, 3) for kind, value in scores.macro_f1.items()}
    {'clean': 1.0, 'noisy': 0.333, 'denoised': 0.733, 'recovered': 0.6}
    """

    judge: str
    classes: tuple[str, ...]
    labels: Ints
    """(N,), as the predictions: places in `classes`."""
    clean: Ints
    noisy: Ints
    denoised: Ints
    seed: int = 0
    """Of the bootstrap."""

    @property
    def macro_f1(self) -> dict[str, float]:
        """clean, noisy, denoised, and the share of the loss that denoising recovers."""
        found = {kind: macro_f1(self.labels, self._said(kind), len(self.classes)) for kind in IMAGE_KINDS}
        return found | {"recovered": recovered_f1(found["noisy"], found["denoised"], found["clean"])}

    @property
    def macro_f1_batch4(self) -> dict[str, float]:
        """The paper's: see `f1.macro_f1_batch4`."""
        return {kind: macro_f1_batch4(self.labels, self._said(kind), len(self.classes)) for kind in IMAGE_KINDS}

    @property
    def accuracy(self) -> dict[str, float]:
        """The share of images judged right."""
        return {kind: float(np.mean(self._said(kind) == self.labels)) for kind in IMAGE_KINDS}

    def confusion(self, kind: str) -> Ints:
        """(K, K) of "clean", "noisy" or "denoised": the row's class taken for the column's."""
        return confusion_matrix(self.labels, self._said(kind), len(self.classes))

    def only(self, mask: npt.NDArray[np.bool_]) -> ClassifierScores:
        """The same for some of the images, as of one component of a noise."""
        parts = {key: getattr(self, key)[mask] for key in ("labels", *IMAGE_KINDS)}
        return replace(self, **parts)

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON: what a component of a noise gets. A number that is not finite becomes null."""
        interval = bootstrap_f1(self.confusion("denoised"), seed=self.seed)
        return {
            "macro_f1": _plain(self.macro_f1) | {"ci95": [_number(end) for end in interval]},
            "macro_f1_batch4": _plain(self.macro_f1_batch4),
            "accuracy": _plain(self.accuracy),
        }

    def to_dict(self) -> dict[str, Any]:
        """The summary, the judge's name, and for each class and kind what became of it."""
        tables = {kind: per_class_scores(self.confusion(kind)) for kind in IMAGE_KINDS}
        by_class = {
            name: {
                kind: {score: float(column[place]) for score, column in table.items()} for kind, table in tables.items()
            }
            for place, name in enumerate(self.classes)
        }
        return {
            "judge": self.judge,
            **self.summary(),
            "per_class": by_class,
            "confusion": {"classes": list(self.classes)}
            | {kind: self.confusion(kind).tolist() for kind in IMAGE_KINDS},
        }

    def _said(self, kind: str) -> Ints:
        said: Ints = getattr(self, kind)
        return said


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    return {key: _number(value) for key, value in values.items()}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
