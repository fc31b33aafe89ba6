"""The public names of the package, and what importing it loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import daelab
from daelab.datasets.registry import USAGE_TERMS
from daelab.models.model_file import read_model_metadata
from daelab.noise.base import PRESETS
from daelab.training.recipe import parse_recipe


@pytest.fixture
def trained(pictures_file: Path) -> str:
    fields = {"data": {"name": f"npz:{pictures_file}"}, "spec": {"stages": [4]}, "training": {"epochs": 1}}
    return daelab.train(parse_recipe(fields), "small").run.name


def test_train_load_evaluate(trained: str, pictures_file: Path) -> None:
    denoiser = daelab.load_model(trained)
    image = np.random.default_rng(0).integers(0, 256, (11, 13, 3), dtype=np.uint8)
    assert denoiser(image).shape == image.shape
    for model in (trained, denoiser):
        found = daelab.evaluate(model, f"npz:{pictures_file}", "type-1").to_dict()
        assert (found["model"], found["noise"], found["images"]) == (trained, "type-1", 6)
    # without a noise, the model's own
    assert daelab.evaluate(trained, f"npz:{pictures_file}").scores.overall.noise == "published-code"


def test_scored_file_says_what_was_measured(trained: str, pictures_file: Path, tmp_path: Path) -> None:
    from daelab.experiments.train import save_evaluated_model

    found = daelab.evaluate(trained, f"npz:{pictures_file}")
    save_evaluated_model(trained, found, tmp_path / "mine.safetensors")
    card = read_model_metadata(tmp_path / "mine.safetensors")
    assert card.name == "mine"
    assert card.metrics["test"] == found.to_dict()
    assert card.metrics["epoch"] == 1
    assert daelab.evaluate(tmp_path / "mine.safetensors", f"npz:{pictures_file}").scores == found.scores
    with pytest.raises(FileExistsError):
        save_evaluated_model(trained, found, tmp_path / "mine.safetensors")


def test_an_evaluation_by_self_ensemble_is_of_the_mean(trained: str, pictures_file: Path) -> None:
    plain, ensemble = (daelab.evaluate(trained, f"npz:{pictures_file}", self_ensemble=many) for many in (False, True))
    assert ensemble.scores.noisy_sha256 == plain.scores.noisy_sha256
    assert ensemble.scores.overall.metrics["psnr"].denoised != plain.scores.overall.metrics["psnr"].denoised


def test_a_file_in_half_precision_scores_as_it_says(trained: str, pictures_file: Path, tmp_path: Path) -> None:
    from daelab.experiments.evaluate_model import load_half_precision
    from daelab.experiments.train import save_evaluated_model

    found = daelab.evaluate(load_half_precision(trained), f"npz:{pictures_file}")
    assert found.model == trained
    path, again = tmp_path / "half.safetensors", tmp_path / "again.safetensors"
    save_evaluated_model(trained, found, path, half=True)
    assert daelab.evaluate(path, f"npz:{pictures_file}").scores == found.scores
    assert daelab.evaluate(trained, f"npz:{pictures_file}").scores != found.scores
    save_evaluated_model(path, found, again)
    assert read_model_metadata(again).stored == "float16"


def test_scored_file_says_the_terms_of_its_data(
    trained: str, pictures_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from daelab.experiments.train import save_evaluated_model

    found = daelab.evaluate(trained, f"npz:{pictures_file}")
    monkeypatch.setitem(USAGE_TERMS, f"npz:{pictures_file}", "for research")
    save_evaluated_model(trained, found, tmp_path / "mine.safetensors")
    assert read_model_metadata(tmp_path / "mine.safetensors").data["terms"] == "for research"
    assert "non-commercial" in USAGE_TERMS["cbsd432"]


def test_a_noise_is_parsed_from_its_text() -> None:
    assert daelab.parse_noise("type-1") == PRESETS["type-1"]


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        daelab.nosuch  # noqa: B018


@pytest.mark.parametrize("code", ["import daelab", "import daelab.cli, daelab.datasets, daelab.runs.ledger"])
def test_imports_without_torch(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; assert 'torch' not in sys.modules"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_dir_lists_the_public_names() -> None:
    assert dir(daelab) == sorted([*daelab.__all__, "__version__"])
