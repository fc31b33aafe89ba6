"""Macro F1 over a whole set and by the paper's batches of four, recovered F1, and confusion matrices.

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
_Floats = npt.NDArray[np.float64]


def confusion_matrix(labels: Ints, predictions: Ints, classes: int) -> Ints:
    """Count how many images of the row's class were predicted to be of the column's class.

    Args:
        labels: (N,) the classes.
        predictions: (N,) the predicted classes.
        classes: K.

    Returns:
        (K, K) counts.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    assert labels.shape == predictions.shape
    # One number for each cell of the matrix, so that a single pass counts all of them.
    cells = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return cells.reshape(classes, classes)


def macro_f1_from_confusion(matrices: npt.NDArray[Any]) -> _Floats:
    """Return the macro F1 of confusion matrices.

    Args:
        matrices: (..., K, K) counts.

    Returns:
        (...) float64; nan for an empty matrix.
    """
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    return _mean_f1(hits, matrices.sum(-1), matrices.sum(-2))


def macro_f1(labels: Ints, predictions: Ints, classes: int) -> float:
    """Return the macro F1 over all images; nan if there are none.

    Args:
        labels: (N,) the classes.
        predictions: (N,) the predicted classes.
        classes: K.

    >>> round(macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1]), 3), 4)
    0.6667
    """
    return float(macro_f1_from_confusion(confusion_matrix(labels, predictions, classes)))


def macro_f1_batch4(labels: Ints, predictions: Ints, classes: int, batch: int = 4) -> float:
    """Return the paper's macro F1: that of each batch of 4 consecutive images, averaged over the batches.

    It is lower than the macro F1 of the whole set: one wrong image of four adds a class whose F1 is zero.

    Args:
        labels: (N,) the classes.
        predictions: (N,) the predicted classes.
        classes: K.
        batch: The number of images in a batch.

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


def accuracy(labels: Ints, predictions: Ints, _classes: int) -> float:
    """Return the share of images whose class was predicted correctly.

    Args:
        labels: (N,) the classes.
        predictions: (N,) the predicted classes.
        _classes: K, which accuracy does not need; all metrics of classes take it.
    """
    return float(np.mean(predictions == labels))


def per_class_scores(matrix: Ints) -> dict[str, _Floats]:
    """Return the precision, recall and F1 of each class.

    Args:
        matrix: (K, K) counts of a confusion matrix.

    Returns:
        (K,) values under the keys precision, recall and f1; 0 where the divisor is 0.
    """
    hits, labelled, predicted = np.diagonal(matrix), matrix.sum(1), matrix.sum(0)
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, labelled),
        "f1": _ratio(2 * hits, labelled + predicted),
    }


def recovered_f1(noisy: float, denoised: float, clean: float) -> float:
    """Return the recovered F1: (F1 denoised - F1 noisy) / (F1 clean - F1 noisy).

    Args:
        noisy: The F1 on noisy images.
        denoised: The F1 on denoised images.
        clean: The F1 on clean images.

    Returns:
        1 if denoising restores the F1 of clean images, 0 if it changes nothing; nan if noise does not lower the F1.

    >>> recovered_f1(0.5, 0.8, 0.9)
    0.75
    """
    # Rounded, so that the rounding errors of the differences do not show.
    return round((denoised - noisy) / (clean - noisy), 12) if clean > noisy else math.nan


def bootstrap_f1(matrix: Ints, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Return the 95% percentile interval of the macro F1 under resampling of the images.

    Images drawn with replacement fill the cells of the matrix by a multinomial law, so the matrix is drawn instead of
    the images.

    Args:
        matrix: (K, K) counts of a confusion matrix.
        draws: The number of resamples.
        seed: The seed of the resampling.
    """
    total = int(matrix.sum())
    if not total:
        return math.nan, math.nan
    matrices = np.random.default_rng(seed).multinomial(total, matrix.ravel() / total, size=draws)
    low, high = np.quantile(macro_f1_from_confusion(matrices.reshape(draws, *matrix.shape)), [0.025, 0.975])
    return float(low), float(high)


def _mean_f1(hits: npt.NDArray[Any], labelled: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> _Floats:
    """Average F1 over the classes that occur: (..., K) counts -> (...)."""
    both = labelled + predicted
    occur = (both > 0).sum(-1)
    return _ratio(_ratio(2 * hits, both).sum(-1), occur, empty=math.nan)


def _ratio(above: npt.NDArray[Any], below: npt.NDArray[Any], empty: float = 0.0) -> _Floats:
    out = np.full(np.shape(below), empty)
    # Only where the divisor is not zero, so that no warning is raised and `empty` stays elsewhere.
    np.divide(above, below, out=out, where=np.asarray(below) > 0)
    return out
