"""A recipe survives TOML, is checked as a whole, and reports a mistake in one line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from daelab.datasets.registry import DATASETS
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.noise.base import PRESETS
from daelab.noise.grammar import parse_noise
from daelab.noise.presets import FORMULAS
from daelab.training.losses import LOSSES
from daelab.training.recipe import DataConfig, Recipe, TrainingConfig, list_recipes, load_recipe, parse_recipe

RECIPES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "spec": {"spec": {"stages": [4, {"width": 8, "down": False}], "norm": "none"}},
    "noise": {"noise": "gaussian(0..0.2, 0.05) > poisson(9) | none"},
    "folder": {"data": {"name": "folder:/a/b c", "crop": 64, "train": 10, "val": 2, "replacement": True}},
    "sgd": {"training": {"optimiser": "sgd", "momentum": 0.9, "schedule": "one-cycle", "minutes": 1.5}},
    "judge": {"judge": {"name": "vit", "path": "/a b", "every": 5, "images": 100}},
    "text": {"note": 'two\nlines, "quotes", \\ and é', "loss": "mse + 0.1 * dssim", "seed": 2**63 - 1},
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_toml(name: str, tmp_path: Path) -> None:
    made = parse_recipe(RECIPES[name])
    assert parse_recipe(tomllib.loads(made.to_toml())) == made
    assert parse_recipe(made.to_dict()) == made
    (tmp_path / "r.toml").write_text(made.to_toml(), encoding="utf-8")
    assert load_recipe(tmp_path / "r.toml", trusted=True) == made
    assert load_recipe(tmp_path / "r.toml", trusted=True).sha256 == made.sha256


def test_toml_holds_every_field() -> None:
    fields = tomllib.loads(Recipe().to_toml())
    assert set(fields) == set(Recipe.model_fields) - {"judge", "teacher"}
    assert set(fields["training"]) == set(TrainingConfig.model_fields) - {
        "minutes",
        "float32_from",
        "turns",
        "validate_every",
        "reduce",
        "zoom",
        "start",
        "renew",
        "vector_lr",
        "curriculum",
    }
    assert set(fields["data"]) == set(DataConfig.model_fields) - {"train", "val", "crops", "buffer"}


@pytest.mark.parametrize("name", list_recipes())
def test_every_shipped_recipe_loads(name: str) -> None:
    found = load_recipe(name)
    assert found.note
    assert "\n" not in found.note
    assert parse_recipe(tomllib.loads(found.to_toml())) == found


@pytest.mark.parametrize("name", [*PRESETS, *FORMULAS.values()])
def test_every_noise_preset_is_taken(name: str) -> None:
    assert parse_recipe({"noise": name}).noise == parse_noise(name)


@pytest.mark.parametrize("name", ARCHITECTURE_PRESETS)
def test_every_architecture_is_taken_and_kept_by_name(name: str) -> None:
    assert parse_recipe({"spec": name}).spec == ARCHITECTURE_PRESETS[name]
    assert parse_recipe({"spec": ARCHITECTURE_PRESETS[name].to_dict()}).to_dict()["spec"] == name


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_taken(name: str) -> None:
    assert parse_recipe({"loss": name}).loss == name


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_is_taken(name: str) -> None:
    assert parse_recipe({"data": {"name": name}}).data.name == name


def test_the_hash_is_of_every_field_but_the_note() -> None:
    # an old run is resumed by this hash: whoever changes it strands them all
    assert Recipe().sha256 == "cd09db9bfdfde32876d6b8020fdafc5cd65ab7f9863e6e4d94f5771016935e0c"
    assert parse_recipe({"note": "x"}).sha256 == Recipe().sha256
    changes = [RECIPES[name] for name in RECIPES if name != "defaults"] + [{"seed": 1}, {"training": {"lr": 0.1}}]
    assert len({parse_recipe(change).sha256 for change in changes} | {Recipe().sha256}) == len(changes) + 1


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().seed = 1  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        Recipe().training.lr = 1  # type: ignore[misc]


OVERRIDES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "number": (["training.lr=0.01", "seed = 3"], {"training": {"lr": 0.01}, "seed": 3}),
    "bare text": (["noise=type-1", "data.name=folder:/x y"], {"noise": "type-1", "data": {"name": "folder:/x y"}}),
    "quoted": (['note="a = b"'], {"note": "a = b"}),
    "list": (["training.betas=[0.5, 0.9]"], {"training": {"betas": [0.5, 0.9]}}),
    "equals": (["note=a=b"], {"note": "a=b"}),
    "later wins": (["seed=1", "seed=2"], {"seed": 2}),
    "field of a preset": (["spec=model-b", "spec.norm=none"], {"spec": {"stages": [8, 16, 32, 64], "norm": "none"}}),
    "field of the default": (["spec.norm=none"], {"spec": {"stages": [32, 64], "norm": "none"}}),
    "whole table": (["data={name = 'photos', val = 5}"], {"data": {"name": "photos", "val": 5}}),
}


@pytest.mark.parametrize("case", OVERRIDES)
def test_overrides(case: str) -> None:
    overrides, fields = OVERRIDES[case]
    assert parse_recipe({}, overrides) == parse_recipe(fields)


def test_an_override_changes_a_shipped_recipe() -> None:
    changed = load_recipe("paper/38", ["training.epochs=2"])
    assert changed.training.epochs == 2
    assert changed.to_dict() | {"training": 0} == load_recipe("paper/38").to_dict() | {"training": 0}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "key": ({"sead": 1}, "unknown recipe key 'sead'; did you mean 'seed'? Valid: data, judge, loss, noise, note, "),
    "inner key": ({"training": {"lrr": 1}}, "unknown recipe key 'training.lrr'; did you mean 'training.lr'? Valid: "),
    "data key": (
        {"data": {"nam": "photos"}},
        "'data.nam'; did you mean 'data.name'? Valid: buffer, crop, crops, name, ",
    ),
    "dotted key": ({"training.lr": 1}, "unknown recipe key 'training.lr'"),
    "dotted inner key": ({"training": {"a.b": 1}}, "unknown recipe key 'training.a.b'"),
    "noise": ({"noise": "gausian(0, 1)"}, "noise: unknown noise 'gausian'; did you mean 'gaussian'? Valid: "),
    "noise type": ({"noise": 3}, "noise: expected the text of a noise, found 3"),
    "architecture": ({"spec": "model-z"}, "unknown architecture 'model-z'; did you mean 'model-"),
    "spec": ({"spec": {"stages": []}}, "spec: an auto-encoder has 1 to 32 stages, not 0"),
    "channels": (
        {"spec": {"stages": [8], "channels": 1}, "judge": {"name": "builtin"}},
        "spec.channels is 1; the classifier of `judge` takes 3 channels",
    ),
    "loss": ({"loss": "msee"}, "unknown loss 'msee'; did you mean 'mse'? Valid: charbonnier, dssim, "),
    "data set": (
        {"data": {"name": "cifar"}},
        "unknown data set 'cifar'; did you mean 'cifar10'? Valid: cbsd432, cbsd68, cifar10, ",
    ),
    "no path": ({"data": {"name": "folder:"}}, "unknown data set 'folder:'; did you mean 'folder:PATH'?"),
    "path": ({"data": {"name": "photos:x"}}, "unknown data set 'photos:x'"),
    "optimiser": (
        {"training": {"optimiser": "adamm"}},
        "unknown training.optimiser 'adamm'; did you mean 'adam'? Valid: adam, adamw, muon, sgd",
    ),
    "schedule": (
        {"training": {"schedule": "cosin"}},
        "unknown training.schedule 'cosin'; did you mean 'cosine'? Valid: constant, cosine, one-cycle",
    ),
    "precision": ({"training": {"precision": "f"}}, "unknown training.precision 'f'. Valid: auto, bf16, float32"),
    "lr": ({"training": {"lr": 0}}, "training.lr: must be greater than 0 (found 0)"),
    "nan": ({"training": {"lr": float("nan")}}, "training.lr: must be a finite number (found nan)"),
    "text": ({"training": {"epochs": "many"}}, "training.epochs: must be a valid integer"),
    "betas": ({"training": {"betas": [0.9, 1.0]}}, "training.betas.1: must be less than 1 (found 1.0)"),
    "seed": ({"seed": -1}, "seed: must be greater than or equal to 0 (found -1)"),
    "two": ({"seed": -1, "training": {"lr": 0}}, "(found -1); and 1 more"),
    "no table": ({"data": "photos"}, "data: must be a table of fields (found 'photos')"),
    "truth as a number": ({"training": {"epochs": True}}, "training.epochs: must be a number, not true"),
    "truth as a fraction": ({"training": {"lr": False}}, "training.lr: must be a number, not false"),
    "truth as an optional number": ({"data": {"train": True}}, "data.train: must be a number, not true"),
    "momentum": ({"training": {"momentum": 0.9}}, "training.momentum belongs to optimiser 'sgd'"),
    "crop": ({"data": {"name": "folder:x", "crop": 30}}, "data.crop is 30; this architecture needs multiples of 4"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_line_that_says_what_to_write(case: str) -> None:
    fields, message = WRONG[case]
    with pytest.raises(ValueError) as caught:
        parse_recipe(fields, where="my.toml")
    first, *rest = str(caught.value).split("\n")
    assert first.startswith("my.toml: ")
    assert message in first
    assert "noise: noise:" not in first
    # only the text of a noise is shown again, with a caret under the place
    assert not rest or (case == "noise" and rest == ["  gausian(0, 1)", "  ^"])


def test_the_valid_keys_are_all_listed() -> None:
    with pytest.raises(ValueError) as caught:
        parse_recipe({"training": {"x": 1}})
    listed = str(caught.value).partition("Valid: ")[2].split(", ")
    assert sorted(listed) == sorted(TrainingConfig.model_fields)


@pytest.mark.parametrize(
    "override, message",
    [
        ("training.lr", "--set training.lr: write field=value, for example training.lr=0.01"),
        ("=3", "--set =3: write field=value"),
        ("seed.x=3", "--set seed.x=3: seed is 4, which has no fields"),
        ("spec.norms=none", "unknown architecture key 'norms'; did you mean 'norm'?"),
        ("training.x.y=1", "unknown recipe key 'training.x'"),
        # nothing that follows a value is dropped in silence
        *((f"seed=1{rest}", "seed: must be") for rest in ("} # a", "] # a", ", b=2", " # a", "}, {", "], [")),
        *((f"seed=1{rest}", "a text of several lines") for rest in ("}\n# a", "\n[data]\nname='x'", "}\nb = {c = 1")),
        ("trainin.lr=1", "unknown recipe key 'trainin'; did you mean 'training'?"),
    ],
)
def test_a_wrong_override(override: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_recipe({"seed": 4}, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    for content, message in [
        (b"seed = ", "not TOML: "),
        (b"seed = '\xff'", "not a text file in UTF-8"),
        (b"#" * 100_001, "the file has over 100000 bytes"),
        (b"a = " + b"[" * 5000, "not TOML: "),
        (b"seed = -1", "seed: must be"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path}: {message}") as caught:
            load_recipe(path)
        assert "\n" not in str(caught.value)


def test_an_unknown_recipe_gives_the_nearest() -> None:
    with pytest.raises(FileNotFoundError, match=r"no recipe file papr/38; did you mean 'paper/38'\? `daelab recipes`"):
        load_recipe("papr/38")
    with pytest.raises(FileNotFoundError, match="no recipe file zzz; `daelab recipes` lists those that ship"):
        load_recipe("zzz")
