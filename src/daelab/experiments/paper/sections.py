"""The sections of the report: text, figures and tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from daelab.datasets.base import Images
from daelab.datasets.splits import split_dataset
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.noisy_images import make_noisy
from daelab.evaluation.classifiers.scores import IMAGE_KINDS
from daelab.experiments.paper.published import LAYERS, REPOSITORY, TABLE_1, TESTS
from daelab.experiments.paper.tables import (
    make_check_table,
    make_class_table,
    make_difference_table,
    make_log_table,
    make_noise_table,
    make_paper_component_table,
    make_published_layer_table,
    make_results_table,
    make_runtime_table,
    make_study_table,
    make_weights_table,
)
from daelab.experiments.reports.charts import class_balance_figure, confusion_figure, curves_figure
from daelab.experiments.reports.images import noise_figure, samples_figure
from daelab.experiments.reports.log_chart import LoggedTest, log_figure
from daelab.experiments.reports.page import ReportSection
from daelab.models.architectures.autoencoder import Autoencoder
from daelab.models.registry import find_shipped_model
from daelab.noise.grammar import parse_noise
from daelab.noise.random_streams import IndexedStream
from daelab.runs.environment import describe_environment
from daelab.training.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from daelab.experiments.paper.measurements import Measurements

PICTURE = 7
"""The index of the test image of Figures 1 and 7."""
STRIP = range(8)
"""The indices of the test images of the strips."""


def list_facts(found: Measurements) -> dict[str, Any]:
    """List the facts at the beginning of the page.

    Args:
        found: The measurements.
    """
    machine, setting = describe_environment(), found.setting
    images = min(setting.limit or len(setting.dataset.test), len(setting.dataset.test))
    shas = {one.found.scores.noisy_sha256 for one in found.ours.values() if one.card.noise == "published-code"}
    kept = len(found.checks) - len(found.missed)
    return {
        "tolerances kept": f"{kept} of {len(found.checks)}",
        "test images": images,
        "noise seed": setting.seed,
        "noisy pixels": f"sha256 {min(shas)[:16]} (published-code)" if shas else None,
        "judge": f"{setting.judge.name}: {setting.judge.note}" if setting.judge else "none",
        "weights": "trained again" if found.request.retrain else "as shipped",
        "machine": f"{machine['processor']}, threads: {machine['threads']}, GPU: {machine['gpu'] or 'none'}",
        "daelab": machine["versions"]["daelab"],
        "torch": machine["versions"]["torch"],
    }


def make_sections(found: Measurements, figures: Path) -> list[ReportSection]:
    """Make all sections in order, and draw their figures.

    Args:
        found: The measurements.
        figures: The folder of the figures.
    """
    return [
        _verdict(found),
        _noise(found, figures),
        _data(found, figures),
        ReportSection("The networks", _LAYERS, tables=[make_published_layer_table(figure) for figure in LAYERS]),
        _curves(found, figures),
        _results(found, figures),
        _denoised(found, figures),
        ReportSection("Runtimes", _RUNTIMES, tables=[make_runtime_table(found.speeds, _machine())]),
        _log(found, figures),
        _studies(found, figures),
        ReportSection("Where the paper, its code and this reproduction differ", tables=[make_difference_table()]),
    ]


_LAYERS = (
    "In daelab an auto-encoder is a tuple of stages, and its decoder mirrors its encoder. A check mark shows that a "
    "row has the same layer, shape and number of parameters as in the paper's table."
)
_RUNTIMES = (
    "The paper trained on the GPU of a laptop. Here the recipe of each row was trained for a few steps, and the time "
    "was scaled to the paper's numbers of images."
)


def _verdict(found: Measurements) -> ReportSection:
    missed = found.missed
    text = "All tolerances are kept." if not missed else "Missed: " + "; ".join(check.what for check in missed) + "."
    if found.setting.quick:
        text += (
            "\n\nThis is a quick reproduction with a thousand images and wider tolerances. Without --quick, all test "
            "images are evaluated."
        )
    return ReportSection("Tolerances", text, tables=[make_check_table(found.checks)])


def _noise(found: Measurements, figures: Path) -> ReportSection:
    clean, path = _image(found.setting.dataset.test, PICTURE), figures / "figure-1-noise.svg"
    noisy = {row[0]: make_noisy(clean, parse_noise(row[3]), found.setting.seed) for row in TABLE_1}
    noise_figure(clean, noisy, path)
    caption = (
        "The paper's Figure 1: a test image under each noise of Table 1, with the distribution of each channel. "
        "Additive noise shifts and widens the distribution, and multiplicative noise stretches it. Values outside [0, "
        "1] are clipped to the ends."
    )
    return ReportSection("Noise", figures={caption: path}, tables=[make_noise_table()])


def _data(found: Measurements, figures: Path) -> ReportSection:
    train, val = split_dataset(found.setting.dataset, 40_000, 10_000, found.setting.seed)
    path = figures / "figure-2-classes.svg"
    counts = {"training": train.count_classes(), "validation": val.count_classes()}
    class_balance_figure(counts | {"test": found.setting.dataset.test.count_classes()}, path)
    caption = (
        "The paper's Figure 2: the number of images of each class in the final split, which the seed determines, and "
        "in the test set. The classes have nearly the same size, so accuracy and macro F1 are nearly equal."
    )
    return ReportSection("Data", figures={caption: path})


def _curves(found: Measurements, figures: Path) -> ReportSection:
    """Draw the curves in the headers of our models; older models have none."""
    curves = {name: one.card.training.get("curve") for name, one in found.ours.items()}
    rows = {name: _rows(curve) for name, curve in curves.items() if curve}
    shown: dict[str, Path] = {}
    if "model-b-35" in rows:
        path = figures / "figure-4-curves.svg"
        curves_figure({"model-b-35": rows["model-b-35"]}, path)
        shown[
            "The paper's Figure 4, for our model with the same network: loss and PSNR by epoch. The validation loss "
            "stays close to the training loss, since so small a network does not overfit."
        ] = path
    if rows:
        path = figures / "curves.svg"
        curves_figure(rows, path)
        shown[
            "Loss and PSNR of every network by epoch, each under its own noise. The network with two wide stages ends "
            "with the lowest loss, and the one with many narrow stages with the highest."
        ] = path
    text = (
        "The paper's curve oscillates, since the learning rate is constant and the noise of the validation images is "
        "drawn again in every epoch. Our models are validated on one fixed set of noisy images, with a moving average "
        "of the weights."
    )
    return ReportSection(
        "Training",
        text if shown else "There are no curves, since the headers of these models have none.",
        figures=shown,
    )


def _rows(curve: dict[str, list[float]]) -> list[dict[str, float]]:
    columns = {"epoch": [float(n) for n in range(1, len(curve["val_loss"]) + 1)], **curve}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _results(found: Measurements, figures: Path) -> ReportSection:
    shown = {}
    tables = [make_results_table(found.checkpoints, found.ours, found.setting), make_weights_table(found.ours)]
    tables.append(make_paper_component_table(found.ours | found.checkpoints))
    best = found.ours.get("model-c")
    judged = best.found.scores.overall.judged if best else None
    if best and judged:
        path = figures / "confusion.svg"
        confusion_figure({kind: judged.confusion(kind) for kind in IMAGE_KINDS}, judged.classes, path)
        shown[
            f"The classes that the classifier {judged.judge} predicts for clean, noisy and denoised images (model-c), "
            "as shares of each true class. Under noise it predicts a few classes for nearly all images, which shows as "
            "columns; denoising restores the diagonal."
        ] = path
        tables += [table for table in [make_class_table(best)] if table]
    return ReportSection("Results", figures=shown, tables=tables)


def _denoised(found: Measurements, figures: Path) -> ReportSection:
    """Draw Figure 7, and strips of test images."""
    shown: dict[str, Path] = {}
    test, seed = found.setting.dataset.test, found.setting.seed
    for name in ("model-c", "model-c.table-1"):
        path = find_shipped_model(name)
        if path is None or name not in found.ours:
            continue
        denoiser = Denoiser.load(path)
        indices = np.array([PICTURE, *STRIP])
        x = torch.from_numpy(test.batch(indices)).float().div_(255)
        noise = parse_noise(denoiser.method.noise)
        noisy = noise.apply(x, IndexedStream(indices, seed))
        clean, under, out = (_pixels(batch) for batch in (x, noisy, denoiser.batch(noisy).clamp(0, 1)))
        if name == "model-c":
            place = figures / "figure-7-output.svg"
            noise_figure(clean[0], {"noisy": under[0], "output of model-c": out[0]}, place)
            shown[
                "The paper's Figure 7: a clean, a noisy and a denoised image, with the distribution of each channel. "
                "The distribution of the denoised image is close to that of the clean one, but smoother."
            ] = place
        place = figures / f"strip-{name}.svg"
        titles = [test.classes[label] for label in test.labels[list(STRIP)]]
        samples_figure(clean[1:], under[1:], out[1:], place, titles)
        shown[
            f"The first test images under the noise {denoiser.method.noise}, denoised by {name}. Brightness and edges "
            "are restored; texture is not."
        ] = place
    return ReportSection("Pictures", figures=shown)


def _log(found: Measurements, figures: Path) -> ReportSection:
    if not found.log:
        text = (
            f"The author's log does not ship with daelab. With tests_fully.csv from {REPOSITORY} in a folder DIR, "
            "--paper-checkpoints DIR adds its chart and its table here. daelab ledger import reads it, and daelab "
            "ledger export writes the same bytes."
        )
        return ReportSection("The 38 logged tests", text)
    recipes = {number: load_recipe(f"paper/{number}") for number in range(1, TESTS + 1)}
    logged = [
        LoggedTest(row["test_id"], _family(recipes[row["test_id"]]), row["val_loss"], row["val_psnr"])
        for row in found.log
    ]
    path = figures / "tests.svg"
    log_figure(logged, path)
    caption = (
        "Validation loss and PSNR of the author's tests in their order. The line is the best result so far; it "
        "improves when the network becomes shallower and wider."
    )
    notes = {number: one.note.partition(": ")[2] for number, one in recipes.items()}
    text = "The steps of the paper from the author's log: what each test changed, and its results."
    return ReportSection(
        "The 38 logged tests", text, figures={caption: path}, tables=[make_log_table(found.log, notes)]
    )


def _family(one: Recipe) -> str:
    """Name the kind of a test's network for the legend of the chart."""
    assert isinstance(one.spec, Autoencoder)  # all networks of the paper are
    widths = [stage.width for stage in one.spec.stages]
    if widths[0] > widths[-1]:
        return "decreasing depth" + (", batch norm" if one.spec.norm == "batch" else " (Model-A)")
    if widths == [32, 64]:
        return "two wide stages (Model-C)"
    return {2: "two stages", 3: "three stages", 4: "four stages"}[len(widths)] + ", increasing"


def _studies(found: Measurements, figures: Path) -> ReportSection:
    rows = {one.name: one.rows for one in found.studies}
    shown = {}
    groups = {
        "depth": (("no-norm", "increasing", "decreasing", "deeper", "shallower", "shallowest"), "batch norm and depth"),
        "optimiser": (
            ("shallowest", "sgd", "rate-0.0008", "rate-0.0001", "ours", "wider"),
            "optimiser, rate and width",
        ),
    }
    for name, (members, what) in groups.items():
        path = figures / f"study-{name}.svg"
        curves_figure({member: rows[member] for member in members}, path)
        shown[f"Loss and PSNR by epoch of the study's runs: {what}. A lower and smoother loss is better."] = path
    text = (
        "The paper's conclusions are based on single runs of hundreds of epochs. The runs here are short, with the "
        "same budget for each, under the noise published-code. They can confirm a large effect, but not a small one."
    )
    if found.setting.quick:
        text += " In a quick reproduction they are too short for any conclusion."
    return ReportSection(
        "The paper's conclusions",
        text,
        figures=shown,
        tables=make_study_table(found.studies, quick=found.setting.quick),
    )


def _machine() -> str:
    machine = describe_environment()
    return (
        f"{machine['processor']}, threads: {machine['threads']}, GPU: {machine['gpu'] or 'none'}, {machine['platform']}"
    )


def _image(images: Images, index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    image: np.ndarray[Any, np.dtype[np.uint8]] = images.batch(np.array([index]))[0].transpose(1, 2, 0)
    return image


def _pixels(batch: torch.Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return batch.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
