"""The commands denoise, compare and noise as a user types them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from daelab.models.architectures.autoencoder import Autoencoder, Stage
from daelab.models.build import build_network
from daelab.models.model_file import ModelMetadata, save_model

Run = Callable[..., Any]


@pytest.fixture
def small(run: Run) -> Run:
    """Return a function that runs commands with a tiny model, small.safetensors, in the folder."""
    spec = Autoencoder((Stage(2),))
    save_model(Path("small.safetensors"), build_network(spec, seed=0), ModelMetadata(spec=spec, name="small"))
    return lambda *words: run(*words, *(("--model", "small.safetensors") if words[0] == "denoise" else ()))


def picture(path: str, shape: tuple[int, ...] = (20, 30, 3), **said: Any) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **said)
    return Path(path)


def broken() -> dict[str, bytes]:
    """Return twenty damaged files by name. tests/denoising/test_pipeline.py explains them."""
    whole = {form: io.BytesIO() for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")}
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    for form, stream in whole.items():
        Image.fromarray(noise).save(stream, form)
    array = io.BytesIO()
    np.save(array, np.zeros((9, 9)))
    of = {form: stream.getvalue() for form, stream in whole.items()}
    suffix = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif"}
    return {
        **{f"half.{suffix[form]}": data[: len(data) // 2] for form, data in of.items()},
        **{f"start.{suffix[form]}": data[:20] for form, data in of.items()},
        "empty.png": b"",
        "text.png": b"a text",
        "cut.webp": of["WEBP"][:100],
        "flipped.png": of["PNG"][:300] + b"\xff" + of["PNG"][301:],
        "half.npy": array.getvalue()[:200],
        "start.npy": b"\x93NUMPY",
        "empty.jpg": b"",
        "text.tif": b"II*\0 a text",
    }


def test_a_folder_of_two_hundred_of_which_twenty_are_broken(small: Run) -> None:
    for number in range(180):
        picture(f"many/{number:03}.{('png', 'jpg', 'bmp')[number % 3]}", (6 + number % 5, 7, 3))
    for name, content in broken().items():
        (Path("many") / name).write_bytes(content)
    answer = small("denoise", "many", "--out", "clean", "--json")
    assert answer.code == 1
    assert answer.err == ""
    found = json.loads(answer.out)
    assert (found["done"], found["done_before"], found["failed"]) == (180, 0, 20)
    reasons = {Path(row["source"]).name: row["reason"] for row in found["pictures"] if row["status"] == "failed"}
    assert reasons.keys() == broken().keys()
    assert all(name in reason and "\n" not in reason for name, reason in reasons.items())
    assert len(list(Path("clean").iterdir())) == 180
    assert {path.name for path in Path("clean").iterdir()}.isdisjoint(reasons)

    again = small("denoise", "many", "--out", "clean")
    assert again.code == 1
    assert again.out.splitlines()[-1] == "0 done, 180 done before, 20 failed"
    lines = again.err.splitlines()
    assert len(lines) == 20
    assert all(line.startswith("daelab: many/") for line in lines)


def test_one_picture_keeps_size_mode_and_alpha(small: Run) -> None:
    for name, shape in (
        ("colour.png", (21, 33, 3)),
        ("grey.png", (9, 7)),
        ("alpha.png", (16, 16, 4)),
        ("dot.png", (1, 1, 3)),
    ):
        answer = small("denoise", picture(name, shape), "--out", f"out/{name}")
        assert (answer.code, answer.out, answer.err) == (0, f"{name} -> out/{name}\n", "")
        with Image.open(name) as before, Image.open(f"out/{name}") as after:
            assert (after.size, after.mode) == (before.size, before.mode)
            if after.mode == "RGBA":
                assert np.array_equal(np.asarray(after)[..., 3], np.asarray(before)[..., 3])


def test_an_existing_file_as_out_is_an_error(small: Run) -> None:
    picture("a.png")
    assert small("denoise", "a.png", "--out", "b.png").code == 0
    answer = small("denoise", "a.png", "--out", "b.png")
    assert (answer.code, answer.out, answer.err) == (2, "", "daelab: b.png exists; --overwrite replaces it\n")
    assert small("denoise", "a.png", "--out", "b.png", "--overwrite").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--strength", "2"],
            "strength must lie in [0, 1] for {}, not 2; a model that takes the noise level, such as photo-s.level, "
            "allows up to 2",
        ),
        (
            ["--strength", "nan"],
            "strength must lie in [0, 1], or in [1, 2] for a model that takes the noise level, not nan",
        ),
        (["--tile", "0"], "tile must be at least 1 pixel, and a whole number, not 0"),
    ],
)
def test_a_wrong_number_is_an_error_even_if_nothing_is_left_to_do(options: list[str], message: str, run: Run) -> None:
    picture("a.png")
    picture("a_clean.png")
    for model in ("photo-s", "automatic"):
        answer = run("denoise", "a.png", "--model", model, *options)
        assert (answer.code, answer.out, answer.err) == (2, "", f"daelab: {message.format(model)}\n")


def test_a_second_run_skips_what_was_denoised(small: Run) -> None:
    for name in ("a.png", "b.jpg"):
        picture(name)
    first = small("denoise", "a.png", "b.jpg")
    assert first.out.splitlines() == [
        "a.png -> a_clean.png",
        "b.jpg -> b_clean.jpg",
        "2 done, 0 done before, 0 failed",
    ]
    second = small("denoise", *sorted(path.name for path in Path().glob("*.[pj][np]g")))
    assert (second.code, second.out.splitlines()[-1]) == (0, "0 done, 2 done before, 0 failed")


class Pipe:
    """A standard input or output that holds bytes."""

    def __init__(self, data: bytes = b"") -> None:
        self.buffer = io.BytesIO(data)
        self.encoding = "utf-8"

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        return self.buffer.write(text.encode())

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_from_standard_input_to_standard_output(small: Run, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = picture(f"a{suffix}")
    small("denoise", source, "--out", f"b{suffix}")
    out = Pipe()
    monkeypatch.setattr(sys, "stdin", Pipe(source.read_bytes()))
    monkeypatch.setattr(sys, "stdout", out)
    answer = small("denoise", "-")
    assert (answer.code, answer.err) == (0, "")
    assert out.buffer.getvalue() == Path(f"b{suffix}").read_bytes()


def test_a_progress_bar_leaves_standard_output_alone(small: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    picture("a.png")
    terminal = Pipe()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    answer = small("denoise", "a.png")
    assert answer.out == "a.png -> a_clean.png\n"
    assert b"1/1" in terminal.buffer.getvalue()


def test_from_standard_input_to_a_file_and_another_format(small: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    source = picture("a.png")
    monkeypatch.setattr(sys, "stdin", Pipe(source.read_bytes()))
    assert small("denoise", "-", "--out", "b.webp").out == "- -> b.webp\n"
    with Image.open("b.webp") as image:
        assert image.format == "WEBP"
    monkeypatch.setattr(sys, "stdin", Pipe(b""))
    answer = small("denoise", "-", "--out", "c.png")
    assert (answer.code, answer.err) == (2, "daelab: standard input: a broken picture: it is empty\n")


def test_shards_workers_and_in_place(small: Run) -> None:
    for number in range(12):
        picture(f"many/{number}.png", (4, 4, 3))
    done = 0
    for part in (1, 2, 3):
        found = json.loads(small("denoise", "many", "--shard", f"{part}/3", "--workers", "2", "--json").out)
        assert found["done_before"] == found["failed"] == 0
        done += found["done"]
    assert done == 12
    assert len(list(Path("many").glob("*_clean.png"))) == 12
    before = Path("many/0.png").read_bytes()
    assert small("denoise", "many/0.png", "--in-place").out == "many/0.png -> many/0.png\n"
    assert Path("many/0.png").read_bytes() != before


def test_side_by_side_and_uncertainty(small: Run) -> None:
    picture("a.png")
    answer = small(
        "denoise", "a.png", "--compare", "--uncertainty", "--tile", "8", "--memory", "1MB", "--strength", "0.5"
    )
    assert answer.out.splitlines() == [
        "a.png -> a_clean.png",
        "a.png -> a_clean_compare.png",
        "a.png -> a_clean_uncertainty.png",
    ]
    with Image.open("a_clean_compare.png") as image:
        assert image.size == (64, 20)


def test_a_note_says_that_only_the_first_frame_of_a_gif_was_read(small: Run) -> None:
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (0, 100, 200)]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    answer = small("denoise", "a.gif")
    assert answer.code == 0
    assert answer.err == "daelab: a.gif: the first of 3 frames\n"


def test_compare_prints_scores_of_each_channel(run: Run) -> None:
    assert run("noise", "photo:cat", "--noise", "type-1", "--out", "noisy.png").code == 0
    found = json.loads(run("compare", "photo:cat", "noisy.png", "photo:cat", "--json").out)
    noisy, same = (row["channels"] for row in found["pictures"])
    assert list(noisy) == ["all", "red", "green", "blue"]
    assert noisy["all"]["psnr"] < noisy["all"]["si_psnr"]
    assert same["all"]["psnr"] is None
    assert same["all"]["ssim"] == pytest.approx(1)
    table = run("compare", "photo:cat", "noisy.png").out
    assert "scale-invariant PSNR" in table
    assert f"{noisy['red']['psnr']:.2f}" in table


def test_noise_for_a_folder_follows_from_seed_and_name(run: Run) -> None:
    picture("in/a.png")
    picture("in/b.png", (8, 9))
    Image.fromarray(np.zeros((5, 5), np.uint16)).save("in/deep.png")
    words = ("noise", "in", "--noise", "gaussian(0.1, 0.2)")
    assert run(*words, "--out", "one").out.splitlines()[-1] == "3 done, 0 done before, 0 failed"
    assert run("noise", "in/b.png", "in/a.png", *words[2:], "--out", "two").code == 0
    assert run(*words, "--out", "three", "--seed", "1").code == 0
    for name in ("a.png", "b.png"):
        one, two, three, source = (Path(folder, name).read_bytes() for folder in ("one", "two", "three", "in"))
        assert one == two != three
        assert one != source
    with Image.open("one/deep.png") as image:
        assert image.mode == "I;16"
        assert np.asarray(image).std() > 20
    assert run("noise", "in/a.png", *words[2:]).out == "in/a.png -> in/a_noisy.png\n"
    assert run("noise", "in", *words[2:]).out.splitlines()[-1] == "2 done, 1 done before, 0 failed"
