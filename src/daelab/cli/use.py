"""train, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daelab import processes
from daelab.cli.console import TrainingProgress, bar, clock, say, say_json, tell
from daelab.cli.judge import say_judged
from daelab.cli.manual import models, recipes, runs
from daelab.cli.options import DataRoot, Json, LedgerUrl, Seed

if TYPE_CHECKING:
    from daelab.api import Evaluated
    from daelab.recipe import Recipe
    from daelab.training import Trained


RecipeName = Annotated[
    str | None, typer.Option(help="A recipe that ships; `daelab recipes` lists them.", autocompletion=recipes)
]
Scored = Annotated[
    str,
    typer.Argument(
        metavar="MODEL_OR_RUN",
        help="A model file, a shipped model, a run, or baseline:NAME.",
        autocompletion=models,
    ),
]
Resume = Annotated[str | None, typer.Option(metavar="RUN", help="Go on with a run, exactly.", autocompletion=runs)]


@processes.joined()
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
    from daelab import api, training
    from daelab.report import available
    from daelab.runs import Ledger

    every = training.parse_every(checkpoint_every)
    if (file is not None) + (recipe is not None) + (resume is not None) != 1:
        raise ValueError("name one of: a recipe file, --recipe NAME, --resume RUN")
    if resume and (changes or epochs or name):
        raise ValueError("--resume goes on with the run's own recipe; it takes no --set, --epochs or --name")
    wanted, run = processes.from_first(
        lambda: (training.resume_recipe(resume), resume) if resume else _new(str(file or recipe), changes, epochs, name)
    )
    with bar("downloading", "bytes") as download:
        trained = api.train(
            wanted,
            run,
            resume=resume is not None,
            data_root=data_root,
            ledger=Ledger(ledger) if processes.first() else None,
            progress=TrainingProgress(),
            download=download,
            checkpoint_every=every,
            track=track or (),
            warn=lambda text: tell(f"daelab: {text}"),
        )
    if not processes.first():
        return
    if not available():
        tell("no figures were drawn: pip install 'daelab[report]'")
    if as_json:
        say_json(_trained(trained))
    else:
        _say_trained(trained)


def _new(source: str, changes: list[str] | None, epochs: int | None, name: str | None) -> tuple[Recipe, str]:
    """The recipe, and the run's name: that which this group of processes has begun already, or a free one."""
    from daelab.recipe import load
    from daelab.runs import free_name
    from daelab.training import begun

    shortcut = [f"training.epochs={epochs}"] if epochs is not None else []
    recipe = load(source, [*(changes or []), *shortcut])
    return recipe, name or begun(recipe) or free_name(source.removesuffix(".toml"))


def _trained(trained: Trained) -> dict[str, Any]:
    return {
        "run": trained.run.name,
        "folder": str(trained.run.path),
        "model": str(trained.run.best),
        "epochs": len(trained.rows),
        "seconds": trained.seconds,
        "best": vars(trained.best),
        "rows": trained.rows,
    }


def _say_trained(trained: Trained) -> None:
    best, run = trained.best, trained.run
    say(f"run {run.name}: {len(trained.rows)} epochs in {clock(trained.seconds)}")
    say(f"  best     epoch {best.epoch}: validation loss {best.val_loss:.6f}, PSNR {best.val_psnr:.2f} dB")
    say(f"  model    {run.best}")
    page = run.path / "report.html"
    if page.exists():
        say(f"  report   {page}")
    say(f"  next     daelab evaluate {run.name}")


JudgePath = Annotated[Path | None, typer.Option(help="Folder of the weights of the judge vit; `hub` downloads them.")]
SelfEnsemble = Annotated[
    bool, typer.Option("--self-ensemble", help="Average eight flips and rotations; eight times the work.")
]


@processes.joined()
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
    from daelab import api

    if levels is not None and (noise or judge or save):
        raise ValueError("--levels is a table of its own; it takes no --noise, --judge or --save")
    _check_saving(save, half, self_ensemble)
    sigmas = _sigmas(levels) if levels is not None else None
    with bar("downloading", "bytes") as download, bar("tuning") as tuning, bar("evaluating") as progress:
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
            table = api.evaluate_levels(model, sigmas, data, **options)
            if processes.first():
                _say_levels(sigmas, table, as_json)
            return
        scored = api.load_half(model) if half else model
        found = api.evaluate(scored, data, noise, judge=judge, judge_path=judge_path, **options)
    if not processes.first():
        return
    # first, since they took long, and the disk may be full
    if as_json:
        say_json(found.to_dict())
    else:
        _say_scores(found)
    if save is not None:
        api.save_scored(model, found, save, half=half)


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


def _say_levels(sigmas: list[float], found: tuple[Evaluated, ...], as_json: bool) -> None:
    from daelab.report import Table

    first = found[0]
    if as_json:
        head = {"model": first.model, "parameters": first.parameters, "data": first.data}
        each = [{"sigma": sigma, **one.scores.to_dict()} for sigma, one in zip(sigmas, found, strict=True)]
        say_json(head | {"levels": each})
        return
    overall = first.scores.overall
    say(f"{first.model}: {first.parameters:,} parameters, {overall.images:,} test images of {first.data}")
    say(f"noise awgn(sigma), not clipped, seed {first.scores.seed}; PSNR and SSIM: means over images")
    say()
    rows = []
    for sigma, one in zip(sigmas, found, strict=True):
        psnr, ssim = (one.scores.overall.metrics[name] for name in ("psnr", "ssim"))
        decibels = [f"{value:.2f}" for value in (psnr.noisy, psnr.denoised, *psnr.ci95)]
        rows.append([f"{sigma:g}", *decibels, f"{ssim.noisy:.4f}", f"{ssim.denoised:.4f}"])
    columns = ["sigma", "PSNR noisy, dB", "denoised", "95% from", "to", "SSIM noisy", "denoised"]
    say(Table("levels", columns, rows).to_text())


_ROWS = {
    "mse": ("MSE", 5),
    "psnr": ("PSNR, dB (mean over images)", 2),
    "psnr_batch": ("batch PSNR, dB (the paper's)", 2),
    "ssim": ("SSIM", 4),
}


def _say_scores(found: Evaluated) -> None:
    from daelab.report import Table

    scores = found.scores
    say(f"{found.model}: {found.parameters:,} parameters, {scores.overall.images:,} test images of {found.data}")
    if found.tuned:
        tuned = found.tuned
        say(f"tuned to {tuned.baseline}")
        say(f"  PSNR {tuned.psnr:.2f} dB on {tuned.images} validation images, the best of {len(tuned.tried)} settings")
    say(f"noise {scores.overall.noise}, seed {scores.seed}, noisy pixels sha256 {scores.noisy_sha256[:16]}")
    say()
    rows = []
    for key, (title, digits) in _ROWS.items():
        metric = scores.overall.metrics[key]
        cells = [f"{value:.{digits}f}" for value in (metric.noisy, metric.denoised, *metric.ci95)]
        rows.append([title, *cells])
    say(Table("scores", ["", "noisy", "denoised", "95% from", "to"], rows).to_text())
    if len(scores.components) > 1:
        say()
        parts = [
            [
                part.noise,
                part.images,
                f"{part.metrics['psnr'].noisy:.2f}",
                f"{part.metrics['psnr'].denoised:.2f}",
            ]
            for part in scores.components
        ]
        say(Table("by component", ["component", "images", "PSNR noisy", "denoised"], parts).to_text())
    say_judged(scores)
