"""The reproduction of the paper: measure, draw, write the report, and check the tolerances."""

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
from daelab.experiments.reports.page import check_report_folder, make_slug, write_markdown, write_page
from daelab.experiments.reports.table import Table
from daelab.models.model_file import load_network
from daelab.models.registry import find_shipped_model
from daelab.runs.environment import describe_environment
from daelab.runs.folder import get_run_folder
from daelab.runs.ledger import Ledger
from daelab.training.callbacks.progress import TrainingProgress
from daelab.training.recipe import load_recipe
from daelab.training.tasks.denoising import fit_denoiser

OWN_WEIGHTS = ("model-a", "model-b", "model-b-35", "model-c", "model-c.table-1")
"""The names of our models of the paper's networks, and of their recipes."""
LOG = "tests_fully.csv"
"""The file of the paper's log."""


class ReproductionProgress(Protocol):
    """An observer of a reproduction."""

    def say(self, text: str) -> None:
        """Report the next step.

        Args:
            text: One line.
        """

    def count(self, done: int, images: int) -> None:
        """Report the progress of an evaluation.

        Args:
            done: The number of evaluated images.
            images: The number of all images.
        """

    def training(self) -> TrainingProgress:
        """Return an observer of the next training."""


def reproduce_paper(request: ReproductionRequest, watcher: ReproductionProgress) -> Measurements:
    """Measure everything and write `report.html`, `report.md`, `report.json`, `tables/` and `figures/`.

    Args:
        request: The request.
        watcher: The observer of the reproduction.

    Raises:
        ValueError: matplotlib is not installed, `out` holds other files, or a classifier or data set cannot be loaded.
        FileNotFoundError: `checkpoints` is no folder, or the weights of the classifier are missing.
    """
    _check(request)
    published = _find_checkpoints(request)
    judging = load_classifier(request.judge, request.judge_path) if request.judge else None
    watcher.say("loading CIFAR-10")
    dataset = load_dataset("cifar10", request.data_root)
    if judging and request.quick:
        judging = judging.quick()
    path = None if request.judge_path is None else str(request.judge_path)
    setting = MeasurementSettings(dataset, judging, {"name": request.judge, "path": path}, request.quick, request.seed)
    log, exact = _read_log(request)
    # The trainings of a quick reproduction are not kept.
    with tempfile.TemporaryDirectory() if request.quick else nullcontext() as folder:
        trained = Path(folder) if folder else None
        weights = _train_own_models(setting, watcher, trained) if request.retrain else _find_own_models()
        ours = measure_models(weights, setting, watcher.say, watcher.count)
        theirs = measure_models(published, setting, watcher.say, watcher.count)
        outcomes = run_comparisons(setting, watcher.say, watcher.training, trained)
    timed = measure_epoch_times(setting, watcher.say)
    checks = exact + check_tolerances(theirs, ours, setting, trained_quickly=request.retrain and request.quick)
    found = Measurements(request, setting, theirs, ours, timed, outcomes, log, checks)
    watcher.say("drawing")
    _write(found)
    return found


def _check(request: ReproductionRequest) -> None:
    """Check the request before hours are spent on it."""
    check_report_folder("--out", request.out, "a report", "report.json")
    if request.judge is None and request.judge_path is not None:
        raise ValueError("--judge-path needs --judge vit: it names the folder of that classifier's weights")
    if request.checkpoints is not None and not request.checkpoints.is_dir():
        raise FileNotFoundError(f"--paper-checkpoints {request.checkpoints}: the folder does not exist")


def _find_own_models() -> dict[str, Path]:
    files = {name: find_shipped_model(name) for name in OWN_WEIGHTS}
    return {name: path for name, path in files.items() if path}


def _find_checkpoints(request: ReproductionRequest) -> dict[str, Path]:
    if request.checkpoints is None:
        return {}
    files = {row.checkpoint: request.checkpoints / row.checkpoint for row in TABLE_2}
    found = {name: path for name, path in files.items() if path.is_file()}
    if not found:
        raise FileNotFoundError(f"--paper-checkpoints {request.checkpoints}: it holds none of {', '.join(files)}")
    for path in found.values():
        load_network(path)
    return found


def _train_own_models(
    setting: MeasurementSettings, watcher: ReproductionProgress, folder: Path | None
) -> dict[str, Path]:
    """Train our models; a run that has started is resumed."""
    ledger = Ledger(f"sqlite:///{folder}/ledger.db" if folder else None)
    overrides = [f"data.train={QUICK}", "data.val=200", "training.epochs=2"] if setting.quick else []
    models = {}
    for name in OWN_WEIGHTS:
        recipe, run = load_recipe(name, overrides), get_run_folder(f"retrain-{name}", folder)
        if len(run.read_metrics()) < recipe.training.epochs:
            watcher.say(f"training {name}")
            fit_denoiser(
                recipe,
                run.name,
                resume=run.recipe.is_file(),
                runs_root=folder,
                ledger=ledger,
                progress=watcher.training(),
                dataset=setting.dataset,
            )
        models[name] = run.best
    return models


def _read_log(request: ReproductionRequest) -> tuple[list[dict[str, Any]], list[ToleranceCheck]]:
    """Import the paper's log into a ledger, and check that its export has the same bytes."""
    path = request.checkpoints / LOG if request.checkpoints else None
    if path is None or not path.is_file():
        return [], []
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{folder}/ledger.db")
        ledger.import_csv(path)
        same = ledger.export_csv().encode() == path.read_bytes()
        rows = ledger.list_runs()
    text = "the same bytes" if same else "other bytes"
    return rows, [
        ToleranceCheck(f"{LOG}: {len(rows)} tests, imported into the ledger and exported", "the same bytes", text, same)
    ]


def _write(found: Measurements) -> None:
    out = found.request.out
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    facts, parts = list_facts(found), make_sections(found, figures)
    title = "The paper, reproduced" + (" (a quick reproduction)" if found.setting.quick else "")
    tables = [table for part in parts for table in part.tables]
    for table in tables:
        write_text(out / "tables" / f"{make_slug(table.title)}.csv", table.to_csv())
    write_markdown(title, facts, parts, out / "report.md")
    write_page(title, facts, parts, out / "report.html", numbered=False)
    write_text(out / "report.json", json.dumps(_document(found, facts, tables), indent=1, allow_nan=False) + "\n")


def _document(found: Measurements, facts: Mapping[str, Any], tables: Sequence[Table]) -> dict[str, Any]:
    """Return everything as plain values for JSON."""
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
