"""The figures and the page of a run, made from its folder alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from daelab.experiments.reports.charts import curves_figure
from daelab.experiments.reports.images import samples_figure
from daelab.experiments.reports.page import write_run_page
from daelab.experiments.reports.table import Table
from daelab.runs.folder import RunFolder
from daelab.training.recipe import load_recipe


def write_run_report(run: RunFolder) -> Path:
    """Draw curves.svg and samples.svg and write report.html into a run's folder.

    Args:
        run: The folder of the run.

    Returns:
        the path of the page.

    Raises:
        ValueError: matplotlib is not installed.
    """
    rows = run.read_metrics()
    curves, samples = run.path / "curves.svg", run.path / "samples.svg"
    curves_figure({run.name: rows}, curves)
    figures = {
        "Loss and PSNR by epoch. The noise of the validation images is the same in every epoch, so their curve shows "
        "the network alone. The ring marks the epoch whose network is kept.": curves
    }
    if (run.path / "samples.npz").is_file():
        with np.load(run.path / "samples.npz", allow_pickle=False) as kept:
            samples_figure(kept["clean"], kept["noisy"], kept["denoised"], samples)
        figures[
            "Validation images: clean, noisy, and denoised by the kept network. Edges are restored, and fine structure "
            "is lost where the noise hides it."
        ] = samples
    page = run.path / "report.html"
    write_run_page(f"Run {run.name}", _facts(run), figures, [_epochs(rows)], page)
    return page


def _facts(run: RunFolder) -> dict[str, Any]:
    recipe = load_recipe(run.recipe, trusted=True)  # nothing that it names is loaded
    machine = json.loads(run.environment.read_text(encoding="utf-8")) if run.environment.is_file() else {}
    training, fields = recipe.training, recipe.to_dict()
    rule = f"{training.optimiser}, rate {training.lr:g} ({training.schedule}), batches of {training.batch}"
    facts = {
        "description": recipe.note,
        "noise": str(recipe.noise),
        "network": fields["spec"] if isinstance(fields["spec"], str) else json.dumps(fields["spec"]),
        "parameters": recipe.spec.parameters,
        "data": recipe.data.name,
        "loss": recipe.loss,
        "training": rule,
        "seed": recipe.seed,
        "processor": machine.get("gpu") or machine.get("processor"),
        "git commit": machine.get("git_commit"),
        "if repeated": _again(machine),
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
    note = (
        "The losses are those of the recipe. val_psnr is the mean over images, and val_psnr_batch the paper's batch "
        "PSNR, both in dB."
    )
    return Table("Every epoch", columns, shown, note)
