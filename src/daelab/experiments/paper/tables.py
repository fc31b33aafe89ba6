"""The tables of the report, with numbers in full precision; the page rounds them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from daelab.evaluation.classifiers.scores import IMAGE_KINDS
from daelab.evaluation.f1 import per_class_scores
from daelab.evaluation.metrics import Metric, list_metrics
from daelab.experiments.paper.checks import ToleranceCheck, compare_layers
from daelab.experiments.paper.comparisons import (
    COMPARISONS,
    OURS,
    REFERENCE,
    SEEDS,
    StudyOutcome,
    compute_outcome_range,
    judge_comparison,
)
from daelab.experiments.paper.measure import EpochTime, MeasuredModel, MeasurementSettings
from daelab.experiments.paper.published import (
    CLEAN_F1,
    DIFFERENCES,
    LAYERS,
    MACHINE,
    TABLE_1,
    TABLE_2,
    get_published_layers,
)
from daelab.experiments.reports.table import Table
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.noise.grammar import parse_noise


def _list_paper_metrics() -> list[Metric]:
    """Return every metric of images and batches, those that the paper reports first."""
    return sorted(list_metrics("image", "batch"), key=lambda metric: metric.name not in ("mse", "psnr_batch"))


def _metric_headings() -> list[str]:
    return ["test MSE" if metric.name == "mse" else metric.heading for metric in _list_paper_metrics()]


def make_noise_table() -> Table:
    """Return Table 1, with a note on whether the preset `table-1` has the same noises."""
    ours = [str(option) for option in parse_noise("table-1").options()]
    same = {str(parse_noise(text)) for *_, text in TABLE_1} == set(ours)
    rows = [(kind, mean, std, text) for kind, mean, std, text in TABLE_1]
    published = " | ".join(str(option) for option in parse_noise("published-code").options())
    note = (
        f"The preset table-1 {'applies one of these noises to each image' if same else 'differs'}. The preset "
        f"published-code applies one of: {published}."
    )
    return Table("The paper's Table 1: noise", ("noise", "mean", "standard deviation", "here"), rows, note)


def make_published_layer_table(figure: str) -> Table:
    """Return the layer table of Figure 3, 5 or 6, with a mark for each row that is the same in daelab.

    Args:
        figure: A key of `LAYERS`.
    """
    preset = LAYERS[figure][0]
    same = compare_layers(figure)
    rows = [
        (layer, str([-1, *shape]), parameters, "✓" if equal else "✗")
        for (layer, shape, parameters), equal in zip(get_published_layers(figure), same, strict=True)
    ]
    verdict = "all rows are equal to" if all(same) else f"{same.count(False)} rows differ from"
    note = f"{ARCHITECTURE_PRESETS[preset].parameters:,} parameters; {verdict} the output of daelab models {preset}."
    columns = ("Layer (type)", "Output Shape", "Param #", "the same here")
    return Table(f"The paper's {figure}: {preset}", columns, rows, note)


def make_results_table(
    checkpoints: Mapping[str, MeasuredModel], ours: Mapping[str, MeasuredModel], setting: MeasurementSettings
) -> Table:
    """Return Table 2: the paper's results, its checkpoints measured here, and our models.

    Args:
        checkpoints: The paper's checkpoints, by file name.
        ours: Our models, by name.
        setting: The settings of the measurements.
    """
    judge = setting.judge.name if setting.judge else ""
    rows: list[tuple[Any, ...]] = []
    judged: Mapping[str, float] = {}
    for one in (*ours.values(), *checkpoints.values()):
        if one.f1:
            judged, batch4 = one.f1, one.f1_batch4
            break
    no_metrics = [None] * len(_list_paper_metrics())
    rows.append(("CIFAR-10, clean", "paper", None, None, *no_metrics, None, _percent(CLEAN_F1), "ViT"))
    if judged:
        clean = (_percent(judged["clean"]), _percent(batch4["clean"]), judge)
        rows.append(("CIFAR-10, clean", "measured here", None, None, *no_metrics, *clean))
    rows += _make_noisy_rows(checkpoints, ours, judge)
    for row in TABLE_2:
        quoted = (row.val_loss, row.val_psnr, *no_metrics, None, _percent(row.macro_f1), "ViT")
        rows.append((row.title, "paper", *quoted))
        if row.checkpoint in checkpoints:
            found = checkpoints[row.checkpoint]
            rows.append(
                (row.title, f"paper's weights, {row.checkpoint}, measured here", *_make_model_cells(found, judge))
            )
        if row.ours and row.ours in ours:
            rows.append((row.title, f"our weights, {row.ours}", *_make_model_cells(ours[row.ours], judge)))
    columns = ("model", "whose", "val loss", "val PSNR, dB", *_metric_headings())
    note = (
        "Validation loss and validation PSNR were measured by each model's own training on its own validation images. "
        f"The other values are measured here on the {_count_images(ours, checkpoints):,} test images under the noise "
        f"published-code, seed {setting.seed}. Batch PSNR and F1 by batches of 4 are the paper's metrics; PSNR (the "
        "mean over images) and macro F1 (over the whole set) are the usual ones. The paper's F1 is that of its ViT; "
        "the F1 of different classifiers are not comparable."
    )
    return Table("The paper's Table 2", (*columns, "macro F1, %", "F1 by batches of 4, %", "judge"), rows, note)


def _make_noisy_rows(
    checkpoints: Mapping[str, MeasuredModel], ours: Mapping[str, MeasuredModel], judge: str
) -> list[tuple[Any, ...]]:
    under = [one for one in (*ours.values(), *checkpoints.values()) if one.card.noise == "published-code"]
    if not under:
        return []
    one = under[0]
    metrics = one.found.scores.overall.metrics
    f1 = (_percent(one.f1.get("noisy")), _percent(one.f1_batch4.get("noisy")), judge)
    return [
        (
            "noisy images",
            "measured here",
            None,
            None,
            *(metrics[metric.name].noisy for metric in _list_paper_metrics()),
            *f1,
        )
    ]


def _make_model_cells(found: MeasuredModel, judge: str) -> tuple[Any, ...]:
    own = found.card.metrics
    f1 = (_percent(found.f1.get("denoised")), _percent(found.f1_batch4.get("denoised")), judge)
    return (
        own.get("val_loss"),
        own.get("val_psnr_batch"),
        *(found.metric(metric.name) for metric in _list_paper_metrics()),
        *f1,
    )


def make_weights_table(ours: Mapping[str, MeasuredModel]) -> Table:
    """Return the scores of our models, each under the noise that it was trained for.

    Args:
        ours: Our models, by name.
    """
    rows = [
        (
            name,
            found.found.parameters,
            found.card.noise,
            *(found.metric(metric.name) for metric in _list_paper_metrics()),
            _percent(found.f1.get("denoised")),
            _percent(found.f1.get("recovered")),
        )
        for name, found in ours.items()
    ]
    columns = ("weights", "parameters", "noise", *_metric_headings())
    note = (
        "Each model is evaluated under the noise that it was trained for. The recovered F1 is "
        "(F1 denoised - F1 noisy) / (F1 clean - F1 noisy)."
    )
    return Table("Weights that ship", (*columns, "macro F1, %", "recovered, %"), rows, note)


def make_paper_component_table(found: Mapping[str, MeasuredModel]) -> Table:
    """Return the PSNR and the F1 of each model for each component of its noise.

    Args:
        found: The models, by name.
    """
    rows = []
    for name, one in found.items():
        for part in one.found.scores.components:
            f1 = part.judged.macro_f1 if part.judged else {}
            psnr = part.metrics["psnr"]
            rows.append(
                (name, part.noise, part.images, psnr.noisy, psnr.denoised, *(_percent(f1.get(k)) for k in IMAGE_KINDS))
            )
    columns = ("model", "noise", "images", "PSNR noisy, dB", "denoised, dB")
    return Table("By component of the noise", (*columns, *(f"F1 {kind}, %" for kind in IMAGE_KINDS)), rows)


def make_class_table(found: MeasuredModel) -> Table | None:
    """Return the F1 of each class, with precision and recall on denoised images; None without a classifier.

    Args:
        found: The model.
    """
    judged = found.found.scores.overall.judged
    if judged is None:
        return None
    tables = {kind: per_class_scores(judged.confusion(kind)) for kind in IMAGE_KINDS}
    rows = [
        (
            name,
            *(_percent(float(tables[kind]["f1"][place])) for kind in IMAGE_KINDS),
            *(_percent(float(tables["denoised"][key][place])) for key in ("precision", "recall")),
        )
        for place, name in enumerate(judged.classes)
    ]
    columns = ("class", *(f"F1 {kind}, %" for kind in IMAGE_KINDS), "precision denoised, %", "recall denoised, %")
    return Table(f"By class: {found.name}, judge {judged.judge}", columns, rows)


def make_runtime_table(speeds: Sequence[EpochTime], machine: str) -> Table:
    """Return Table 3 beside the times on this computer.

    Args:
        speeds: The measured times.
        machine: A description of this computer.
    """
    rows = [
        (
            one.row.title,
            one.row.batch,
            f"{one.row.train:,}/{one.row.val:,}",
            one.row.seconds,
            f"{one.seconds:.1f}",
            f"{one.row.seconds / one.seconds:.2f}",
            round(one.images_per_second),
        )
        for one in speeds
    ]
    columns = (
        "model",
        "batch size",
        "train/val size",
        "s per epoch, paper",
        "here",
        "times the paper's",
        "images/s here",
    )
    steps = speeds[0].steps if speeds else 0
    note = (
        f"Here: {machine}. {steps} steps and some validation images were timed after a first epoch, and the times were "
        f"scaled to the table's sizes; other work on the computer affects them. Paper: {MACHINE}."
    )
    return Table("The paper's Table 3: seconds per epoch", columns, rows, note)


def make_study_table(outcomes: Iterable[StudyOutcome], *, quick: bool) -> list[Table]:
    """Return the table of the paper's decisive comparisons with their verdicts, and the table of all runs.

    Args:
        outcomes: The outcomes of the runs.
        quick: Whether the runs are too short for verdicts.
    """
    by_name = {one.name: one for one in outcomes}
    rows = []
    for each in (*COMPARISONS, *OURS):
        unit = "rises, %" if each.by == "rises" else "val loss"
        values = ", ".join(f"{name} {_value(by_name[name], each.by)}" for name in each.recipes)
        verdict = "too short to decide" if quick else judge_comparison(each, by_name)
        rows.append((each.title, each.conclusion, f"{unit}: {values}", verdict))
    first = next(iter(by_name.values())).recipe
    loss, rises = (
        math.expm1(compute_outcome_range(by_name.values(), "loss")),
        compute_outcome_range(by_name.values(), "rises"),
    )
    close = (
        f"A comparison is too close to call if the difference is within the range of {1 + len(SEEDS)} seeds of "
        f"study/{REFERENCE}: {loss:.1%} of the loss, and {100 * rises:.1f} percentage points of the rises. "
    )
    note = (
        f"Each run has {first.training.epochs} epochs of {first.data.train:,} images in batches of "
        f"{first.training.batch}, {first.data.val:,} validation images, and one seed. The first and the last recipe of "
        f"each list are compared. {'' if quick else close}Rises are the mean rise of the validation loss from an epoch "
        "to the next, with falls counted as 0."
    )
    verdicts = Table("The paper's conclusions, checked", ("question", "the paper", "here", "verdict"), rows, note)
    runs = [
        (f"study/{name}", one.recipe.note, one.recipe.spec.parameters, one.loss, one.psnr, _percent(one.rises))
        for name, one in by_name.items()
    ]
    columns = ("recipe", "what", "parameters", "val loss", "PSNR, dB", "rises, %")
    return [verdicts, Table("Every run of the study", columns, runs)]


def _value(one: StudyOutcome, by: str) -> str:
    return f"{100 * one.rises:.1f}" if by == "rises" else f"{one.loss:.5f}"


def make_log_table(rows: Sequence[Mapping[str, Any]], notes: Mapping[int, str]) -> Table:
    """Return the paper's log: what each test changed, and its results.

    Args:
        rows: The rows of the log.
        notes: What each test changed, by its number.
    """
    shown = [
        (
            row["test_id"],
            notes.get(row["test_id"], row["comments"]),
            row["batch_size"],
            f"{row['learning_rate']:g}",
            row["epochs"],
            row["train_size"],
            row["val_loss"],
            row["val_psnr"],
        )
        for row in rows
    ]
    columns = ("test", "what it changed", "batch", "rate", "epochs", "train size", "val loss", "val PSNR, dB")
    return Table(
        "The paper's 38 tests", columns, shown, "Each test ships as a recipe: daelab train --recipe paper/NUMBER."
    )


def make_difference_table() -> Table:
    """Return the differences between the paper, its code and this reproduction."""
    columns = ("what", "the paper", "its published code or log", "here")
    return Table("Differences", columns, DIFFERENCES)


def make_check_table(found: Sequence[ToleranceCheck]) -> Table:
    """Return the tolerances, and whether each is met.

    Args:
        found: The checks.
    """
    rows = [(one.what, one.wanted, one.found, "✓" if one.holds else "✗ missed") for one in found]
    return Table("Tolerances", ("what", "wanted", "found", "kept"), rows)


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 2)


def _count_images(*groups: Mapping[str, MeasuredModel]) -> int:
    return next((one.found.scores.overall.images for group in groups for one in group.values()), 0)
