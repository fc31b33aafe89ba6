"""The command `daelab evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daelab._util.distributed import is_first_process, join_group
from daelab.cli.console import print_json, print_result, print_table, show_progress
from daelab.cli.help import complete_models
from daelab.cli.options import DataRoot, Device, Json, JudgePath, Seed, SelfEnsemble

if TYPE_CHECKING:
    from daelab.experiments.evaluate_model import ModelEvaluation

EvaluatedModel = Annotated[
    str,
    typer.Argument(
        metavar="MODEL_OR_RUN",
        help="A shipped model, a run, a model file, baseline:NAME, or code of yours: package.module:factory.",
        autocompletion=complete_models,
    ),
]
TestData = Annotated[str, typer.Option(help="Data set whose test images are used: {datasets}.")]
TestNoise = Annotated[
    str | None, typer.Option(help="Preset or formula of the noise. Default: the noise that the model is made for.")
]
Levels = Annotated[
    str | None,
    typer.Option(metavar="S,S,...", help="Evaluate under awgn(S) at each level instead, and print one table."),
]
Limit = Annotated[
    int | None,
    typer.Option(
        help="Number of test images to use: the first, or evenly spaced ones if they are sorted by class. Default: all."
    ),
]
Whole = Annotated[
    bool,
    typer.Option(
        "--all", help="Use all images of a folder or file that has no test part. Default: a fixed tenth of them."
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        help="Classifier to score with as well: {classifiers}, a file, or module:factory"
        " (whose code is run). Default: none."
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", help="Metric to compute as well: {requested_metrics}. Needs the package pyiqa. Can be repeated."
    ),
]
Save = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Also write the model to this file, with the scores in its header."),
]
ScorePrecision = Annotated[
    str,
    typer.Option(
        help="Precision of the computation: float32; int8, which the CPU and the model must allow; or auto. With "
        "automatic, int8 is for the models that allow it, and the others use float32."
    ),
]
Half = Annotated[
    bool, typer.Option("--half", help="With --save, store the weights in half precision, and score the stored weights.")
]


@join_group()
def evaluate(
    model: EvaluatedModel,
    data: TestData = "cifar10",
    noise: TestNoise = None,
    levels: Levels = None,
    limit: Limit = None,
    whole: Whole = False,
    seed: Seed = 0,
    judge: Judge = None,
    judge_path: JudgePath = None,
    metric: Metrics = None,
    self_ensemble: SelfEnsemble = False,
    data_root: DataRoot = None,
    device: Device = None,  # noqa: ARG001
    precision: ScorePrecision = "float32",
    save: Save = None,
    half: Half = False,
    as_json: Json = False,
) -> None:
    """Score a model on the test images of a data set.

    The metrics are {metrics}. F1 and accuracy need a classifier, which --judge names.

    A classical method is baseline:NAME, where NAME is one of {baselines}. Its settings are tuned on validation images,
    after a correction of gain and offset. Add ,raw to leave the correction out, and ,KEY=VALUE to fix a setting.

    Example: daelab evaluate model-c --noise published-code
    """
    from daelab.experiments import evaluate_model
    from daelab.experiments.evaluate_model import evaluate_levels, load_evaluated_dataset, load_half_precision
    from daelab.experiments.train import save_evaluated_model

    if levels is not None and (noise or judge or save):
        raise ValueError("--levels cannot be combined with --noise, --judge or --save")
    if judge_path is not None and judge is None:
        raise ValueError("--judge-path needs --judge vit: it names the folder of that classifier's weights")
    _check_save(model, save, half, self_ensemble, precision)
    sigmas = _parse_levels(levels) if levels is not None else None
    with (
        show_progress("downloading", "bytes") as download,
        show_progress("tuning") as tuning,
        show_progress("evaluating") as progress,
    ):
        options: dict[str, Any] = {
            "limit": limit,
            "seed": seed,
            "self_ensemble": self_ensemble,
            "metrics": metric or (),
            "precision": precision,
            "data_root": data_root,
            "progress": progress,
            "tuning": tuning,
            "download": download,
        }
        tested = load_evaluated_dataset(data, data_root, whole=True, download=download) if whole else data
        if sigmas:
            evaluations = evaluate_levels(model, sigmas, tested, **options)
            if is_first_process():
                _print_levels(sigmas, evaluations, as_json)
            return
        loaded = load_half_precision(model) if half else model
        evaluation = evaluate_model.evaluate(loaded, tested, noise, judge=judge, judge_path=judge_path, **options)
    if not is_first_process():
        return
    # The scores are printed before the file is written: they took long, and the disk may be full.
    print_json(evaluation.to_dict()) if as_json else _print_scores(evaluation)
    if save is not None:
        save_evaluated_model(model, evaluation, save, half=half)


def _check_save(model: str, save: Path | None, half: bool, self_ensemble: bool, precision: str) -> None:
    from daelab.experiments.train import check_evaluated_model

    if self_ensemble and save is not None:
        raise ValueError("--save stores the scores of the model alone; leave out --self-ensemble")
    if precision != "float32" and save is not None:
        raise ValueError("--save stores the scores of float32; leave out --precision")
    if half and save is None:
        raise ValueError("--half needs --save FILE: it says how the model is stored")
    if save is not None:
        check_evaluated_model(model, save)


def _parse_levels(text: str) -> list[float]:
    try:
        return [float(level) for level in text.split(",")]
    except ValueError:
        raise ValueError(f"--levels {text}: write numbers separated by commas, such as 15,25,50") from None


def _print_levels(sigmas: list[float], evaluations: tuple[ModelEvaluation, ...], as_json: bool) -> None:
    from daelab.experiments.reports.evaluation import make_level_table

    first = evaluations[0]
    if as_json:
        levels = [
            {"sigma": sigma, **evaluation.scores.to_dict()}
            for sigma, evaluation in zip(sigmas, evaluations, strict=True)
        ]
        head = {"model": first.model, "parameters": first.parameters, "data": first.data, "precision": first.precision}
        print_json(head | {"levels": levels})
        return
    _print_head(first)
    print_result(f"noise awgn(sigma), not clipped, seed {first.scores.seed}; PSNR and SSIM are means over images")
    print_result()
    print_table(make_level_table(sigmas, evaluations))


def _print_head(evaluation: ModelEvaluation) -> None:
    images = evaluation.scores.overall.images
    counted = f"{images:,} test image{'s' if images > 1 else ''} of {evaluation.data}"
    print_result(f"{evaluation.model}: {evaluation.parameters:,} parameters, {counted}, in {evaluation.precision}")
    if evaluation.selection:
        print_result(f"test images: {evaluation.selection}")


def _print_scores(evaluation: ModelEvaluation) -> None:
    from daelab.experiments.reports.evaluation import make_classifier_tables, make_component_table, make_score_table

    scores, tuned = evaluation.scores, evaluation.tuned
    _print_head(evaluation)
    if tuned:
        print_result(f"tuned to {tuned.baseline}")
        print_result(
            f"  PSNR {tuned.psnr:.2f} dB on {tuned.images} validation images, the best of {len(tuned.tried)} settings"
        )
    print_result(f"noise {scores.overall.noise}, seed {scores.seed}, noisy pixels sha256 {scores.noisy_sha256[:16]}")
    tables = [make_score_table(scores)]
    if len(scores.components) > 1:
        tables.append(make_component_table(scores))
    for table in (*tables, *make_classifier_tables(scores)):
        print_result()
        print_table(table)
