"""A run's figures and page, from its folder alone."""

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

    Returns:
        the page's path.

    Raises:
        ValueError: matplotlib is not installed; says how to install it.
    """
    rows = run.read_metrics()
    curves, samples = run.path / "curves.svg", run.path / "samples.svg"
    curves_figure({run.name: rows}, curves)
    figures = {
        "Loss and PSNR by epoch. The validation noise is the same at every epoch, so its curve is "
        "the network's doing alone; the ringed epoch is the one that is kept.": curves
    }
    if (run.path / "samples.npz").is_file():
        with np.load(run.path / "samples.npz", allow_pickle=False) as kept:
            samples_figure(kept["clean"], kept["noisy"], kept["denoised"], samples)
        figures[
            "Validation images: clean, noisy, denoised by the kept network. Edges come back and fine structure does "
            "not; what differs from the clean image is what the network could not know."
        ] = samples
    page = run.path / "report.html"
    write_run_page(f"Run {run.name}", _facts(run), figures, [_epochs(rows)], page)
    return page


def _facts(run: RunFolder) -> dict[str, Any]:
    recipe = load_recipe(run.recipe)
    machine = json.loads(run.environment.read_text(encoding="utf-8")) if run.environment.is_file() else {}
    training, fields = recipe.training, recipe.to_dict()
    rule = f"{training.optimiser}, rate {training.lr:g} ({training.schedule}), batches of {training.batch}"
    facts = {
        "what": recipe.note,
        "noise": str(recipe.noise),
        "network": fields["spec"] if isinstance(fields["spec"], str) else json.dumps(fields["spec"]),
        "parameters": recipe.spec.parameters,
        "data": recipe.data.name,
        "loss": recipe.loss,
        "training": rule,
        "seed": recipe.seed,
        "processor": machine.get("gpu") or machine.get("processor"),
        "git commit": machine.get("git_commit"),
        "again": _again(machine),
        "recipe": f"sha256 {recipe.sha256[:16]}",
        **machine.get("versions", {}),
    }
    return {key: value for key, value in facts.items() if value not in ("", None)}


def _again(machine: dict[str, Any]) -> str:
    """What a second run of this recipe would repeat."""
    if not machine:
        return ""
    if machine.get("gpu"):
        return (
            "the same images, order and noise; on a GPU sums may be added in another order, so weights differ slightly"
        )
    threads = machine.get("threads")
    return (
        f"the same weights, bit for bit, on this machine with these versions and {threads} thread{'s' * (threads != 1)}"
    )


def _epochs(rows: list[dict[str, float]]) -> Table:
    columns = tuple(rows[0]) if rows else ("epoch",)
    shown = [tuple(int(row[key]) if key == "epoch" else row[key] for key in columns) for row in rows]
    note = "Losses as the recipe's; PSNR in dB: mean over images, and the paper's by batches of 128."
    return Table("Every epoch", columns, shown, note)
