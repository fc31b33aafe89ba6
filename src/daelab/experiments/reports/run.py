"""The figures and the page of a run, made from its folder alone."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from daelab.denoising.denoiser import Denoiser
from daelab.denoising.noisy_images import make_noisy_versions
from daelab.evaluation.metrics import METRICS
from daelab.experiments.reports.charts import curves_figure
from daelab.experiments.reports.images import format_psnr, samples_figure
from daelab.experiments.reports.page import PictureGroup, ReportSection, write_page
from daelab.experiments.reports.table import Table
from daelab.image_io.picture import Picture
from daelab.image_io.write import write_picture
from daelab.models.architectures.external import ModuleArchitecture
from daelab.runs.folder import RunFolder
from daelab.runs.samples import read_samples
from daelab.training.recipe import Recipe, load_recipe

_PHOTOS = ("cat", "coffee")
"""The bundled photographs that a report shows."""
_TITLES = {
    "learning_rate": "learning rate",
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "val_psnr": METRICS["psnr"].heading,
    "val_psnr_batch": METRICS["psnr_batch"].heading,
    "val_f1": METRICS["macro_f1"].heading,
    "images_per_second": "images/s",
}
"""The titles of the columns of `metrics.csv` that are no plain words."""


def write_run_report(run: RunFolder) -> Path:
    """Draw curves.svg and samples.svg and write report.html into a run's folder.

    Args:
        run: The folder of the run.

    Returns:
        the path of the page.

    Raises:
        ValueError: matplotlib is not installed.
    """
    rows, recipe = run.read_metrics(), load_recipe(run.recipe, trusted=True)  # nothing that it names is loaded
    curves, samples = run.path / "curves.svg", run.path / "samples.svg"
    curves_figure({run.name: rows}, curves)
    figures = {
        "Loss and PSNR by epoch. The noise of the validation images is the same in every epoch, so their curve shows "
        "the network alone. The ring marks the epoch whose network is kept.": curves
    }
    images = read_samples(run.samples)
    if images.keys() >= {"clean", "noisy", "denoised"}:
        samples_figure(images["clean"], images["noisy"], images["denoised"], samples)
        figures[
            "Validation images: clean, noisy, and denoised by the kept network. Edges are restored, and fine structure "
            "is lost where the noise hides it."
        ] = samples
    page = run.path / "report.html"
    with tempfile.TemporaryDirectory() as place:
        groups = _draw_whole_pictures(run, recipe, Path(place))
        sections = [
            ReportSection("Figures", figures=figures),
            ReportSection("Whole pictures", _describe_pictures(recipe), groups=groups),
            ReportSection("Epochs", tables=[_epochs(rows)]),
        ]
        write_page(
            f"Run {run.name}", _facts(run, recipe), [one for one in sections if one != sections[1] or groups], page
        )
    return page


def _describe_pictures(recipe: Recipe) -> str:
    known = " They are among the pictures that the network was trained on." if recipe.data.name == "photos" else ""
    return f"Photographs under the noise of the recipe, denoised by the kept network.{known}"


def _draw_whole_pictures(run: RunFolder, recipe: Recipe, place: Path) -> list[PictureGroup]:
    """Denoise bundled photographs with the network of a run, as far as they are installed."""
    groups: list[PictureGroup] = []
    # A report imports no code of the user, so it cannot run a module of theirs.
    if not run.best.is_file() or isinstance(recipe.spec, ModuleArchitecture):
        return groups
    for name in _PHOTOS:
        try:
            clean, noisy = make_noisy_versions(f"photo:{name}", [recipe.noise], recipe.seed)
        except ValueError:  # the photographs, or the data that the noise needs, are not installed
            continue
        (under,) = noisy.values()
        pictures = {"clean": clean, "noisy": under, "denoised": Denoiser.load(run.best)(under)}
        files = {}
        for kind, pixels in pictures.items():
            label = kind if kind == "clean" else f"{kind}, {format_psnr(clean, pixels)}"
            files[label] = place / f"{name}-{kind}.webp"
            write_picture(files[label], Picture(pixels))
        groups.append(PictureGroup(f"{name[:1].upper()}{name[1:]}", files))
    return groups


def _facts(run: RunFolder, recipe: Recipe) -> dict[str, Any]:
    machine = json.loads(run.environment.read_text(encoding="utf-8")) if run.environment.is_file() else {}
    training, fields = recipe.training, recipe.to_dict()
    rule = f"{training.optimiser}, learning rate {training.lr:g} ({training.schedule}), batches of {training.batch}"
    facts = {
        "description": recipe.note,
        "noise": str(recipe.noise),
        "architecture": fields["spec"] if isinstance(fields["spec"], str) else json.dumps(fields["spec"]),
        "parameters": recipe.spec.parameters,
        "data": recipe.data.name,
        "loss": recipe.loss,
        "training": rule,
        "seed": recipe.seed,
        "processor": machine.get("gpu") or machine.get("processor"),
        "git commit": machine.get("git_commit"),
        "a second run gives": _again(machine),
        "recipe": f"sha256 {recipe.sha256[:16]}",
        **machine.get("versions", {}),
    }
    return {key: value for key, value in facts.items() if value not in ("", None)}


def _again(machine: dict[str, Any]) -> str:
    """Describe what a second run of this recipe would repeat."""
    if not machine:
        return ""
    if machine.get("gpu"):
        return (
            "the same images, order and noise; a GPU may add numbers in another order, so the weights differ slightly"
        )
    threads = machine.get("threads")
    return (
        f"the same weights, bit for bit, on this computer with these versions and {threads} "
        f"thread{'s' * (threads != 1)}"
    )


def _epochs(rows: list[dict[str, float]]) -> Table:
    columns = tuple(rows[0]) if rows else ("epoch",)
    shown = [tuple(int(row[key]) if key == "epoch" else row[key] for key in columns) for row in rows]
    note = "The losses are those of the recipe. The PSNR is the mean over the validation images."
    return Table("Every epoch", [_TITLES.get(key, key) for key in columns], shown, note)
