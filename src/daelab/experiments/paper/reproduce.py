"""reproduce(request): measure, draw, write the report, and say which tolerances are missed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

from daelab._util.files import write_text
from daelab.datasets.registry import load_dataset
from daelab.evaluation.classifiers.registry import load_classifier
from daelab.experiments.paper.checks import ToleranceCheck, check_tolerances
from daelab.experiments.paper.comparisons import run_comparisons
from daelab.experiments.paper.measure import (
    QUICK,
    MeasurementSettings,
    measure_epoch_times,
    measure_models,
)
from daelab.experiments.paper.measurements import Measurements, ReproductionRequest
from daelab.experiments.paper.published import TABLE_2
from daelab.experiments.paper.sections import list_facts, make_sections
from daelab.experiments.reports.page import make_slug, write_markdown, write_page
from daelab.experiments.reports.style import is_matplotlib_installed
from daelab.experiments.reports.table import Table
from daelab.models.registry import find_shipped_model
from daelab.runs.folder import describe_environment, get_run_folder
from daelab.runs.ledger import Ledger
from daelab.training.callbacks.record import TrainingProgress
from daelab.training.engine import fit_denoiser
from daelab.training.recipe import load_recipe

OWN_WEIGHTS = ("model-a", "model-b", "model-b-35", "model-c", "model-c.table-1")
"""The networks of the paper, trained by us; each is the name of its recipe too."""
LOG = "tests_fully.csv"


class ReproductionProgress(Protocol):
    """Who is told how a reproduction goes."""

    def say(self, text: str) -> None:
        """What comes next, in a line."""

    def count(self, done: int, images: int) -> None:
        """Where an evaluation is."""

    def training(self) -> TrainingProgress:
        """Who watches the next training."""


def reproduce_paper(request: ReproductionRequest, watcher: ReproductionProgress) -> Measurements:
    """Measure everything and write `report.html`, `report.md`, `report.json`, `tables/` and `figures/`.

    Raises:
        ValueError: matplotlib is missing; `out` holds something else; a judge or a data set that does not load.
        FileNotFoundError: `checkpoints` is no folder, or the judge's weights are missing.
    """
    _check(request)
    watcher.say("loading CIFAR-10")
    dataset = load_dataset("cifar10", request.data_root)
    judging = load_classifier(request.judge, request.judge_path) if request.judge else None
    if judging and request.quick:
        judging = judging.quick()
    path = None if request.judge_path is None else str(request.judge_path)
    setting = MeasurementSettings(dataset, judging, {"name": request.judge, "path": path}, request.quick, request.seed)
    log, exact = _log(request)
    # what a quick look trains is nothing to keep
    with tempfile.TemporaryDirectory() if request.quick else nullcontext() as folder:
        trained = Path(folder) if folder else None
        weights = _retrained(setting, watcher, trained) if request.retrain else _shipped()
        published = _published(request)
        ours = measure_models(weights, setting, watcher.say, watcher.count)
        theirs = measure_models(published, setting, watcher.say, watcher.count)
        outcomes = run_comparisons(setting, watcher.say, watcher.training, trained)
    timed = measure_epoch_times(setting, watcher.say)
    held = exact + check_tolerances(theirs, ours, setting, trained_quickly=request.retrain and request.quick)
    found = Measurements(request, setting, theirs, ours, timed, outcomes, log, held)
    watcher.say("drawing")
    _write(found)
    return found


def _check(request: ReproductionRequest) -> None:
    """Everything that can be said before hours are spent."""
    if not is_matplotlib_installed():
        raise ValueError("the report needs matplotlib: pip install 'daelab[report]'")
    out = request.out
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / "report.json").is_file():
        raise ValueError(f"--out {out} holds something else than a report; name a new folder")
    if request.checkpoints is not None and not request.checkpoints.is_dir():
        raise FileNotFoundError(f"--paper-checkpoints {request.checkpoints}: no such folder")


def _shipped() -> dict[str, Path]:
    files = {name: find_shipped_model(name) for name in OWN_WEIGHTS}
    return {name: path for name, path in files.items() if path}


def _published(request: ReproductionRequest) -> dict[str, Path]:
    if request.checkpoints is None:
        return {}
    files = {row.checkpoint: request.checkpoints / row.checkpoint for row in TABLE_2}
    return {name: path for name, path in files.items() if path.is_file()}


def _retrained(setting: MeasurementSettings, watcher: ReproductionProgress, folder: Path | None) -> dict[str, Path]:
    """Train every recipe of ours; a run that was begun goes on."""
    ledger = Ledger(f"sqlite:///{folder}/ledger.db" if folder else None)
    overrides = [f"data.train={QUICK}", "data.val=200", "training.epochs=2"] if setting.quick else []
    found = {}
    for name in OWN_WEIGHTS:
        wanted, run = load_recipe(name, overrides), get_run_folder(f"retrain-{name}", folder)
        if len(run.read_metrics()) < wanted.training.epochs:
            watcher.say(f"training {name}")
            fit_denoiser(
                wanted,
                run.name,
                resume=run.recipe.is_file(),
                runs_root=folder,
                ledger=ledger,
                progress=watcher.training(),
                dataset=setting.dataset,
            )
        found[name] = run.best
    return found


def _log(request: ReproductionRequest) -> tuple[list[dict[str, Any]], list[ToleranceCheck]]:
    """The paper's log through a ledger of its own, and whether it comes out byte for byte."""
    path = request.checkpoints / LOG if request.checkpoints else None
    if path is None or not path.is_file():
        return [], []
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{folder}/ledger.db")
        ledger.import_csv(path)
        same = ledger.export_csv().encode() == path.read_bytes()
        rows = ledger.rows()
    text = "the same bytes" if same else "other bytes"
    return rows, [
        ToleranceCheck(f"{LOG}: {len(rows)} tests into the ledger and out again", "the same bytes", text, same)
    ]


def _write(found: Measurements) -> None:
    out = found.request.out
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    facts, parts = list_facts(found), make_sections(found, figures)
    title = "The paper, reproduced" + (" (a quick look)" if found.setting.quick else "")
    tables = [table for part in parts for table in part.tables]
    for table in tables:
        write_text(out / "tables" / f"{make_slug(table.title)}.csv", table.to_csv())
    write_markdown(title, facts, parts, out / "report.md")
    write_page(title, facts, parts, out / "report.html", numbered=False)
    write_text(out / "report.json", json.dumps(_document(found, facts, tables), indent=1, allow_nan=False) + "\n")


def _document(found: Measurements, facts: Mapping[str, Any], tables: Sequence[Table]) -> dict[str, Any]:
    """Everything as plain values."""
    return {
        "facts": dict(facts),
        "quick": found.setting.quick,
        "checks": [vars(check) for check in found.checks],
        "environment": describe_environment(),
        "ours": {name: one.found.to_dict() for name, one in found.ours.items()},
        "checkpoints": {name: one.found.to_dict() for name, one in found.checkpoints.items()},
        "tables": [
            {"title": table.title, "columns": table.columns, "rows": table.rows, "note": table.note} for table in tables
        ],
    }
