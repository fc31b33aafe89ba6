"""Noise identification distinguishes the families on unseen pictures, and recommends only models that fit."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from daelab._util.tensor_file import write_tensors
from daelab.datasets.base import ImageSet
from daelab.datasets.registry import load_dataset
from daelab.denoising.noise_identification.families import (
    FAMILIES,
    NoiseEffect,
    classify_noise,
    make_family_mixture,
    measure_effects,
    was_trained_for,
)
from daelab.denoising.noise_identification.features import COUNT, PATCH_SIDE, compute_features, extract_patches
from daelab.denoising.noise_identification.identify import _sigma
from daelab.denoising.noise_identification.network import (
    NoiseEstimator,
    NoiseIdentifier,
    decode_effects,
    encode_effects,
    find_shipped_identifier,
    load_noise_identifier,
)
from daelab.denoising.noisy_images import identify_file_noise, make_noisy
from daelab.experiments.reports.noise_identification import make_identification_tables
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS as SPECS
from daelab.models.model_file import ModelMetadata, save_model
from daelab.models.registry import list_shipped_models
from daelab.noise.base import PRESETS
from daelab.noise.grammar import parse_noise
from daelab.noise.presets import FORMULAS
from daelab.noise.random_streams import BatchStream
from daelab.training.callbacks.progress import SilentProgress
from daelab.training.callbacks.record import TrainingInterrupted
from daelab.training.checkpoint import BestEpoch
from daelab.training.engine import TrainingOptions, run_training
from daelab.training.schedules import compute_one_cycle
from daelab.training.tasks import noise_identification
from daelab.training.tasks.noise_examples import NoiseExamples, make_examples
from daelab.training.tasks.noise_identification import (
    NoiseIdentificationRecipe,
    NoiseIdentificationTask,
    fit_estimator,
    score_estimator,
    train_noise_identifier,
)

ACCURACY = 0.72
"""What the shipped inspector reaches at least on held-out crops of the bundled photographs, 32 pixels a side."""


# What is learned


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_is_its_own(name: str) -> None:
    assert classify_noise(parse_noise(FAMILIES[name])) == name


# `real` is of photographs, which the inspector does not know yet
@pytest.mark.parametrize("name", sorted(set(FORMULAS) - {"real"}))
def test_the_presets_options_have_families(name: str) -> None:
    assert None not in {classify_noise(option) for option in PRESETS[name].options()}


@pytest.mark.parametrize("text", ["uniform(0, 0.1)", "speckle(0.1)", "poisson(30) > gaussian(0, 0.1)"])
def test_what_it_does_not_know_has_none(text: str) -> None:
    assert classify_noise(parse_noise(text)) is None


@pytest.mark.parametrize(
    ("text", "effect"),
    [
        ("none", (0, 1, 0)),
        ("gaussian(0.1, 0.05)", (0.05, 1, 0.1)),
        ("gaussian(-0.1, 0.02)", (0.02, 1, -0.1)),
        ("multiplicative(-0.5, 0)", (0, 0.5, 0)),
    ],
)
def test_effects_are_the_noises_own(text: str, effect: tuple[float, ...]) -> None:
    clean = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(9)) * 0.5 + 0.25
    found = measure_effects(clean, parse_noise(text).apply(clean, BatchStream(4, 0)))
    assert found.mean(0).tolist() == pytest.approx(effect, abs=5e-3)
    torch.testing.assert_close(decode_effects(encode_effects(found)), found.clamp_min(torch.tensor([1e-3, -9, -9])))


def test_of_a_flat_picture_the_gain_is_one() -> None:
    flat = torch.full((1, 3, 32, 32), 0.4)
    level, gain, offset = measure_effects(flat, flat * 1.5)[0].tolist()
    assert (level, gain, offset) == pytest.approx((0, 1, 0.2), abs=1e-6)


# What is seen


@pytest.mark.parametrize(
    ("size", "count"), [((1, 1), 1), ((3, 40), 1), ((32, 32), 1), ((64, 33), 2), ((100, 130), 12), ((2000, 2001), 256)]
)
def test_patches_of_any_size(size: tuple[int, int], count: int) -> None:
    picture = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    found = extract_patches(picture)
    assert found.shape == (count, 3, PATCH_SIDE, PATCH_SIDE)
    assert compute_features(found[None]).isfinite().all()
    if min(size) >= PATCH_SIDE:
        assert torch.equal(found[0, :, 0, 0], picture[:, 0, 0]) or count == 1


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_features_of_a_flat_picture_are_finite(value: float) -> None:
    found = compute_features(torch.full((2, 3, 3, PATCH_SIDE, PATCH_SIDE), value))
    assert found.shape == (2, COUNT)
    assert found.isfinite().all()


def test_features_of_several_pictures_are_those_of_each() -> None:
    x = torch.rand(4, 2, 3, PATCH_SIDE, PATCH_SIDE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(compute_features(x), torch.cat([compute_features(one[None]) for one in x]))


# Training


@pytest.fixture(scope="module")
def small() -> NoiseIdentifier:
    """Return a noise identification that was trained on few examples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise_identification, "TEST", 200)
        return train_noise_identifier(["photos"], examples=600)


def test_training_beats_guessing_and_says_how_it_went(small: NoiseIdentifier) -> None:
    test = small.card["test"]["photos"]
    assert test["accuracy"] > 3 / len(FAMILIES)
    table = np.array(test["confusion"])
    assert table.shape == (len(FAMILIES), len(FAMILIES))
    assert table.sum() == test["examples"] == 200
    assert np.trace(table) / 200 == pytest.approx(test["accuracy"])
    assert small.card["examples"] == 600


@pytest.mark.parametrize("steps", [60, 601])
def test_the_rates_are_those_of_pytorchs_one_cycle(steps: int) -> None:
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        group = optimizer.param_groups[0]
        assert compute_one_cycle(step, steps, 3e-3) == (group["lr"], group["betas"][0])
        optimizer.step()
        schedule.step()


def test_a_resumed_training_ends_as_one_that_never_stopped(
    pictures: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killer(SilentProgress):
        def epoch(self, row: dict[str, float], best: BestEpoch) -> None:
            if row["epoch"] == 2:
                raise TrainingInterrupted("a", 15)

    monkeypatch.setattr(noise_identification, "EPOCHS", 4)
    examples = make_examples(pictures, 300, 0, "train 0")
    recipe = NoiseIdentificationRecipe(data=("waves",), examples=300)

    def fit(name: str, **options: Any) -> NoiseEstimator:
        kept = TrainingOptions(name, runs_root=tmp_path, device=torch.device("cpu"), **options)
        product = run_training(recipe, lambda device: NoiseIdentificationTask(recipe, examples, device), kept).product
        assert isinstance(product, NoiseEstimator)
        return product

    with pytest.raises(TrainingInterrupted):
        fit("a", progress=Killer())
    resumed, whole = fit("a", resume=True).state_dict(), fit("b").state_dict()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert all(torch.equal(fit_estimator(examples, 0).state_dict()[name], whole[name]) for name in whole)


def test_the_same_seed_makes_the_same_examples(pictures: ImageSet) -> None:
    one, same, other = (make_examples(pictures, 50, seed, "train 0") for seed in (0, 0, 1))
    assert torch.equal(one.seen, same.seen)
    assert torch.equal(one.effect, same.effect)
    assert not torch.equal(one.seen, other.seen)
    assert len(one.family.unique()) > 4


def test_a_file_comes_back(small: NoiseIdentifier, tmp_path: Path) -> None:
    small.save(tmp_path / "x.safetensors")
    back = load_noise_identifier(tmp_path / "x.safetensors")
    assert back.card == small.card
    x = torch.rand(1, 1, 3, PATCH_SIDE, PATCH_SIDE)
    torch.testing.assert_close(back.estimator.estimate(x), small.estimator.estimate(x))


def other_order(path: Path) -> None:
    families = [[name, text] for name, text in reversed(FAMILIES.items())]
    write_tensors(path, NoiseEstimator().state_dict(), {"kind": "inspector", "format": 1, "families": families})


def other_family(path: Path) -> None:
    families = [*([name, text] for name, text in FAMILIES.items()), ["new", "none"]]
    write_tensors(path, NoiseEstimator().state_dict(), {"kind": "inspector", "format": 1, "families": families})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b"nothing"), "not a safetensors file"),
        (
            lambda path: path.write_bytes(next(iter(list_shipped_models().values())).read_bytes()),
            "not a noise identifier of format",
        ),
        (other_family, "another version"),
        (other_order, "another version"),
    ],
)
def test_another_file_is_one_clear_line(spoil: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    spoil(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=message):
        load_noise_identifier(tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError, match="train-inspector"):
        load_noise_identifier(tmp_path / "nowhere.safetensors")


# The one that ships


def held_out(count: int = 400) -> NoiseExamples:
    return make_examples(load_dataset("photos").test, count, 17, "a test of its own")


def test_the_shipped_one_reaches_what_is_stated() -> None:
    found = score_estimator(load_noise_identifier().estimator, held_out())
    assert found["accuracy"] >= ACCURACY
    assert found["accuracy_where_sure"] >= 0.9
    assert found["mean_absolute_error"]["offset"] < 0.06
    assert find_shipped_identifier().stat().st_size < 200_000


def test_its_header_says_where_it_comes_from() -> None:
    card = load_noise_identifier().card
    assert {"examples", "seed", "test", "versions"} <= set(card)
    text = json.dumps(card)
    assert "/" not in text.replace("folder of", "")
    assert set(load_noise_identifier().card["test"]) >= {"photos"}


def test_its_tables_add_up() -> None:
    scores, confusion = make_identification_tables()
    counts = [test["examples"] for test in load_noise_identifier().card["test"].values()]
    assert len(scores.rows) == len(counts)
    for row in scores.rows:
        cells = dict(zip(scores.columns, row, strict=True))
        for target, error in load_noise_identifier().card["test"][row[0]]["mean_absolute_error"].items():
            assert cells[f"error in {target}"] == f"{error:.3f}"
    assert sum(sum(row[1:]) for row in confusion.rows) == sum(counts)
    assert "salt-and-pepper" in confusion.to_markdown()


def noisy_photo(text: str, name: str = "cat") -> np.ndarray:
    from daelab.image_io.read import read_picture

    return make_noisy(read_picture(f"photo:{name}").colour().pixels, parse_noise(text), seed=3)


@pytest.mark.parametrize("name", ["cat", "motorcycle", "rocket"])
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("none", "clean"),
        ("gaussian(0, 0.1)", "awgn"),
        ("gaussian(0.3, 0.05)", "type-1"),
        ("multiplicative(0.8, 0.5)", "type-2"),
        ("salt-and-pepper(0.1)", "salt-and-pepper"),
        ("poisson(20)", "poisson"),
    ],
)
def test_whole_photographs(text: str, kind: str, name: str) -> None:
    found = identify_file_noise(noisy_photo(text, name))
    assert found.family == kind
    if kind == "clean":
        assert (found.models, found.effect) == ((), NoiseEffect(0, 1, 0))
        assert found.choice is None
        assert found.advice.endswith(". Leave it as it is.")
    if kind == "awgn":
        assert found.effect.level == pytest.approx(0.1, rel=0.25)
        assert found.effect.offset == pytest.approx(0, abs=0.1)
    if kind == "type-1":
        assert found.effect.offset == pytest.approx(0.3, abs=0.12)
    assert sum(found.probabilities.values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 1), np.uint8),
        np.full((3, 5, 3), 65535, np.uint16),
        np.random.default_rng(0).random((31, 33, 3)),
        np.random.default_rng(0).random((40, 2), dtype=np.float32),
    ],
)
def test_any_size_and_type(image: np.ndarray) -> None:
    found = identify_file_noise(image)
    json.dumps(found.to_dict(), allow_nan=False)
    assert str(found)


@pytest.mark.parametrize("image", [np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4))])
def test_no_image(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="an image must be"):
        identify_file_noise(image)


# Which model fits


def effect_of(text: str) -> NoiseEffect:
    ramp = torch.linspace(0, 1, 64).expand(8, 3, 8, 64)
    return NoiseEffect(*measure_effects(ramp, parse_noise(text).apply(ramp, BatchStream(8, 1))).mean(0).tolist())


@pytest.mark.parametrize(
    ("trained", "text", "fit"),
    [
        ("published-code", "gaussian(0.3, 0.05)", True),
        ("published-code", "multiplicative(0.8, 0.5)", True),
        ("table-1", "gaussian(0.2, 0.05) > multiplicative(0.2, 0.1)", True),
        ("published-code", "gaussian(0.1, 0.05)", False),  # it would be darkened
        ("published-code", "gaussian(0, 0.1)", False),
        ("published-code", "gaussian(0.3, 0.2)", False),
        ("published-code", "poisson(20)", False),
        ("gaussian(0, 0.02..0.2)", "gaussian(0, 0.1)", True),
        ("awgn(0..55)", "gaussian(0.05, 0.1)", True),
        ("awgn(0..55)", "gaussian(0.3, 0.05)", False),
        ("awgn(0..55)", "camera(0.01, 0.01)", False),
        ("awgn(0..55) | real", "camera(0.01, 0.01)", True),
        ("awgn(0..55) | real", "poisson(30)", True),
        ("awgn(0..55) | real", "correlated(20, 1) > quantised", True),
        ("awgn(0..55) | real", "salt-and-pepper(0.02)", True),
        ("awgn(0..55) | real", "multiplicative(0.8, 0.5)", False),
        ("gaussian(0, 0.02..0.05)", "gaussian(0, 0.2)", False),
    ],
)
def test_a_model_fits_what_it_was_trained_for(trained: str, text: str, fit: bool) -> None:
    kind = classify_noise(parse_noise(text))
    assert kind is not None
    assert was_trained_for(parse_noise(trained), kind, effect_of(text)) is fit


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (64, 51), (1200, 1025)])
def test_the_estimate_of_the_level_is_that_of_scikit_image(size: tuple[int, int]) -> None:
    from skimage.restoration import estimate_sigma

    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    top, left = ((side - 1024) // 2 if side > 1024 else 0 for side in size)
    middle = pixels[top : top + 1024, left : left + 1024] / 255
    expected = estimate_sigma(middle, channel_axis=-1, average_sigmas=True)
    assert _sigma(torch.from_numpy(pixels).permute(2, 0, 1), 255) == pytest.approx(expected, rel=1e-6)
    assert (_sigma(torch.full((3, *size), 7, dtype=torch.uint8), 255) or 0) < 1e-6


def test_the_models_named_are_those_whose_card_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from daelab.models.build import build_network

    noises = {"dark": "published-code", "blind": "gaussian(0, 0.02..0.2)", "silent": ""}
    files = {name: tmp_path / f"{name}.safetensors" for name in noises}
    for name, path in files.items():
        save_model(path, build_network(SPECS["model-b-35"], 0), ModelMetadata(SPECS["model-b-35"], name, noises[name]))
    for module in ("models.registry", "denoising.noise_identification.identify"):
        monkeypatch.setattr(f"daelab.{module}.list_shipped_models", lambda: files)
    zero_mean = identify_file_noise(noisy_photo("gaussian(0, 0.1)"))
    assert zero_mean.models == ("blind",)
    assert zero_mean.advice.startswith("Denoise it with blind; the expected gain is ")
    assert identify_file_noise(noisy_photo("type-1")).models == ("dark",)
    spots = identify_file_noise(noisy_photo("salt-and-pepper(0.1)"))
    assert spots.models == ()
    assert (spots.choice, "No shipped model" in spots.advice) == (None, True)


@pytest.mark.parametrize("name", ["cat", "coffee", "astronaut"])
@pytest.mark.parametrize("text", ["type-1", "type-2", "type-1+2", "type-2+1"])
def test_the_papers_noise_finds_the_papers_model(text: str, name: str) -> None:
    assert "model-c" in identify_file_noise(noisy_photo(text, name)).models


@pytest.mark.parametrize("text", ["none", "gaussian(0, 0.1)", "salt-and-pepper(0.1)", "poisson(30)"])
def test_other_noise_does_not(text: str) -> None:
    assert "model-c" not in identify_file_noise(noisy_photo(text, "cat")).models


def test_every_family_is_drawn() -> None:
    assert len(make_family_mixture().options()) == len(FAMILIES)


# The commands


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    from daelab.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["daelab", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0), *capsys.readouterr()


def test_inspecting_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(noisy_photo("type-1")).save(tmp_path / "noisy.png")
    code, out, _ = answer(capsys, "inspect", tmp_path / "noisy.png", "photo:cat", "--json")
    noisy, clean = json.loads(out)
    assert code == 0
    assert (noisy["family"], clean["family"]) == ("type-1", "clean")
    assert noisy["picture"].endswith("noisy.png")
    code, out, _ = answer(capsys, "inspect", tmp_path / "noisy.png", "photo:cat")
    assert "photo:cat: Looks clean\n  No noise, " in out
    assert "  Looks clean. Leave it as it is." in out
    assert "estimate of scikit-image" in out
    assert "offset +0." in out
    code, out, err = answer(capsys, "inspect", tmp_path / "nowhere.png")
    assert (code, out) == (2, "")
    assert "nowhere.png" in err


def test_training_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "mine.safetensors"
    code, out, err = answer(capsys, "train-inspector", "--save", place, "--examples", "50")
    assert code == 0, err
    assert "confusion" not in err
    assert "salt-and-pepper" in out
    assert load_noise_identifier(place).card["seed"] == 0
    assert answer(capsys, "train-inspector", "--save", place)[0] == 2
    code, _, err = answer(capsys, "train-inspector", "--save", tmp_path / "x.pt")
    assert (code, "must end in .safetensors" in err) == (2, True)
    code, _, err = answer(capsys, "train-inspector", "--save", tmp_path / "y.safetensors", "--examples", "3")
    assert (code, "at least 50 examples" in err) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.safetensors"]
