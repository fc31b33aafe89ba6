"""Macro F1, full-set and by the paper's batches of four; confusion matrices. NumPy alone.

Shapes: N images, K classes. Labels and predictions are int64 (N,) in [0, K).

Macro F1 is scikit-learn's `f1_score(average="macro", zero_division=0)`: the mean of
2 TP / (2 TP + FP + FN) over the classes that occur among the labels or the predictions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def confusion_matrix(labels: Ints, predictions: Ints, classes: int) -> Ints:
    """(K, K): how many images of the row's class were taken for the column's.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    assert labels.shape == predictions.shape
    cells = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return cells.reshape(classes, classes)


def macro_f1_from_confusion(matrices: npt.NDArray[Any]) -> Floats:
    """(..., K, K) confusion matrices -> (...) macro F1; nan for an empty one."""
    right = np.diagonal(matrices, axis1=-2, axis2=-1)
    return _mean_f1(right, matrices.sum(-1), matrices.sum(-2))


def macro_f1(labels: Ints, predictions: Ints, classes: int) -> float:
    """Macro F1 over all images; nan where there are none.

    >>> round(macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1]), 3), 4)
    0.6667
    """
    return float(macro_f1_from_confusion(confusion_matrix(labels, predictions, classes)))


def macro_f1_batch4(labels: Ints, predictions: Ints, classes: int, batch: int = 4) -> float:
    """The paper's: macro F1 of each batch of 4 consecutive images, averaged over batches.

    Biased low against the full-set figure: one wrong image of four adds a class of F1 zero.

    >>> macro_f1_batch4(np.array([0, 1, 2, 2, 5]), np.array([0, 1, 2, 2, 5]), 10)
    1.0
    """
    count = -(-len(labels) // batch)
    if not count:
        return math.nan
    cell = np.arange(len(labels)) // batch * classes
    hit = labels == predictions
    sums = [
        np.bincount(cell[mask] + values[mask], minlength=count * classes).reshape(count, classes)
        for values, mask in ((labels, hit), (labels, slice(None)), (predictions, slice(None)))
    ]
    return float(_mean_f1(*sums).mean())


def per_class_scores(matrix: Ints) -> dict[str, Floats]:
    """(K,) each: precision, recall, F1 of a confusion matrix; 0 where nothing is there to divide by."""
    right, there, taken = np.diagonal(matrix), matrix.sum(1), matrix.sum(0)
    return {
        "precision": _ratio(right, taken),
        "recall": _ratio(right, there),
        "f1": _ratio(2 * right, there + taken),
    }


def recovered_f1(noisy: float, denoised: float, clean: float) -> float:
    """The share of what noise took that denoising gives back; nan where noise took nothing.

    >>> recovered_f1(0.5, 0.8, 0.9)
    0.75
    """
    return round((denoised - noisy) / (clean - noisy), 12) if clean != noisy else math.nan


def bootstrap_f1(matrix: Ints, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile interval of macro F1 under resampling of the images.

    Images drawn with replacement fill the cells of the matrix by a multinomial law, so the
    matrix is drawn, not the images.
    """
    total = int(matrix.sum())
    if not total:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).multinomial(total, matrix.ravel() / total, size=draws)
    low, high = np.quantile(macro_f1_from_confusion(drawn.reshape(draws, *matrix.shape)), [0.025, 0.975])
    return float(low), float(high)


def _mean_f1(right: npt.NDArray[Any], there: npt.NDArray[Any], taken: npt.NDArray[Any]) -> Floats:
    """(..., K) counts -> (...): the mean over the classes that occur."""
    both = there + taken
    occur = (both > 0).sum(-1)
    return _ratio(_ratio(2 * right, both).sum(-1), occur, empty=math.nan)


def _ratio(above: npt.NDArray[Any], below: npt.NDArray[Any], empty: float = 0.0) -> Floats:
    out = np.full(np.shape(below), empty)
    np.divide(above, below, out=out, where=np.asarray(below) > 0)
    return out
