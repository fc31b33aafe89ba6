"""The reproduction measures, draws and checks. It reports missed tolerances and overwrites no foreign files."""

from __future__ import annotations

import html
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daelab._util import hardware
from daelab.cli import main
from daelab.datasets.registry import load_dataset
from daelab.experiments.paper import comparisons, measure, reproduce
from daelab.experiments.paper import published as published_module
from daelab.experiments.paper.checks import compare_layers
from daelab.experiments.paper.comparisons import (
    RECIPES,
    REFERENCE,
    PaperComparison,
    StudyOutcome,
    compute_outcome_range,
    judge_comparison,
)
from daelab.experiments.paper.measure import MeasurementSettings
from daelab.experiments.paper.measurements import Measurements, ReproductionRequest
from daelab.experiments.paper.published import LAYERS, REPOSITORY, TABLE_3, get_published_layers
from daelab.experiments.paper.reproduce import OWN_WEIGHTS, _check, _train_own_models, reproduce_paper
from daelab.experiments.paper.tables import make_noise_table, make_published_layer_table
from daelab.experiments.reports.page import make_slug
from daelab.training.callbacks.progress import SilentProgress
from daelab.training.recipe import list_recipes, load_recipe

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.mark.parametrize("figure", LAYERS)
def test_every_layer_of_the_papers_tables_is_ours(figure: str) -> None:
    assert all(compare_layers(figure))
    assert len(compare_layers(figure)) == {"Figure 3": 14, "Figure 5": 31, "Figure 6": 15}[figure]
    assert [row[3] for row in make_published_layer_table(figure).rows] == ["✓"] * len(get_published_layers(figure))


def test_another_layer_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    preset, text = LAYERS["Figure 6"]
    monkeypatch.setitem(LAYERS, "Figure 6", (preset, text.replace("896", "897")))
    assert compare_layers("Figure 6") == [False] + [True] * 14
    assert "1 rows differ" in make_published_layer_table("Figure 6").note


def test_table_1_is_the_preset() -> None:
    assert "applies one of these noises" in make_noise_table().note


def outcome(name: str, losses: list[float]) -> StudyOutcome:
    rows = [{"epoch": float(n), "val_loss": loss, "val_psnr": 20.0} for n, loss in enumerate(losses, 1)]
    return StudyOutcome(name, load_recipe("study/wider"), rows)


# two seeds of one recipe: 10% apart in loss, 0.02 in rises
SAME = [outcome(REFERENCE, [0.100, 0.050, 0.051]), outcome(f"{REFERENCE}, seed 1", [0.1, 0.055, 0.055])]


# losses of a and b by epoch, by what they are compared, verdict on "a before b"
VERDICTS: dict[str, tuple[list[float], list[float], str, str]] = {
    "lower": ([0.1, 0.02], [0.1, 0.03], "loss", "agrees"),
    "higher": ([0.1, 0.03], [0.1, 0.02], "loss", "disagrees"),
    "close": ([0.1, 0.030], [0.1, 0.032], "loss", "too close to call"),
    "the best epoch counts": ([0.02, 0.2], [0.1, 0.03], "loss", "agrees"),
    "smoother": ([0.1, 0.09, 0.08], [0.1, 0.05, 0.06], "rises", "agrees"),
    "rougher": ([0.1, 0.05, 0.06], [0.1, 0.09, 0.08], "rises", "disagrees"),
    "as smooth": ([0.1, 0.09], [0.1, 0.02], "rises", "too close to call"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_verdicts(case: str) -> None:
    a, b, by, wanted = VERDICTS[case]
    outcomes = {one.name: one for one in (outcome("a", a), outcome("b", b), *SAME)}
    assert judge_comparison(PaperComparison("", ("a", "b"), "", by), outcomes) == wanted


def test_the_spread_is_that_of_seeds_alone() -> None:
    assert compute_outcome_range([*SAME, outcome("a", [1.0])], "loss") == pytest.approx(math.log(1.1))
    assert compute_outcome_range(SAME, "rises") == pytest.approx(math.log(1.02) / 2)


def test_every_study_recipe_has_the_same_budget_and_is_compared() -> None:
    loaded = [load_recipe(f"study/{name}") for name in RECIPES]
    assert len({(one.data, one.training.epochs, one.training.batch, one.noise, one.seed) for one in loaded}) == 1
    assert {name for name in list_recipes() if name.startswith("study/")} == {f"study/{n}" for n in RECIPES}


@pytest.mark.parametrize("name", OWN_WEIGHTS)
def test_every_weight_has_a_recipe_of_the_papers_network_and_split(name: str) -> None:
    found = load_recipe(name)
    assert found.to_dict()["spec"] == name.partition(".")[0]
    assert (found.data.name, found.data.train, found.data.val) == ("cifar10", 40_000, 10_000)
    assert str(found.noise) == (name.partition(".")[2] or "published-code")


class Watcher:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def count(self, done: int, images: int) -> None:
        assert 0 < done <= images

    def training(self) -> SilentProgress:
        return SilentProgress()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cifar_root: Path) -> tuple[Measurements, Watcher]:
    """Run a reproduction with 96 images and trainings of two steps."""
    watcher, out = Watcher(), tmp_path_factory.mktemp("reproduce") / "report"
    with pytest.MonkeyPatch.context() as patch:
        for module in (measure, comparisons, reproduce):
            patch.setattr(module, "QUICK", 96)
        rows = tuple(replace(row, batch=16) for row in TABLE_3[2:5])
        for module in (published_module, measure):
            patch.setattr(module, "TABLE_3", rows)
        patch.setattr(hardware, "KEEPS_FREED_MEMORY", False)
        published = os.environ.get("DAELAB_PAPER")
        request = ReproductionRequest(out, cifar_root, Path(published) if published else None, judge=None, quick=True)
        return reproduce_paper(request, watcher), watcher


def test_the_report_holds_all_parts(made: tuple[Measurements, Watcher], sound_page: Callable[[Path], None]) -> None:
    out = made[0].request.out
    sound_page(out / "report.html")
    page, text = html.unescape((out / "report.html").read_text()), (out / "report.md").read_text()
    for wanted in ("Table 1", "Table 2", "Table 3", *(f"Figure {number}" for number in (1, 2, 3, 5, 6, 7))):
        assert f"The paper's {wanted}" in page
        assert f"The paper's {wanted}" in text
    assert "http" not in page.replace(REPOSITORY, "").replace("http-equiv", "").replace("http://www.w3.org", "")
    document = json.loads((out / "report.json").read_text())
    titles = [table["title"] for table in document["tables"]]
    assert len(titles) == len(set(titles))
    assert {make_slug(title) + ".csv" for title in titles} == {path.name for path in (out / "tables").iterdir()}
    for name in ("figure-1-noise", "figure-2-classes", "figure-7-output", "study-depth", "study-optimiser"):
        assert (out / "figures" / f"{name}.svg").stat().st_size > 5_000
        assert f"figures/{name}.svg" in text


def test_what_is_missed_is_named(made: tuple[Measurements, Watcher]) -> None:
    found = made[0]
    bad = replace(found.checks[0], what="the sky: blue", holds=False)
    changed = replace(found, checks=[*found.checks[1:], bad])
    assert changed.missed == [bad]
    from daelab.experiments.paper.sections import _verdict

    assert "Missed: the sky: blue." in _verdict(changed).text


def test_a_second_report_replaces_the_first(made: tuple[Measurements, Watcher], tmp_path: Path) -> None:
    _check(made[0].request)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="contains files that are not part of a report"):
        _check(ReproductionRequest(tmp_path))
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        _check(ReproductionRequest(tmp_path / "new", checkpoints=tmp_path / "none"))
    with pytest.raises(ValueError, match="is a file"):
        _check(ReproductionRequest(tmp_path / "thesis.tex"))


# options of `daelab reproduce` -> the error; data are never looked for
MISTAKES = {
    "classifier": (["--judge", "nonesuch"], "unknown classifier 'nonesuch'"),
    "path without vit": (["--judge-path", "."], "only vit takes a path"),
    "path without a classifier": (["--judge", "none", "--judge-path", "."], "--judge-path needs --judge vit"),
    "no folder": (["--paper-checkpoints", "nowhere"], "nowhere: the folder does not exist"),
    "empty folder": (["--paper-checkpoints", "."], "it holds none of 35.pt"),
    "out": (["--out", __file__], "is a file; give the name of a folder"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_options_are_checked_before_the_data_are_loaded(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options, reason = MISTAKES[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["daelab", "reproduce", "--data-root", "nowhere", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr()
    assert (ended.value.code, output.out, output.err.count("\n")) == (2, "", 1)
    assert reason in output.err
    assert not list(tmp_path.iterdir())


def test_the_papers_log_comes_out_byte_for_byte(made: tuple[Measurements, Watcher], paper: Path) -> None:
    found = made[0]
    assert len(found.log) == 38
    assert [check.holds for check in found.checks if "byte" in check.wanted] == [True]
    assert (found.request.out / "figures" / "tests.svg").is_file()


def test_speeds_are_scaled_to_the_papers_sizes(made: tuple[Measurements, Watcher]) -> None:
    for one in made[0].speeds:
        assert one.seconds > one.row.train / one.images_per_second


def test_documents_are_written_from_a_whole_report_only(
    made: tuple[Measurements, Watcher], tmp_path: Path, run_main: Callable[..., Any]
) -> None:
    def run(folder: Path) -> Any:
        return run_main("results", "--report", folder, "--check")

    source = made[0].request.out / "report.json"
    nothing = run(tmp_path)
    assert nothing.code == 2
    assert "daelab reproduce" in nothing.err
    assert "quick reproduction" in run(source.parent).err
    document = json.loads(source.read_text()) | {"quick": False}
    (tmp_path / "report.json").write_text(json.dumps(document))
    done = run(tmp_path)
    # measured on 96 images, the figures are others
    assert done.code == 1, done.err
    assert "docs/results.md" in done.out


def test_retraining_takes_the_shipped_recipes(
    cifar_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce, "QUICK", 64)
    monkeypatch.setattr(reproduce, "OWN_WEIGHTS", ("model-b-35",))
    setting = MeasurementSettings(load_dataset("cifar10", cifar_root), None, {}, quick=True)
    found = _train_own_models(setting, Watcher(), tmp_path)
    assert found == {"model-b-35": tmp_path / "retrain-model-b-35" / "best.safetensors"}
    again: Callable[..., Any] = _train_own_models
    stamp = found["model-b-35"].stat().st_mtime_ns
    assert again(setting, Watcher(), tmp_path)["model-b-35"].stat().st_mtime_ns == stamp
