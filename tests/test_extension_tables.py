"""A new row of a table shows everywhere: in the help, the JSON, the printed tables and the pages."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from daelab.cli import main
from daelab.datasets.base import Dataset, DatasetSource, ImageSet
from daelab.datasets.registry import DATASETS
from daelab.denoising.classical import CLASSICAL_METHODS, ClassicalMethod, parse_classical_method
from daelab.evaluation.metrics import METRICS, Metric
from daelab.experiments.evaluate_model import evaluate
from daelab.experiments.leaderboard.boards import Board
from daelab.experiments.leaderboard.measure import LeaderboardRequest, measure_leaderboard
from daelab.experiments.leaderboard.tables import make_ranking_table, write_leaderboard
from daelab.experiments.paper.measure import MeasuredModel
from daelab.experiments.paper.tables import make_weights_table
from daelab.models.architectures.autoencoder import Autoencoder, Stage
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.models.model_file import ModelMetadata
from daelab.noise.base import Term, list_terms
from daelab.noise.random_streams import RandomStream
from daelab.training.losses import LOSSES, parse_loss

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Return a function that runs a command in its own folder and returns the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["daelab", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return command


@pytest.fixture
def helped(run: Run) -> Callable[[str], str]:
    """Return a function that returns the help of a command on one line."""

    def show(command: str) -> str:
        code, out, _ = run(command, "--help")
        assert code == 0
        return " ".join(out.split())

    return show


def measure_contrast_error(image: Tensor, clean: Tensor) -> Tensor:
    return (image.flatten(1).std(1) - clean.flatten(1).std(1)).abs().double()


CONTRAST = Metric("contrast", "contrast error", measure_contrast_error, digits=3, unit="%", direction="lower")


@pytest.fixture
def contrast(monkeypatch: pytest.MonkeyPatch) -> Metric:
    monkeypatch.setitem(METRICS, CONTRAST.name, CONTRAST)
    return CONTRAST


def test_a_metric_is_in_help_json_and_printed_table(contrast: Metric, run: Run, helped: Callable[[str], str]) -> None:
    assert f", {contrast.name}. F1 and accuracy" in helped("evaluate")
    words = ("evaluate", "baseline:median,size=3,raw", "--data", "photos", "--limit", "4")
    code, out, _ = run(*words, "--json")
    assert code == 0
    scores = json.loads(out)
    assert {"noisy", "denoised", "ci95"} == set(scores[contrast.name])
    assert all(contrast.name in component for component in scores["components"])
    _, out, _ = run(*words)
    assert contrast.heading in out
    assert contrast.format(scores[contrast.name]["denoised"]) in out


def test_a_metric_of_classes_is_in_json_and_printed_table(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    def count_hits(labels: np.ndarray, predictions: np.ndarray, _classes: int) -> float:
        return float((labels == predictions).sum())

    monkeypatch.setitem(METRICS, "hits", Metric("hits", "correct images", count_hits, scope="classes"))
    words = ("evaluate", "baseline:median,size=3,raw", "--data", "photos", "--limit", "4", "--judge", "photos")
    code, out, _ = run(*words, "--json")
    assert code == 0
    assert set(json.loads(out)["hits"]) == {"clean", "noisy", "denoised"}
    assert "correct images" in run(*words)[1]


def test_a_metric_is_on_the_leaderboard_and_in_the_report(contrast: Metric, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    request = LeaderboardRequest("photos", models=("baseline:median,size=3,raw",), limit=4)
    board, rows = measure_leaderboard(request, lambda _: None, lambda _done, _images: None)
    assert contrast.heading in make_ranking_table(board, rows).columns
    write_leaderboard(tmp_path, "photos", board, rows)
    record = next(csv.DictReader((tmp_path / "leaderboard.csv").read_text(encoding="utf-8").splitlines()))
    assert {"contrast", "contrast_low", "contrast_high"} < set(record)
    for name in ("leaderboard.html", "leaderboard.md"):
        assert "contrast error, %" in (tmp_path / name).read_text(encoding="utf-8")
    scores = evaluate("baseline:median,size=3,raw", "photos", "type-1", limit=4)
    model = MeasuredModel("x", ModelMetadata(spec=ARCHITECTURE_PRESETS["model-c"]), scores)
    assert contrast.heading in make_weights_table({"x": model}).columns


def test_a_noise_is_in_help_and_has_a_text_form() -> None:
    """The test runs in a separate process, since a subclass cannot be removed again."""
    code = (
        "import json, sys; from daelab.cli import app; from tests.test_extension_tables import define_ripples;"
        "kept = define_ripples();"
        "[print(app(words, standalone_mode=False) or '', end='\\f') for words in json.loads(sys.argv[1])]"
    )
    words = ["evaluate", "baseline:median,size=3,raw", "--data", "photos", "--limit", "2", "--noise"]
    commands = [["noise", "--help"], [*words, "ripples(0.1) | none", "--json"], [*words, "ripples(0.1) | none"]]
    command = [sys.executable, "-c", code, json.dumps(commands)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    text, scores, table, _ = done.stdout.split("\f")
    assert "ripples" not in list_terms()
    assert ", ripples. The presets are" in " ".join(text.split())
    assert json.loads(scores)["components"][0]["noise"] == "ripples(0.1)"
    assert "ripples(0.1)" in table


def define_ripples() -> type[Term]:
    """Define a noise, which registers it as long as the class is kept."""

    @dataclass(frozen=True)
    class Ripples(Term):
        height: float
        name: ClassVar[str] = "ripples"

        def apply(self, x: Tensor, draws: RandomStream) -> Tensor:
            rows = torch.arange(x.shape[2], device=x.device) % 2
            return (x + self.height * rows[:, None]).clamp(0, 1)

    return Ripples


def test_a_loss_is_in_help_and_in_recipes(
    monkeypatch: pytest.MonkeyPatch, run: Run, helped: Callable[[str], str]
) -> None:
    monkeypatch.setitem(LOSSES, "huber", torch.nn.functional.huber_loss)
    assert ", huber, with weights" in helped("train")
    assert parse_loss("huber + mse")(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)) == 0
    code, _, err = run("train", "--recipe", "quick", "--set", "loss=hubber")
    assert (code, "did you mean 'huber'" in err) == (2, True)


def load_gray(_source: DatasetSource) -> Dataset:
    pixels, labels = np.full((4, 3, 32, 32), 128, np.uint8), np.array([0, 1, 0, 1])
    images = ImageSet("gray", pixels, labels, ("a", "b"))
    return Dataset("gray", images.take(np.arange(0)), None, images, ("a", "b"), "Gray squares.")


def test_a_data_set_is_in_help_json_and_printed_table(
    monkeypatch: pytest.MonkeyPatch, run: Run, helped: Callable[[str], str]
) -> None:
    monkeypatch.setitem(DATASETS, "gray", load_gray)
    for command in ("data", "evaluate", "train"):
        assert "npz:PATH, gray." in helped(command)
    code, out, _ = run("data", "gray", "--json")
    assert (code, json.loads(out)["name"]) == (0, "gray")
    assert "gray: 32x32 pixels, 2 classes. Gray squares." in run("data", "gray")[1]


def test_an_architecture_is_in_help_json_and_printed_table(
    monkeypatch: pytest.MonkeyPatch, run: Run, helped: Callable[[str], str]
) -> None:
    monkeypatch.setitem(ARCHITECTURE_PRESETS, "model-z", Autoencoder((Stage(4),)))
    assert ", model-z." in helped("train")
    _, out, _ = run("models", "--json")
    assert "model-z" in [row["name"] for row in json.loads(out)["architectures"]]
    assert "model-z" in run("models")[1]
    assert run("models", "model-z")[0] == 0


def test_a_classical_method_is_in_help_json_and_printed_table(
    monkeypatch: pytest.MonkeyPatch, run: Run, helped: Callable[[str], str]
) -> None:
    monkeypatch.setitem(
        CLASSICAL_METHODS, "dim", ClassicalMethod(lambda x, by: x * by, {"by": (0.5, 0.9)}, lambda settings: 0)
    )
    assert ", dim. Its settings" in helped("evaluate")
    assert str(parse_classical_method("baseline:dim,by=0.5,raw")) == "baseline:dim,by=0.5,raw"
    words = ("evaluate", "baseline:dim,by=0.5,raw", "--data", "photos", "--limit", "2")
    code, out, _ = run(*words, "--json")
    assert (code, json.loads(out)["model"]) == (0, "baseline:dim,by=0.5,raw")
    assert "baseline:dim,by=0.5,raw: 0 parameters" in run(*words)[1]

    assert "baseline:dim" in Board(("type-1",), ()).classical
