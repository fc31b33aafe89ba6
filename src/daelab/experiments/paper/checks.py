"""The tolerances that the measurements must keep for the reproduction to succeed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from daelab.experiments.paper.measure import MeasuredModel, MeasurementSettings
from daelab.experiments.paper.published import BEST_LOGGED, LAYERS, TABLE_2, PublishedResult, get_published_layers
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS


@dataclass(frozen=True)
class ToleranceCheck:
    """A tolerance and its check."""

    what: str
    """The quantity."""
    wanted: str
    """The expected value, with its tolerance."""
    found: str
    """The measured value."""
    holds: bool
    """Whether the measured value is within the tolerance."""


REACHED = {"model-c": (0.00204, 26.92), "model-b-35": (0.00326, 24.88)}
"""The test MSE and the batch PSNR in dB of the paper's own checkpoints 38 and 35 under `published-code`, seed 0."""
CHECKED_CLASSIFIER = 0.94
"""The smallest macro F1 of `judge:builtin` on clean test images."""

_MSE, _PSNR = 0.05, 0.15
"""The tolerances between a checkpoint's test scores and the paper's validation scores: a share, and dB."""
_QUICK_MSE, _QUICK_PSNR = 0.12, 0.5
"""The same for a quick reproduction with a thousand images; every limit is relaxed by them too."""


def check_tolerances(
    checkpoints: Mapping[str, MeasuredModel],
    ours: Mapping[str, MeasuredModel],
    setting: MeasurementSettings,
    *,
    trained_quickly: bool,
) -> list[ToleranceCheck]:
    """Check all tolerances that the measurements allow.

    Args:
        checkpoints: The paper's checkpoints, by file name.
        ours: Our models, by name without the default tag.
        setting: The settings of the measurements.
        trained_quickly: Whether our models were trained again for a moment, so that no score is expected of them.
    """
    checks = [_check_layers(figure) for figure in LAYERS]
    for row in TABLE_2:
        if row.checkpoint in checkpoints:
            checks += _check_checkpoint(row, checkpoints[row.checkpoint], setting)
    if not trained_quickly:
        checks += _check_own_models(ours, setting)
    judged = next((one.f1 for one in (*ours.values(), *checkpoints.values()) if one.f1), None)
    if judged and setting.judge and setting.judge.name == "builtin":
        floor = CHECKED_CLASSIFIER - (0.02 if setting.quick else 0)
        checks.append(
            ToleranceCheck(
                "judge:builtin, macro F1 on clean images",
                f"≥ {floor:.2%}",
                f"{judged['clean']:.2%}",
                judged["clean"] >= floor,
            )
        )
    return checks


def compare_layers(figure: str) -> list[bool]:
    """Compare a layer table of the paper with ours.

    Args:
        figure: The figure with the table, a key of `LAYERS`.

    Returns:
        for each row of the paper's table, whether our row is the same.
    """
    ours = [(row.layer, row.shape, row.parameters) for row in ARCHITECTURE_PRESETS[LAYERS[figure][0]].table()]
    rows = get_published_layers(figure)
    return (
        [row == mine for row, mine in zip(rows, ours, strict=True)] if len(rows) == len(ours) else [False] * len(rows)
    )


def _check_layers(figure: str) -> ToleranceCheck:
    same = compare_layers(figure)
    return ToleranceCheck(
        f"{figure}: every layer of {LAYERS[figure][0]}", f"{len(same)} rows", f"{sum(same)} equal", all(same)
    )


def _check_checkpoint(row: PublishedResult, model: MeasuredModel, setting: MeasurementSettings) -> list[ToleranceCheck]:
    share, decibels = (_QUICK_MSE, _QUICK_PSNR) if setting.quick else (_MSE, _PSNR)
    mse, psnr = model.metric("mse"), model.metric("psnr_batch")
    return [
        ToleranceCheck(
            f"{row.checkpoint}: test MSE against the paper's validation loss",
            f"{row.val_loss:.5f} ± {share:.0%}",
            f"{mse:.5f}",
            abs(mse / row.val_loss - 1) <= share,
        ),
        ToleranceCheck(
            f"{row.checkpoint}: batch PSNR against the paper's",
            f"{row.val_psnr:.2f} ± {decibels:g} dB",
            f"{psnr:.2f} dB",
            abs(psnr - row.val_psnr) <= decibels,
        ),
    ]


def _check_own_models(ours: Mapping[str, MeasuredModel], setting: MeasurementSettings) -> list[ToleranceCheck]:
    share, decibels = (_QUICK_MSE, _QUICK_PSNR) if setting.quick else (0.0, 0.0)
    checks = []
    for name, (floor, psnr) in REACHED.items():
        if name in ours:
            mse, reached = ours[name].metric("mse"), ours[name].metric("psnr_batch")
            most, least = round(floor * (1 + share), 5), psnr - decibels
            checks += [
                # rounded to 5 and 2 decimals, as the paper quotes them
                ToleranceCheck(f"{name}: test MSE", f"≤ {most:.5f}", f"{mse:.5f}", round(mse, 5) <= most),
                ToleranceCheck(
                    f"{name}: batch PSNR", f"≥ {least:.2f} dB", f"{reached:.2f} dB", round(reached, 2) >= least
                ),
            ]
    for name, logged in BEST_LOGGED.items():
        if name in ours:
            mse, most = ours[name].metric("mse"), logged * (1 + share)
            checks.append(
                ToleranceCheck(
                    f"{name}: test MSE below the paper's best logged", f"< {most:.5f}", f"{mse:.5f}", mse < most
                )
            )
    return checks
