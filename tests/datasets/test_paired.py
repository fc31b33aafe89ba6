"""Pairs of a noisy and a clean image: partners are found by their names, and anything ambiguous is an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from daelab.datasets.base import Dataset
from daelab.datasets.registry import load_dataset
from daelab.datasets.splits import split_dataset
from daelab.evaluation.evaluate import iterate_noisy_batches
from daelab.noise.grammar import parse_noise


def save(path: Path, value: int, size: tuple[int, int] = (24, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(0, 20, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise + value).save(path)


def load(folder: Path, **options: int) -> Dataset:
    return load_dataset(f"paired:{folder}", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("noisy", "clean"),
    [
        ("noisy/{}.png", "clean/{}.png"),
        ("{}_real.png", "{}_mean.png"),
        ("{}/NOISY_SRGB_010.PNG", "{}/GT_SRGB_010.PNG"),
        ("{}-noisy.png", "{}-clean.bmp"),
        ("input/noisy street {}.png", "target/noisy street {}.png"),
        ("Noisy/{}.png", "Reference/{}.png"),
    ],
)
def test_partners_differ_in_one_word(noisy: str, clean: str, tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / noisy.format(number), 100 + number)
        save(tmp_path / clean.format(number), 10 * number)
    data = load(tmp_path)
    assert (len(data.train), data.val, len(data.test), data.test.paired) == (0, None, 3, True)
    for number in range(3):
        pair = data.test.batch(np.array([number]))
        assert pair.shape == (1, 6, 16, 24)
        assert (pair[0, :3].min() // 10, pair[0, 3:].min()) == (number, 100 + number)


def test_other_words_are_given_with_the_name(tmp_path: Path) -> None:
    save(tmp_path / "1 iso6400.png", 100)
    save(tmp_path / "1 iso100.png", 10)
    with pytest.raises(ValueError, match=r"no pair in .* \(2 pictures\).*paired:DIR,noisy=WORD,clean=WORD"):
        load(tmp_path)
    assert len(load_dataset(f"paired:{tmp_path},noisy=iso6400,clean=iso100").test) == 1


def test_a_picture_without_a_partner_is_named(tmp_path: Path) -> None:
    for name in ("1_real", "1_mean", "2_real", "notes"):
        save(tmp_path / f"{name}.png", 0)
    with pytest.raises(ValueError, match=r"no partner in .* for 2_real.png, notes.png; rename or remove them"):
        load(tmp_path)
    (tmp_path / "2_real.png").unlink()
    (tmp_path / "notes.png").unlink()
    save(tmp_path / "1_mean.jpg", 0)
    with pytest.raises(ValueError, match=r"no partner in .* for 1_mean"):
        load(tmp_path)


def test_two_sizes_are_no_pair(tmp_path: Path) -> None:
    save(tmp_path / "noisy" / "a.png", 0)
    save(tmp_path / "clean" / "a.png", 0, (16, 24))
    with pytest.raises(ValueError, match=r"noisy/a.png has 24x16 pixels, but clean/a.png has 16x24"):
        load(tmp_path)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="paired: .*none is not a folder"):
        load(tmp_path / "none")


@pytest.mark.parametrize("layout", ["{part}/{kind}/{i}.png", "{kind}/{part}/{i}.png", "{part}/{i}_{kind}.png"])
def test_parts_are_folders_and_both_images_are_cropped_alike(layout: str, tmp_path: Path) -> None:
    for part, count in (("train", 4), ("val", 2), ("test", 1)):
        for i in range(count):
            save(tmp_path / layout.format(part=part, kind="clean", i=i), 0)
            # The same seed makes the same picture, 100 brighter.
            pixels = np.asarray(Image.open(tmp_path / layout.format(part=part, kind="clean", i=i)))
            path = tmp_path / layout.format(part=part, kind="noisy", i=i)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels + np.uint8(100)).save(path)
    data = load(tmp_path, crop=8)
    assert data.val is not None
    assert (len(data.train), len(data.val), len(data.test)) == (4, 2, 1)
    train, _ = split_dataset(data, None, None, 0)
    assert train.paired
    batch = train.batch(np.arange(4), np.random.default_rng(0))
    assert batch.shape == (4, 6, 8, 8)
    assert (batch[:, 3:] - batch[:, :3] == 100).all()


def test_a_set_without_parts_is_for_tests_only(tmp_path: Path) -> None:
    save(tmp_path / "noisy" / "a.png", 0)
    save(tmp_path / "clean" / "a.png", 0)
    with pytest.raises(ValueError, match="paired is a test set; it has no images to train on"):
        split_dataset(load(tmp_path), None, None, 0)


@pytest.mark.parametrize("inside", ["", "train", "test"])
@pytest.mark.parametrize("words", [("noisy", "clean"), ("input", "target"), ("Noisy", "GT")])
def test_a_folder_of_pairs_is_no_folder_of_classes(inside: str, words: tuple[str, str], tmp_path: Path) -> None:
    for word in words:
        save(tmp_path / inside / word / "a.png", 0)
    with pytest.raises(ValueError, match=f"holds pairs of noisy and clean pictures; use paired:{tmp_path}"):
        load_dataset(f"folder:{tmp_path}")


def test_the_noise_of_pairs_is_their_own(tmp_path: Path) -> None:
    save(tmp_path / "noisy" / "a.png", 100)
    save(tmp_path / "clean" / "a.png", 0)
    images = load(tmp_path).test
    (batch,) = iterate_noisy_batches(images, parse_noise("none"), 0)
    pair = torch.from_numpy(images.batch(np.array([0]))).float() / 255
    assert torch.equal(batch.clean, pair[:, :3])
    assert torch.equal(batch.noisy, pair[:, 3:])
    with pytest.raises(ValueError, match="paired data hold noise of their own, so the noise must be none, not awgn"):
        list(iterate_noisy_batches(images, parse_noise("awgn(25)"), 0))
