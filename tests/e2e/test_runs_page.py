"""The tab Runs in a real browser: the list of runs, the page of a run, the leaderboard and studies."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import forking
from pages import ONE_LOOK, find_faults, hosted, ready, served
from PIL import Image
from sqlalchemy import insert

from daelab.experiments.comparison_page import write_comparison_page
from daelab.experiments.explore import compare
from daelab.experiments.leaderboard.boards import BOARDS, Board, Crop
from daelab.experiments.leaderboard.measure import LeaderboardRequest, measure_leaderboard
from daelab.experiments.leaderboard.tables import write_leaderboard
from daelab.runs.ledger import Ledger, _runs

EPOCHS = "epoch,val_loss,val_psnr,seconds\n1,0.1,15,60\n2,0.05,18,60\n3,0.04,17,60\n4,0.02,20,60\n"
BOARD = """model,noise,noisy_sha256,psnr,psnr_low,parameters
model-c,awgn(15),abc123,30.5,30,80515
small,awgn(15),abc123,31.25,31,1019
model-c,awgn(50),def456,24.5,24,80515
small,awgn(50),def456,22.75,22,1019
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with four runs, one of which is training, and a leaderboard with crops."""
    place = tmp_path_factory.mktemp("served")
    ledger = Ledger(f"sqlite:///{place / 'runs' / 'ledger.db'}")
    rates = {"alpha": 0.001, "beta": 0.01, "gamma": 0.1, "lost": 0.5}
    for (name, rate), loss in zip(rates.items(), (0.01, 0.03, 0.02, 0.9), strict=True):
        recipe = {"noise": "type-1", "seed": 0, "training": {"lr": rate, "batch": 16}}
        ledger.record(
            name,
            status={"beta": "running", "lost": "failed"}.get(name, "finished"),
            reason="the loss of epoch 4 is not finite" if name == "lost" else "",
            comments=f"a note on {name}",
            epochs=9,
            epochs_done=4,
            val_loss=loss,
            val_psnr_image=20.0,
            noise="type-1",
            learning_rate=rate,
            train_size=100,
            batch_size=16,
            recipe=recipe,
        )
        folder = place / "runs" / name
        folder.mkdir()
        (folder / "metrics.csv").write_text(EPOCHS)
        (folder / "recipe.toml").touch()
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    parts: dict[str, Any] = dict.fromkeys(("clean", "noisy", "denoised", "epoch_1", "epoch_2"), images)
    np.savez(place / "runs" / "alpha" / "samples.npz", **parts)
    (place / "runs" / "alpha" / "report.html").write_text("<!doctype html><title>Run alpha</title><h1>Run alpha</h1>")
    (place / "runs" / "alpha" / "environment.json").write_text('{"versions": {"torch": "2.9"}, "threads": 2}')
    crops = place / "leaderboard" / "crops" / "flat-sky"
    crops.mkdir(parents=True)
    (place / "leaderboard" / "leaderboard.csv").write_text(BOARD)
    for name in ("clean", "noisy", "model-c", "small"):
        Image.fromarray(images[0].transpose(1, 2, 0)).save(crops / f"{name}.png")
    return place


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[str]:
    """Return the address of a server of this folder."""
    with served(place) as address:
        yield address


def ledger_of(place: Path) -> Ledger:
    return Ledger(f"sqlite:///{place / 'runs' / 'ledger.db'}")


def names(page: Any) -> list[str]:
    return page.locator("#ledger tbody tr td:nth-child(2)").all_inner_texts()


def legend(page: Any) -> str:
    return page.inner_text("#legend")


def eventually(place: Any, text: str | re.Pattern[str]) -> None:
    import playwright.sync_api

    playwright.sync_api.expect(place).to_have_text(text)


def count_of(place: Any, number: int) -> None:
    import playwright.sync_api

    playwright.sync_api.expect(place).to_have_count(number)


def test_runs_are_sorted_filtered_and_drawn_while_one_trains(page: Any, server: str, place: Path) -> None:
    ready(page, f"{server}#runs")
    page.wait_for_selector("#chart polyline")
    page.click("#ledger thead button:text-is('Validation loss')")
    assert names(page) == ["alpha", "gamma", "beta", "lost"]
    page.click("#ledger thead button:text-is('Validation loss')")
    assert names(page) == ["lost", "beta", "gamma", "alpha"]
    assert page.get_attribute("#ledger th[data-key=val_loss]", "aria-sort") == "descending"
    assert page.locator("#chart polyline").count() == 4
    page.uncheck("input[data-run=gamma]")
    count_of(page.locator("#chart polyline"), 3)
    page.select_option("#status", "running")
    assert names(page) == ["beta"]
    assert page.inner_text("#live") == "1 training now, updated live"
    assert "beta 20.00" in legend(page)
    with (place / "runs" / "beta" / "metrics.csv").open("a") as file:
        file.write("5,0.001,24,60\n")
    eventually(page.locator("#legend li", has_text="beta"), "beta 24.00")


FILTERS = {
    "lr < 0.01": ["alpha"],
    "lr<=.01": ["alpha", "beta"],
    "lr >= 0.1 val_loss < 0.5": ["gamma"],
    "learning_rate = 0.1": ["gamma"],
    "status != finished": ["beta", "lost"],
    "STATUS = failed": ["lost"],
    'note = "a note on beta"': ["beta"],
    "f1 > 0": [],
    "gam": ["gamma"],
    "type-1 lr > 0.1": ["lost"],
}


def test_filters_compare_numbers_and_texts(page: Any, server: str) -> None:
    ready(page, f"{server}#runs")
    page.wait_for_selector("#ledger tbody tr")
    page.click("#ledger thead button:text-is('Run')")
    for text, wanted in FILTERS.items():
        page.fill("#filter", text)
        assert names(page) == wanted, text
    page.fill("#filter", "lr < much")
    assert page.inner_text("#ledger-note") == "lr < needs a number, not much."
    find_faults(page, "wrong filter", ONE_LOOK)
    page.fill("#filter", "size < 3")
    assert page.inner_text("#ledger-note").startswith("No column is named size. Some that are: ")


def test_an_idle_page_notices_a_training_that_begins(page: Any, tmp_path: Path) -> None:
    with served(tmp_path) as address:
        for view, missing in (("", "no runs"), ("/leaderboard", "no leaderboard"), ("/studies", "no studies")):
            ready(page, f"{address}#runs{view}")
            page.wait_for_selector(f"p:text('{missing} yet')")
            find_faults(page, f"nothing in runs{view}", ONE_LOOK)
        ledger = ledger_of(tmp_path)
        ledger.record("old", status="finished", epochs_done=2)
        page.goto("about:blank")
        page.clock.install()
        ready(page, f"{address}#runs")
        page.wait_for_selector("#ledger tbody tr")
        assert page.inner_text("#live") == ""
        (tmp_path / "runs" / "fresh").mkdir()
        (tmp_path / "runs" / "fresh" / "metrics.csv").write_text(EPOCHS)
        ledger.record("fresh", status="running", epochs_done=4)
        answers: list[dict[str, Any]] = []
        page.on("response", lambda answer: answers.append(answer.json()) if "/api/runs?" in answer.url else None)
        page.clock.fast_forward(10_000)  # an idle page asks again after ten seconds
        page.wait_for_selector("#live:not(:empty)")
        eventually(page.locator("#live"), "1 training now, updated live")
        eventually(page.locator("#legend li"), "fresh 20.00")  # it has joined the chart
        # What was known before was not sent again.
        changes = next(answer for answer in answers if answer["runs"])
        assert ([row["name"] for row in changes["runs"]], changes["whole"]) == (["fresh"], False)


def test_of_ten_thousand_runs_only_the_visible_rows_exist(page: Any, tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path)
    started = "2026-01-01T00:00:00+00:00"
    rows = [
        {
            "name": f"run-{at:05}",
            "status": "finished",
            "started": started,
            "val_loss": at / 1e6,
            "learning_rate": 1 / (1 + at),
        }
        for at in range(10_000)
    ]
    with ledger.engine.begin() as connection:
        connection.execute(insert(_runs), rows)
    with served(tmp_path) as address:
        ready(page, f"{address}#runs")
        page.wait_for_selector("#ledger tbody tr")
        assert page.inner_text("#ledger-note") == "10,000 runs"
        page.click("#ledger thead button:text-is('Validation loss')")
        shown = page.locator("#ledger a")
        assert shown.first.inner_text() == "run-00000"
        assert shown.count() < 100
        scroller = "document.getElementById('ledger').parentElement"
        page.evaluate(f"{scroller}.scrollTop = {scroller}.scrollHeight / 2")
        page.wait_for_selector("#ledger a:text-is('run-05000')")
        page.evaluate(f"{scroller}.scrollTop = {scroller}.scrollHeight")
        page.wait_for_selector("#ledger a:text-is('run-09999')")
        assert shown.count() < 100
        # The position and the number of rows are announced, though most rows do not exist.
        assert page.get_attribute("#ledger", "aria-rowcount") == "10001"
        assert page.locator("#ledger tr[aria-rowindex='10001'] a").inner_text() == "run-09999"
        page.fill("#filter", "lr > 0.4")
        assert names(page) == ["run-00000", "run-00001"]


def test_curves_can_be_smoothed_scaled_and_read(page: Any, server: str) -> None:
    ready(page, f"{server}#runs/run/alpha")
    chart = page.locator("#run-chart")
    count_of(page.locator("#run-chart polyline"), 1)
    assert "Smoothing" in page.inner_text("#run-curves")
    label = chart.locator("svg")
    assert label.get_attribute("aria-label") == "PSNR, dB by epoch. alpha: 20 at epoch 4"
    page.locator("#run-curve-smooth").fill("0.5")
    assert page.locator("#run-chart polyline.raw").count() == 1
    # The moving average of 15, 18, 17, 20 with weights 1/8, 1/4, 1/2, 1: (15 + 2 * 18 + 4 * 17 + 8 * 20) / 15.
    assert page.inner_text("#run-legend") == "alpha 18.60"
    page.locator("#run-curve-smooth").fill("0")
    page.select_option("#run-curve-along", "time")
    assert label.get_attribute("aria-label") == "PSNR, dB by minutes. alpha: 20 at minutes 4"
    page.select_option("#run-curve-along", "step")
    assert label.get_attribute("aria-label") == "PSNR, dB by step. alpha: 20 at step 28"
    page.select_option("#run-curve-along", "epoch")
    page.select_option("#run-curve-of", "val_loss")
    assert page.is_checked("#run-curve-log")
    drawn = page.locator("#run-chart polyline").get_attribute("points")
    page.uncheck("#run-curve-log")
    assert page.locator("#run-chart polyline").get_attribute("points") != drawn
    with page.expect_download() as started:
        page.click("#run-curve-save")
    assert started.value.suggested_filename == "val_loss.png"
    with Image.open(started.value.path()) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert {(0x00, 0x72, 0xB2), (255, 255, 255)} <= colours  # the curve, on the page's colour
    box = label.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 50)
    assert page.inner_text("#run-legend") == "alpha 0.100000 at epoch 1"
    page.mouse.move(box["x"] + box["width"] - 20, box["y"] + 50)
    assert page.inner_text("#run-legend") == "alpha 0.020000 at epoch 4"
    page.mouse.move(0, 0)
    chart.focus()
    for _ in range(2):
        page.keyboard.press("ArrowLeft")
    assert page.inner_text("#run-legend") == "alpha 0.040000 at epoch 3"


def test_a_run_has_a_page(page: Any, server: str) -> None:
    ready(page, f"{server}#runs")
    page.click("#ledger a:text-is('alpha')")
    page.wait_for_selector("#run-strips img")
    assert page.evaluate("location.hash") == "#runs/run/alpha"
    assert page.inner_text("#run-title") == "alpha"
    assert page.inner_text("#run-note") == "a note on alpha"
    assert "4 of 9" in page.inner_text("#run-facts")
    assert page.locator("#run-strips .strip span").all_inner_texts() == [
        *("clean", "noisy", "epoch 1", "epoch 2", "best network")
    ]
    assert (
        page.locator("#run-strips img").first.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 32
    )
    assert page.locator("#run-command-list code").all_inner_texts() == ["daelab train runs/alpha/recipe.toml"]
    assert page.locator("#run-environment-list dt").all_text_contents() == ["torch", "threads"]
    page.fill("#run-other", "gamma")
    page.keyboard.press("Tab")
    eventually(page.locator("#run-difference"), "1 field differs.")
    page.check("#run-only")
    assert page.locator("#run-fields tbody tr").all_inner_texts() == ["training.lr\t0.001\t0.1"]
    count_of(page.locator("#run-chart polyline"), 2)
    page.fill("#run-other", "delta")
    page.keyboard.press("Tab")
    eventually(page.locator("#run-unknown"), "There is no run delta.")
    with page.context.expect_page() as opened:
        page.click("#run-report")
    opened.value.wait_for_selector("h1:text-is('Run alpha')")
    page.go_back()
    page.wait_for_selector("#ledger a:text-is('lost')")
    page.click("#ledger a:text-is('lost')")
    eventually(page.locator("#run-reason"), "the loss of epoch 4 is not finite")
    assert not page.is_visible("#run-samples")
    assert not page.is_visible("#run-report")
    page.evaluate("location.hash = '#runs/run/nothing'")
    eventually(page.locator("#runs-alert"), "There is no run nothing.")
    assert not page.is_visible("#run-body")
    assert not page.is_visible("#run-report")  # nothing of another run is left
    find_faults(page, "unknown run", ONE_LOOK)


def test_the_marks_of_an_axis_differ(page: Any, server: str) -> None:
    ready(page, f"{server}#runs")
    script = "async ([values, digits]) => (await import('/static/chart.js')).labelMarks(values, digits)"
    for values, digits, labels in (
        ([10.84, 10.845, 10.85], 3, ["10.84", "10.845", "10.85"]),
        ([12, 14, 16], 3, ["12", "14", "16"]),
        ([100_000, 100_001], 4, ["100,000", "100,001"]),
        ([7], 3, ["7"]),
        ([], 3, []),
    ):
        assert page.evaluate(script, [values, digits]) == labels


def test_a_leaderboard_shows_one_noise_at_a_time(page: Any, server: str) -> None:
    ready(page, f"{server}#runs/leaderboard")
    page.wait_for_selector("#board-gallery img")
    models = page.locator("#board tbody tr td:first-child")
    assert page.locator("#board thead th").all_inner_texts() == ["Model", "PSNR, dB", "Parameters"]
    assert page.locator("#board tbody tr").all_inner_texts() == ["small\t31.25\t1,019", "model-c\t30.50\t80,515"]
    page.select_option("#board-noise", "awgn(50)")
    assert models.all_inner_texts() == ["model-c", "small"]
    page.click("#board thead button:text-is('Parameters')")
    assert models.all_inner_texts() == ["small", "model-c"]
    assert page.locator("#board-gallery figcaption").all_inner_texts() == ["clean", "noisy", "small", "model-c"]
    assert page.inner_text("#board-crop") == "flat sky"


def test_a_rewritten_leaderboard_is_shown_without_a_reload(page: Any, server: str, place: Path) -> None:
    ready(page, f"{server}#runs/leaderboard")
    page.wait_for_selector("#board-gallery img")
    page.select_option("#board-noise", "awgn(50)")
    page.click("#board thead button:text-is('Parameters')")
    file = place / "leaderboard" / "leaderboard.csv"
    file.write_text(BOARD + "new,awgn(50),def456,25.5,25,9000\n")
    try:
        # As if the visitor came back to the tab, which does not wait for the next look.
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        count_of(page.locator("#board tbody tr[aria-rowindex]"), 3)
        models = page.locator("#board tbody tr td:first-child").all_inner_texts()
        assert models == ["small", "new", "model-c"]  # in the chosen order, under the chosen noise
    finally:
        file.write_text(BOARD)


SPACE = """
[spec]
stages = [8, 16]
depth = {{ low = 1, high = 2 }}

[data]
name = "npz:{file}"

[training]
epochs = 1
batch = 30
lr = [0.01, 0.02]
precision = "float32"

[explore]
sampler = "grid"
"""


@pytest.fixture(scope="module")
def studied_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a study of four trials."""
    if importlib.util.find_spec("optuna") is None:
        pytest.skip("Optuna is not installed: pip install 'daelab[search]'")
    place = tmp_path_factory.mktemp("studied")
    images = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(60) % 2
    np.savez(
        place / "set.npz", train_images=images, train_labels=labels, test_images=images[:6], test_labels=labels[:6]
    )
    (place / "tiny.toml").write_text(SPACE.format(file=place / "set.npz"))
    environment = os.environ | {"DAELAB_RUNS": str(place / "runs"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "daelab", "explore", "tiny.toml", "--name", "tiny"]
    with forking():
        subprocess.run(command, cwd=place, env=environment, check=True, capture_output=True)
    return place


@pytest.fixture(scope="module")
def studied(studied_place: Path) -> Iterator[str]:
    """Return the address of a server of this study."""
    with served(studied_place) as address:
        yield address


def test_a_study_is_drawn_as_parallel_coordinates(page: Any, studied: str) -> None:
    ready(page, f"{studied}#runs/studies")
    page.wait_for_selector("#study-parallel polyline")
    assert page.locator("#study-parallel polyline").count() == 4
    assert page.locator("#study-parallel text.title").all_text_contents() == ["depth", "lr", "PSNR, dB"]
    assert "Trials: 4 finished." in page.inner_text("#study-facts")
    assert page.locator("#study-trials tbody tr").count() == 4
    best = page.locator("#study-trials tbody tr td:nth-child(2)").first.inner_text()
    page.locator("#study-parallel polyline.best").dispatch_event("pointerenter")
    assert page.inner_text("#study-hover").startswith(f"{best}: ")
    assert page.inner_text("#study-importance-note")
    # The fields have the names that the coordinates have.
    assert set(page.locator("#study-importance dt").all_inner_texts()) <= {"depth", "lr"}
    page.click(f"#study-trials a:text-is('{best}')")
    eventually(page.locator("#run-study"), "Trial of the study tiny")
    page.click("#run-study a")
    eventually(page.locator("#study-title"), "tiny")


TRAINING = """
import signal, sys
from daelab.runs.folder import get_run_folder
from daelab.runs.ledger import Ledger
from daelab.runs.process_lock import describe_process, lock_run

with lock_run(get_run_folder("mine").path):
    Ledger().record("mine", status="running", epochs=9, epochs_done=1, **describe_process())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    print("ready", flush=True)
    signal.pause()
"""


@pytest.mark.usefixtures("forked")
def test_a_training_is_stopped_from_the_page_after_a_question(page: Any, tmp_path: Path) -> None:
    token = "a-token-of-the-tests"
    environment = os.environ | {"DAELAB_RUNS": str(tmp_path / "runs")}
    command = [sys.executable, "-c", TRAINING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as training:
        try:
            assert training.stdout is not None
            assert training.stdout.readline() == "ready\n"
            with served(tmp_path, "--token", token) as address:
                ready(page, f"{address}#token={token}")
                page.evaluate("location.hash = '#runs/run/mine'")
                page.click("#run-stop")
                assert page.inner_text("#stop-title") == "Stop the training of mine?"
                find_faults(page, "question", ONE_LOOK)
                page.click("#stop-dialog button:text-is('Go on training')")
                assert training.poll() is None
                page.click("#run-stop")
                page.click("#stop-dialog button:text-is('Stop the training')")
                eventually(page.locator("#run-done"), re.compile("^The training was told to stop"))
                assert training.wait(30) == 7
                page.wait_for_selector("#run-status .interrupted")
                assert not page.is_visible("#run-stop")
                page.click("#tab-denoise")  # which asks nothing of the server when it is gone
        finally:
            training.send_signal(signal.SIGKILL)


VIEWS = {
    "#runs": ("server", "#chart polyline"),
    "#runs/run/alpha": ("server", "#run-strips img"),
    "#runs/leaderboard": ("server", "#board-gallery img"),
    "#runs/studies": ("studied", "#study-parallel polyline"),
}


@pytest.mark.parametrize("view", VIEWS)
def test_no_fault_of_accessibility_in_any_view(view: str, page: Any, request: pytest.FixtureRequest) -> None:
    host, shown = VIEWS[view]
    ready(page, f"{request.getfixturevalue(host)}{view}")
    page.wait_for_selector(shown)
    find_faults(page, view)


MISREAD = """() => {
  const all = (selector, test) => [...document.querySelectorAll(selector)].filter(test);
  const isText = (one) => !one.children.length && one.textContent.trim();
  const right = (one) => one.closest(".scroll").getBoundingClientRect().right;
  return {
    small: all("main *", (one) => isText(one) && parseFloat(getComputedStyle(one).fontSize) < 13).map(isText),
    cut: all("table, figure img", (one) => right(one) > innerWidth).length,
    tiny: all(".group img", (one) => one.width < 120).map((one) => one.alt),
  };
}"""
"""Texts that are too small on a phone, tables and figures that do not scroll by themselves, and small pictures."""


def test_reports_are_readable_on_a_phone(
    page: Any, studied_place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAELAB_RUNS", str(studied_place / "runs"))
    monkeypatch.delenv("DAELAB_LEDGER", raising=False)
    shutil.copy(studied_place / "runs" / "tiny-3" / "report.html", tmp_path)
    write_comparison_page(compare(["tiny-0", "tiny-3"]), tmp_path, "Comparison", "daelab compare tiny-0 tiny-3")
    board = Board(("type-1",), ("awgn(25)",), crops=(Crop("corner", 1, 8, 4),))
    monkeypatch.setitem(BOARDS, "photos", board)
    request = LeaderboardRequest("photos", models=("model-b-35",), limit=4)
    write_leaderboard(tmp_path, "photos", board, measure_leaderboard(request, lambda _: None, lambda *_: None)[1])
    with hosted(tmp_path) as address:
        for name, words in {
            "report": ("architecture", "validation loss", "Whole pictures"),
            "compare": ("epochs done", "validation loss", "one combination of the fields"),
            "leaderboard": ("MACs per pixel", "Side by side"),
        }.items():
            page.goto(f"{address}{name}.html")
            for width in (390, 320):
                page.set_viewport_size({"width": width, "height": 844})
                assert (name, width, page.evaluate(MISREAD)) == (name, width, {"small": [], "cut": 0, "tiny": []})
            find_faults(page, name, ONE_LOOK)
            text = page.inner_text("main")
            assert [word for word in words if word not in text] == []
