"""The predicted classes of clean, noisy and denoised images, and their metrics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from daelab._util.text import replace_non_finite
from daelab.evaluation.f1 import (
    Ints,
    bootstrap_f1,
    confusion_matrix,
    per_class_scores,
    recovered_f1,
)
from daelab.evaluation.metrics import METRICS, Metric, list_metrics

IMAGE_KINDS = ("clean", "noisy", "denoised")


@dataclass(frozen=True)
class ClassifierScores:
    """The classes that a classifier predicts for the clean, the noisy and the denoised images of a set.

    >>> right = np.array([0, 1, 1, 0])
    >>> scores = ClassifierScores("mine", ("cat", "dog"), right, right, np.zeros(4, np.int64), np.array([0, 1, 1, 1]))
    >>> {kind: round(value, 3) for kind, value in scores.macro_f1.items()}
    {'clean': 1.0, 'noisy': 0.333, 'denoised': 0.733, 'recovered': 0.6}
    """

    judge: str
    classes: tuple[str, ...]
    labels: Ints
    """(N,) the indices of the images' classes in `classes`; the predictions below are of the same form."""
    clean: Ints
    noisy: Ints
    denoised: Ints
    seed: int = 0
    """The seed of the bootstrap."""

    @property
    def macro_f1(self) -> dict[str, float]:
        """The macro F1 on clean, noisy and denoised images, and the recovered F1."""
        return self.score(METRICS["macro_f1"])

    @property
    def macro_f1_batch4(self) -> dict[str, float]:
        """The paper's macro F1, as `f1.macro_f1_batch4` computes it."""
        return self.score(METRICS["macro_f1_batch4"])

    @property
    def accuracy(self) -> dict[str, float]:
        """The share of images whose class was predicted correctly."""
        return self.score(METRICS["accuracy"])

    def score(self, metric: Metric) -> dict[str, float]:
        """Return a metric of the predicted classes of the clean, noisy and denoised images.

        Args:
            metric: a metric whose scope is `classes`; macro F1 also gets the recovered F1.
        """
        scores = {
            kind: float(metric.function(self.labels, self._predictions(kind), len(self.classes)))
            for kind in IMAGE_KINDS
        }
        if metric.name == "macro_f1":
            scores["recovered"] = recovered_f1(scores["noisy"], scores["denoised"], scores["clean"])
        return scores

    def confusion(self, kind: str) -> Ints:
        """Return the confusion matrix of one kind of image.

        Args:
            kind: "clean", "noisy" or "denoised".

        Returns:
            (K, K): how many images of the row's class were predicted to be of the column's class.
        """
        return confusion_matrix(self.labels, self._predictions(kind), len(self.classes))

    def only(self, mask: npt.NDArray[np.bool_]) -> ClassifierScores:
        """Return the scores of some of the images, such as those of one component of a noise.

        Args:
            mask: (N,) True for the images to keep.
        """
        parts = {key: getattr(self, key)[mask] for key in ("labels", *IMAGE_KINDS)}
        return replace(self, **parts)

    def summary(self) -> dict[str, Any]:
        """Return the metrics as plain values for JSON; a number that is not finite becomes null."""
        summary: dict[str, Any] = {metric.name: self.score(metric) for metric in list_metrics("classes")}
        summary["macro_f1"]["ci95"] = list(bootstrap_f1(self.confusion("denoised"), seed=self.seed))
        return replace_non_finite(summary)  # type: ignore[no-any-return]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary, the classifier's name, and the metrics and confusions of each class, for JSON."""
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

    def _predictions(self, kind: str) -> Ints:
        predictions: Ints = getattr(self, kind)
        return predictions
