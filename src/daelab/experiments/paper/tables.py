"""What was measured -> tables. Numbers as they are; the page rounds them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from daelab.evaluation.classifiers.scores import IMAGE_KINDS
from daelab.evaluation.f1 import per_class_scores
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

_METRICS = ("mse", "psnr_batch", "psnr", "ssim")


def make_noise_table() -> Table:
    """Table 1, and whether the preset `table-1` holds the same."""
    ours = [str(option) for option in parse_noise("table-1").options()]
    same = {str(parse_noise(text)) for *_, text in TABLE_1} == set(ours)
    rows = [(kind, mean, std, text) for kind, mean, std, text in TABLE_1]
    published = " | ".join(str(option) for option in parse_noise("published-code").options())
    note = (
        f"The preset table-1 {'draws one of these for each image' if same else 'differs'}. published-code: {published}."
    )
    return Table("The paper's Table 1: noise", ("noise", "mean", "standard deviation", "here"), rows, note)


def make_layer_table(figure: str) -> Table:
    """Figure 3, 5 or 6 with a mark for each row that is the same here."""
    preset = LAYERS[figure][0]
    same = compare_layers(figure)
    rows = [
        (layer, str([-1, *shape]), parameters, "✓" if equal else "✗")
        for (layer, shape, parameters), equal in zip(get_published_layers(figure), same, strict=True)
    ]
    verdict = "every row equals" if all(same) else f"{same.count(False)} rows differ from"
    note = f"{ARCHITECTURE_PRESETS[preset].parameters:,} parameters; {verdict} what daelab models {preset} prints."
    columns = ("Layer (type)", "Output Shape", "Param #", "the same here")
    return Table(f"The paper's {figure}: {preset}", columns, rows, note)


def make_results_table(
    checkpoints: Mapping[str, MeasuredModel], ours: Mapping[str, MeasuredModel], setting: MeasurementSettings
) -> Table:
    """Table 2: the paper's figures, its checkpoints measured here, our weights."""
    judge = setting.judge.name if setting.judge else ""
    rows: list[tuple[Any, ...]] = []
    judged: Mapping[str, float] = {}
    for one in (*ours.values(), *checkpoints.values()):
        if one.f1:
            judged, batch4 = one.f1, one.f1_batch4
            break
    rows.append(("CIFAR-10, clean", "paper", *[None] * 7, _percent(CLEAN_F1), "ViT"))
    if judged:
        clean = (_percent(judged["clean"]), _percent(batch4["clean"]), judge)
        rows.append(("CIFAR-10, clean", "measured here", *[None] * 6, *clean))
    rows += _noisy(checkpoints, ours, judge)
    for row in TABLE_2:
        quoted = (row.val_loss, row.val_psnr, *[None] * 5, _percent(row.macro_f1), "ViT")
        rows.append((row.title, "paper", *quoted))
        if row.checkpoint in checkpoints:
            found = checkpoints[row.checkpoint]
            rows.append((row.title, f"paper's weights, {row.checkpoint}, measured here", *_measured(found, judge)))
        if row.ours and row.ours in ours:
            rows.append((row.title, f"our weights, {row.ours}", *_measured(ours[row.ours], judge)))
    columns = ("model", "whose", "val loss", "val PSNR, dB", "test MSE", "batch PSNR, dB", "PSNR, dB", "SSIM")
    note = (
        "Validation loss and PSNR are each trainer's own, on its own validation images; the rest is measured here on "
        f"the {_images(ours, checkpoints):,} test images under the noise published-code, seed {setting.seed}. "
        "Batch PSNR and "
        "F1 by batches of 4 are the paper's metrics, PSNR (mean over images) and full-set F1 the field's. "
        "The paper's F1 is by its ViT: figures of different judges are not comparable."
    )
    return Table("The paper's Table 2", (*columns, "macro F1, %", "F1 by batches of 4, %", "judge"), rows, note)


def _noisy(
    checkpoints: Mapping[str, MeasuredModel], ours: Mapping[str, MeasuredModel], judge: str
) -> list[tuple[Any, ...]]:
    under = [one for one in (*ours.values(), *checkpoints.values()) if one.card.noise == "published-code"]
    if not under:
        return []
    one = under[0]
    metrics = one.found.scores.overall.metrics
    f1 = (_percent(one.f1.get("noisy")), _percent(one.f1_batch4.get("noisy")), judge)
    return [("noisy images", "measured here", None, None, *(metrics[name].noisy for name in _METRICS), *f1)]


def _measured(found: MeasuredModel, judge: str) -> tuple[Any, ...]:
    own = found.card.metrics
    f1 = (_percent(found.f1.get("denoised")), _percent(found.f1_batch4.get("denoised")), judge)
    return (own.get("val_loss"), own.get("val_psnr_batch"), *(found.metric(name) for name in _METRICS), *f1)


def make_weights_table(ours: Mapping[str, MeasuredModel]) -> Table:
    """Every model of ours under the noise it was trained for."""
    rows = [
        (
            name,
            found.found.parameters,
            found.card.noise,
            *(found.metric(metric) for metric in _METRICS),
            _percent(found.f1.get("denoised")),
            _percent(found.f1.get("recovered")),
        )
        for name, found in ours.items()
    ]
    columns = ("weights", "parameters", "noise", "test MSE", "batch PSNR, dB", "PSNR, dB", "SSIM")
    note = "Each under the noise it was trained for. Recovered: the share of the F1 that noise takes which comes back."
    return Table("Weights that ship", (*columns, "macro F1, %", "recovered, %"), rows, note)


def make_component_table(found: Mapping[str, MeasuredModel]) -> Table:
    """PSNR and F1 of each model for each component of its noise."""
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
    """F1, and precision and recall of the denoised, by class; None where no judge looked."""
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
    """Table 3 beside this machine's."""
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
        f"Here: {machine}; {steps} steps and some validation images timed after a first epoch, scaled to the "
        "sizes; other "
        f"work on the machine shows. Paper: {MACHINE}."
    )
    return Table("The paper's Table 3: seconds per epoch", columns, rows, note)


def make_study_table(outcomes: Iterable[StudyOutcome], *, quick: bool) -> list[Table]:
    """The paper's decisive comparisons, with a verdict each unless `quick`, and every run."""
    by_name = {one.name: one for one in outcomes}
    rows = []
    for each in (*COMPARISONS, *OURS):
        unit = "rises, %" if each.by == "rises" else "val loss"
        values = ", ".join(f"{name} {_value(by_name[name], each.by)}" for name in each.recipes)
        said = "too short to say" if quick else judge_comparison(each, by_name)
        rows.append((each.title, each.conclusion, f"{unit}: {values}", said))
    first = next(iter(by_name.values())).recipe
    loss, rises = (
        math.expm1(compute_outcome_range(by_name.values(), "loss")),
        compute_outcome_range(by_name.values(), "rises"),
    )
    close = (
        f"Too close to call is what lies no further apart than {1 + len(SEEDS)} seeds of study/"
        f"{REFERENCE} do: {loss:.1%} of the loss, {100 * rises:.1f} in rises. "
    )
    note = (
        f"Each run: {first.training.epochs} epochs of {first.data.train:,} images, batches of {first.training.batch}, "
        f"{first.data.val:,} validation images, one seed. The first and the last of each list are compared. "
        f"{'' if quick else close}Rises: by how much the validation loss rises from an epoch to the next, on average, "
        "falls counted as none."
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
    """The paper's log: what each test changed and what came of it."""
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
    return Table("The paper's 38 tests", columns, shown, "Each ships as a recipe: daelab train --recipe paper/NUMBER.")


def make_difference_table() -> Table:
    """Where the paper, its code and this reproduction differ."""
    columns = ("what", "the paper", "its published code or log", "here")
    return Table("Differences", columns, DIFFERENCES)


def make_check_table(found: Sequence[ToleranceCheck]) -> Table:
    """Every tolerance, and whether it is kept."""
    rows = [(one.what, one.wanted, one.found, "✓" if one.holds else "✗ missed") for one in found]
    return Table("Tolerances", ("what", "wanted", "found", "kept"), rows)


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 2)


def _images(*groups: Mapping[str, MeasuredModel]) -> int:
    return next((one.found.scores.overall.images for group in groups for one in group.values()), 0)
