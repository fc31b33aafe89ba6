"""A model is adapted to noisy pictures alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from daelab.cli import main
from daelab.datasets.registry import load_dataset
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.named_models import find_model
from daelab.experiments import adapt as experiment
from daelab.experiments.adapt import adapt
from daelab.training.loader import select_images
from daelab.training.objective import DenoisingObjective
from daelab.training.recipe import Recipe, load_recipe


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write flat pictures with independent noise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("daelab.experiments.train.write_run_report", lambda run: None)
    rng = np.random.default_rng(0)
    (tmp_path / "noisy").mkdir()
    for number in range(10):
        pixels = rng.normal(60 + 15 * number, 40, (140, 140, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "noisy" / f"{number}.png")
    return tmp_path / "noisy"


def test_the_result_is_a_model_like_any_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["daelab", "adapt", "noisy", "--minutes", "0.01", "--name", "mine", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["run"] == "mine"
    assert report["correlation"] == pytest.approx(0, abs=0.1)
    assert "correlated" not in captured.err
    picture = np.asarray(Image.open(folder / "3.png").convert("RGB"))
    denoised = Denoiser.load("mine")(picture)
    assert denoised.std() < picture.std() / 2
    # Its folder names nothing but its pictures, and its recipe can be read again.
    assert load_recipe(Path(report["model"]).with_name("recipe.toml")).training.start == "photo-s"


@pytest.mark.parametrize("loss", ["noise2void", "neighbor2neighbor", "sure"])
def test_each_loss_of_noisy_images_adapts(loss: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def train(recipe: Recipe, name: str) -> Any:
        # Checks that the images of the recipe suit its loss.
        images = select_images(recipe, load_dataset(recipe.data.name, crop=recipe.data.crop))[0]
        DenoisingObjective(recipe, images.size, torch.device("cpu"))
        found.append(recipe)
        return None

    monkeypatch.setattr(experiment, "train", train)
    adapt("noisy", "photo-s", minutes=0.01, loss=loss)
    assert [(recipe.loss, recipe.training.start, str(recipe.noise)) for recipe in found] == [(loss, "photo-s", "none")]


@pytest.mark.parametrize(("crops_of_an_epoch", "crops"), [(1600, 16), (30, 3), (5, 1)])
def test_an_epoch_of_a_large_folder_is_short(
    crops_of_an_epoch: int, crops: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "_EPOCH", crops_of_an_epoch)
    found = []
    monkeypatch.setattr(experiment, "train", lambda recipe, name: found.append(recipe))
    adapt("noisy", "photo-s", minutes=0.01)
    (recipe,) = found
    assert (recipe.data.crops, recipe.loss) == (crops, "l1")  # the default loss is robust against outliers


def test_smooth_noise_is_a_warning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in folder.iterdir():
        Image.open(path).resize((280, 280), Image.Resampling.BILINEAR).save(path)
    monkeypatch.setattr(experiment, "train", lambda recipe, name: None)
    adapted = adapt(folder, "photo-s", minutes=0.005, name="mine")
    assert "the noise of neighboring pixels is correlated (0." in adapted.warning


def test_it_starts_from_anything_that_a_user_can_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setattr(experiment, "train", lambda recipe, name: found.append(recipe))
    weights = find_model("model-c").read_bytes()
    for path in Path("runs/mine/best.safetensors"), Path("published/model.safetensors"):
        path.parent.mkdir(parents=True)
        path.write_bytes(weights)
    Path("adapted_nets.py").write_text("from torch import nn\n\nmake = lambda: nn.Conv2d(3, 3, 3, 1, 1)\n")
    monkeypatch.syspath_prepend(folder.parent)
    for start in ("mine", "published", "model-c", "adapted_nets:make"):
        adapt("noisy", start, minutes=0.01)
    names = [recipe.training.start for recipe in found]
    assert [Path(name).resolve() for name in names[:2]] == [
        Path("runs/mine/best.safetensors").resolve(),
        Path("published/model.safetensors").resolve(),
    ]
    assert names[2:] == ["model-c", "adapted_nets:make"]
    assert found[0].spec == found[1].spec == found[2].spec
    assert found[3].spec.to_dict()["factory"] == "adapted_nets:make"


MISTAKES = {
    "no such folder": (("nosuch",), "nosuch"),
    "no such model": (("noisy", "--start", "photo-x"), "did you mean 'photo-s'"),
    "no time": (("noisy", "--minutes", "0"), "--minutes must be above 0"),
    "a loss of clean images": (
        ("noisy", "--loss", "mse"),
        "unknown loss of noisy images alone 'mse'",
    ),
    "a mistyped loss": (("noisy", "--loss", "noise2viod"), "did you mean 'noise2void'"),
    "a sum of losses": (("noisy", "--loss", "sure + l1"), "Valid: neighbor2neighbor, noise2void, sure"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words, message = MISTAKES[case]
    monkeypatch.setattr(sys, "argv", ["daelab", "adapt", *words, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
