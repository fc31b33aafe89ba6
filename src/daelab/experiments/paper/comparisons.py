"""The paper's decisive comparisons, repeated with short trainings of the same budget."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from daelab.experiments.paper.measure import QUICK, MeasurementSettings, ReportMessage
from daelab.experiments.seed_range import compute_seed_range, is_within_seed_range
from daelab.runs.folder import get_run_folder
from daelab.runs.ledger import Ledger
from daelab.training.callbacks.progress import SilentProgress, TrainingProgress
from daelab.training.recipe import Recipe, load_recipe
from daelab.training.tasks.denoising import fit_denoiser

REFERENCE = "shallowest"
"""The recipe that is trained with further seeds, to measure the seed range."""
SEEDS = (1, 2)
"""The further seeds of the reference recipe."""


@dataclass(frozen=True)
class PaperComparison:
    """A comparison of recipes, with the paper's conclusion."""

    title: str
    """The question."""
    recipes: tuple[str, ...]
    """The names of the recipes in the order of the paper's conclusion, the best first."""
    conclusion: str
    """The conclusion."""
    by: str = "loss"
    """The criterion: `loss`, the lowest validation loss, or `rises`, how much the validation loss rises."""


COMPARISONS = (
    PaperComparison("batch norm", ("increasing", "no-norm"), "batch norm lets the deep network learn"),
    PaperComparison("feature depth", ("increasing", "decreasing"), "feature depth that increases inwards is better"),
    PaperComparison(
        "fewer layers", ("shallowest", "shallower", "increasing", "deeper"), "the shallower the network, the better"
    ),
    PaperComparison("width", ("wider", "shallowest"), "greater feature depth overcomes the limit"),
    PaperComparison("optimiser", ("shallowest", "sgd"), "Adam gets further than Nesterov SGD in the same epochs"),
    PaperComparison("optimiser, smoothness", ("sgd", "shallowest"), "SGD's validation loss is smooth", by="rises"),
    PaperComparison("learning rate", ("shallowest", "rate-0.0008", "rate-0.0001"), "lower rates learn more slowly"),
    PaperComparison(
        "learning rate, oscillation",
        ("rate-0.0001", "rate-0.0008", "shallowest"),
        "the rate makes the validation loss oscillate",
        by="rises",
    ),
)
"""The comparisons of the paper's sections 3.3 and 5, its log and its diary."""

OURS = (
    PaperComparison(
        "our schedule",
        ("ours", "shallowest"),
        "not in the paper: warm-up, a cosine schedule and a moving average improve the result",
    ),
    PaperComparison("Muon", ("muon", "ours"), "not in the paper: with Muon a network learns more in the same steps"),
    PaperComparison(
        "Muon, four stages", ("deep-muon", "deep-ours"), "not in the paper: Muon helps a deep network most"
    ),
)

RECIPES = tuple(dict.fromkeys(name for each in (*COMPARISONS, *OURS) for name in each.recipes))
"""The names of all recipes of the comparisons."""


@dataclass(frozen=True)
class StudyOutcome:
    """The outcome of a run of the study."""

    name: str
    """The name of the recipe, with the seed if it is a further one."""
    recipe: Recipe
    """The recipe."""
    rows: list[dict[str, float]]
    """The rows of metrics.csv."""

    @property
    def loss(self) -> float:
        """The lowest validation loss."""
        return min(row["val_loss"] for row in self.rows)

    @property
    def psnr(self) -> float:
        """The validation PSNR of the best epoch in dB, mean over images."""
        return min(self.rows, key=lambda row: row["val_loss"])["val_psnr"]

    @property
    def rises(self) -> float:
        """The mean rise of the validation loss from an epoch to the next, as a share; falls count as 0."""
        losses = [row["val_loss"] for row in self.rows]
        ups = [max(0.0, math.log(after / before)) for before, after in itertools.pairwise(losses)]
        return sum(ups) / len(ups) if ups else 0.0


def compute_difference(one: StudyOutcome, other: StudyOutcome, by: str) -> float:
    """Return how far an outcome is above another: the logarithm of the ratio of losses, or the difference of rises.

    Args:
        one: The outcome.
        other: The other outcome, which is higher if the result is positive.
        by: The criterion, `loss` or `rises`.
    """
    return other.rises - one.rises if by == "rises" else math.log(other.loss / one.loss)


def compute_outcome_range(outcomes: Iterable[StudyOutcome], by: str) -> float:
    """Return the seed range of the reference recipe.

    Args:
        outcomes: The outcomes.
        by: The criterion, `loss` or `rises`.
    """
    reference = [one for one in outcomes if one.name.split(", seed ")[0] == REFERENCE]
    return compute_seed_range([[one.rises if by == "rises" else math.log(one.loss) for one in reference]]) or 0.0


def judge_comparison(comparison: PaperComparison, outcomes: dict[str, StudyOutcome]) -> str:
    """Decide whether the runs have the order of the paper's conclusion.

    Args:
        comparison: The comparison.
        outcomes: The outcomes by name.

    Returns:
        "agrees", "disagrees", or "too close to call".
    """
    first, last = outcomes[comparison.recipes[0]], outcomes[comparison.recipes[-1]]
    difference = compute_difference(first, last, comparison.by)
    if is_within_seed_range(difference, compute_outcome_range(outcomes.values(), comparison.by)):
        return "too close to call"
    return "agrees" if difference > 0 else "disagrees"


def run_comparisons(
    setting: MeasurementSettings, say: ReportMessage, progress: Callable[[], TrainingProgress], folder: Path | None
) -> list[StudyOutcome]:
    """Train the runs of the study, and the reference with further seeds; finished runs of the same recipe are reused.

    Args:
        setting: The settings of the measurements.
        say: Called with one line on the next step.
        progress: Makes the observer of a training.
        folder: The folder of the runs. Default: the folder of all runs.
    """
    ledger = Ledger(f"sqlite:///{folder}/ledger.db" if folder else None)
    planned = {name: _recipe(name, setting) for name in RECIPES}
    # A quick reproduction has no verdicts, so it needs no seed range.
    if not setting.quick:
        planned |= {f"{REFERENCE}, seed {seed}": _recipe(REFERENCE, setting, seed) for seed in SEEDS}
    outcomes = []
    for name, recipe in planned.items():
        place = get_run_folder("study-" + name.replace(", ", "-").replace(" ", "-"), folder)
        done = place.read_metrics()
        if len(done) < recipe.training.epochs or load_recipe(place.recipe).sha256 != recipe.sha256:
            say(f"training study/{name}, epochs: {recipe.training.epochs}")
            resume = place.recipe.is_file() and load_recipe(place.recipe).sha256 == recipe.sha256
            done = fit_denoiser(
                recipe,
                place.name,
                resume=resume,
                runs_root=folder,
                ledger=ledger,
                dataset=setting.dataset,
                progress=SilentProgress() if setting.quick else progress(),
            ).rows
        outcomes.append(StudyOutcome(name, recipe, done))
    return outcomes


def _recipe(name: str, setting: MeasurementSettings, seed: int | None = None) -> Recipe:
    changes = [f"data.train={QUICK}", "data.val=100", "training.epochs=1"] if setting.quick else []
    return load_recipe(f"study/{name}", changes if seed is None else [*changes, f"seed={seed}"])
