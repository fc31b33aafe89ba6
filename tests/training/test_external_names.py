"""A file may name only what ships with daelab. Code, downloads and other files are named on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from daelab.experiments.search.search import SearchRequest, run_search
from daelab.experiments.search.search_space import load_search_space, parse_search_space
from daelab.experiments.search.study import Study
from daelab.experiments.train import train
from daelab.runs.folder import get_run_folder
from daelab.training.recipe import Recipe, list_recipes, load_recipe, parse_recipe
from daelab.training.tasks.denoising import load_run_recipe

REFUSED = "but a file may name only what ships with daelab, because other names can run code, open files or connect"
# each with the option that names the same
EXTERNAL: dict[str, tuple[dict[str, Any], str]] = {
    "a function": ({"judge": {"name": "evil_for_daelab:make"}}, "judge.name=evil_for_daelab:make"),
    "a function after the prefix": ({"judge": {"name": "judge:os:abort"}}, "judge.name=judge:os:abort"),
    "an ONNX file": ({"judge": {"name": "c.onnx"}}, "judge.name=c.onnx"),
    "a classifier file": ({"judge": {"name": "/tmp/c.safetensors"}}, "judge.name=/tmp/c.safetensors"),
    "a share of Windows": ({"judge": {"name": "\\\\host\\x.onnx"}}, "'judge.name=\\\\host\\x.onnx'"),
    "a hub": ({"judge": {"name": "vit", "path": "hub"}}, "judge.path=hub"),
    "a folder of weights": ({"judge": {"name": "vit", "path": "/a b"}}, "'judge.path=/a b'"),
    "a teacher's file": ({"teacher": {"model": "runs/a/best.safetensors"}}, "teacher.model=runs/a/best.safetensors"),
    "a file to begin from": ({"training": {"start": "m.pt"}}, "training.start=m.pt"),
    "a loss": ({"loss": "evil_for_daelab:make"}, "loss=evil_for_daelab:make"),
    "a part of a loss": ({"loss": "mse + 2*evil_for_daelab:make"}, "'loss=mse + 2*evil_for_daelab:make'"),
    "an architecture": ({"spec": "evil_for_daelab:make"}, "spec=evil_for_daelab:make"),
    "several names": (
        {"spec": "evil_for_daelab:make", "loss": "evil_for_daelab:make"},
        "spec=evil_for_daelab:make --set loss=evil_for_daelab:make",
    ),
    "controls": ({"judge": {"name": "a:\x1b[2Jb"}}, "judge.name=VALUE"),
    "a long name": ({"judge": {"name": "x" * 5000}}, "judge.name=VALUE"),
}


def write(path: Path, fields: dict[str, Any]) -> Path:
    path.write_text(tomlkit.dumps(fields), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a module into the current folder that records when it is run."""
    (tmp_path / "evil_for_daelab.py").write_text("raise SystemExit('its code ran')")
    monkeypatch.chdir(tmp_path)


def check_refused(message: str, where: str, option: str) -> None:
    assert message.startswith(f"{where}: ")
    assert REFUSED in message
    assert message.endswith(f"; if you trust it, add: --set {option}")
    assert message.isprintable()
    assert len(message) < 400
    assert "evil_for_daelab" not in sys.modules


@pytest.mark.parametrize("case", EXTERNAL)
def test_a_recipe_names_none(case: str, tmp_path: Path) -> None:
    fields, option = EXTERNAL[case]
    for call in (load_recipe, train):
        with pytest.raises(ValueError) as caught:
            call(write(Path("r.toml"), fields))
        check_refused(str(caught.value), "r.toml", option)
    assert not get_run_folder("r-1").path.exists()


def test_a_recipe_names_no_code_in_the_table_of_an_architecture() -> None:
    file = write(Path("r.toml"), {"spec": {"kind": "module", "factory": "evil_for_daelab:make"}})
    with pytest.raises(ValueError) as caught:
        load_recipe(file)
    check_refused(str(caught.value), "r.toml", "spec=evil_for_daelab:make")


@pytest.mark.parametrize("case", EXTERNAL)
def test_a_run_folder_names_none(case: str) -> None:
    fields, option = EXTERNAL[case]
    run = get_run_folder("theirs")
    run.path.mkdir(parents=True)
    run.recipe.write_text(parse_recipe(fields).to_toml(), encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        load_run_recipe("theirs")
    check_refused(str(caught.value), str(run.recipe), option)


SPACES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "plain": lambda fields: {**fields, "seed": [1, 2]},
    "a variant": lambda fields: {"variants": {"a": fields, "b": {"seed": 1}}},
    "a variant of lists": lambda fields: {"variants": {"a": {key: [value] for key, value in fields.items()}, "b": {}}},
    "a choice": lambda fields: {key: [value] for key, value in fields.items()} | {"seed": [1, 2]},
}


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("case", EXTERNAL)
def test_a_search_space_names_none(case: str, kind: str) -> None:
    fields, option = EXTERNAL[case]
    plain = {**SPACES[kind](fields), "explore": {"sampler": "grid"}}
    with pytest.raises(ValueError) as caught:
        load_search_space(write(Path("s.toml"), plain))
    check_refused(str(caught.value), "s.toml", option)


def test_a_study_in_a_database_names_none(pictures_file: Path) -> None:
    pytest.importorskip("optuna")
    fields = {"data": {"name": f"npz:{pictures_file}"}, "spec": {"stages": [4]}, "seed": [1, 2]}
    fields |= {"judge": {"name": "evil_for_daelab:make"}, "explore": {"sampler": "grid"}}
    Study("theirs").create(parse_search_space(fields))
    with pytest.raises(ValueError) as caught:
        run_search(SearchRequest(None, "theirs", resume=True), Silent())
    check_refused(str(caught.value), "study theirs", "judge.name=evil_for_daelab:make")
    with pytest.raises(ValueError, match="study theirs has another search space"):
        run_search(SearchRequest(None, "theirs", resume=True, changes=("judge.name=photos",)), Silent())
    # Its code runs once the user has named it.
    with pytest.raises(SystemExit, match="its code ran"):
        run_search(SearchRequest(None, "theirs", resume=True, changes=("judge.name=evil_for_daelab:make",)), Silent())
    assert Study("theirs").open().counts()["waiting"] == 2


class Silent:
    """An observer that ignores everything."""

    def say(self, text: str) -> None: ...
    def trial(self, row: object, ended: int, trials: int | None, left: float | None) -> None: ...
    def count(self, done: float, total: int) -> None: ...


def test_the_command_line_and_python_name_what_they_like(tmp_path: Path) -> None:
    file = write(tmp_path / "r.toml", {"seed": 1, "judge": {"name": "builtin", "every": 2}})
    assert load_recipe(file, ["judge.name=mine:net"]).judge.name == "mine:net"  # type: ignore[union-attr]
    assert load_recipe(file, ['judge={name="vit", path="hub"}']).judge.path == "hub"  # type: ignore[union-attr]
    evil = write(tmp_path / "evil.toml", {"judge": {"name": "mine:net"}})
    assert load_recipe(evil, ["judge.name=mine:net"]) == load_recipe(evil, trusted=True)
    assert load_recipe(evil, ["judge.name=other:net"]).judge.name == "other:net"  # type: ignore[union-attr]
    assert load_recipe(evil, ["judge.name=photos"]).judge.name == "photos"  # type: ignore[union-attr]
    # Naming something else does not make the file's own name trusted.
    with pytest.raises(ValueError, match=REFUSED):
        load_recipe(evil, ["judge.path=mine:net"])
    assert parse_recipe({"judge": {"name": "mine:net"}}).judge.name == "mine:net"  # type: ignore[union-attr]


def test_a_run_of_ones_own_code_resumes_when_the_code_is_named_again() -> None:
    run = get_run_folder("mine")
    run.path.mkdir(parents=True)
    recipe = parse_recipe({"judge": {"name": "mine:net", "path": None}, "training": {"start": "a.safetensors"}})
    run.recipe.write_text(recipe.to_toml(), encoding="utf-8")
    assert load_run_recipe("mine", ["judge.name=mine:net", "training.start=a.safetensors"]) == recipe
    with pytest.raises(ValueError, match="training.start is 'a.safetensors'"):
        load_run_recipe("mine", ["judge.name=mine:net"])
    with pytest.raises(ValueError, match="run mine resumes with its own recipe; --set may only repeat what"):
        load_run_recipe("mine", ["judge.name=mine:net", "training.start=a.safetensors", "seed=3"])


def test_what_ships_may_be_named() -> None:
    fields = {"judge": {"name": "judge:holdout"}, "teacher": {"model": "dae-m"}, "training": {"start": "dae-s"}}
    recipe = load_recipe(write(Path("r.toml"), fields))
    assert isinstance(recipe, Recipe)
    for name in list_recipes():
        load_recipe(name)
