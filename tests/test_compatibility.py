"""Files, runs, ledgers, studies and results of daelab 0.1.0 stay what they are.

The fixtures were made by daelab 0.1.0 with `tests/fixtures/compatibility/make.py`, which explains each of them. The
tests use the command line only, so they need no change when modules are moved or renamed.

Numbers must be equal to the last digit on the kind of processor that made the fixtures, and within 1e-5 elsewhere.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import math
import shutil
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

FIXTURES = Path(__file__).parent / "fixtures/compatibility"


def _load_make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compatibility_fixtures", FIXTURES / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = _load_make()


def read_fixture(name: str) -> Any:
    """Return the values of a JSON file among the fixtures."""
    return json.loads((FIXTURES / name).read_text(encoding="utf-8"))


EXACT = make.describe_processor() == read_fixture("processor.json")
"""Whether the last digits must agree too."""
OUTPUTS = read_fixture("outputs.json")


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the Python code of `make` in this process: a process for each command would import for minutes in all."""
    monkeypatch.setattr(make, "run_python", run_python_here)


def run_python_here(folder: Path, *words: str) -> str:
    """Run `python -m daelab ...` or `python -c CODE ...` in a folder, and return its standard output."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as output:
        patch.chdir(folder)
        for name, value in make.environment(folder).items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", [words[0], *words[2:]])
        code = None
        try:
            exec(words[1], {}) if words[0] == "-c" else import_module(f"{words[1]}.cli").main()
        except SystemExit as end:
            code = end.code
    assert not code, f"{' '.join(words)} ended with exit code {code}:\n{output.getvalue()}"
    return output.getvalue()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return a copy of the workspace of daelab 0.1.0, with the inputs of its commands."""
    folder = tmp_path / "workspace"
    shutil.copytree(make.WORKSPACE, folder)
    make.write_inputs(folder)
    return folder


def assert_same(actual: Any, expected: Any, place: str = "output") -> None:
    """Check that two JSON values are the same; a key that is new in the actual one is allowed."""
    if isinstance(expected, dict):
        assert isinstance(actual, dict), place
        for key, value in expected.items():
            assert key in actual, f"{place}.{key} is missing"
            assert_same(actual[key], value, f"{place}.{key}")
    elif isinstance(expected, list):
        assert isinstance(actual, list), place
        if place.endswith(".models"):  # models that ship since then may fit, too
            actual = [name for name in actual if name in expected]
        assert len(actual) == len(expected), place
        for number, (one, other) in enumerate(zip(actual, expected, strict=True)):
            assert_same(one, other, f"{place}[{number}]")
    elif isinstance(expected, float) and not EXACT:
        assert math.isclose(actual, expected, rel_tol=1e-5, abs_tol=1e-8), f"{place}: {actual} is not {expected}"
    elif EXACT or not place.endswith("noisy_sha256"):
        assert actual == expected, place


def assert_same_tensors(path: Path, expected: Path) -> None:
    """Check that two safetensors files hold the same tensors."""
    actual, stored = load_file(path), load_file(expected)
    assert actual.keys() == stored.keys()
    for name, array in stored.items():
        assert (actual[name].dtype, actual[name].shape) == (array.dtype, array.shape), name
        if EXACT:
            assert actual[name].tobytes() == array.tobytes(), name
        else:
            np.testing.assert_allclose(actual[name], array, rtol=1e-5, atol=1e-5, err_msg=name)


def read_header(path: Path) -> dict[str, Any]:
    """Return the JSON header that daelab writes into a safetensors file."""
    with safe_open(path, "numpy") as file:
        header: dict[str, Any] = json.loads(file.metadata()["daelab"])
    return header


@pytest.mark.parametrize("group", make.OUTPUTS)
def test_commands_read_old_files_and_give_the_stored_outputs(group: str, workspace: Path) -> None:
    assert_same(make.read_outputs(workspace, make.OUTPUTS[group]), OUTPUTS[group])


def test_old_model_files_denoise_a_picture_as_before(workspace: Path) -> None:
    make.run_daelab(workspace, "export", "autoencoder.safetensors", "--onnx", "new.onnx")
    pictures = make.denoise_picture(workspace, [*make.DENOISERS, "new.onnx"])
    with np.load(FIXTURES / "denoised.npz") as stored:
        expected = {model: stored[model] for model in make.DENOISERS}
    expected["new.onnx"] = expected["autoencoder.onnx"]
    for model, picture in expected.items():
        assert pictures[model].shape == picture.shape
        # A value that lies between two levels of 255 may be rounded to either on another processor.
        difference = np.abs(pictures[model].astype(int) - picture.astype(int)).max()
        assert difference <= (0 if EXACT else 1), model


@pytest.mark.parametrize("run", make.RESUMED)
def test_a_half_finished_training_resumes_to_the_stored_weights(run: str, workspace: Path) -> None:
    make.run_daelab(workspace, make.RESUMED[run], "--resume", run)
    if run == "classifier-half":
        # The engine names the tensors of a classifier's checkpoint differently from 0.1.0; the weights are the same.
        assert_same_tensors(workspace / f"runs/{run}/judge.safetensors", make.WORKSPACE / "classifier.safetensors")
    else:
        assert_same_tensors(workspace / f"runs/{run}/checkpoint.safetensors", make.FINISHED / f"{run}.safetensors")


@pytest.mark.parametrize("run", make.THREE_STEPS)
def test_three_training_steps_give_the_stored_weights(run: str, tmp_path: Path) -> None:
    make.write_inputs(tmp_path)
    make.run_daelab(tmp_path, *make.THREE_STEPS[run], "--name", run)
    trained, stored = tmp_path / "runs" / run, make.WORKSPACE / "runs" / run
    for file in ("checkpoint.safetensors", "best.safetensors"):
        assert_same_tensors(trained / file, stored / file)
    # The hash of the recipe is computed here as `recipes.json` was.
    recipe, old = (tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8")) for folder in (trained, stored))
    # The note is prose, and no part of the hash.
    assert recipe | {"note": ""} == old | {"note": ""}
    for file in ("checkpoint.safetensors", "best.safetensors"):
        hashes = {read_header(folder / file)["recipe_sha256"] for folder in (trained, stored)}
        assert hashes == {make.hash_recipe(recipe)}


def test_a_finished_run_gets_its_report_again(workspace: Path) -> None:
    make.run_daelab(workspace, "train", "--resume", "autoencoder")
    assert_same_tensors(
        workspace / "runs/autoencoder/best.safetensors", make.WORKSPACE / "runs/autoencoder/best.safetensors"
    )
    assert (workspace / "runs/autoencoder/report.html").stat().st_size > 10_000


def test_old_runs_and_an_old_study_are_drawn(workspace: Path) -> None:
    make.run_daelab(workspace, "compare", "--study", "study", "--plot", "page")
    assert list((workspace / "page").glob("*.html"))


def test_an_old_ledger_is_exported_as_before(workspace: Path) -> None:
    make.run_daelab(workspace, "ledger", "export", "export.csv")
    assert (workspace / "export.csv").read_bytes() == (FIXTURES / "export.csv").read_bytes()


def test_noise_identification_is_trained_as_before(workspace: Path) -> None:
    make.run_daelab(workspace, *make.INSPECTOR)
    actual, expected = make.hash_tensors(workspace / "inspector.safetensors"), read_fixture("inspector.json")
    assert actual.keys() == expected.keys()
    if EXACT:
        assert actual == expected


def test_shipped_recipes_have_the_stored_hashes(workspace: Path) -> None:
    actual, expected = make.hash_recipes(workspace), read_fixture("recipes.json")
    assert {name: actual.get(name) for name in expected} == expected


def test_commands_and_options_have_the_stored_names(workspace: Path) -> None:
    actual, expected = make.list_commands(workspace), read_fixture("commands.json")
    missing = {name: sorted(set(options) - set(actual.get(name, ()))) for name, options in expected.items()}
    assert expected.keys() <= actual.keys()
    assert not any(missing.values()), missing
