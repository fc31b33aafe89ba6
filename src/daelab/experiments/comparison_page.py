"""What a comparison shows: figures, one HTML page, Markdown, CSV, JSON."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daelab._util.files import write_text
from daelab.experiments.comparison import ComparedRun, Comparison
from daelab.experiments.fields import format_field_value, shorten_field_names
from daelab.experiments.reports.charts import curves_figure, pareto_figure
from daelab.experiments.reports.page import ReportSection, write_markdown, write_page
from daelab.experiments.reports.search_charts import importance_figure, parallel_figure
from daelab.experiments.reports.style import is_matplotlib_installed
from daelab.runs.folder import describe_environment

_MOST_CURVES = 10
_FEWEST = 4
"""Runs below which nobody can say which field mattered."""
_SAME = 1.1
"""Costs whose largest is less than this times their smallest are no trade-off."""
_MOST_NAMES, _LONGEST_NAME = 10, 26
"""Points, and letters, beyond which a figure shows their numbers instead."""


@dataclass(frozen=True)
class _Cost:
    """What a point costs."""

    name: str
    title: str
    of: Callable[[ComparedRun], float]
    fields: tuple[str, ...] = ("",)
    """It is shown where a field differs that begins so: times differ also by what else the machine did."""


_STEP = ("spec.", *(f"training.{name}" for name in ("batch", "optimiser", "precision", "compile", "ema")))
_COSTS = (
    _Cost("macs", "multiplications per image", lambda run: float(run.recipe.spec.macs())),
    _Cost("parameters", "parameters", lambda run: float(run.recipe.spec.parameters)),
    _Cost("seconds", "seconds of training per 1,000 images", lambda run: 1e3 / (run.images_per_second or 1e9), _STEP),
)


def check_comparison_page(out: Path | None) -> None:
    """Whether a page can be written there, said before anything is compared.

    Raises:
        ValueError: no matplotlib, or `out` is a file or holds something else.
    """
    if out is None:
        return
    if not is_matplotlib_installed():
        raise ValueError("figures need matplotlib: pip install 'daelab[report]'")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--plot {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / "compare.json").is_file():
        raise ValueError(f"--plot {out} holds something else than a comparison; name a new folder")


def write_comparison_page(
    compared: Comparison, out: Path, title: str, command: str, against: str | None = None
) -> list[str]:
    """Write `compare.html`, `.md`, `.json`, `runs.csv`, `points.csv` and the figures.

    Args:
        out: a folder; made where it is not there.
        title: of the page.
        command: that made it, for whoever wants it again.
        against: a run that all points are shown beside, as `Compared.against` has it.

    Returns:
        what could not be drawn, and why.
    """
    answer = compared.against(against) if against else compared.point_table()
    verdict = compared.outcome(against) if against else compared.verdict
    out.mkdir(parents=True, exist_ok=True)
    known = [run for run in compared.runs if run.psnr is not None]
    finished = [run for run in known if run.status == "finished"] or known
    sections, left_out = [ReportSection("Answer", verdict, tables=[answer] if compared.points else [])], []
    if curves := _curves(compared, out):
        sections.append(ReportSection("Curves", figures=curves))
    else:
        left_out.append("no curves: the runs' folders are not on this machine")
    fields = {field: name for field, name in shorten_field_names(compared.fields).items() if field != "seed"}
    if fields and finished and not against:  # of many fields changed one at a time, these would show little
        figures = {_parallel(fields, finished, out): out / "parallel.svg"}
        shares, why = compute_importances(finished, fields)
        if shares:
            importance_figure(shares, out / "importance.svg")
            figures[
                "How much each field explains of the differences between these runs, by a forest of regression trees "
                "(fANOVA). It speaks of the values that were tried, and of no others."
            ] = out / "importance.svg"
        elif why:
            left_out.append(why)
        sections.append(ReportSection("Fields", figures=figures))
    if front := _fronts(compared, out):
        sections.append(ReportSection("Quality against cost", figures=front))
    sections.append(ReportSection("Runs", tables=[compared.run_table()]))
    write_text(out / "runs.csv", compared.run_table().to_csv())
    write_text(out / "points.csv", answer.to_csv())
    write_text(out / "compare.json", json.dumps(compared.to_dict(), indent=1, allow_nan=False) + "\n")
    facts = _facts(compared, command)
    write_page(title, facts, sections, out / "compare.html", numbered=False)
    write_markdown(title, facts, sections, out / "compare.md")
    return left_out


_SHARED = {
    "data": "data.name",
    "training images": "data.train",
    "noise": "noise",
    "epochs": "training.epochs",
    "batch": "training.batch",
    "rate": "training.lr",
    "optimiser": "training.optimiser",
}
"""A fact of the page -> the field that it is, where all runs share it."""


def _facts(compared: Comparison, command: str) -> dict[str, Any]:
    fields = compared.runs[0].fields
    same = {name: fields.get(key) for name, key in _SHARED.items() if key not in compared.fields}
    known = {name: value for name, value in same.items() if value is not None}
    return {"runs": len(compared.runs), **known, "drawn by": command, "versions": describe_environment()["versions"]}


def _curves(compared: Comparison, out: Path) -> dict[str, Path]:
    points = list(dict.fromkeys(run.point for run in compared.runs if run.curve))
    shown_ = [run for run in compared.runs if run.curve and run.point in points[:_MOST_CURVES]]
    if not shown_:
        return {}
    seeds = "seed" in compared.fields and len(points) > 1
    names = label_points(compared) if seeds else {}
    groups = {run.name: names.get(run.point, run.name) for run in shown_}
    curves_figure({run.name: run.curve for run in shown_}, out / "curves.svg", groups)
    some = f"The best {_MOST_CURVES} of {len(points)}" if len(points) > _MOST_CURVES else "All"
    lines = "a colour for each point, a line for each of its seeds" if seeds else "a line for each run"
    caption = (
        f"{some}, best first, {lines}: loss and PSNR by epoch, on validation images whose noise never "
        f"changes.{_numbers(names)}"
    )
    return {caption: out / "curves.svg"}


def label_points(compared: Comparison) -> dict[str, str]:
    """Each point's name in a figure: its fields, or where those are too many or too long, its row in the table."""
    names = {point.runs[0].point: compared.named(point.runs[0]) for point in compared.points}
    if len(names) <= _MOST_NAMES and max(map(len, names.values()), default=0) <= _LONGEST_NAME:
        return names
    return {point: str(place) for place, point in enumerate(names, 1)}


def _numbers(names: Mapping[str, str]) -> str:
    return " Numbers: the rows of the table above." if "1" in names.values() else ""


def _parallel(fields: Mapping[str, str], finished: list[ComparedRun], out: Path) -> str:
    cells = {name: [_cell(run, field) for run in finished] for field, name in fields.items()}
    psnrs = [run.psnr or 0.0 for run in finished]
    parallel_figure(cells, psnrs, "PSNR (dB)", out / "parallel.svg")
    return "A line for each run, from field to field to its PSNR: the bluer, the better; the best is orange."


def _cell(run: ComparedRun, field: str) -> Any:
    value = run.fields.get(field)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else format_field_value(value)


def compute_importances(finished: list[ComparedRun], fields: Mapping[str, str]) -> tuple[dict[str, float], str]:
    """The share of the differences in PSNR that each field explains; or why nothing can be said.

    Args:
        fields: dotted name -> title.

    Returns:
        title -> share, empty where the second, a reason, is not; both empty where there is one field alone.
    """
    varying = [field for field in fields if len({str(_cell(run, field)) for run in finished}) > 1]
    if len(varying) < 2:
        return {}, ""
    if len(finished) < _FEWEST:
        return {}, f"no importances: {len(finished)} finished runs are too few"
    try:
        import optuna
        import sklearn  # noqa: F401  # what fANOVA's forest is made of
    except ModuleNotFoundError:
        return {}, "no importances: pip install 'daelab[search]'"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    texts = {field: [str(_cell(run, field)) for run in finished] for field in varying}
    spans = {field: optuna.distributions.CategoricalDistribution(sorted(set(texts[field]))) for field in varying}
    for at, run in enumerate(finished):
        point = {field: texts[field][at] for field in varying}
        study.add_trial(optuna.create_trial(params=point, distributions=dict(spans), value=run.psnr))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it is experimental
        forest = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=forest)
    return {fields[field]: float(share) for field, share in found.items()}, ""


def _fronts(compared: Comparison, out: Path) -> dict[str, Path]:
    """Caption -> PSNR over each cost that differs between the points."""
    found = {}
    names = label_points(compared)
    for cost in _COSTS:
        points = {}
        for point in compared.points:
            spent = [cost.of(run) for run in point.runs]
            points[names[point.runs[0].point]] = (sum(spent) / len(spent), point.psnr)
        spent = [one for one, _ in points.values()]
        differs = any(field.startswith(cost.fields) for field in compared.fields)
        if not differs or len(spent) < 2 or max(spent) < _SAME * min(spent):
            continue
        path = out / f"psnr-over-{cost.name}.svg"
        pareto_figure(points, cost.title, "PSNR (dB)", path)
        found[
            f"PSNR against {cost.title}: up and to the left is better. The line joins what nothing beats in both."
            f"{_numbers(names)}"
        ] = path
    return found
