"""Classical methods: they are parsed as they are printed, tuned over their grid, and improve the noisy image."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from daelab.datasets.base import ImageSet
from daelab.datasets.registry import load_dataset
from daelab.denoising import classical
from daelab.denoising.classical import (
    CLASSICAL_METHODS,
    SEED,
    ConfiguredMethod,
    _reach,
    fit_gain_and_offset,
    parse_classical_method,
    tune_classical_method,
)
from daelab.denoising.denoiser import Denoiser
from daelab.evaluation.evaluate import iterate_noisy_batches
from daelab.experiments.evaluate_model import evaluate
from daelab.noise.base import PRESETS
from daelab.noise.grammar import parse_noise

pytest.importorskip("skimage", reason="the extra baselines is not installed")
pytest.importorskip("pywt", reason="the extra baselines is not installed")

OURS = [name for name in CLASSICAL_METHODS if name != "bm3d"]


def whole(name: str) -> ConfiguredMethod:
    """Return a method with the middle value of each setting's grid, without the correction of gain and offset."""
    return ConfiguredMethod(
        name, {key: row[len(row) // 2] for key, row in CLASSICAL_METHODS[name].grid.items()}, (1.0, 0.0)
    )


TEXTS = [
    *(f"baseline:{name}" for name in OURS),
    *(f"baseline:{name},raw" for name in OURS),
    *(str(whole(name)) for name in OURS),
    "baseline:nlm,h=0.1,gain=0.88,offset=-0.1673",
    "baseline:wavelet,sigma=0.0,wavelet=sym4",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_and_value_are_one(text: str) -> None:
    assert str(parse_classical_method(text)) == text


def test_the_text_is_read_generously() -> None:
    assert parse_classical_method("baseline: nlm , h = .1 , raw") == parse_classical_method("nlm,raw,h=0.1")


MISTAKES = {
    "baseline:": "unknown classical method ''",
    "baseline:mlm": "did you mean 'nlm'",
    "baseline:nlm,patchsize=3": "did you mean 'patch_size'",
    "baseline:nlm,h": "write h=VALUE",
    "baseline:nlm,h=": "must be a number",
    "baseline:nlm,h=big": "must be a number",
    "baseline:nlm,h=0": "above zero",
    "baseline:nlm,h=-1": "above zero",
    "baseline:nlm,h=nan": "above zero",
    "baseline:nlm,h=inf": "above zero",
    "baseline:median,size=2.5": "must be a whole number",
    "baseline:median,size=3,size=5": "given twice",
    "baseline:median,raw=1": "without a value",
    "baseline:median,gain=1": "either raw, or both gain and offset",
    "baseline:median,raw,gain=1,offset=0": "either raw, or both gain and offset",
    "baseline:median,gain=inf,offset=0": "finite",
    "baseline:wavelet,wavelet=db0": "is not a wavelet",
    "baseline:median(raw)": "unknown classical method",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_clear_line(text: str) -> None:
    with pytest.raises(ValueError, match=MISTAKES[text]) as caught:
        parse_classical_method(text)
    assert "\n" not in str(caught.value)


def test_what_is_left_to_tune_is_said() -> None:
    with pytest.raises(ValueError, match=r"patch_size, patch_distance, raw, or gain and offset; `daelab evaluate"):
        Denoiser.load("baseline:nlm,h=0.1")


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (16, 40), (33, 20)])
def test_every_size_comes_back(name: str, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    before = image.copy()
    cleaned = Denoiser.load(str(whole(name)))(image)
    assert cleaned.shape == image.shape
    assert np.isfinite(cleaned).all()
    assert np.array_equal(image, before)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_flat_picture_stays_as_it_is(name: str, value: float) -> None:
    flat = np.full((20, 24, 3), value, np.float32)
    np.testing.assert_allclose(Denoiser.load(str(whole(name)))(flat), flat, atol=1e-4)


@pytest.mark.parametrize("name", OURS)
def test_tiles_equal_the_whole(name: str) -> None:
    image = np.random.default_rng(0).random((90, 70, 3), dtype=np.float32)
    tiled = Denoiser(whole(name).method(), tile=32)(image)
    np.testing.assert_allclose(tiled, Denoiser(whole(name).method())(image), atol=2e-5)


def test_a_bilateral_filter_that_sees_no_colours_is_gaussian() -> None:
    from scipy.ndimage import gaussian_filter

    x = np.random.default_rng(0).random((30, 40, 3)).astype(np.float32)
    made = CLASSICAL_METHODS["bilateral"].run(x, sigma_color=1e3, sigma_spatial=1.5)
    reach = _reach(1.5)
    np.testing.assert_allclose(
        made, gaussian_filter(x, (1.5, 1.5, 0), mode="reflect", radius=(reach, reach, 0)), atol=1e-5
    )
    np.testing.assert_allclose(CLASSICAL_METHODS["bilateral"].run(x, sigma_color=1e-3, sigma_spatial=1.5), x, atol=1e-5)


def test_wiener_is_scipys_but_for_the_edges() -> None:
    from scipy.signal import wiener

    x = np.random.default_rng(0).random((30, 40, 3)).astype(np.float32)
    made = CLASSICAL_METHODS["wiener"].run(x, size=5, noise=0.02)
    for channel in range(3):
        theirs = wiener(x[..., channel].astype(float), 5, 0.02)
        np.testing.assert_allclose(made[2:-2, 2:-2, channel], theirs[2:-2, 2:-2], atol=1e-6)


def test_the_correction_is_least_squares(pictures: ImageSet) -> None:
    batches = list(iterate_noisy_batches(pictures, PRESETS["table-1"], SEED))
    x, y = (torch.cat([getattr(b, kind) for b in batches]).double().flatten() for kind in ("noisy", "clean"))
    expected = torch.linalg.lstsq(torch.stack([x, torch.ones_like(x)], 1), y[:, None]).solution.flatten()
    assert fit_gain_and_offset(pictures, PRESETS["table-1"]) == pytest.approx(expected.tolist(), abs=1e-4)
    # what takes away nothing is put right: half the light
    gain, offset = fit_gain_and_offset(pictures, parse_noise("multiplicative(-0.5, 0)"))
    assert (gain, offset) == pytest.approx((2, 0), abs=1e-3)
    black = ImageSet("black", np.zeros((3, 3, 16, 16), np.uint8), np.zeros(3, np.int64), ("black",))
    assert fit_gain_and_offset(black, parse_noise("none")) == (1, 0)


def test_tuning_tries_the_whole_grid_and_takes_the_best(pictures: ImageSet) -> None:
    seen: list[tuple[int, int]] = []
    found = tune_classical_method(
        parse_classical_method("baseline:wiener,size=3"),
        pictures,
        pictures,
        PRESETS["type-1"],
        lambda *at: seen.append(at),
    )
    grid = CLASSICAL_METHODS["wiener"].grid
    assert [settings["noise"] for settings, _ in found.tried] == list(grid["noise"])
    assert seen == [(n, len(found.tried)) for n in range(1, len(found.tried) + 1)]
    assert found.psnr == max(psnr for _, psnr in found.tried)
    assert {**found.baseline.settings, "psnr": found.psnr} in found.to_dict()["tried"]
    assert found.baseline.complete
    again = tune_classical_method(found.baseline, pictures, pictures, PRESETS["type-1"])
    assert again.psnr == pytest.approx(found.psnr)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune on few images."""
    monkeypatch.setattr(classical, "VALIDATION", 6)
    monkeypatch.setattr(classical, "FIT", 256)


@pytest.mark.parametrize("name", OURS)
def test_corrected_it_beats_the_noise_and_itself_uncorrected(name: str, few: None) -> None:
    corrected, raw = (
        evaluate(f"baseline:{name}{how}", "photos", "table-1", limit=20).to_dict() for how in ("", ",raw")
    )
    assert corrected["psnr"]["denoised"] > corrected["psnr"]["noisy"] + 3
    assert corrected["psnr"]["denoised"] > raw["psnr"]["denoised"] + 3
    assert raw["baseline"]["text"].endswith(",raw")
    # the text that is printed gives the same again, without data to tune on
    again = evaluate(corrected["baseline"]["text"], "photos", "table-1", limit=20).to_dict()
    assert "baseline" not in again
    assert again["psnr"] == corrected["psnr"]


def test_zero_mean_noise_needs_next_to_no_correction() -> None:
    gain, offset = fit_gain_and_offset(
        load_dataset("photos").train.take(np.arange(0, 5000, 20)), parse_noise("gaussian(0, 0.01)")
    )
    assert gain == pytest.approx(1, abs=0.01)
    assert offset == pytest.approx(0, abs=0.01)


def test_bm3d_runs_where_the_user_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def bm3d_rgb(z: np.ndarray, sigma_psd: float) -> np.ndarray:
        calls.append((z.shape, sigma_psd))
        return z

    monkeypatch.setitem(sys.modules, "bm3d", SimpleNamespace(bm3d_rgb=bm3d_rgb))
    Denoiser.load("baseline:bm3d,sigma=0.1,raw")(np.zeros((20, 24, 3), np.uint8))
    assert calls == [((20, 24, 3), 0.1)]
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(ValueError, match="pip install 'bm3d' .*non-commercial"):
        parse_classical_method("baseline:bm3d")


def test_without_scikit_image_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pywt", None)
    with pytest.raises(ValueError, match=r"pip install 'daelab\[baselines\]'"):
        parse_classical_method("baseline:nlm")


def test_the_command_prints_what_was_chosen(few: None, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def answer(*words: str) -> tuple[int, str, str]:
        from daelab.cli import main

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["daelab", "evaluate", *words])
            with pytest.raises(SystemExit) as ended:
                main()
        return int(ended.value.code or 0), *capsys.readouterr()

    words = ("baseline:median", "--data", "photos", "--noise", "type-1", "--limit", "20")
    found = json.loads(answer(*words, "--json")[1])
    assert found["baseline"]["settings"]["size"] in CLASSICAL_METHODS["median"].grid["size"]
    assert found["baseline"]["offset"] < -0.2
    assert f"tuned to {found['baseline']['text']}" in answer(*words)[1]
    code, out, err = answer("baseline:mean")
    assert (code, out) == (2, "")
    assert "did you mean 'median'" in err
    code, _, err = answer(*words, "--save", str(tmp_path / "x.safetensors"))
    assert code == 2
    assert "has no model file" in err
