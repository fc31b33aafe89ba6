"""Whole commands as a user types them: what they print and write, and their exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from daelab.cli import main

Run = Callable[..., Any]
"""Of words, as typed after `daelab`; gives exit code, output and errors."""

TINY = ("--set", "data.train=64", "--set", "data.val=32", "--set", "training.batch=32", "--set", "spec=model-b-35")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run named `small` of one short epoch, trained once for all tests."""
    folder = tmp_path_factory.mktemp("template")
    words = ["train", "--recipe", "quick", "--epochs", "1", "--name", "small", *TINY]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DAELAB_RUNS", raising=False)
        patch.setattr(sys, "argv", ["daelab", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return folder


@pytest.fixture
def trained(run: Run, template: Path, tmp_path: Path) -> Run:
    """Return the same function, in a folder with a copy of the trained run."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return run


def test_training_fills_the_folder_and_the_ledger(trained: Run, sound_page: Callable[[Path], None]) -> None:
    sound_page(Path("runs/small/report.html"))
    made = {path.name for path in Path("runs/small").iterdir()}
    assert made == {
        "recipe.toml",
        "environment.json",
        "metrics.csv",
        "checkpoint.safetensors",
        "best.safetensors",
        "samples.npz",
        "curves.svg",
        "samples.svg",
        "report.html",
    }
    row = json.loads(trained("ledger", "show", "small", "--json").out)
    assert row["status"] == "finished"
    assert row["epochs_done"] == 1
    assert row["precision"] in ("bf16", "float32")
    assert row["train_size"] == 64
    assert "small" in trained("ledger", "list").out
    environment = json.loads(Path("runs/small/environment.json").read_text())
    assert environment["versions"]["torch"]
    assert environment["threads"] >= 1


def test_training_shows_progress_on_stderr_only(run: Run) -> None:
    answer = run("train", "--recipe", "quick", "--epochs", "2", "--name", "seen", *TINY, "--json")
    document = json.loads(answer.out)
    assert len(document["rows"]) == 2
    assert "epoch 2/2" in answer.err
    assert "left 0:00:00" in answer.err
    assert "precision" in answer.err


def test_evaluation_prints_one_json_document(trained: Run) -> None:
    answer = trained("evaluate", "small", "--data", "photos", "--limit", "40", "--noise", "table-1", "--json")
    found = json.loads(answer.out)
    assert found["model"] == "small"
    assert found["parameters"] == 5539
    assert (found["data"], found["images"], found["noise"], found["seed"]) == ("photos", 40, "table-1", 0)
    assert len(found["noisy_sha256"]) == 64
    assert sum(part["images"] for part in found["components"]) == 40
    for metric in ("mse", "psnr", "psnr_batch", "ssim"):
        low, high = found[metric]["ci95"]
        assert low <= found[metric]["denoised"] <= high
        assert "noisy" in found[metric]
    again = trained("evaluate", "small", "--data", "photos", "--limit", "40", "--noise", "table-1", "--json")
    assert again.out == answer.out
    other = trained("evaluate", "small", "--data", "photos", "--limit", "40", "--seed", "1", "--json")
    assert json.loads(other.out)["noisy_sha256"] != found["noisy_sha256"]


def test_evaluation_table(trained: Run) -> None:
    out = trained("evaluate", "small", "--data", "photos", "--limit", "40").out
    assert "batch PSNR" in out
    assert "type-1" in out


def test_evaluation_at_levels(trained: Run) -> None:
    words = ("evaluate", "small", "--data", "photos", "--limit", "8", "--levels", "15,25,50")
    found = json.loads(trained(*words, "--json").out)
    assert (found["model"], found["data"]) == ("small", "photos")
    assert [level["sigma"] for level in found["levels"]] == [15, 25, 50]
    assert [level["noise"] for level in found["levels"]] == ["awgn(15)", "awgn(25)", "awgn(50)"]
    for level, published in zip(found["levels"], (24.61, 20.17, 14.15), strict=True):
        assert level["psnr"]["noisy"] == pytest.approx(published, abs=0.2)
        assert 0 < level["ssim"]["denoised"] < 1
    alone = json.loads(trained(*words[:-2], "--noise", "awgn(25)", "--json").out)
    assert alone["psnr"] == found["levels"][1]["psnr"]
    lines = trained(*words).out.splitlines()
    assert [line.split()[0] for line in lines[-3:]] == ["15", "25", "50"]


def test_resume_goes_on_and_a_finished_run_stays(trained: Run) -> None:
    before = Path("runs/small/best.safetensors").read_bytes()
    Path("runs/small/report.html").unlink()
    assert trained("train", "--resume", "small", "--no-report").code == 0
    assert not Path("runs/small/report.html").exists()
    answer = trained("train", "--resume", "small")
    assert answer.code == 0
    assert Path("runs/small/best.safetensors").read_bytes() == before
    assert Path("runs/small/report.html").is_file()


def test_noise_draws_and_writes(run: Run, tmp_path: Path) -> None:
    answer = run("noise", "photo:cat", "--noise", "type-1", "--figure", "figure.svg", "--out", "noisy.png")
    assert answer.code == 0, answer.err
    assert Path("figure.svg").read_text().startswith("<?xml")
    with Image.open("noisy.png") as noisy:
        assert noisy.size == (451, 300)
    assert run("noise", "photo:cat", "--figure", "all.png").code == 0


def test_data_and_its_plot(run: Run) -> None:
    found = json.loads(run("data", "photos", "--json", "--plot", "balance.png").out)
    assert found["parts"]["train"] == {"images": 5000, "size": [32, 32]}
    assert sum(found["classes"]["test"].values()) == 1000
    assert Path("balance.png").stat().st_size > 1000
    assert "cat" in run("data", "photos").out


def test_models_and_recipes(run: Run) -> None:
    zoo = json.loads(run("models", "--json").out)["architectures"]
    assert {row["name"]: row["parameters"] for row in zoo}["model-c"] == 80515
    table = run("models", "model-a").out
    assert "ConvTranspose2d-14  [-1, 3, 32, 32]" in table
    assert json.loads(run("models", "model-b", "--json").out)["size_multiple"] == 16
    assert "paper/38" in run("recipes").out
    assert 'spec = "model-c"' in run("recipes", "paper/38").out


def test_a_shown_recipe_is_a_recipe(run: Run) -> None:
    Path("mine.toml").write_text(run("recipes", "paper/35").out)
    assert run("recipes", "mine.toml", "--json").out == run("recipes", "paper/35", "--json").out


def test_ledger_round_trip(trained: Run) -> None:
    assert trained("ledger", "export", "mine.csv").code == 0
    assert trained("ledger", "export", "mine.csv").code == 2
    first = Path("mine.csv").read_text().splitlines()
    assert first[0].startswith("test_id,batch_size,learning_rate")
    Path("log.csv").write_text(first[0] + "\n7,32,0.01,200,False,,,,20000,5000,0.0,0.9,0.999,not learning\n")
    assert trained("ledger", "import", "log.csv").code == 0
    assert "log-7" in trained("ledger", "list").out
    assert len(json.loads(trained("ledger", "list", "--json").out)) == 2


def test_evaluation_of_a_folder_says_which_images_it_tests(trained: Run, tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / "set" / "ab"[number // 10] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (10 * number, 100, 50)).save(path)
    words = ("evaluate", "small", "--data", "folder:set")
    assert "test images: a fixed tenth of the 20 images, since folder has no test part" in trained(*words).out
    found = json.loads(trained(*words, "--all", "--json").out)
    assert found["images"] == 20
    assert found["selection"].startswith("all 20 images")
    limited = json.loads(trained(*words, "--all", "--limit", "4", "--judge", "none.onnx", "--json").out or "{}")
    assert limited == {}
    assert "4 of 20 test images, evenly spaced" in trained(*words, "--all", "--limit", "4").out
    assert trained("evaluate", "baseline:median", "--data", "folder:set", "--all").err.count("\n") == 1


MISTAKES = [
    (("train", "--recipe", "quik"), "did you mean 'quick'"),
    (("train", "--recipe", "quick", "--set", "training.lrr=1"), "did you mean 'training.lr'"),
    (("train", "--recipe", "quick", "--set", "training.lr=-1"), "training.lr"),
    (("train", "--recipe", "quick", "--set", "noise=gaussian(0.1 0.2)"), "at character 14 of"),
    (("train", "--recipe", "quick", "--set", "spec=model-d"), "did you mean 'model-c'"),
    (("train", "--recipe", "quick", "--set", "data.name=foto"), "photos"),
    (("train", "--recipe", "quick", "--set", "data.train=1000000"), "5,000 are available"),
    (("train", "--recipe", "quick", "--name", "a/b"), "run name"),
    (("train",), "recipe"),
    (("train", "--resume", "nobody"), "no run nobody"),
    (("train", "nowhere.toml"), "nowhere.toml"),
    (("evaluate", "nothing"), "nothing"),
    (("evaluate", "small", "--levels", "15,x"), "--levels 15,x"),
    (("evaluate", "small", "--levels", "15", "--noise", "type-1"), "--levels"),
    (("evaluate", "small", "--data", "photos", "--levels", "-5"), "sigma must be at least 0"),
    (("evaluate", "small", "--data", "photos", "--levels", "15,-5"), "sigma must be at least 0"),
    (("evaluate", "small", "--data", "cbsd68", "--data-root", "nowhere"), "cbsd68 is not in nowhere"),
    (("evaluate", "small", "--data", "photos", "--all"), "photos has a test part of its own"),
    (("evaluate", "baseline:nlm", "--data", "photos", "--save", "x.safetensors"), "has no model file"),
    (("evaluate", "small", "--data", "photos", "--save", "runs/small/best.safetensors"), "exists; remove it"),
    (("evaluate", "small", "--data", "photos", "--save", "runs/small/recipe.toml/x.safetensors"), "recipe.toml"),
    (("evaluate", "nothing", "--data", "photos", "--save", "x.safetensors"), "nothing"),
    (("evaluate", "small", "--data", "foto", "--judge", "nonesuch"), "did you mean 'photos'"),
    (("evaluate", "small", "--data", "photos", "--noise", "gausian(1, 2)", "--judge", "nonesuch"), "'gaussian'"),
    (("train", "--recipe", "quick", "--set", "data.name=cbsd68", "--data-root", "nowhere"), "cbsd68 is not in"),
    (("train", "--recipe", "quick", "--set", "data.crops=4"), "data.crops belongs to folder:PATH"),
    (("evaluate", "nothing.safetensors"), "nothing.safetensors"),
    (("denoise", "nowhere.png", "--out", "x.png", "--model", "small"), "nowhere.png"),
    (("denoise", "nowhere.png", "--out", "x.xyz", "--model", "small"), ".xyz"),
    (("denoise", "nowhere.png", "--memory", "much"), "512MB"),
    (("denoise", "nowhere.png", "--shard", "3"), "2/8"),
    (("denoise", "-", "a.png"), "takes no other pictures"),
    (("denoise", ".", "--model", "small"), "no picture in"),
    (("compare", "nowhere.png", "photo:cat"), "nowhere.png"),
    (("compare", "photo:cat", "photo:coffee"), "cannot be compared"),
    (("compare", "photo:cat", "photo:cat", "--plot", "x"), "--plot, --against and --storage are for runs"),
    (("compare", "photo:cat", "--study", "x"), "either runs or --study"),
    (("compare", "small", "photo:cat"), "no picture small"),
    (("export", "small", "--onnx", "a.onnx", "--runtime", "q.tgz"), "--runtime belongs to --page"),
    (("export", "small", "--page", "x", "--overwrite"), "--overwrite belongs to --onnx"),
    (("serve", "--leaderboard", "nowhere.csv"), "--leaderboard nowhere.csv: the file does not exist"),
    (("noise", "photo:catt", "--figure", "x.png"), "did you mean 'cat'"),
    (("noise", "photo:cat", "--out", "x.png", "--noise", "gausian(1, 2)"), "did you mean 'gaussian'"),
    (("noise", "photo:cat", "--out", "x.png"), "--noise"),
    (("noise", "photo:cat", "photo:coffee", "--figure", "x.png"), "one picture"),
    (("data", "cifar"), "did you mean 'cifar10'"),
    (("data", "folder:nowhere"), "nowhere"),
    (("models", "model-d"), "model-d"),
    (("ledger", "import", "nowhere.csv"), "nowhere.csv"),
    (("ledger", "list", "--ledger", "nosuch://x"), "nosuch"),
    (("unheard-of",), "unheard-of"),
]


@pytest.mark.parametrize(
    ("words", "hint"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_a_mistake_is_one_clear_line(trained: Run, words: tuple[str, ...], hint: str, tmp_path: Path) -> None:
    before = sorted(path for path in tmp_path.rglob("*") if "ledger" not in path.name)
    answer = trained(*words)
    assert answer.code == 2
    assert hint in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert sorted(path for path in tmp_path.rglob("*") if "ledger" not in path.name) == before


def test_a_diverging_run_names_epoch_and_checkpoint(run: Run) -> None:
    wild = ("--set", "training.optimiser=sgd", "--set", "training.lr=1e30", "--set", "spec.norm=none")
    answer = run("train", "--recipe", "quick", "--name", "wild", "--epochs", "2", *TINY, *wild)
    assert answer.code == 2
    assert "epoch 1" in answer.err
    assert "training.lr" in answer.err
    assert json.loads(run("ledger", "show", "wild", "--json").out)["status"] == "failed"


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(("signal", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path: Path, signal: str, code: int) -> None:
    import signal as signals

    words = ["train", "--recipe", "quick", "--epochs", "1000", "--name", "long", *TINY]
    process = subprocess.Popen(
        [sys.executable, "-m", "daelab", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"DAELAB_RUNS": "runs", "DAELAB_LEDGER": "sqlite:///runs/ledger.db"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if " 3/1000 " in line:
            break
    process.send_signal(getattr(signals, signal))
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "--resume long" in err
    assert (tmp_path / "runs/long/checkpoint.safetensors").is_file()
