"""The files of a comparison: figures, one HTML page, Markdown, CSV and JSON."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daelab._util.files import write_text
from daelab.evaluation.metrics import METRICS
from daelab.experiments.compared_runs import ComparedRun
from daelab.experiments.comparison import Comparison
from daelab.experiments.fields import format_field_value, shorten_field_names
from daelab.experiments.reports.charts import curves_figure, pareto_figure
from daelab.experiments.reports.page import ReportSection, write_markdown, write_page
from daelab.experiments.reports.search_charts import importance_figure, parallel_figure
from daelab.runs.environment import describe_environment

_MOST_CURVES = 10
"""The largest number of points whose curves are drawn."""
_FEWEST = 4
"""The smallest number of runs from which the importance of fields is estimated."""
_SAME = 1.1
"""The smallest ratio of the largest to the smallest cost for which a figure is drawn."""
_MOST_NAMES, _LONGEST_NAME = 10, 26
"""The numbers of points and of characters beyond which a figure labels points by numbers."""


@dataclass(frozen=True)
class _Cost:
    """A cost of a point."""

    name: str
    title: str
    of: Callable[[ComparedRun], float]
    fields: tuple[str, ...] = ("",)
    """The prefixes of the fields of which one must differ; times also differ by other work on the computer."""


_STEP = ("spec.", *(f"training.{name}" for name in ("batch", "optimiser", "precision", "compile", "ema")))
_COSTS = (
    _Cost("macs", "multiplications per image", lambda run: float(run.recipe.spec.macs())),
    _Cost("parameters", "parameters", lambda run: float(run.recipe.spec.parameters)),
    _Cost("seconds", "seconds of training per 1,000 images", lambda run: 1e3 / (run.images_per_second or 1e9), _STEP),
)


def write_comparison_page(
    compared: Comparison, out: Path, title: str, command: str, against: str | None = None
) -> list[str]:
    """Write `compare.html`, `.md`, `.json`, `runs.csv`, `points.csv` and the figures.

    Args:
        compared: The comparison.
        out: The folder, which is created if it does not exist.
        title: The title of the page.
        command: The command that creates the page again.
        against: The name of a baseline run; each point is then shown as a difference from it.

    Returns:
        one sentence for each figure that could not be drawn, with the reason.
    """
    answer = compared.against(against) if against else compared.point_table()
    verdict = compared.outcome(against) if against else compared.verdict
    out.mkdir(parents=True, exist_ok=True)
    known = [run for run in compared.runs if run.psnr is not None]
    finished = [run for run in known if run.status == "finished"] or known
    sections, left_out = [ReportSection("Result", verdict, tables=[answer] if answer.rows else [])], []
    if curves := _curves(compared, out):
        sections.append(ReportSection("Curves", figures=curves))
    else:
        left_out.append("no curves were drawn: the folders of the runs are not on this computer")
    fields = {field: name for field, name in shorten_field_names(compared.fields).items() if field != "seed"}
    # With fields changed one at a time, or with scores that cannot be compared, these figures would show little.
    if fields and finished and not against and not compared.mixed:
        figures, why = draw_field_figures(fields, finished, out)
        left_out += [why] if why else []
        sections.append(ReportSection("Fields", figures=figures))
    if front := draw_cost_figures(compared, out):
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
    "batch size": "training.batch",
    "learning rate": "training.lr",
    "optimizer": "training.optimiser",
}
"""The facts of the page that all runs share, each with its field."""


def _facts(compared: Comparison, command: str) -> dict[str, Any]:
    fields = compared.runs[0].fields
    same = {name: fields.get(key) for name, key in _SHARED.items() if key not in compared.fields}
    known = {name: value for name, value in same.items() if value is not None}
    return {"runs": len(compared.runs), **known, "drawn by": command, "versions": describe_environment()["versions"]}


def _curves(compared: Comparison, out: Path) -> dict[str, Path]:
    points = list(dict.fromkeys(run.point for run in compared.runs if run.curve))
    drawn = [run for run in compared.runs if run.curve and run.point in points[:_MOST_CURVES]]
    if not drawn:
        return {}
    seeds = "seed" in compared.fields and len(points) > 1
    names = label_points(compared) if seeds else {}
    groups = {run.name: names.get(run.point, run.name) for run in drawn}
    curves_figure({run.name: run.curve for run in drawn}, out / "curves.svg", groups)
    some = f"the best {_MOST_CURVES} of {len(points)} points" if len(points) > _MOST_CURVES else "all points"
    lines = "with a color for each point and a line for each of its seeds" if seeds else "with a line for each run"
    caption = (
        f"Loss and PSNR by epoch of {some}, {lines}. The noise of the validation images is the same in every "
        f"epoch.{_numbers(names)}"
    )
    return {caption: out / "curves.svg"}


def label_points(compared: Comparison) -> dict[str, str]:
    """Return the label of each point in a figure: its fields, or its row in the table if those are too long.

    Args:
        compared: The comparison.

    Returns:
        the labels by `ComparedRun.point`.
    """
    names = {point.runs[0].point: compared.named(point.runs[0]) for point in compared.points}
    if len(names) <= _MOST_NAMES and max(map(len, names.values()), default=0) <= _LONGEST_NAME:
        return names
    return {point: str(place) for place, point in enumerate(names, 1)}


def _numbers(names: Mapping[str, str]) -> str:
    return " The numbers are the rows of the table above." if "1" in names.values() else ""


def _cell(run: ComparedRun, field: str) -> Any:
    value = run.fields.get(field)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else format_field_value(value)


def draw_field_figures(
    fields: Mapping[str, str], finished: Sequence[ComparedRun], out: Path
) -> tuple[dict[str, Path], str]:
    """Draw `parallel.svg` and, where it can be estimated, `importance.svg`.

    Args:
        fields: The title of each field, by its dotted name.
        finished: The finished runs.
        out: The folder of the figures.

    Returns:
        the figures by what they show, and the reason why the importance is missing, if it is.
    """
    cells = {title: [_cell(run, field) for run in finished] for field, title in fields.items()}
    psnrs = [run.psnr or 0.0 for run in finished]
    parallel_figure(cells, psnrs, METRICS["psnr"].axis, out / "parallel.svg")
    figures = {
        "Each run is a line through the values of its fields to its PSNR. Bluer lines have a higher PSNR; the best run "
        "is orange.": out / "parallel.svg"
    }
    shares, why = compute_importances(cells, psnrs)
    if shares:
        importance_figure(shares, out / "importance.svg")
        figures[
            "The share of the differences between these runs that each field explains, estimated by a forest of "
            "regression trees (fANOVA). It holds for the values that were tried, and for no others."
        ] = out / "importance.svg"
    return figures, why


def compute_importances(cells: Mapping[str, Sequence[Any]], psnrs: Sequence[float]) -> tuple[dict[str, float], str]:
    """Estimate the share of the differences in PSNR that each field explains.

    Args:
        cells: The value of each finished run in each field, by the title of the field.
        psnrs: The PSNR of each finished run, in dB.

    Returns:
        the shares by title, and an empty text; or no shares, and the reason. With one field alone both are empty.
    """
    if len(cells) < 2:
        return {}, ""
    if len(psnrs) < _FEWEST:
        return {}, f"the importance of the fields was not estimated, which takes {_FEWEST} finished runs"
    texts = {
        title: [str(value) for value in values] for title, values in cells.items() if len(set(map(str, values))) > 1
    }
    if len(texts) < 2:
        return {}, ""
    try:
        import optuna
        import sklearn  # noqa: F401  # fANOVA needs it
    except ModuleNotFoundError:
        return {}, "the importance of the fields was not estimated: pip install 'daelab[search]'"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    spans = {
        title: optuna.distributions.CategoricalDistribution(sorted(set(values))) for title, values in texts.items()
    }
    for at, psnr in enumerate(psnrs):
        point = {title: values[at] for title, values in texts.items()}
        study.add_trial(optuna.create_trial(params=point, distributions=dict(spans), value=psnr))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns that fANOVA is experimental
        forest = optuna.importance.FanovaImportanceEvaluator(seed=0)
        importances = optuna.importance.get_param_importances(study, evaluator=forest)
    return {title: float(share) for title, share in importances.items()}, ""


def draw_cost_figures(compared: Comparison, out: Path) -> dict[str, Path]:
    """Draw PSNR over each cost that differs between the points.

    Args:
        compared: The comparison.
        out: The folder of the figures.

    Returns:
        the path of each figure, by its caption.
    """
    figures = {}
    names = label_points(compared)
    for cost in _COSTS:
        points = {}
        for point in compared.ranked:
            spent = [cost.of(run) for run in point.runs]
            points[names[point.runs[0].point]] = (sum(spent) / len(spent), point.psnr)
        spent = [one for one, _ in points.values()]
        differs = any(field.startswith(cost.fields) for field in compared.fields)
        if not differs or len(spent) < 2 or max(spent) < _SAME * min(spent):
            continue
        path = out / f"psnr-over-{cost.name}.svg"
        pareto_figure(points, cost.title, METRICS["psnr"].axis, path)
        figures[
            f"PSNR against {cost.title}: points higher up and further left are better. "
            f"The line joins the points that no other point beats in both.{_numbers(names)}"
        ] = path
    return figures
