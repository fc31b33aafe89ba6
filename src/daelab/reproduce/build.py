"""reproduce(request): measure, draw, write the report, and say which tolerances are missed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from daelab import data as datasets
from daelab import judge, modelfile, recipe, report, runs, training
from daelab.files import write_text
from daelab.reproduce import paper, sections, study
from daelab.reproduce.checks import Check, checks
from daelab.reproduce.measure import QUICK, Measured, Setting, Speed, measure, speeds

WEIGHTS = ("model-a", "model-b", "model-b-35", "model-c", "model-c.table-1")
"""The networks of the paper, trained by us; each is the name of its recipe too."""
LOG = "tests_fully.csv"


class Watcher(Protocol):
    """Who is told how a reproduction goes."""

    def say(self, text: str) -> None:
        """What comes next, in a line."""

    def count(self, done: int, images: int) -> None:
        """Where an evaluation is."""

    def training(self) -> training.Progress:
        """Who watches the next training."""


@dataclass(frozen=True)
class Request:
    """What to reproduce, from what, and where the report goes."""

    out: Path
    data_root: Path | None = None
    checkpoints: Path | None = None
    """Folder of the paper's 35.pt, 37.pt, 38.pt and its log."""
    judge: str | None = "builtin"
    judge_path: Path | None = None
    retrain: bool = False
    """Train our weights anew instead of taking those that ship."""
    quick: bool = False
    """A thousand images, short trainings."""
    seed: int = 0


@dataclass(frozen=True)
class Found:
    """All that was measured."""

    request: Request
    setting: Setting
    checkpoints: dict[str, Measured]
    ours: dict[str, Measured]
    speeds: list[Speed]
    studies: list[study.Outcome]
    log: list[dict[str, Any]]
    """The paper's log, row by row; empty where it was not given."""
    checks: list[Check]

    @property
    def missed(self) -> list[Check]:
        """The tolerances that are not kept."""
        return [check for check in self.checks if not check.holds]


def reproduce(request: Request, watcher: Watcher) -> Found:
    """Measure everything and write `report.html`, `report.md`, `report.json`, `tables/` and `figures/`.

    Raises:
        ValueError: matplotlib is missing; `out` holds something else; a judge or a data set that does not load.
        FileNotFoundError: `checkpoints` is no folder, or the judge's weights are missing.
    """
    _check(request)
    watcher.say("loading CIFAR-10")
    dataset = datasets.load("cifar10", request.data_root)
    judging = judge.load(request.judge, request.judge_path) if request.judge else None
    if judging and request.quick:
        judging = judging.quick()
    path = None if request.judge_path is None else str(request.judge_path)
    setting = Setting(dataset, judging, {"name": request.judge, "path": path}, request.quick, request.seed)
    log, exact = _log(request)
    # what a quick look trains is nothing to keep
    with tempfile.TemporaryDirectory() if request.quick else nullcontext() as folder:
        trained = Path(folder) if folder else None
        weights = _retrained(setting, watcher, trained) if request.retrain else _shipped()
        published = _published(request)
        ours = measure(weights, setting, watcher.say, watcher.count)
        theirs = measure(published, setting, watcher.say, watcher.count)
        outcomes = study.run(setting, watcher.say, watcher.training, trained)
    timed = speeds(setting, watcher.say)
    held = exact + checks(theirs, ours, setting, trained_quickly=request.retrain and request.quick)
    found = Found(request, setting, theirs, ours, timed, outcomes, log, held)
    watcher.say("drawing")
    _write(found)
    return found


def _check(request: Request) -> None:
    """Everything that can be said before hours are spent."""
    if not report.available():
        raise ValueError("the report needs matplotlib: pip install 'daelab[report]'")
    out = request.out
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / "report.json").is_file():
        raise ValueError(f"--out {out} holds something else than a report; name a new folder")
    if request.checkpoints is not None and not request.checkpoints.is_dir():
        raise FileNotFoundError(f"--paper-checkpoints {request.checkpoints}: no such folder")


def _shipped() -> dict[str, Path]:
    files = {name: modelfile.shipped_file(name) for name in WEIGHTS}
    return {name: path for name, path in files.items() if path}


def _published(request: Request) -> dict[str, Path]:
    if request.checkpoints is None:
        return {}
    files = {row.checkpoint: request.checkpoints / row.checkpoint for row in paper.TABLE_2}
    return {name: path for name, path in files.items() if path.is_file()}


def _retrained(setting: Setting, watcher: Watcher, folder: Path | None) -> dict[str, Path]:
    """Train every recipe of ours; a run that was begun goes on."""
    ledger = runs.Ledger(f"sqlite:///{folder}/ledger.db" if folder else None)
    overrides = [f"data.train={QUICK}", "data.val=200", "training.epochs=2"] if setting.quick else []
    found = {}
    for name in WEIGHTS:
        wanted, run = recipe.load(name, overrides), runs.folder(f"retrain-{name}", folder)
        if len(run.read_metrics()) < wanted.training.epochs:
            watcher.say(f"training {name}")
            training.fit(
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


def _log(request: Request) -> tuple[list[dict[str, Any]], list[Check]]:
    """The paper's log through a ledger of its own, and whether it comes out byte for byte."""
    path = request.checkpoints / LOG if request.checkpoints else None
    if path is None or not path.is_file():
        return [], []
    with tempfile.TemporaryDirectory() as folder:
        ledger = runs.Ledger(f"sqlite:///{folder}/ledger.db")
        ledger.import_csv(path)
        same = ledger.export_csv().encode() == path.read_bytes()
        rows = ledger.rows()
    text = "the same bytes" if same else "other bytes"
    return rows, [Check(f"{LOG}: {len(rows)} tests into the ledger and out again", "the same bytes", text, same)]


def _write(found: Found) -> None:
    out = found.request.out
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    facts, parts = sections.facts(found), sections.sections(found, figures)
    title = "The paper, reproduced" + (" (a quick look)" if found.setting.quick else "")
    tables = [table for part in parts for table in part.tables]
    for table in tables:
        write_text(out / "tables" / f"{report.slug(table.title)}.csv", table.to_csv())
    report.write_markdown(title, facts, parts, out / "report.md")
    report.write_page(title, facts, parts, out / "report.html", numbered=False)
    write_text(out / "report.json", json.dumps(_document(found, facts, tables), indent=1, allow_nan=False) + "\n")


def _document(found: Found, facts: Mapping[str, Any], tables: Sequence[report.Table]) -> dict[str, Any]:
    """Everything as plain values."""
    return {
        "facts": dict(facts),
        "quick": found.setting.quick,
        "checks": [vars(check) for check in found.checks],
        "environment": runs.environment(),
        "ours": {name: one.found.to_dict() for name, one in found.ours.items()},
        "checkpoints": {name: one.found.to_dict() for name, one in found.checkpoints.items()},
        "tables": [
            {"title": table.title, "columns": table.columns, "rows": table.rows, "note": table.note} for table in tables
        ],
    }
