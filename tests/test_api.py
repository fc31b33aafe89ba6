"""The Python surface, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import daelab
from daelab import data, modelfile, recipe


@pytest.fixture
def trained(pictures_file: Path) -> str:
    fields = {"data": {"name": f"npz:{pictures_file}"}, "spec": {"stages": [4]}, "training": {"epochs": 1}}
    return daelab.train(recipe.parse(fields), "small").run.name


def test_train_load_evaluate(trained: str, pictures_file: Path) -> None:
    denoiser = daelab.load(trained)
    image = np.random.default_rng(0).integers(0, 256, (11, 13, 3), dtype=np.uint8)
    assert denoiser(image).shape == image.shape
    for model in (trained, denoiser):
        found = daelab.evaluate(model, f"npz:{pictures_file}", "type-1").to_dict()
        assert (found["model"], found["noise"], found["images"]) == (trained, "type-1", 6)
    # without a noise, the model's own
    assert daelab.evaluate(trained, f"npz:{pictures_file}").scores.overall.noise == "published-code"


def test_scored_file_says_what_was_measured(trained: str, pictures_file: Path, tmp_path: Path) -> None:
    from daelab import api

    found = daelab.evaluate(trained, f"npz:{pictures_file}")
    api.save_scored(trained, found, tmp_path / "mine.safetensors")
    card = modelfile.read_card(tmp_path / "mine.safetensors")
    assert card.name == "mine"
    assert card.metrics["test"] == found.to_dict()
    assert card.metrics["epoch"] == 1
    assert daelab.evaluate(tmp_path / "mine.safetensors", f"npz:{pictures_file}").scores == found.scores
    with pytest.raises(FileExistsError):
        api.save_scored(trained, found, tmp_path / "mine.safetensors")


def test_an_evaluation_by_self_ensemble_is_of_the_mean(trained: str, pictures_file: Path) -> None:
    plain, ensemble = (daelab.evaluate(trained, f"npz:{pictures_file}", self_ensemble=many) for many in (False, True))
    assert ensemble.scores.noisy_sha256 == plain.scores.noisy_sha256
    assert ensemble.scores.overall.metrics["psnr"].denoised != plain.scores.overall.metrics["psnr"].denoised


def test_a_file_in_half_precision_scores_as_it_says(trained: str, pictures_file: Path, tmp_path: Path) -> None:
    from daelab import api

    found = daelab.evaluate(api.load_half(trained), f"npz:{pictures_file}")
    assert found.model == trained
    path, again = tmp_path / "half.safetensors", tmp_path / "again.safetensors"
    api.save_scored(trained, found, path, half=True)
    assert daelab.evaluate(path, f"npz:{pictures_file}").scores == found.scores
    assert daelab.evaluate(trained, f"npz:{pictures_file}").scores != found.scores
    api.save_scored(path, found, again)
    assert modelfile.read_card(again).stored == "float16"


def test_scored_file_says_the_terms_of_its_data(
    trained: str, pictures_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from daelab import api

    found = daelab.evaluate(trained, f"npz:{pictures_file}")
    monkeypatch.setitem(data.TERMS, f"npz:{pictures_file}", "for research")
    api.save_scored(trained, found, tmp_path / "mine.safetensors")
    assert modelfile.read_card(tmp_path / "mine.safetensors").data["terms"] == "for research"
    assert "non-commercial" in data.TERMS["cbsd432"]


def test_noise_is_a_function_and_a_module() -> None:
    assert daelab.noise("type-1") == daelab.noise.PRESETS["type-1"]  # type: ignore[attr-defined]


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        daelab.nosuch  # noqa: B018


@pytest.mark.parametrize("code", ["import daelab", "import daelab.cli", "import daelab.data"])
def test_imports_without_torch(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; assert 'torch' not in sys.modules"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
