"""The leaderboard gives every model the same noisy pixels, pairs the leads, and classifies the same denoised images."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from daelab._util.tensor_file import read_tensors, write_tensors
from daelab.cli import main
from daelab.datasets.registry import check_dataset_name, load_dataset
from daelab.denoising.denoiser import Denoiser
from daelab.evaluation.classifiers.registry import CLASSIFIERS, list_shipped_classifiers, load_classifier
from daelab.evaluation.evaluate import EvaluationScores, NoiseScores, evaluate_denoiser
from daelab.evaluation.image_selection import take_representative
from daelab.evaluation.metrics import summarize_metric
from daelab.experiments.leaderboard import boards
from daelab.experiments.leaderboard.boards import BOARDS, Board, Crop, find_board
from daelab.experiments.leaderboard.measure import LeaderboardRequest, list_contenders, measure_leaderboard
from daelab.experiments.leaderboard.row import Lead, LeaderboardRow, compute_lead
from daelab.experiments.leaderboard.tables import make_ranking_table, make_records, make_speed_table, write_leaderboard
from daelab.experiments.reports.charts import pareto_front, trade_figure
from daelab.models.registry import find_model_file
from daelab.noise.grammar import parse_noise

MODELS = ("model-b-35", "baseline:median,size=3,raw")


def row(name: str, psnrs: list[float]) -> LeaderboardRow:
    values = np.array(psnrs)
    metrics = {key: summarize_metric(values, values) for key in ("mse", "psnr", "psnr_batch", "ssim")}
    found = EvaluationScores(NoiseScores("type-1", len(values), metrics), (), 0, "0" * 64, values)
    return LeaderboardRow(name, 0, None, None, {"type-1": found}, {}, images_per_second=1.0)


@pytest.mark.parametrize(
    ("one", "other", "mean", "certain"),
    [
        ([20.0, 30.0, 40.0] * 10, [19.0, 29.5, 38.5] * 10, 1.0, True),
        ([19.0, 29.5, 38.5] * 10, [20.0, 30.0, 40.0] * 10, -1.0, True),
        # far apart on each image, alike on the whole
        ([20.0, 30.0] * 10, [30.0, 20.0] * 10, 0.0, False),
    ],
)
def test_a_lead_is_of_pairs(one: list[float], other: list[float], mean: float, certain: bool) -> None:
    found = compute_lead(row("a", one), row("b", other), ["type-1"])
    assert found.mean == pytest.approx(mean)
    assert found.certain is certain
    assert found.ci95[0] <= found.mean <= found.ci95[1]


def test_a_lead_that_touches_zero_is_not_certain() -> None:
    assert not Lead(0.1, (0.0, 0.2)).certain


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_is_of_a_data_set_and_of_noises(name: str) -> None:
    board = BOARDS[name]
    check_dataset_name(name)
    assert all(parse_noise(text) for text in (*board.noises, *board.unseen))
    assert set(board.judges) <= set(CLASSIFIERS)
    assert not set(board.noises) & set(board.unseen)


@pytest.fixture(scope="module")
def measured() -> tuple[Board, list[LeaderboardRow]]:
    request = LeaderboardRequest("photos", models=MODELS, limit=24)
    return measure_leaderboard(request, lambda text: None, lambda done, images: None)


def test_all_rows_are_of_the_same_noisy_pixels_and_the_best_comes_first(
    measured: tuple[Board, list[LeaderboardRow]],
) -> None:
    board, rows = measured
    assert {each.name for each in rows} == {"noisy", *MODELS}
    for text in (*board.noises, *board.unseen):
        assert len({each.scores[text].noisy_sha256 for each in rows}) == 1
    means = [each.psnrs(board.noises).mean() for each in rows]
    assert means == sorted(means, reverse=True)


def test_the_scores_are_those_of_an_evaluation(measured: tuple[Board, list[LeaderboardRow]]) -> None:
    board, rows = measured
    images = take_representative(load_dataset("photos").test, 24)
    denoiser = Denoiser.load("model-b-35")
    asked = load_classifier("photos")
    wanted = evaluate_denoiser(denoiser.batch, images, parse_noise(board.noises[0]), judge=asked)
    found = next(each for each in rows if each.name == "model-b-35")
    assert found.scores[board.noises[0]].overall.metrics == wanted.overall.metrics
    assert wanted.overall.judged is not None
    assert found.judged["photos"].macro_f1 == wanted.overall.judged.macro_f1
    assert (found.parameters, round(found.macs or 0)) == (5539, 1264)


def test_a_second_judge_sees_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(("type-1",), (), ("photos", "again"))
    monkeypatch.setitem(BOARDS, "photos", board)
    shipped = list_shipped_classifiers()
    for module in ("cache", "measure"):
        monkeypatch.setattr(
            f"daelab.experiments.leaderboard.{module}.list_shipped_classifiers",
            lambda: shipped | {"again": shipped["photos"]},
        )
    load = load_classifier
    monkeypatch.setattr(
        "daelab.experiments.leaderboard.measure.load_classifier",
        lambda name: load(str(shipped["photos"])) if name == "again" else load(name),
    )
    _, rows = measure_leaderboard(
        LeaderboardRequest("photos", models=("model-b-35",), limit=12), lambda text: None, lambda done, images: None
    )
    one, other = rows[0].judged.values()
    assert (one.denoised == other.denoised).all()
    assert (one.noisy == other.noisy).all()


def test_the_page_and_the_csv(
    measured: tuple[Board, list[LeaderboardRow]], tmp_path: Path, sound_page: Callable[[Path], None]
) -> None:
    board, rows = measured
    write_leaderboard(tmp_path / "board", "photos", board, rows)
    with (tmp_path / "board" / "leaderboard.csv").open(newline="") as file:
        kept = list(csv.DictReader(file))
    assert len(kept) == len(rows) * (len(board.noises) + len(board.unseen))
    first = kept[0]
    assert float(first["psnr_low"]) <= float(first["psnr"]) <= float(first["psnr_high"])
    assert float(first["f1_photos_low"]) <= float(first["f1_photos"]) <= float(first["f1_photos_high"])
    assert float(first["recovered_photos_low"]) <= float(first["recovered_photos"])
    assert float(first["recovered_photos"]) <= float(first["recovered_photos_high"])
    assert first["seen"] == "True"
    document = json.loads((tmp_path / "board" / "leaderboard.json").read_text())
    assert [each["model"] for each in document["rows"]] == [each["model"] for each in kept]
    sound_page(tmp_path / "board" / "leaderboard.html")
    page = (tmp_path / "board" / "leaderboard.html").read_text()
    assert "model-b-35" in page
    assert page.count("<figure") == 3
    # plain numbers along the logarithmic axis
    assert "mathdefault" not in (tmp_path / "board" / "psnr-over-milliseconds.svg").read_text()


def measure(folder: Path, *models: str, **options: Any) -> tuple[list[LeaderboardRow], list[str]]:
    """Return the rows, best first, and which models were evaluated for them."""
    said: list[str] = []
    request = LeaderboardRequest("photos", models=models, **{"limit": 12, "kept": folder, **options})
    _, rows = measure_leaderboard(request, said.append, lambda done, images: None)
    return rows, [text.removeprefix("evaluating ") for text in said if text.startswith("evaluating")]


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    first, evaluated = measure(tmp_path, *MODELS)
    assert set(evaluated) == {"noisy", *MODELS}
    again, evaluated = measure(tmp_path, *MODELS, "model-a")
    assert evaluated == ["model-a"]
    again = [row for row in again if row.name != "model-a"]
    board = BOARDS["photos"]
    assert make_ranking_table(board, [replace(row, images_per_second=1.0) for row in again]) == make_ranking_table(
        board, [replace(row, images_per_second=1.0) for row in first]
    )
    for row, other in zip(first, again, strict=True):
        assert (row.method, row.macs, row.size, row.parameters) == (
            other.method,
            other.macs,
            other.size,
            other.parameters,
        )
        assert row.judged["photos"].macro_f1 == other.judged["photos"].macro_f1
        assert list(row.scores) == list(other.scores) == [*board.noises, *board.unseen]
        assert make_records(board, [row])[0].keys() == make_records(board, [other])[0].keys()
        for text, scores in row.scores.items():
            assert scores.noisy_sha256 == other.scores[text].noisy_sha256
            np.testing.assert_array_equal(scores.psnrs, other.scores[text].psnrs)


def test_another_question_is_measured(tmp_path: Path) -> None:
    measure(tmp_path, "model-b-35")
    for changed in ({"seed": 1}, {"limit": 8}, {"fresh": True}):
        assert measure(tmp_path, "model-b-35", **changed)[1] == ["noisy", "model-b-35"], changed


def test_a_model_that_changed_and_a_damaged_row_are_measured_anew(tmp_path: Path) -> None:
    model = tmp_path / "mine.safetensors"
    shutil.copy(find_model_file("model-b-35"), model)
    kept = tmp_path / "kept"
    measure(kept, str(model))
    shutil.copy(find_model_file("model-b"), model)
    assert measure(kept, str(model))[1] == [str(model)]
    row = next(path for path in kept.iterdir() if "mine" in path.name)
    row.write_bytes(row.read_bytes()[:-100])
    assert measure(kept, str(model))[1] == [str(model)]
    header, tensors = read_tensors(row)
    write_tensors(row, tensors, {key: value for key, value in header.items() if key != "judges"})
    assert measure(kept, str(model))[1] == [str(model)]


def test_crops_stand_side_by_side(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    board = Board(("type-1",), (), crops=(Crop("corner", 1, 8, 4), Crop("not there", 99, 0, 0)))
    monkeypatch.setitem(BOARDS, "photos", board)
    request = LeaderboardRequest("photos", models=("model-b-35",), limit=4)
    _, rows = measure_leaderboard(request, lambda text: None, lambda done, images: None)
    images = take_representative(load_dataset("photos").test, 4)
    for row in rows:
        clean, given = row.crops["corner"]
        np.testing.assert_array_equal(clean, images.batch(np.array([1]))[0][:, 8:, 4:])
        assert list(row.crops) == ["corner"]
        assert (given != clean).any()
    assert not (rows[0].crops["corner"][1] == rows[1].crops["corner"][1]).all()
    write_leaderboard(tmp_path, "photos", board, rows)
    assert "Parts of the test pictures under the noise type-1" in (tmp_path / "leaderboard.html").read_text()
    assert sorted(path.name for path in (tmp_path / "crops" / "corner").iterdir()) == [
        *("clean.png", "model-b-35.png", "noisy.png")
    ]
    network = next(row for row in rows if row.name == "model-b-35")
    written = np.asarray(Image.open(tmp_path / "crops" / "corner" / "model-b-35.png"))
    np.testing.assert_array_equal(written, network.crops["corner"][1].transpose(1, 2, 0))


@pytest.mark.parametrize("there", [False, True])
def test_what_is_not_installed_takes_no_part(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "find_spec", lambda name: there or None)
    assert ("baseline:bm3d" in BOARDS["cifar10"].classical) is there
    assert ("baseline:bm3d,raw" in BOARDS["cbsd68"].classical) is there
    assert "baseline:nlm,raw" in BOARDS["cbsd68"].classical


@pytest.mark.parametrize(("name", "there", "absent"), [("cifar10", "dae-m", "photo-s"), ("cbsd68", "photo-s", "dae-m")])
def test_models_made_for_other_images_take_part_by_name_alone(name: str, there: str, absent: str) -> None:
    taking_part = list_contenders(LeaderboardRequest(name), BOARDS[name])
    assert there in taking_part
    assert absent not in taking_part
    assert absent in list_contenders(LeaderboardRequest(name, models=(absent,)), BOARDS[name])


def test_a_test_set_is_ranked_with_methods_tuned_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(BOARDS, "cbsd68", Board(("awgn(25)",), (), tuned_on="photos", raw=True))
    (tmp_path / "cbsd68").mkdir()
    pixels = load_dataset("photos").test.batch(np.arange(68)).transpose(0, 2, 3, 1)
    for place, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / "cbsd68" / f"{place:02}.png")
    request = LeaderboardRequest("cbsd68", tmp_path, models=("baseline:median,raw",), limit=3)
    _, rows = measure_leaderboard(request, lambda text: None, lambda done, images: None)
    best, noisy = rows
    assert (best.name, noisy.name) == ("baseline:median,raw", "noisy")
    table = make_speed_table(rows)
    assert list(table.columns) == ["model", "seconds per image", "times median,raw"]
    assert [row[0] for row in table.rows] == ["baseline:median,raw"]
    assert table.rows[0][2] == "1"


def test_speed_is_told_beside_every_classical_method() -> None:
    quick, slow = row("quick", [30.0]), row("baseline:slow", [20.0])
    rows = [replace(quick, images_per_second=50.0), replace(slow, images_per_second=0.25)]
    shown = [list(cells) for cells in make_speed_table(rows).rows]
    assert shown == [["quick", "0.02", "200"], ["baseline:slow", "4", "1"]]


def test_the_front_is_what_nothing_beats() -> None:
    points = {"slow": (9.0, 30.0), "worse": (9.0, 29.0), "quick": (1.0, 20.0), "beaten": (2.0, 20.0)}
    assert pareto_front(points) == ["quick", "slow"]


def test_the_trade_shows_every_judge_of_every_model(tmp_path: Path) -> None:
    points = {"one": (25.0, {"a": 80.0, "b": 81.0}), "two": (26.0, {"a": 90.0, "b": 85.0})}
    trade_figure(points, "PSNR", "F1", tmp_path / "trade.svg")
    drawn = (tmp_path / "trade.svg").read_text()
    assert all(f"<!-- {word} -->" in drawn for word in ("one", "two", "a", "b", "PSNR", "F1"))
    with pytest.raises(ValueError, match="at least one point"):
        trade_figure({}, "PSNR", "F1", tmp_path / "none.svg")


MISTAKES = {
    "data": (["--data", "folder:x"], "unknown leaderboard 'folder:x'"),
    "model": (["model-x", "--data", "photos"], "unknown model or run 'model-x'"),
    "checkpoints": (["--data", "photos", "--paper-checkpoints", "nowhere"], "nowhere: the folder does not exist"),
    "checkpoints beside models": (
        ["model-c", "--data", "photos", "--paper-checkpoints", "nowhere"],
        "nowhere: the folder does not exist",
    ),
    "no checkpoints": (
        ["--data", "photos", "--paper-checkpoints", str(Path(__file__).parent)],
        "it holds no .pt file",
    ),
    "method": (["model-c", "baseline:nln", "--data", "photos"], "did you mean 'nlm'"),
    "broken model": (["model-c", __file__, "--data", "photos"], "test_leaderboard.py"),
    "fresh without a folder": (["--data", "photos", "--fresh"], "--fresh needs --out DIR"),
    "out": (["--data", "photos", "--out", __file__], "is a file; give the name of a folder"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line(case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, wanted = MISTAKES[case]
    monkeypatch.setattr("sys.argv", ["daelab", "leaderboard", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    output = capsys.readouterr()
    assert wanted in output.err
    assert (output.out, output.err.count("\n")) == ("", 1)  # so nothing was loaded or evaluated before


def test_pairs_have_a_board_and_the_automatic_choice_is_ranked(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(2):
        clean = np.full((40, 48, 3), 40 + 60 * number, np.uint8)
        noisy = (clean + rng.normal(0, 20, clean.shape)).clip(0, 255).round().astype(np.uint8)
        for kind, pixels in (("clean", clean), ("noisy", noisy)):
            (tmp_path / "pairs" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "pairs" / kind / f"{number}.png")
    data = f"paired:{tmp_path / 'pairs'}"
    assert {"noisy", "automatic", "photo-m", "photo-s"} <= set(
        list_contenders(LeaderboardRequest(data), find_board(data))
    )
    # A second run measures the automatic choice again, since its models may have changed.
    for _ in range(2):
        said: list[str] = []
        request = LeaderboardRequest(data, models=("auto", "photo-s"), kept=tmp_path / "kept")
        board, rows = measure_leaderboard(request, said.append, lambda _done, _total: None)
    assert "evaluating auto" in said
    assert "photo-s: already measured" in said
    psnr = {row.name: float(row.psnrs(board.noises).mean()) for row in rows}
    assert psnr["auto"] > psnr["noisy"] + 3
    with pytest.raises(ValueError, match="unknown leaderboard 'npz:x'"):
        find_board("npz:x")
