"""The reproduction measures, draws and judges; what is missed is said, and nothing foreign is overwritten."""

from __future__ import annotations

import html
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daelab import data, machine, recipe, report
from daelab.reproduce import Request, build, checks, measure, paper, reproduce, study, tables
from daelab.reproduce.study import Comparison, Outcome
from daelab.training import Silent

BENCH = Path(__file__).parents[1] / "bench"


@pytest.mark.parametrize("figure", paper.LAYERS)
def test_every_layer_of_the_papers_tables_is_ours(figure: str) -> None:
    assert all(checks.same_layers(figure))
    assert len(checks.same_layers(figure)) == {"Figure 3": 14, "Figure 5": 31, "Figure 6": 15}[figure]
    assert [row[3] for row in tables.layers(figure).rows] == ["✓"] * len(paper.layers(figure))


def test_another_layer_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    preset, text = paper.LAYERS["Figure 6"]
    monkeypatch.setitem(paper.LAYERS, "Figure 6", (preset, text.replace("896", "897")))
    assert checks.same_layers("Figure 6") == [False] + [True] * 14
    assert "1 rows differ" in tables.layers("Figure 6").note


def test_table_1_is_the_preset() -> None:
    assert "draws one of these" in tables.noises().note


def outcome(name: str, losses: list[float]) -> Outcome:
    rows = [{"epoch": float(n), "val_loss": loss, "val_psnr": 20.0} for n, loss in enumerate(losses, 1)]
    return Outcome(name, recipe.load("study/wider"), rows)


# two seeds of one recipe: 10% apart in loss, 0.02 in rises
SAME = [outcome(study.REFERENCE, [0.100, 0.050, 0.051]), outcome(f"{study.REFERENCE}, seed 1", [0.1, 0.055, 0.055])]


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
    assert study.verdict(Comparison("", ("a", "b"), "", by), outcomes) == wanted


def test_the_spread_is_that_of_seeds_alone() -> None:
    assert study.spread([*SAME, outcome("a", [1.0])], "loss") == pytest.approx(math.log(1.1))
    assert study.spread(SAME, "rises") == pytest.approx(math.log(1.02) / 2)


def test_every_study_recipe_has_the_same_budget_and_is_compared() -> None:
    loaded = [recipe.load(f"study/{name}") for name in study.RECIPES]
    assert len({(one.data, one.training.epochs, one.training.batch, one.noise, one.seed) for one in loaded}) == 1
    assert {name for name in recipe.shipped() if name.startswith("study/")} == {f"study/{n}" for n in study.RECIPES}


@pytest.mark.parametrize("name", build.WEIGHTS)
def test_every_weight_has_a_recipe_of_the_papers_network_and_split(name: str) -> None:
    found = recipe.load(name)
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

    def training(self) -> Silent:
        return Silent()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cifar_root: Path) -> tuple[build.Found, Watcher]:
    """A reproduction of 96 images, with trainings that last two steps."""
    watcher, out = Watcher(), tmp_path_factory.mktemp("reproduce") / "report"
    with pytest.MonkeyPatch.context() as patch:
        for module in (measure, study, build):
            patch.setattr(module, "QUICK", 96)
        patch.setattr(paper, "TABLE_3", paper.TABLE_3[2:5])
        patch.setattr(machine, "keep_memory", lambda: False)
        published = os.environ.get("DAELAB_PAPER")
        request = Request(out, cifar_root, Path(published) if published else None, judge=None, quick=True)
        return reproduce(request, watcher), watcher


def test_the_report_holds_all_parts(made: tuple[build.Found, Watcher], sound_page: Callable[[Path], None]) -> None:
    out = made[0].request.out
    sound_page(out / "report.html")
    page, text = html.unescape((out / "report.html").read_text()), (out / "report.md").read_text()
    for wanted in ("Table 1", "Table 2", "Table 3", *(f"Figure {number}" for number in (1, 2, 3, 5, 6, 7))):
        assert f"The paper's {wanted}" in page
        assert f"The paper's {wanted}" in text
    assert "http" not in page.replace(paper.REPOSITORY, "").replace("http-equiv", "").replace("http://www.w3.org", "")
    document = json.loads((out / "report.json").read_text())
    titles = [table["title"] for table in document["tables"]]
    assert len(titles) == len(set(titles))
    assert {report.slug(title) + ".csv" for title in titles} == {path.name for path in (out / "tables").iterdir()}
    for name in ("figure-1-noise", "figure-2-classes", "figure-7-output", "study-depth", "study-optimiser"):
        assert (out / "figures" / f"{name}.svg").stat().st_size > 5_000
        assert f"figures/{name}.svg" in text


def test_what_is_missed_is_named(made: tuple[build.Found, Watcher]) -> None:
    found = made[0]
    bad = replace(found.checks[0], what="the sky: blue", holds=False)
    changed = replace(found, checks=[*found.checks[1:], bad])
    assert changed.missed == [bad]
    from daelab.reproduce import sections

    assert "Missed: the sky: blue." in sections._verdict(changed).text


def test_a_second_report_replaces_the_first(made: tuple[build.Found, Watcher], tmp_path: Path) -> None:
    build._check(made[0].request)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds something else than a report"):
        build._check(Request(tmp_path))
    with pytest.raises(FileNotFoundError, match="no such folder"):
        build._check(Request(tmp_path / "new", checkpoints=tmp_path / "none"))
    with pytest.raises(ValueError, match="is a file"):
        build._check(Request(tmp_path / "thesis.tex"))


def test_the_papers_log_comes_out_byte_for_byte(made: tuple[build.Found, Watcher], paper: Path) -> None:
    found = made[0]
    assert len(found.log) == 38
    assert [check.holds for check in found.checks if "byte" in check.wanted] == [True]
    assert (found.request.out / "figures" / "tests.svg").is_file()


def test_speeds_are_scaled_to_the_papers_sizes(made: tuple[build.Found, Watcher]) -> None:
    for one in made[0].speeds:
        assert one.seconds > one.row.train / one.images_per_second


def test_documents_are_written_from_a_whole_report_only(made: tuple[build.Found, Watcher], tmp_path: Path) -> None:
    def run(folder: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(BENCH / "results.py"), "--report", str(folder), "--check"]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    source = made[0].request.out / "report.json"
    assert run(tmp_path).returncode == 2
    assert "daelab reproduce" in run(tmp_path).stderr
    assert "quick look" in run(source.parent).stderr
    document = json.loads(source.read_text()) | {"quick": False}
    (tmp_path / "report.json").write_text(json.dumps(document))
    done = run(tmp_path)
    # measured on 96 images, the figures are others
    assert done.returncode == 1, done.stderr
    assert "docs/results.md" in done.stdout


def test_retraining_takes_the_shipped_recipes(
    cifar_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "QUICK", 64)
    monkeypatch.setattr(build, "WEIGHTS", ("model-b-35",))
    setting = measure.Setting(data.load("cifar10", cifar_root), None, {}, quick=True)
    found = build._retrained(setting, Watcher(), tmp_path)
    assert found == {"model-b-35": tmp_path / "retrain-model-b-35" / "best.safetensors"}
    again: Callable[..., Any] = build._retrained
    stamp = found["model-b-35"].stat().st_mtime_ns
    assert again(setting, Watcher(), tmp_path)["model-b-35"].stat().st_mtime_ns == stamp
