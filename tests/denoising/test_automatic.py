"""The automatic choice of a model for each picture. Pictures that are left unchanged are copied byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from forked import forking
from PIL import Image

from daelab import denoise, denoise_file
from daelab.denoising.automatic import (
    AUTOMATIC,
    LEFT_UNCHANGED,
    AutomaticDenoiser,
    denoise_image,
    describe_choices,
    load_denoiser,
    load_model,
)
from daelab.denoising.batch import summarize_results
from daelab.denoising.noise_identification.families import FAMILIES, NoiseEffect
from daelab.denoising.noise_identification.identify import FAINT, GAIN, IdentifiedNoise, identify_noise
from daelab.denoising.noisy_images import identify_file_noise, make_noisy
from daelab.denoising.pipeline import DenoiseResult
from daelab.image_io.bundled_photos import find_photo
from daelab.image_io.read import read_picture
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS as SPECS
from daelab.models.build import build_network
from daelab.models.model_file import ModelMetadata, read_model_metadata, save_model
from daelab.models.registry import list_shipped_models, shorten_model_name
from daelab.noise.grammar import parse_noise


def photo(text: str = "none", name: str = "cat", side: int = 160) -> np.ndarray:
    """Return the middle of a bundled photograph under a noise."""
    pixels = read_picture(f"photo:{name}").colour().pixels
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return make_noisy(np.ascontiguousarray(pixels[top : top + side, left : left + side]), parse_noise(text), seed=3)


def saved(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


# The rule


def found(gain: float = 2.0, photo: str | None = "best", **probabilities: float) -> IdentifiedNoise:
    """Return identified noise with given probabilities and an expected gain."""
    all_of = dict.fromkeys(FAMILIES, 0.0) | {name.replace("_", "-"): p for name, p in probabilities.items()}
    family = max(all_of, key=lambda name: all_of[name])
    return IdentifiedNoise(
        family, all_of, NoiseEffect(0.1, 1, 0), (), None, photo=photo, expected_gain=gain, deviation=11.6
    )


@pytest.mark.parametrize(
    ("seen", "choice", "said"),
    [
        (found(camera=0.99), "best", "Camera noise, about 12 of 255. Denoised with best."),
        # The family explains, but the gain decides.
        (found(clean=0.99), "best", "Noise, about 12 of 255. Denoised with best."),
        (found(jpeg=0.99), "best", "Noise, about 12 of 255. Denoised with best."),
        (found(type_1=0.5, awgn=0.4), "best", "Noise, about 12 of 255. Denoised with best."),
        (found(GAIN, awgn=0.99), "best", "Gaussian noise, about 12 of 255. Denoised with best."),
        (
            found(FAINT, awgn=0.99),
            None,
            "Noise found, but too faint to be sure. Left as it is; use --force to denoise it anyway.",
        ),
        (found(-2.0, awgn=0.99), None, "Looks clean. Left as it is."),
        (replace(found(-2.0, camera=0.9), drawn=True), None, "Graphics, not a photograph. Left as it is."),
        (replace(found(jpeg=0.9), drawn=True), None, "Graphics, not a photograph. Left as it is."),
        # Or a photograph of few photons.
        (
            replace(found(poisson=0.9), drawn=True),
            None,
            "Graphics, not a photograph. Left as it is; use --force to denoise it anyway.",
        ),
        (
            found(photo=None, salt_and_pepper=0.9),
            None,
            "No shipped model was trained for this noise, and another model would damage the picture. Left as it is.",
        ),
        (found(photo=None, clean=0.9), None, "Looks clean. Left as it is."),
        (
            replace(found(-2.0, type_2=0.99), fitting="paper"),
            "paper",
            "Multiplicative noise (type-2), about 26 of 255. Denoised with paper.",
        ),
        (replace(found(awgn=0.99), deviation=0.4), "best", "Gaussian noise, less than 1 of 255. Denoised with best."),
    ],
)
def test_the_expected_gain_decides(seen: IdentifiedNoise, choice: str | None, said: str) -> None:
    assert (seen.choice, seen.why) == (choice, said)
    assert seen.strength == (0.0 if choice is None else 1.0)
    assert seen.to_dict()["choice"] == choice


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (found(-2.0, clean=1.0), "Looks clean"),
        (replace(found(camera=1.0), drawn=True), "Graphics, not a photograph"),
        (found(FAINT), "Noise found, but too faint to be sure"),
    ],
)
def test_force_denoises_what_would_be_left(seen: IdentifiedNoise, said: str) -> None:
    assert seen.choice is None
    forced = replace(seen, forced=True)
    assert (forced.choice, forced.why) == ("best", f"{said}. Denoised with best, as --force asks.")
    assert replace(seen, forced=True, photo=None).choice is None
    # Where noise was found, force changes nothing.
    assert replace(found(camera=0.9), forced=True).why == found(camera=0.9).why


def test_a_summary_counts_what_was_left() -> None:
    faint, clean = (DenoiseResult(status=LEFT_UNCHANGED, why=found(gain).why) for gain in (FAINT, -2.0))
    assert str(summarize_results([faint, clean, clean])) == (
        "0 done, 2 left as they are (Looks clean), 1 left as it is (Noise found, but too faint to be sure), "
        "0 done before, 0 failed"
    )


def test_the_command_and_python_force(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", photo(side=96))
    assert denoise_file(path, tmp_path / "left.png").status == LEFT_UNCHANGED
    forced = denoise_file(path, tmp_path / "forced.png", force=True)
    named = denoise_file(path, tmp_path / "named.png", model=forced.model)
    assert Path(forced.result).read_bytes() == Path(named.result).read_bytes()
    done = answer([str(path), "--force", "--out", str(tmp_path / "again.png")])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.png").read_bytes() == Path(named.result).read_bytes()
    assert f"Looks clean. Denoised with {forced.model}, as --force asks." in done.stdout.decode()


def test_each_choice_is_described_once() -> None:
    noisy, clean = found(awgn=0.99), found(-2.0, clean=0.99)
    assert describe_choices([noisy]) == ("best", noisy.why)
    assert describe_choices([clean, clean]) == ("", clean.why)
    assert describe_choices([clean, noisy, clean, noisy]) == ("best", f"{clean.why} | {noisy.why}")


@pytest.mark.parametrize("black", [False, True])
def test_the_colors_of_cmyk_decide_for_its_black(black: bool, tmp_path: Path) -> None:
    """A picture has one noise, and black ink that is not used stays so."""
    photo = read_picture("photo:cat").pixels[:96, :96]
    inks = np.dstack([255 - photo, (255 - photo).min(axis=2) // 2 if black else np.zeros((96, 96))])
    inks = inks + np.random.default_rng(0).normal(0, 25, inks.shape) * ([1, 1, 1, 1] if black else [1, 1, 1, 0])
    tifffile.imwrite(tmp_path / "a.tif", inks.clip(0, 255).astype(np.uint8), photometric="separated")
    done = denoise_file(tmp_path / "a.tif", tmp_path / "b.tif")
    assert done.why.count("Denoised with") == 1
    assert "|" not in done.why
    before, after = (read_picture(tmp_path / name).pixels for name in ("a.tif", "b.tif"))
    assert np.array_equal(before[..., 3], after[..., 3]) is not black
    assert not np.array_equal(before[..., :3], after[..., :3])


def test_the_highest_psnr_comes_first_and_not_the_largest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scores = {"small": 30.5, "large": 30.0, "unscored": None, "other": 40.0}
    files = {}
    for name, psnr in scores.items():
        spec = SPECS["model-c" if name == "large" else "model-b-35"]
        test = {} if psnr is None else {"test": {"psnr": {"denoised": psnr}}}
        noise = "type-1" if name == "other" else "awgn(0..55) | real"
        files[name] = tmp_path / f"{name}.safetensors"
        save_model(files[name], build_network(spec, 0), ModelMetadata(spec, name, noise, metrics=test))
    for module in ("models.registry", "denoising.noise_identification.identify"):
        monkeypatch.setattr(f"daelab.{module}.list_shipped_models", lambda: files)
    seen = identify_file_noise(photo("awgn(25) > quantised"))
    assert (seen.models, seen.choice) == (("small", "large", "unscored"), "small")
    # the names of the models lead back to their files
    assert denoise_file(saved(tmp_path / "a.png", photo("camera(0.01, 0.005)"))).model == "small"


@pytest.mark.parametrize("level", [25, 50, 75, 100])
@pytest.mark.parametrize("name", ["cat", "coffee", "astronaut"])
def test_the_level_of_noise_is_named_however_strong(name: str, level: int) -> None:
    clean, noisy = photo(name=name), photo(f"awgn({level})", name)
    removed = noisy - clean.astype(float)
    removed -= np.polyval(np.polyfit(clean.ravel(), removed.ravel(), 1), clean)  # what clipping takes of the contrast
    seen = identify_noise(noisy)
    assert seen.deviation == pytest.approx(removed.std(), rel=0.15)
    assert str(seen) == f"Gaussian noise, about {round(seen.deviation)} of 255"


def test_heavy_noise_gets_a_model_for_telephones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {}
    trained = {
        "weak": (32.0, "awgn(0..55) | real | camera-file"),
        "daylight": (33.0, "awgn(0..55) | real"),
        "telephone": (30.0, "real | camera-pipeline"),
    }
    for name, (psnr, noise) in trained.items():
        files[name] = tmp_path / f"{name}.safetensors"
        metadata = ModelMetadata(SPECS["model-b-35"], name, noise, metrics={"test": {"psnr": {"denoised": psnr}}})
        save_model(files[name], build_network(SPECS["model-b-35"], 0), metadata)
    for module in ("models.registry", "denoising.noise_identification.identify"):
        monkeypatch.setattr(f"daelab.{module}.list_shipped_models", lambda: files)
    noises = {
        "camera(0.003, 0.003) > quantised": "daylight",
        "raw(0.05, 0.02, 0.002, 2, 1.6, 0.6, 0.3) > jpeg(85)": "telephone",
        "salt-and-pepper-pixels(0.02) > quantised": "telephone",
    }
    assert {noise: identify_file_noise(photo(noise)).choice for noise in noises} == noises


@pytest.mark.parametrize(
    ("noise", "model"),
    [
        ("awgn(15) > quantised", "photo-m"),
        ("raw(0.05, 0.02, 0.002, 2, 1.6, 0.6, 0.3) > jpeg(85)", "photo-m.camera"),
        ("salt-and-pepper-pixels(0.05) > quantised", "photo-m.camera"),
    ],
)
def test_photographs_get_the_model_for_their_noise(noise: str, model: str) -> None:
    assert identify_file_noise(photo(noise)).choice == model


# The results


@pytest.mark.parametrize("noise", ["type-1", "type-2", "type-1+2"])
def test_the_noise_of_the_paper_gets_the_best_model_of_the_paper(noise: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "noisy.png", photo(noise))
    done = denoise_file(path)
    cards = {shorten_model_name(name): read_model_metadata(path) for name, path in list_shipped_models().items()}
    papers = {name: card.psnr or 0 for name, card in cards.items() if card.noise == "published-code"}
    assert (done.status, done.model) == ("cleaned", max(papers, key=lambda name: papers[name]))
    assert done.why.endswith(f"of 255. Denoised with {done.model}.")
    named = denoise_file(path, tmp_path / "named.png", model=done.model)
    assert Path(done.result).read_bytes() == Path(named.result).read_bytes()
    assert (named.model, named.why) == ("", "")


KINDS = {
    "a.png": {},
    "a.jpg": {"quality": 85, "comment": b"kept"},
    "a.webp": {"quality": 80},
    "a.gif": {"save_all": True, "append_images": [Image.fromarray(photo("none", "coffee"))]},
    "a.tif": {"compression": "tiff_lzw"},
}


@pytest.mark.parametrize("name", KINDS)
def test_a_clean_picture_comes_back_byte_for_byte(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path / name, photo(), **KINDS[name])
    done = denoise_file(path, compare=True, uncertainty=True)
    assert (done.status, done.model, done.note, done.uncertainty) == (LEFT_UNCHANGED, "", "", "")
    # A GIF has the few colors of graphics.
    assert done.why == f"{'Graphics, not a photograph' if name == 'a.gif' else 'Looks clean'}. Left as it is."
    assert Path(done.result).read_bytes() == path.read_bytes()
    assert Path(done.compare).is_file()
    assert not list(tmp_path.glob("*_uncertainty*"))


def test_in_place_a_clean_picture_is_not_touched(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", photo())
    before = path.stat()
    assert denoise_file(path, in_place=True).status == LEFT_UNCHANGED
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_unchanged_picture_is_encoded_for_another_format_or_without_metadata(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", photo(), comment=b"told")
    other = denoise_file(path, tmp_path / "b.png")
    assert other.status == LEFT_UNCHANGED
    np.testing.assert_array_equal(read_picture(other.result).pixels, read_picture(path).pixels)
    stripped = denoise_file(path, tmp_path / "c.jpg", strip=True)
    assert "comment" not in read_picture(stripped.result).info


def test_no_model_for_salt_and_pepper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    papers = {name: path for name, path in list_shipped_models().items() if "published" in name}
    for module in ("models.registry", "denoising.noise_identification.identify"):
        monkeypatch.setattr(f"daelab.{module}.list_shipped_models", lambda: papers)
    done = denoise_file(saved(tmp_path / "a.png", photo("salt-and-pepper(0.1)")))
    assert (done.status, "No shipped model was trained for this" in done.why) == (LEFT_UNCHANGED, True)


def test_each_picture_of_a_stack_has_its_own_choice(tmp_path: Path) -> None:
    stack = np.stack([photo("type-1"), photo(), photo("type-2")])
    np.save(tmp_path / "stack.npy", stack)
    done = denoise_file(tmp_path / "stack.npy", uncertainty=True)
    result = np.load(done.result)
    assert (result[1] == stack[1]).all()
    denoiser = load_model(done.model)
    np.testing.assert_array_equal(result[[0, 2]], denoiser(stack[[0, 2]], self_ensemble=True))
    assert done.why.count(" | ") == 1
    assert done.status == "cleaned"
    assert done.largest_spread is not None
    assert done.largest_spread > 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (2, 40), (32, 32, 3), (7, 5, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_pictures_of_few_pixels_and_of_any_type(shape: tuple[int, ...], kind: type, tmp_path: Path) -> None:
    image = (np.random.default_rng(0).random(shape) * (1 if kind is np.float32 else np.iinfo(kind).max)).astype(kind)
    np.save(tmp_path / "a.npy", image)
    done = denoise_file(tmp_path / "a.npy")
    result = np.load(done.result)
    assert (result.shape, result.dtype) == (image.shape, image.dtype)
    assert done.model in done.why
    assert (done.status == LEFT_UNCHANGED) == (". Left as it is" in done.why)


def test_small_clean_pictures_are_left_unchanged() -> None:
    chosen, changed = AutomaticDenoiser(), 0
    for row in range(8):
        for column in range(8):
            small = np.ascontiguousarray(photo(side=256)[32 * row : 32 * row + 32, 32 * column : 32 * column + 32])
            result = denoise_image(small, chosen).pixels
            changed += bool((result != small).any())
    assert changed <= 3


def test_sigma_needs_a_model() -> None:
    with pytest.raises(ValueError, match="name one"):
        load_denoiser(AUTOMATIC, tile=None, memory=None, sigma=25)


def test_empty_fields_are_left_out_of_json() -> None:
    assert "model" not in DenoiseResult("a", "b").to_dict()


# The commands


def answer(words: list[str], data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    with forking():
        command = [sys.executable, "-m", "daelab", "denoise", *words]
        return subprocess.run(command, input=data, capture_output=True, check=False)


def test_the_command_prints_its_choice_in_one_line_each(tmp_path: Path) -> None:
    noisy, clean = saved(tmp_path / "noisy.png", photo("type-1")), saved(tmp_path / "plain.jpg", photo())
    done = answer([str(noisy), str(clean)])
    assert done.returncode == 0, done.stderr
    first, second, last = done.stdout.decode().splitlines()
    assert "noisy_clean.png: " in first
    assert "Denoised with dae" in first
    assert second.endswith("plain_clean.jpg: Looks clean. Left as it is.")
    assert last == "1 done, 1 left as it is (Looks clean), 0 done before, 0 failed"
    again = answer([str(noisy), str(clean), "--overwrite", "--json"])
    document = json.loads(again.stdout)
    assert (document["model"], document["done"]) == (AUTOMATIC, 2)
    one, other = document["pictures"]
    assert (one["status"], one["model"][:3], other["status"]) == ("cleaned", "dae", LEFT_UNCHANGED)
    assert (one["precision"], "precision" in other) == ("float32", False)
    assert other["why"] == "Looks clean. Left as it is."


def test_clean_standard_input_is_copied(tmp_path: Path) -> None:
    data = saved(tmp_path / "a.jpg", photo()).read_bytes()
    done = answer(["-"], data)
    assert done.stdout == data
    assert b"-: Looks clean. Left as it is." in done.stderr


def test_the_server_makes_the_same_choice(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from daelab.web.app import create_app

    with TestClient(create_app(), base_url="http://127.0.0.1:8000") as client:
        for noise, ending in (("none", "jpg"), ("type-1", "png")):
            path = saved(tmp_path / f"{noise}.{ending}", photo(noise))
            wanted = denoise_file(path)
            raw = client.post("/api/denoise", params={"name": path.name}, content=path.read_bytes())
            assert raw.content == Path(wanted.result).read_bytes()
            document = client.post("/api/denoise?answer=json", content=path.read_bytes()).json()
            assert (document["model"], document["why"]) == (wanted.model, wanted.why)


# Do no harm


SOME = ("none", "awgn(5) > quantised", "awgn(25) > quantised", "camera(0.003, 0.003)", "jpeg(70)", "jpeg(90)", "type-1")


def no_harm(run_main: Callable[..., Any], noises: Sequence[str], *words: str) -> dict[str, Any]:
    words = (*words, *(word for text in noises for word in ("--noise", text)))
    done = run_main("do_no_harm", "--json", *words)
    assert done.code == 0, done.out + done.err
    document: dict[str, Any] = json.loads(done.out)
    return document


def test_no_bundled_photograph_is_made_worse(run_main: Callable[..., Any]) -> None:
    document = no_harm(run_main, SOME, "--data", "photos", "--every", "3")
    clean = next(row for row in document["rows"] if row["noise"] == "none")
    assert clean["models"] == {LEFT_UNCHANGED: document["pictures"]}
    assert all(row["worst_change"] >= -0.2 for row in document["rows"])
    papers = next(row for row in document["rows"] if row["noise"] == "type-1")
    assert papers["mean_change"] > 3


def test_faint_noise_on_a_picture_with_fine_detail_costs_no_detail() -> None:
    clean = read_picture(find_photo("astronaut")).pixels.astype(np.float32) / 255
    noisy = (clean + np.random.default_rng(0).normal(0, 1.5 / 255, clean.shape)).clip(0, 1).astype(np.float32)
    model = load_model("automatic")
    assert model.identify(noisy).choice is not None
    error, before = (float(np.square(x - clean).mean()) for x in (model(noisy), noisy))
    forced = float(np.square(AutomaticDenoiser(force=True)(noisy) - clean).mean())
    assert error < 1.02 * before < forced


def test_no_picture_of_cbsd68_is_made_worse(run_main: Callable[..., Any]) -> None:
    root = os.environ.get("DAELAB_PHOTOS")
    if not root:
        pytest.skip("$DAELAB_PHOTOS does not name the folder that holds cbsd68")
    document = no_harm(run_main, ("none", "awgn(25) > quantised", "jpeg(90)"), "--data-root", root, "--every", "34")
    assert document["pictures"] == 2


def test_harm_sets_the_exit_code(tmp_path: Path, run_main: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark fails for a model that blackens pictures and claims to be trained for their noise."""
    # What the benchmark puts in their place is taken back after the test.
    for module in ("models.registry", "denoising.noise_identification.identify"):
        monkeypatch.setattr(f"daelab.{module}.list_shipped_models", list_shipped_models)
    spec = SPECS["model-b-35"]
    network = build_network(spec, 0)
    for parameter in network.parameters():
        parameter.data.zero_()
    card = ModelMetadata(spec, "black", "real | camera-pipeline", metrics={"val_psnr": 99.0})
    save_model(tmp_path / "black.safetensors", network, card)
    words = ["--data", "photos", "--every", "9", "--noise", "awgn(25) > quantised", "--model"]
    done = run_main("do_no_harm", *words, tmp_path / "black.safetensors")
    assert done.code == 1, done.err
    assert "lost more than 0.2 dB under: awgn(25)" in done.out


def test_load_model_takes_the_word_automatic() -> None:
    denoiser = load_model(AUTOMATIC)
    assert isinstance(denoiser, AutomaticDenoiser)
    clean = photo(side=96)
    assert np.array_equal(denoiser(clean), clean)
    noisy = photo("gaussian(0.3, 0.1)")
    choice = str(denoiser.identify(noisy).choice)
    assert np.array_equal(denoise(clean), clean)
    assert np.array_equal(denoise(noisy, chroma=0.5), load_model(choice)(noisy, chroma=0.5))
    assert np.array_equal(denoiser(noisy), load_model(choice)(noisy, strength=denoiser.identify(noisy).strength))
    with pytest.raises(ValueError, match="automatic takes no device"):
        load_model(AUTOMATIC, "cpu")
