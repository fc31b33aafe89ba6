"""train, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daelab._util.distributed import is_first_process, join_group, run_on_first
from daelab.cli.console import ConsoleProgress, format_duration, print_json, print_note, print_result, show_progress
from daelab.cli.help import complete_models, complete_recipes, complete_runs
from daelab.cli.options import DataRoot, Json, LedgerUrl, Seed
from daelab.cli.train_judge import print_classifier_scores

if TYPE_CHECKING:
    from daelab.experiments.evaluate_model import ModelEvaluation
    from daelab.training.engine import TrainingResult
    from daelab.training.recipe import Recipe


RecipeName = Annotated[
    str | None, typer.Option(help="A recipe that ships; `daelab recipes` lists them.", autocompletion=complete_recipes)
]
Scored = Annotated[
    str,
    typer.Argument(
        metavar="MODEL_OR_RUN",
        help="A model file, a shipped model, a run, or baseline:NAME.",
        autocompletion=complete_models,
    ),
]
Resume = Annotated[
    str | None, typer.Option(metavar="RUN", help="Go on with a run, exactly.", autocompletion=complete_runs)
]


@join_group()
def train(
    file: Annotated[Path | None, typer.Argument(metavar="[RECIPE.toml]", help="A recipe of yours.")] = None,
    recipe: RecipeName = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the run; its folder is runs/NAME.")] = None,
    resume: Resume = None,
    epochs: Annotated[int | None, typer.Option(help="Short for --set training.epochs=N.")] = None,
    checkpoint_every: Annotated[
        str, typer.Option(metavar="N|Nm", help="Save after so many epochs, or (10m) so many minutes.")
    ] = "1",
    track: Annotated[
        list[str] | None, typer.Option(metavar="NAME[=WHERE]", help="Tell tensorboard, or mlflow=URI; repeat for both.")
    ] = None,
    data_root: DataRoot = None,
    ledger: LedgerUrl = None,
    as_json: Json = False,
) -> None:
    """Train an auto-encoder by a recipe; everything it makes goes into runs/NAME.

    Under torchrun several processes share each batch, which changes no result: `torchrun --nproc-per-node 2 -m
    daelab train --recipe quick`.

    Example: daelab train --recipe paper/38 --set training.lr=0.01 --name warmer
    """
    from daelab.experiments import train as train_module
    from daelab.experiments.reports.style import is_matplotlib_installed
    from daelab.runs.ledger import Ledger
    from daelab.training.checkpoint_schedule import parse_checkpoint_schedule
    from daelab.training.engine import load_run_recipe

    every = parse_checkpoint_schedule(checkpoint_every)
    if (file is not None) + (recipe is not None) + (resume is not None) != 1:
        raise ValueError("name one of: a recipe file, --recipe NAME, --resume RUN")
    if resume and (changes or epochs or name):
        raise ValueError("--resume goes on with the run's own recipe; it takes no --set, --epochs or --name")
    wanted, run = run_on_first(
        lambda: (load_run_recipe(resume), resume) if resume else _new(str(file or recipe), changes, epochs, name)
    )
    with show_progress("downloading", "bytes") as download:
        trained = train_module.train(
            wanted,
            run,
            resume=resume is not None,
            data_root=data_root,
            ledger=Ledger(ledger) if is_first_process() else None,
            progress=ConsoleProgress(),
            download=download,
            checkpoint_every=every,
            track=track or (),
            warn=lambda text: print_note(f"daelab: {text}"),
        )
    if not is_first_process():
        return
    if not is_matplotlib_installed():
        print_note("no figures were drawn: pip install 'daelab[report]'")
    if as_json:
        print_json(_trained(trained))
    else:
        _say_trained(trained)


def _new(source: str, changes: list[str] | None, epochs: int | None, name: str | None) -> tuple[Recipe, str]:
    """The recipe, and the run's name: that which this group of processes has begun already, or a free one."""
    from daelab.runs.folder import choose_run_name
    from daelab.training.engine import find_begun_run
    from daelab.training.recipe import load_recipe

    shortcut = [f"training.epochs={epochs}"] if epochs is not None else []
    recipe = load_recipe(source, [*(changes or []), *shortcut])
    return recipe, name or find_begun_run(recipe) or choose_run_name(source.removesuffix(".toml"))


def _trained(trained: TrainingResult) -> dict[str, Any]:
    return {
        "run": trained.run.name,
        "folder": str(trained.run.path),
        "model": str(trained.run.best),
        "epochs": len(trained.rows),
        "seconds": trained.seconds,
        "best": vars(trained.best),
        "rows": trained.rows,
    }


def _say_trained(trained: TrainingResult) -> None:
    best, run = trained.best, trained.run
    print_result(f"run {run.name}: {len(trained.rows)} epochs in {format_duration(trained.seconds)}")
    print_result(f"  best     epoch {best.epoch}: validation loss {best.val_loss:.6f}, PSNR {best.val_psnr:.2f} dB")
    print_result(f"  model    {run.best}")
    page = run.path / "report.html"
    if page.exists():
        print_result(f"  report   {page}")
    print_result(f"  next     daelab evaluate {run.name}")


JudgePath = Annotated[Path | None, typer.Option(help="Folder of the weights of the judge vit; `hub` downloads them.")]
SelfEnsemble = Annotated[
    bool, typer.Option("--self-ensemble", help="Average eight flips and rotations; eight times the work.")
]


@join_group()
def evaluate(
    model: Scored,
    data: Annotated[str, typer.Option(help="Data set whose test images are used.")] = "cifar10",
    noise: Annotated[str | None, typer.Option(help="A preset or a noise's text; else the model's own.")] = None,
    levels: Annotated[
        str | None, typer.Option(metavar="S,S,...", help="Instead of a noise: awgn(S) at each level, in one table.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many images.")] = None,
    seed: Seed = 0,
    judge: Annotated[
        str | None,
        typer.Option(help="Also score with: builtin, holdout, photos, vit, a file, or module:factory (which runs)."),
    ] = None,
    judge_path: JudgePath = None,
    self_ensemble: SelfEnsemble = False,
    data_root: DataRoot = None,
    save: Annotated[Path | None, typer.Option(help="Also write the model here, with the scores in its header.")] = None,
    half: Annotated[bool, typer.Option("--half", help="With --save: weights in half precision, scored so.")] = False,
    as_json: Json = False,
) -> None:
    """Score a model on the test images of a data set.

    A classical method is baseline:NAME (nlm, tv, wavelet, bilateral, median, wiener, bm3d), tuned on
    validation images after a gain-and-offset correction; with ,raw without it; with ,KEY=VALUE as said.

    Example: daelab evaluate model-c --noise published-code
    """
    from daelab.experiments import evaluate_model
    from daelab.experiments.evaluate_model import evaluate_levels, load_half_precision
    from daelab.experiments.train import save_evaluated_model

    if levels is not None and (noise or judge or save):
        raise ValueError("--levels is a table of its own; it takes no --noise, --judge or --save")
    _check_saving(save, half, self_ensemble)
    sigmas = _sigmas(levels) if levels is not None else None
    with (
        show_progress("downloading", "bytes") as download,
        show_progress("tuning") as tuning,
        show_progress("evaluating") as progress,
    ):
        options: dict[str, Any] = {
            "limit": limit,
            "seed": seed,
            "self_ensemble": self_ensemble,
            "data_root": data_root,
            "progress": progress,
            "tuning": tuning,
            "download": download,
        }
        if sigmas:
            table = evaluate_levels(model, sigmas, data, **options)
            if is_first_process():
                _say_levels(sigmas, table, as_json)
            return
        scored = load_half_precision(model) if half else model
        found = evaluate_model.evaluate(scored, data, noise, judge=judge, judge_path=judge_path, **options)
    if not is_first_process():
        return
    # first, since they took long, and the disk may be full
    if as_json:
        print_json(found.to_dict())
    else:
        _say_scores(found)
    if save is not None:
        save_evaluated_model(model, found, save, half=half)


def _check_saving(save: Path | None, half: bool, self_ensemble: bool) -> None:
    if self_ensemble and save is not None:
        raise ValueError("--save keeps the scores of the model alone; leave out --self-ensemble")
    if half and save is None:
        raise ValueError("--half is how --save stores the model; add --save FILE")


def _sigmas(text: str) -> list[float]:
    try:
        return [float(level) for level in text.split(",")]
    except ValueError:
        raise ValueError(f"--levels {text}: write numbers with commas between, for example 15,25,50") from None


def _say_levels(sigmas: list[float], found: tuple[ModelEvaluation, ...], as_json: bool) -> None:
    from daelab.experiments.reports.table import Table

    first = found[0]
    if as_json:
        head = {"model": first.model, "parameters": first.parameters, "data": first.data}
        each = [{"sigma": sigma, **one.scores.to_dict()} for sigma, one in zip(sigmas, found, strict=True)]
        print_json(head | {"levels": each})
        return
    overall = first.scores.overall
    print_result(f"{first.model}: {first.parameters:,} parameters, {overall.images:,} test images of {first.data}")
    print_result(f"noise awgn(sigma), not clipped, seed {first.scores.seed}; PSNR and SSIM: means over images")
    print_result()
    rows = []
    for sigma, one in zip(sigmas, found, strict=True):
        psnr, ssim = (one.scores.overall.metrics[name] for name in ("psnr", "ssim"))
        decibels = [f"{value:.2f}" for value in (psnr.noisy, psnr.denoised, *psnr.ci95)]
        rows.append([f"{sigma:g}", *decibels, f"{ssim.noisy:.4f}", f"{ssim.denoised:.4f}"])
    columns = ["sigma", "PSNR noisy, dB", "denoised", "95% from", "to", "SSIM noisy", "denoised"]
    print_result(Table("levels", columns, rows).to_text())


_ROWS = {
    "mse": ("MSE", 5),
    "psnr": ("PSNR, dB (mean over images)", 2),
    "psnr_batch": ("batch PSNR, dB (the paper's)", 2),
    "ssim": ("SSIM", 4),
}


def _say_scores(found: ModelEvaluation) -> None:
    from daelab.experiments.reports.table import Table

    scores = found.scores
    print_result(
        f"{found.model}: {found.parameters:,} parameters, {scores.overall.images:,} test images of {found.data}"
    )
    if found.tuned:
        tuned = found.tuned
        print_result(f"tuned to {tuned.baseline}")
        print_result(
            f"  PSNR {tuned.psnr:.2f} dB on {tuned.images} validation images, the best of {len(tuned.tried)} settings"
        )
    print_result(f"noise {scores.overall.noise}, seed {scores.seed}, noisy pixels sha256 {scores.noisy_sha256[:16]}")
    print_result()
    rows = []
    for key, (title, digits) in _ROWS.items():
        metric = scores.overall.metrics[key]
        cells = [f"{value:.{digits}f}" for value in (metric.noisy, metric.denoised, *metric.ci95)]
        rows.append([title, *cells])
    print_result(Table("scores", ["", "noisy", "denoised", "95% from", "to"], rows).to_text())
    if len(scores.components) > 1:
        print_result()
        parts = [
            [
                part.noise,
                part.images,
                f"{part.metrics['psnr'].noisy:.2f}",
                f"{part.metrics['psnr'].denoised:.2f}",
            ]
            for part in scores.components
        ]
        print_result(Table("by component", ["component", "images", "PSNR noisy", "denoised"], parts).to_text())
    print_classifier_scores(scores)
