"""The paper's decisive comparisons, run again over a short budget that is the same for all."""

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
from daelab.training.callbacks.record import SilentProgress, TrainingProgress
from daelab.training.engine import fit_denoiser
from daelab.training.recipe import Recipe, load_recipe

REFERENCE = "shallowest"
"""The recipe that is run with further seeds, to know what differences mean nothing."""
SEEDS = (1, 2)
"""Its further seeds."""


@dataclass(frozen=True)
class PaperComparison:
    """Two or more recipes, and what the paper concludes from them."""

    title: str
    recipes: tuple[str, ...]
    """In the order in which the paper's conclusion says they fall: best first."""
    conclusion: str
    by: str = "loss"
    """`loss`: the lowest validation loss; `rises`: how restless the validation loss is."""


COMPARISONS = (
    PaperComparison("batch norm", ("increasing", "no-norm"), "batch norm is what lets the deep network learn"),
    PaperComparison("feature depth", ("increasing", "decreasing"), "depth that increases inwards is better"),
    PaperComparison(
        "fewer layers", ("shallowest", "shallower", "increasing", "deeper"), "the shallower the network, the better"
    ),
    PaperComparison("width", ("wider", "shallowest"), "greater feature depth is what lifts the barrier"),
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
"""The paper's sections 3.3 and 5, its log and its diary."""

OURS = (
    PaperComparison("our schedule", ("ours", "shallowest"), "not the paper's: warm-up, cosine, moving average pay"),
    PaperComparison("Muon", ("muon", "ours"), "not the paper's: with Muon a network learns more in the same steps"),
    PaperComparison("Muon, four stages", ("deep-muon", "deep-ours"), "not the paper's: a deep network most of all"),
)

RECIPES = tuple(dict.fromkeys(name for each in (*COMPARISONS, *OURS) for name in each.recipes))


@dataclass(frozen=True)
class StudyOutcome:
    """What a study run came to."""

    name: str
    recipe: Recipe
    rows: list[dict[str, float]]

    @property
    def loss(self) -> float:
        """The lowest validation loss."""
        return min(row["val_loss"] for row in self.rows)

    @property
    def psnr(self) -> float:
        """dB, mean over images, of the best epoch."""
        return min(self.rows, key=lambda row: row["val_loss"])["val_psnr"]

    @property
    def rises(self) -> float:
        """By how much the validation loss rises from an epoch to the next, on average, as a share; falls count 0."""
        losses = [row["val_loss"] for row in self.rows]
        ups = [max(0.0, math.log(after / before)) for before, after in itertools.pairwise(losses)]
        return sum(ups) / len(ups) if ups else 0.0


def compute_difference(one: StudyOutcome, other: StudyOutcome, by: str) -> float:
    """How far `other` lies above `one`: as a logarithm of the ratio for losses, a difference for rises."""
    return other.rises - one.rises if by == "rises" else math.log(other.loss / one.loss)


def compute_outcome_range(outcomes: Iterable[StudyOutcome], by: str) -> float:
    """The furthest that two runs lie apart which differ by their seed alone."""
    same = [one for one in outcomes if one.name.split(", seed ")[0] == REFERENCE]
    return compute_seed_range([[one.rises if by == "rises" else math.log(one.loss) for one in same]]) or 0.0


def judge_comparison(comparison: PaperComparison, outcomes: dict[str, StudyOutcome]) -> str:
    """Whether the runs fall in the order of the paper's conclusion: agrees, disagrees, or too close to call."""
    first, last = outcomes[comparison.recipes[0]], outcomes[comparison.recipes[-1]]
    found = compute_difference(first, last, comparison.by)
    if is_within_seed_range(found, compute_outcome_range(outcomes.values(), comparison.by)):
        return "too close to call"
    return "agrees" if found > 0 else "disagrees"


def run_comparisons(
    setting: MeasurementSettings, say: ReportMessage, progress: Callable[[], TrainingProgress], folder: Path | None
) -> list[StudyOutcome]:
    """The study's runs, and the reference's with further seeds; one that is finished, by this very recipe, is kept.

    Args:
        folder: where the runs go; None for the folder of all runs.
        progress: makes what watches a run.
    """
    ledger = Ledger(f"sqlite:///{folder}/ledger.db" if folder else None)
    planned = {name: _recipe(name, setting) for name in RECIPES}
    # a quick look passes no verdict, so it needs no spread
    if not setting.quick:
        planned |= {f"{REFERENCE}, seed {seed}": _recipe(REFERENCE, setting, seed) for seed in SEEDS}
    found = []
    for name, wanted in planned.items():
        place = get_run_folder("study-" + name.replace(", ", "-").replace(" ", "-"), folder)
        done = place.read_metrics()
        if len(done) < wanted.training.epochs or load_recipe(place.recipe).sha256 != wanted.sha256:
            say(f"training study/{name}: {wanted.training.epochs} epochs")
            resume = place.recipe.is_file() and load_recipe(place.recipe).sha256 == wanted.sha256
            done = fit_denoiser(
                wanted,
                place.name,
                resume=resume,
                runs_root=folder,
                ledger=ledger,
                dataset=setting.dataset,
                progress=SilentProgress() if setting.quick else progress(),
            ).rows
        found.append(StudyOutcome(name, wanted, done))
    return found


def _recipe(name: str, setting: MeasurementSettings, seed: int | None = None) -> Recipe:
    changes = [f"data.train={QUICK}", "data.val=100", "training.epochs=1"] if setting.quick else []
    return load_recipe(f"study/{name}", changes if seed is None else [*changes, f"seed={seed}"])
