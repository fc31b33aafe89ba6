"""Denoising of files: where results are written, what is skipped, what fails, and what the errors say."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import daelab
from daelab.denoising.backends import Backend
from daelab.denoising.batch import BatchRequest, plan_batch, run_batch
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.image_comparison import compare_images
from daelab.denoising.pipeline import DenoiseOptions, DenoiseResult, run_bytes, run_file
from daelab.image_io.formats import parse_format
from daelab.image_io.picture import Picture
from daelab.image_io.read import read_picture

DARKER = Denoiser(Backend("darker", lambda x: x * 0.5, multiple=2))


def picture(path: Path, size: tuple[int, int] = (9, 7), **said: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(zlib.crc32(path.name.encode())).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **said)
    return path


def run(
    *pictures: str | Path, workers: int = 1, options: DenoiseOptions | None = None, **request: Any
) -> list[DenoiseResult]:
    wanted = BatchRequest([str(item) for item in pictures], **request)

    def work(source: str, target: Path, progress: Callable[[int, int], None]) -> DenoiseResult:
        return run_file(DARKER, source, target, options or DenoiseOptions(overwrite=wanted.overwrite), progress)

    return list(run_batch(wanted, work, workers))


def results(found: list[DenoiseResult]) -> list[tuple[str, str]]:
    return [(Path(result.result).name, result.status) for result in found]


# One picture


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 30), st.integers(1, 30)),
        st.tuples(st.integers(1, 30), st.integers(1, 30), st.just(3)),
        st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12), st.just(3)),
    ),
    dtype=st.sampled_from(["u1", "u2", "u4", "i2", "i4", "f2", "f4", "f8", ">u2", ">f4"]),
    seed=st.integers(0, 9),
)
def test_any_array_comes_back_in_its_shape_and_type(
    shape: tuple[int, ...], dtype: str, seed: int, tmp_path: Path
) -> None:
    values = (np.random.default_rng(seed).random(shape) * (1 if "f" in dtype else 200)).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    daelab.denoise_file(tmp_path / "a.npy", tmp_path / "b.npy", model=DARKER, overwrite=True)
    found = np.load(tmp_path / "b.npy")
    assert found.shape == values.shape
    assert found.dtype.newbyteorder("=") == values.dtype.newbyteorder("=")
    assert np.isfinite(found.astype(np.float64)).all()


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder; give the name of a picture"):
        daelab.denoise_file(tmp_path, model=DARKER)


def test_a_name_without_a_suffix_names_no_format(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "picture", "PNG")
    with pytest.raises(ValueError, match=r"picture_clean: the name has no suffix, which names the format\. Valid: "):
        daelab.denoise_file(tmp_path / "picture", model=DARKER)
    found = daelab.denoise_file(tmp_path / "picture", tmp_path / "clean.png", model=DARKER)
    assert (found.height, found.width) == (4, 4)


def test_the_result_is_written_beside_its_source(tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png")
    found = daelab.denoise_file(source, model=DARKER)
    assert (found.result, found.height, found.width) == (str(tmp_path / "a_clean.png"), 9, 7)
    with pytest.raises(FileExistsError, match=r"a_clean\.png exists"):
        daelab.denoise_file(source, model=DARKER)


def test_the_source_is_replaced_only_in_place(tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png")
    before = source.read_bytes()
    os.link(source, tmp_path / "link.png")
    for target in (source, tmp_path / "link.png", tmp_path / "." / "a.png"):
        with pytest.raises(ValueError, match="is the source itself"):
            daelab.denoise_file(source, target, model=DARKER, overwrite=True)
    assert source.read_bytes() == before
    found = daelab.denoise_file(source, model=DARKER, in_place=True)
    assert found.result == str(source)
    assert source.read_bytes() != before
    with pytest.raises(ValueError, match="no dst"):
        daelab.denoise_file(source, source, model=DARKER, in_place=True)


def test_comparison_and_uncertainty_map(tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png")
    shadow = Backend("shadow", lambda x: x * (x.new_tensor(range(x.shape[-1])) / x.shape[-1]), multiple=1)
    found = daelab.denoise_file(source, model=Denoiser(shadow), compare=True, uncertainty=True)
    both = read_picture(found.compare).pixels
    assert np.array_equal(both[:, :7], read_picture(source).pixels)
    assert np.array_equal(both[:, -7:], read_picture(found.result).pixels)
    spread = read_picture(found.uncertainty)
    assert spread.pixels.dtype == np.uint16
    assert spread.pixels.max() == 65535
    assert found.largest_spread is not None
    assert 0 < found.largest_spread < 1
    with Image.open(found.uncertainty) as image:
        assert f"{found.largest_spread:.6f}" in image.info["Comment"]


def test_a_format_that_cannot_hold_the_result_is_refused_before_denoising(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 4), np.uint16))

    def never(x: Any) -> Any:
        raise AssertionError

    with pytest.raises(ValueError, match="JPEG cannot hold 16-bit"):
        daelab.denoise_file(tmp_path / "a.npy", tmp_path / "a.jpg", model=Denoiser(Backend("never", never)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


# Which file becomes which


def test_a_second_run_skips_what_was_denoised(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "deep/c.png", ".hidden.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    assert results(run(tmp_path)) == [("a_clean.jpg", "cleaned"), ("b_clean.png", "cleaned")]
    assert results(run(tmp_path)) == [("a_clean.jpg", "done before"), ("b_clean.png", "done before")]
    # as a shell expands the pattern
    assert results(run(*sorted(tmp_path.glob("[!.]*.png")))) == [("b_clean.png", "done before")]
    found = run(tmp_path, recursive=True)
    assert results(found)[-1] == ("c_clean.png", "cleaned")
    (tmp_path / "b_clean.png").unlink()
    assert results(run(f"{tmp_path}/*.*")) == [("a_clean.jpg", "done before"), ("b_clean.png", "cleaned")]
    assert [status for _, status in results(run(tmp_path, overwrite=True))] == ["cleaned"] * 2


def test_side_files_are_not_denoised(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    run(tmp_path, options=DenoiseOptions(compare=True, uncertainty=True))
    assert results(run(tmp_path)) == [("a_clean.png", "done before")]
    # a file that is named like a result but has no source is a picture
    picture(tmp_path / "alone_clean.png")
    assert results(run(tmp_path))[-1] == ("alone_clean_clean.png", "cleaned")


def test_a_folder_is_denoised_into_a_folder(tmp_path: Path) -> None:
    for name in ("a.png", "deep/a.png", "deep/b.tif"):
        picture(tmp_path / "in" / name)
    out = tmp_path / "in" / "out"
    for status in ("cleaned", "done before"):
        assert results(run(tmp_path / "in", out=out, recursive=True)) == [
            ("a.png", status),
            ("a.png", status),
            ("b.tif", status),
        ]
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == [
        "a.png",
        "deep/a.png",
        "deep/b.tif",
    ]
    run(tmp_path / "in", out=tmp_path / "other", suffix="-x", form="webp")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["a-x.webp"]


def test_clashing_targets_fail_and_the_rest_is_denoised(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "b.png"):
        picture(tmp_path / name)
    found = run(tmp_path, form="png")
    assert [result.status for result in found] == ["cleaned", "failed", "cleaned"]
    assert "its result would be" in found[1].reason
    found = run(tmp_path / "a.png", tmp_path / "b.png", out=tmp_path, overwrite=True)
    assert [result.status for result in found] == ["failed", "failed"]
    assert "name another file with --out" in found[0].reason


def test_pictures_are_replaced_in_place(tmp_path: Path) -> None:
    sources = [picture(tmp_path / name, dpi=(300, 300)) for name in ("a.png", "b.png")]
    before = [read_picture(path).pixels for path in sources]
    assert results(run(tmp_path, in_place=True)) == [("a.png", "cleaned"), ("b.png", "cleaned")]
    assert sorted(tmp_path.iterdir()) == sources
    for path, pixels in zip(sources, before, strict=True):
        assert np.abs(read_picture(path).pixels - pixels / 2.0).max() <= 0.5
    for wrong in ({"out": tmp_path}, {"suffix": "_x"}, {"form": "png"}, {"overwrite": True}):
        with pytest.raises(ValueError, match="--in-place replaces"):
            run(tmp_path, in_place=True, **wrong)


def test_a_damaged_picture_is_not_replaced(tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png", (64, 64))
    broken = source.read_bytes()[:3000]
    source.write_bytes(broken)
    with pytest.raises(ValueError, match="a broken picture"):
        run(source, in_place=True)
    assert source.read_bytes() == broken


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_shards_share_a_folder(parts: int, tmp_path: Path) -> None:
    names = {picture(tmp_path / f"{number}.png", (2, 2)).name for number in range(20)}
    seen: list[str] = []
    for part in range(1, parts + 1):
        # a computer that starts later finds results of the others, and takes the same part
        seen += [Path(result.source).name for result in run(tmp_path, shard=(part, parts))]
    assert sorted(seen) == sorted(names)
    with pytest.raises(ValueError, match="--shard"):
        run(tmp_path, shard=(3, 2))


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_report_in_order(workers: int, tmp_path: Path) -> None:
    for number in range(9):
        picture(tmp_path / f"{number}.png")
    (tmp_path / "5.png").write_bytes(b"")
    reports: list[tuple[float, int]] = []
    request = BatchRequest([str(tmp_path)])
    work = lambda source, target, progress: run_file(DARKER, source, target, DenoiseOptions(), progress)  # noqa: E731
    found = list(run_batch(request, work, workers, lambda *now: reports.append(now)))
    assert [Path(result.source).stem for result in found] == [str(number) for number in range(9)]
    assert [result.status for result in found].count("failed") == 1
    assert reports[-1] == (9, 9)
    assert all(after[0] >= before[0] for before, after in pairwise(reports))
    with pytest.raises(ValueError, match="--workers"):
        list(run_batch(request, work, 0))


@pytest.mark.parametrize(
    ("pictures", "options", "message"),
    [
        (["nowhere.png"], {}, "no picture nowhere.png"),
        (["*.nothing"], {}, "no picture in"),
        (["."], {}, "no picture in"),
        (["a.png", "b.png"], {"out": Path("x.png")}, "need a folder"),
        (["a.png"], {"suffix": "/../b"}, "--suffix /../b: a part of a file name has no slash"),
        (["a.png"], {"form": "wepb"}, "did you mean 'webp'"),
        (["a.png"], {"out": Path("x.xyz")}, "unknown picture format '.xyz'"),
    ],
)
def test_wrong_requests_are_refused(
    pictures: list[str], options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if pictures != ["."]:
        picture(tmp_path / "a.png")
        picture(tmp_path / "b.png")
    with pytest.raises((ValueError, OSError), match=message):
        run(*pictures, **options)


def test_a_bundled_photograph_is_written_by_its_name(tmp_path: Path) -> None:
    assert [job.target for job in plan_batch(BatchRequest(["photo:cat"], out=tmp_path))] == [tmp_path / "cat.png"]


# Twenty kinds of damage


def _bytes(form: str, **said: Any) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, form, **said)
    return stream.getvalue()


def _png_of(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + _bytes("PNG")[33:]
    )


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def _npy(values: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, **options)
    return stream.getvalue()


def _tiff(values: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty.png": (b"", "empty"),
    "text.png": (b"this is a text", "not a picture"),
    "signature.png": (_bytes("PNG")[:8], "picture"),
    "half.png": (_bytes("PNG")[:3000], "broken"),
    "flipped.png": (_flipped(_bytes("PNG"), 400), "broken"),
    "bomb.png": (_png_of(50_000, 50_000), "2,500,000,000 pixels"),
    "larger.png": (_png_of(48, 5000), "broken"),
    "no-width.png": (_png_of(0, 48), "picture"),
    "half.jpg": (_bytes("JPEG")[:1500], "broken"),
    "header.jpg": (_bytes("JPEG")[:20], "picture"),
    "half.webp": (_bytes("WEBP")[:500], "picture"),
    "riff.webp": (b"RIFF\x10\0\0\0WEBPVP8 ", "picture"),
    "half.gif": (_bytes("GIF")[:900], "broken"),
    "half.bmp": (_bytes("BMP")[:900], "broken"),
    "no-page.tif": (b"II*\0\xff\xff\xff\0", "no page"),
    "half.tif": (_tiff(np.ones((50, 50, 3), np.uint8), photometric="rgb")[:3000], "broken"),
    "nan.tif": (_tiff(np.full((4, 4), np.nan, np.float32)), "NaN or infinite"),
    "half.npy": (_npy(np.zeros((9, 9)))[:300], "broken"),
    "pickled.npy": (_npy(np.array([[{}]]), allow_pickle=True), "of numbers"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_picture_gives_one_line_with_its_name(name: str, tmp_path: Path) -> None:
    content, reason = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name) as caught:
        daelab.denoise_file(tmp_path / name, model=DARKER)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


# Comparison of pictures


def test_scores_agree_with_scikit_image() -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    rng = np.random.default_rng(0)
    clean = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    noisy = np.clip(clean + rng.normal(0, 30, clean.shape), 0, 255).astype(np.uint8)
    found = compare_images(Picture(clean), Picture(noisy), "a", "b")
    assert list(found) == ["all", "red", "green", "blue"]
    window = {"data_range": 255, "gaussian_weights": True, "use_sample_covariance": False}
    for part, one, other in (
        ("all", clean, noisy),
        *((name, clean[..., at], noisy[..., at]) for at, name in enumerate(("red", "green", "blue"))),
    ):
        assert found[part]["psnr"] == pytest.approx(peak_signal_noise_ratio(one, other), abs=1e-3)
        similar = structural_similarity(one, other, channel_axis=2 if one.ndim == 3 else None, **window)
        assert found[part]["ssim"] == pytest.approx(similar, abs=1e-4)
        x, y = (values.astype(np.float64).ravel() / 255 for values in (other, one))
        fit = np.polyval(np.polyfit(x, y, 1), x)
        assert found[part]["si_psnr"] == pytest.approx(-10 * np.log10(np.mean((fit - y) ** 2)), abs=1e-3)


def test_scores_of_equal_and_of_unlike_pictures() -> None:
    grey = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4000
    same = compare_images(Picture(grey), Picture(grey), "a", "b")
    assert same == {"grey": {"psnr": None, "ssim": None, "si_psnr": None}}
    flat = compare_images(Picture(grey), Picture(np.zeros_like(grey)), "a", "b")["grey"]
    assert flat["si_psnr"] is not None
    assert flat["psnr"] is not None
    assert flat["si_psnr"] > flat["psnr"]
    with pytest.raises(ValueError, match=r"a and b cannot be compared: 4x4 and 4x5"):
        compare_images(Picture(grey), Picture(np.zeros((4, 5), np.uint8)), "a", "b")


def test_a_format_has_several_names() -> None:
    assert parse_format("jpeg")[1].name == parse_format(".JPG")[1].name == "JPEG"


# In memory


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_in_memory_the_result_is_that_of_a_file(suffix: str, tmp_path: Path) -> None:
    source = picture(tmp_path / f"a{suffix}")
    result = daelab.denoise_file(source, model=DARKER, strength=0.5)
    denoised = run_bytes(DARKER, source.read_bytes(), DenoiseOptions(strength=0.5), name=source.name)
    assert denoised.data == Path(result.result).read_bytes()
    assert (denoised.result.height, denoised.result.width, denoised.result.source) == (9, 7, "")
    assert run_bytes(DARKER, source.read_bytes(), DenoiseOptions(), form="NPY").data.startswith(b"\x93NUMPY")


def test_in_memory_errors_name_the_picture(tmp_path: Path) -> None:
    data = picture(tmp_path / "a.png").read_bytes()
    np.save(tmp_path / "nan.npy", np.full((4, 4), np.nan))
    for content, form, reason in (
        (data[:20], None, "picture"),
        ((tmp_path / "nan.npy").read_bytes(), None, "NaN or infinite"),
        (_tiff(np.ones((4, 4), np.uint16)), "JPEG", "JPEG cannot hold 16-bit integers"),
    ):
        with pytest.raises(ValueError, match="standard input: ") as caught:
            run_bytes(DARKER, content, DenoiseOptions(), form=form)
        assert reason in str(caught.value)
