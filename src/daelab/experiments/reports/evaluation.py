"""The scores of a model, and of single images, as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from daelab.evaluation.classifiers.scores import ClassifierScores
from daelab.evaluation.evaluate import EvaluationScores
from daelab.evaluation.metrics import METRICS, SI_PSNR, Metric, list_metrics
from daelab.experiments.evaluate_model import ModelEvaluation
from daelab.experiments.reports.table import Table

_KINDS = ("clean", "noisy", "denoised")
_PSNR, _SSIM = METRICS["psnr"], METRICS["ssim"]


def make_score_table(scores: EvaluationScores) -> Table:
    """Return each image metric of the noisy and the denoised images, with its 95% confidence interval.

    Args:
        scores: The scores of a model.
    """
    rows = []
    for metric in list_metrics("image", "batch", requested=scores.requested):
        summary = scores.overall.metrics[metric.name]
        rows.append([metric.explained, *map(metric.format, (summary.noisy, summary.denoised, *summary.ci95))])
    return Table("scores", ["", "noisy", "denoised", "95% from", "to"], rows)


def make_component_table(scores: EvaluationScores) -> Table:
    """Return the PSNR of the images under each component of a noise that is one of several.

    Args:
        scores: The scores of a model.
    """
    rows = []
    for part in scores.components:
        psnr = part.metrics["psnr"]
        rows.append([part.noise, part.images, _PSNR.format(psnr.noisy), _PSNR.format(psnr.denoised)])
    return Table("by component", ["component", "images", "PSNR noisy, dB", "denoised"], rows)


def make_level_table(sigmas: Sequence[float], evaluations: Sequence[ModelEvaluation]) -> Table:
    """Return PSNR and SSIM at each noise level, one level a row.

    Args:
        sigmas: The noise levels: standard deviations in 8-bit units.
        evaluations: The model's scores at each level, in the same order.
    """
    rows = []
    for sigma, evaluation in zip(sigmas, evaluations, strict=True):
        psnr, ssim = (evaluation.scores.overall.metrics[metric.name] for metric in (_PSNR, _SSIM))
        decibels = map(_PSNR.format, (psnr.noisy, psnr.denoised, *psnr.ci95))
        rows.append([f"{sigma:g}", *decibels, _SSIM.format(ssim.noisy), _SSIM.format(ssim.denoised)])
    columns = ["sigma", "PSNR noisy, dB", "denoised", "95% from", "to", "SSIM noisy", "denoised"]
    return Table("levels", columns, rows)


def make_classifier_tables(scores: EvaluationScores) -> list[Table]:
    """Return what a classifier recognizes, in percent: over all images, and by class.

    Args:
        scores: The scores of a model.

    Returns:
        Two tables, or none if no classifier took part.
    """
    classified = scores.overall.judged
    if classified is None:
        return []
    rows = [
        [metric.explained, *_format_kinds(classified.score(metric), "recovered")] for metric in list_metrics("classes")
    ]
    if len(scores.components) > 1:
        rows += [
            [f"macro F1, {part.noise}", *_format_kinds(part.judged.macro_f1, "recovered")]
            for part in scores.components
            if part.judged
        ]
    overall = Table("classifier", [f"classifier {classified.judge}, %", *_KINDS, "recovered"], rows)
    return [overall, _make_class_table(classified)]


def _make_class_table(classified: ClassifierScores) -> Table:
    rows = [
        [
            name,
            *(_format_percent(kinds[kind]["f1"]) for kind in _KINDS),
            *(_format_percent(kinds["denoised"][key]) for key in ("precision", "recall")),
        ]
        for name, kinds in classified.to_dict()["per_class"].items()
    ]
    return Table("by class", ["F1 by class, %", *_KINDS, "precision", "recall (denoised)"], rows)


def make_image_comparison_table(clean: str, scores: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    """Return PSNR, SSIM and scale-invariant PSNR of images against a clean one, one channel a row.

    Args:
        clean: The name of the clean image.
        scores: Image -> channel -> metric -> value.
    """
    metrics = (_PSNR, _SSIM, SI_PSNR)
    rows = [
        [name, channel, *(_format_score(metric, values[metric.name]) for metric in metrics)]
        for name, channels in scores.items()
        for channel, values in channels.items()
    ]
    return Table(f"against {clean}", ["picture", "channel", *(metric.heading for metric in metrics)], rows)


def _format_score(metric: Metric, value: float | None) -> str:
    # A PSNR has no finite value if and only if nothing is left to differ.
    return "∞" if value is None and metric.unit == "dB" else metric.format(value)


def _format_kinds(values: Mapping[str, float], *more: str) -> list[str]:
    return [_format_percent(values.get(key)) for key in (*_KINDS, *more)]


def _format_percent(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{100 * value:.2f}"
