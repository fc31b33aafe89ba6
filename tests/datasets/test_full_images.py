"""CBSD68 by its name: whole pictures in two orientations, which are only for tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from daelab.datasets.base import DatasetSource
from daelab.datasets.decoding import read_image_size
from daelab.datasets.full_images import load_cbsd68
from daelab.datasets.registry import load_dataset
from daelab.datasets.splits import split_dataset
from daelab.evaluation.evaluate import evaluate_denoiser, iterate_noisy_batches
from daelab.evaluation.metrics import psnr
from daelab.noise.grammar import parse_noise
from daelab.noise.random_streams import IndexedStream

TALL, WIDE = (36, 24), (24, 36)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a data set with the layout of CBSD68: 68 pictures in two orientations, and a file that is no picture."""
    root = tmp_path_factory.mktemp("photos")
    (root / "cbsd68").mkdir()
    rng = np.random.default_rng(0)
    for i in range(68):
        picture = rng.integers(0, 256, (*(TALL if i % 3 == 0 else WIDE), 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / "cbsd68" / f"{i:03}.png")
    (root / "cbsd68" / "LICENCE").write_text("theirs")
    return root


@pytest.fixture(autouse=True)
def _nothing_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DAELAB_DATA", str(tmp_path / "nowhere"))


def test_it_is_found_and_is_whole(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = load_dataset("cbsd68", root)
    assert (len(found.train), found.val, len(found.test)) == (0, None, 68)
    assert [path.name for path in found.test.paths[:2]] == ["000.png", "001.png"]  # type: ignore[attr-defined]
    assert found.test.size == (36, 36)
    batches = list(found.test.batches(found.test.groups(128), None))
    assert [batch.shape[2:] for batch in batches] == [TALL if i % 3 == 0 else WIDE for i in range(68)]
    assert len(load_dataset("cbsd68", root / "cbsd68").test) == 68
    monkeypatch.setenv("DAELAB_DATA", str(root))
    assert len(load_dataset("cbsd68").test) == 68


def test_pictures_of_two_sizes_are_no_batch(root: Path) -> None:
    test = load_dataset("cbsd68", root).test
    assert test.batch(np.array([0, 3])).shape == (2, 3, *TALL)
    with pytest.raises(ValueError, match="001.png has another size"):
        test.batch(np.array([0, 1]))


@pytest.mark.parametrize("folder", ["cbsd432", "train"])
def test_the_others_of_its_data_set_are_trained_on_as_crops(root: Path, tmp_path: Path, folder: str) -> None:
    """The 432 pictures are the training part, and the 68 are the test part. No picture is in both."""
    (tmp_path / "cbsd68").symlink_to(root / "cbsd68")
    (tmp_path / folder).mkdir()
    for i in range(431):
        (tmp_path / folder / f"{i:03}.png").symlink_to(root / "cbsd68" / f"{i % 68:03}.png")
    with pytest.raises(ValueError, match="holds 431 pictures; the set has 432"):
        load_dataset("cbsd432", tmp_path)
    (tmp_path / folder / "431.png").symlink_to(root / "cbsd68" / "000.png")
    found = load_dataset("cbsd432", tmp_path, crop=16)
    assert (len(found.train), found.train.size, found.val) == (432, (16, 16), None)
    assert (len(found.test), found.test.size) == (68, (36, 36))
    assert found.classes == ("photograph",)
    assert found.train.batch(np.arange(5)).shape == (5, 3, 16, 16)
    with pytest.raises(ValueError, match=r"cbsd432 is not in .*; put its 432 pictures into"):
        load_dataset("cbsd432", root)


def test_missing_or_not_68_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cbsd68 is not in .*; put its 68 pictures into .*cbsd68$"):
        load_dataset("cbsd68", tmp_path)
    (tmp_path / "cbsd68").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "cbsd68" / "a.png")
    with pytest.raises(ValueError, match="holds 1 pictures; the set has 68"):
        load_dataset("cbsd68", tmp_path)


def test_nothing_trains_on_it(root: Path) -> None:
    with pytest.raises(ValueError, match="cbsd68 is a test set; it has no images to train on"):
        split_dataset(load_dataset("cbsd68", root), None, None, 0)


def test_evaluation_takes_pictures_of_many_sizes(root: Path) -> None:
    test = load_dataset("cbsd68", root).test
    noise = parse_noise("awgn(25)")
    found = evaluate_denoiser(lambda x: x * 0.9, test, noise, seed=3)
    assert found.overall.images == 68
    by_hand = []
    for i, made in enumerate(iterate_noisy_batches(test, noise, 3)):
        clean = torch.from_numpy(test.batch(np.array([i]))).float() / 255
        assert torch.equal(made.noisy, noise.apply(clean, IndexedStream([i], 3)))
        by_hand.append(float(psnr((made.noisy * 0.9).clamp(0, 1), clean)))
    assert found.overall.metrics["psnr"].denoised == pytest.approx(np.mean(by_hand))


def test_sides_are_those_of_the_upright_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (9, 5)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image_size(tmp_path / "turned.jpg") == (9, 5)
    Image.new("RGB", (9, 5)).save(tmp_path / "turned.png", exif=exif)
    assert read_image_size(tmp_path / "turned.png") == (9, 5)


def test_a_side_is_read_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (9, 5)).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("the picture was decoded"))
    assert read_image_size(tmp_path / "a.png") == (5, 9)
    monkeypatch.setattr("daelab.image_io.read.MAX_PIXELS", 44)
    with pytest.raises(ValueError, match=r"a\.png: it has 45 pixels; at most 44 are read"):
        read_image_size(tmp_path / "a.png")


def test_the_real_set() -> None:
    places = [os.environ.get("DAELAB_PHOTOS"), Path(__file__).parents[2] / ".data"]
    real = next((Path(place) for place in places if place and (Path(place) / "cbsd68").is_dir()), None)
    if real is None:
        pytest.skip("$DAELAB_PHOTOS names no folder that holds cbsd68, and .data has none")
    test = load_cbsd68(DatasetSource(root=real)).test
    assert {read_image_size(path) for path in test.paths} == {(321, 481), (481, 321)}  # type: ignore[attr-defined]
    found = evaluate_denoiser(lambda x: x, test.take(np.arange(3)), parse_noise("awgn(25)"))
    assert found.overall.metrics["psnr"].noisy == pytest.approx(20.17, abs=0.02)
