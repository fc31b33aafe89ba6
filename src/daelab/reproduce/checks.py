"""The tolerances: what must hold for a reproduction to be one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from daelab.reproduce import paper
from daelab.reproduce.measure import Measured, Setting
from daelab.spec import PRESETS


@dataclass(frozen=True)
class Check:
    """One thing that must hold."""

    what: str
    wanted: str
    found: str
    holds: bool


REACHED = {"model-c": (0.00204, 26.92), "model-b-35": (0.00326, 24.88)}
"""Test MSE and batch PSNR (dB) that the paper's own checkpoints 38 and 35 reach under `published-code`, seed 0."""
JUDGE = 0.94
"""Share of the clean test images that `judge:builtin` must judge right."""

_MSE, _PSNR = 0.05, 0.15
"""How far a published checkpoint's test figures may lie from the paper's validation figures: a share, and dB."""
_QUICK_MSE, _QUICK_PSNR = 0.12, 0.5
"""The same, and a slack on every floor, where only a thousand images are looked at."""


def checks(
    checkpoints: Mapping[str, Measured], ours: Mapping[str, Measured], setting: Setting, *, trained_quickly: bool
) -> list[Check]:
    """All that can be checked with what was measured.

    Args:
        checkpoints: the paper's, by file name.
        ours: by name, the tag left out where it is the default.
        trained_quickly: ours were trained anew for a moment, so that no figure is expected of them.
    """
    found = [_layers(figure) for figure in paper.LAYERS]
    for row in paper.TABLE_2:
        if row.checkpoint in checkpoints:
            found += _near(row, checkpoints[row.checkpoint], setting)
    if not trained_quickly:
        found += _ours(ours, setting)
    judged = next((one.f1 for one in (*ours.values(), *checkpoints.values()) if one.f1), None)
    if judged and setting.judge and setting.judge.name == "builtin":
        floor = JUDGE - (0.02 if setting.quick else 0)
        found.append(
            Check(
                "judge:builtin, macro F1 on clean images",
                f"≥ {floor:.2%}",
                f"{judged['clean']:.2%}",
                judged["clean"] >= floor,
            )
        )
    return found


def same_layers(figure: str) -> list[bool]:
    """For each row of a layer table of the paper, whether ours is the same."""
    ours = [(row.layer, row.shape, row.parameters) for row in PRESETS[paper.LAYERS[figure][0]].table()]
    rows = paper.layers(figure)
    return (
        [row == mine for row, mine in zip(rows, ours, strict=True)] if len(rows) == len(ours) else [False] * len(rows)
    )


def _layers(figure: str) -> Check:
    same = same_layers(figure)
    return Check(
        f"{figure}: every layer of {paper.LAYERS[figure][0]}", f"{len(same)} rows", f"{sum(same)} equal", all(same)
    )


def _near(row: paper.Result, found: Measured, setting: Setting) -> list[Check]:
    share, decibels = (_QUICK_MSE, _QUICK_PSNR) if setting.quick else (_MSE, _PSNR)
    mse, psnr = found.metric("mse"), found.metric("psnr_batch")
    return [
        Check(
            f"{row.checkpoint}: test MSE against the paper's validation loss",
            f"{row.val_loss:.5f} ± {share:.0%}",
            f"{mse:.5f}",
            abs(mse / row.val_loss - 1) <= share,
        ),
        Check(
            f"{row.checkpoint}: batch PSNR against the paper's",
            f"{row.val_psnr:.2f} ± {decibels:g} dB",
            f"{psnr:.2f} dB",
            abs(psnr - row.val_psnr) <= decibels,
        ),
    ]


def _ours(ours: Mapping[str, Measured], setting: Setting) -> list[Check]:
    share, decibels = (_QUICK_MSE, _QUICK_PSNR) if setting.quick else (0.0, 0.0)
    found = []
    for name, (floor, psnr) in REACHED.items():
        if name in ours:
            mse, reached = ours[name].metric("mse"), ours[name].metric("psnr_batch")
            most, least = round(floor * (1 + share), 5), psnr - decibels
            found += [
                # as the figures are quoted: to 5 and 2 decimals
                Check(f"{name}: test MSE", f"≤ {most:.5f}", f"{mse:.5f}", round(mse, 5) <= most),
                Check(f"{name}: batch PSNR", f"≥ {least:.2f} dB", f"{reached:.2f} dB", round(reached, 2) >= least),
            ]
    for name, logged in paper.BEST_LOGGED.items():
        if name in ours:
            mse, most = ours[name].metric("mse"), logged * (1 + share)
            found.append(
                Check(f"{name}: test MSE below the paper's best logged", f"< {most:.5f}", f"{mse:.5f}", mse < most)
            )
    return found
