"""Every data set of the table keeps the contract of `Images`, and each kind of source is read completely."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daelab.datasets.base import Dataset, Images, ImageSet
from daelab.datasets.bundled_photos import CELL, SIDE, locate_photo_crops
from daelab.datasets.cifar10 import find_cifar10
from daelab.datasets.registry import DATASETS, load_dataset
from daelab.datasets.splits import split_dataset
from daelab.image_io.bundled_photos import PHOTOS

REPOSITORY = Path(__file__).parents[2]


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def image_set(n: int, name: str = "set", first: int = 0) -> ImageSet:
    """Return a set whose image i is filled with the digits of first + i."""
    number = np.arange(first, first + n)
    images = np.zeros((n, 3, 2, 2), np.uint8)
    images[:, 0], images[:, 1] = (number % 256)[:, None, None], (number // 256)[:, None, None]
    return ImageSet(name, images, np.arange(n) % 2, ("even", "odd"))


def numbers(images: Images) -> np.ndarray:
    """Return which images of `image_set` these are."""
    batch = images.batch(np.arange(len(images))).astype(np.int64)
    return batch[:, 0, 0, 0] + 256 * batch[:, 1, 0, 0]


def dataset(train: int, val: int | None = None) -> Dataset:
    own = None if val is None else image_set(val, first=10_000)
    return Dataset("made", image_set(train), own, image_set(5), ("even", "odd"), "made up")


def load_any(name: str, tmp_path: Path) -> Dataset:
    if name == "cifar10":
        if find_cifar10(REPOSITORY / ".data") is None:
            pytest.skip("CIFAR-10 is neither in .data nor in $DAELAB_DATA")
        return load_dataset("cifar10", REPOSITORY / ".data", download=False)
    if name == "paired:PATH":
        for part, i, kind in product(("train", "test"), range(4), ("clean", "noisy")):
            path = tmp_path / "pairs" / part / kind / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(20, 24, 3, seed=i + 100 * (kind == "noisy"))).save(path)
        return load_dataset(f"paired:{tmp_path / 'pairs'}", crop=16)
    if name in ("folder:PATH", "neighbors:PATH"):
        kind = name.partition(":")[0]
        for i in range(23):
            folder = tmp_path / "album" / f"class {i % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(20 + i, 60 - 2 * i, 3, seed=i)).save(folder / f"{i}.png")
        return load_dataset(f"{kind}:{tmp_path / 'album'}", crop=16 if kind == "folder" else 8)
    if name == "npz:PATH":
        np.savez(tmp_path / "a.npz", images=pixels(40, 8, 6, 3), labels=np.arange(40) % 4)
        return load_dataset(f"npz:{tmp_path / 'a.npz'}")
    if name == "cbsd68":
        return load_dataset(name, photographs(tmp_path))
    if name == "cbsd432":
        root = photographs(tmp_path)
        (root / "cbsd432").mkdir()
        for i in range(432):
            (root / "cbsd432" / f"{i:03}.png").symlink_to(root / "cbsd68" / f"{i % 68:03}.png")
        return load_dataset(name, root, crop=16)
    return load_dataset(name)


def photographs(root: Path) -> Path:
    """Write a folder that stands in for CBSD68: 68 pictures of one size."""
    (root / "cbsd68").mkdir(exist_ok=True)
    for i in range(68):
        Image.fromarray(pixels(16, 24, 3, seed=i)).save(root / "cbsd68" / f"{i:03}.png")
    return root


# Every data set


@pytest.mark.parametrize("name", DATASETS)
def test_every_set_keeps_the_contract(name: str, tmp_path: Path) -> None:
    loaded = load_any(name, tmp_path)
    assert loaded.note
    assert "\n" not in loaded.note
    assert len(loaded.train) or name == "cbsd68"  # a test set
    for images in [part for part in (loaded.train, loaded.test, loaded.val) if part]:
        assert isinstance(images, Images)
        assert images.classes == loaded.classes
        assert images.labels.dtype == np.int64
        assert len(images) == len(images.labels) == sum(images.count_classes().values()) > 0
        some = np.array([1, 0, 1])
        batch = images.batch(some)
        assert batch.dtype == np.uint8
        assert batch.shape == (3, 6 if images.paired else 3, *images.size)
        assert batch.flags.c_contiguous
        assert np.array_equal(batch, images.batch(some))
        assert np.array_equal(batch[0], batch[2])
        taken = images.take(some)
        assert np.array_equal(taken.batch(np.arange(3)), batch)
        assert np.array_equal(taken.labels, images.labels[some])
        groups = list(images.groups(7))
        assert max(map(len, groups)) <= 7
        assert np.array_equal(np.concatenate(groups), np.arange(len(images)))


@pytest.mark.parametrize("name", DATASETS)
def test_every_set_streams_the_same_wherever_it_starts(name: str, tmp_path: Path) -> None:
    loaded = load_any(name, tmp_path)
    images = loaded.train if len(loaded.train) else loaded.test
    orders = [np.array([0, 1, 2]), np.array([3, 1]), np.array([2, 2, 0, 1])]
    whole = list(images.batches(orders, seed=5))
    assert [len(batch) for batch in whole] == [3, 2, 4]
    resumed = list(images.batches(orders[1:], seed=5, start=3))
    assert all(np.array_equal(a, b) for a, b in zip(whole[1:], resumed, strict=True))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar", "did you mean 'cifar10'"),
        ("bsd68", "did you mean 'cbsd68'"),
        ("folder", "did you mean 'folder:PATH'"),
        ("npz:", "unknown data set"),
        ("photos:x", "unknown data set"),
    ],
)
def test_an_unknown_set_lists_the_valid_ones(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_dataset(name)
    assert all(valid in str(error.value) for valid in DATASETS)


def test_importing_data_does_not_import_torch() -> None:
    code = "import daelab.datasets.registry, sys; sys.exit(bool({'torch', 'skimage', 'sklearn'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 3, 4, 4)), np.zeros(2, np.int64), "uint8"),
        (pixels(2, 4, 4, 3), np.zeros(2, np.int64), r"\(N, 3, H, W\)"),
        (pixels(2, 4, 4, 3).transpose(0, 3, 1, 2), np.zeros(2, np.int64), "contiguous"),
        (pixels(2, 3, 4, 4), np.zeros(3, np.int64), r"int64 \(2,\)"),
        (pixels(2, 3, 4, 4), np.zeros(2), "int64"),
        (pixels(2, 3, 4, 4), np.array([0, 2]), "from 0 to 2, but there are 2"),
    ],
)
def test_an_image_set_checks_its_arrays(images: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSet("wrong", images, labels, ("a", "b"))


# split


def test_a_split_is_seeded_distinct_and_disjoint() -> None:
    made = dataset(300)
    train, val = split_dataset(made, 100, 50, seed=3)
    assert len(set(numbers(train)) | set(numbers(val))) == 150
    again, _ = split_dataset(made, 100, 50, seed=3)
    other, _ = split_dataset(made, 100, 50, seed=4)
    assert np.array_equal(numbers(train), numbers(again))
    assert not np.array_equal(numbers(train), numbers(other))
    assert np.array_equal(train.labels, numbers(train) % 2)


def test_a_split_keeps_its_validation_images_when_training_grows() -> None:
    made = dataset(300)
    small, large = split_dataset(made, 100, 50, seed=3), split_dataset(made, 200, 50, seed=3)
    assert np.array_equal(numbers(small[1]), numbers(large[1]))
    assert np.array_equal(numbers(small[0]), numbers(large[0])[:100])


def test_a_split_is_the_same_on_every_platform() -> None:
    train, val = split_dataset(dataset(20), 4, 3, seed=0)
    assert (numbers(train).tolist(), numbers(val).tolist()) == ([2, 13, 16, 3], [4, 19, 6])


def test_a_split_by_default_holds_out_a_tenth() -> None:
    train, val = split_dataset(dataset(300), None, None, seed=0)
    assert (len(train), len(val)) == (270, 30)


def test_a_split_uses_the_sets_own_validation_part() -> None:
    train, val = split_dataset(dataset(30, val=10), None, None, seed=0)
    assert sorted(numbers(train)) == list(range(30))
    assert sorted(numbers(val)) == list(range(10_000, 10_010))
    train, val = split_dataset(dataset(30, val=10), 20, 5, seed=0)
    assert (len(train), len(set(numbers(train)))) == (20, 20)
    assert (len(val), len(set(numbers(val)))) == (5, 5)


@pytest.mark.parametrize(
    ("train", "val", "own", "message"),
    [
        (100, 250, None, "100 training images are requested, but 50 are available"),
        (None, 300, None, "300 validation images are requested, but 299 are available"),
        (None, 11, 10, "11 validation images are requested, but 10 are available"),
        (0, None, None, "a training part needs at least 1"),
        (None, -1, None, "a validation part needs at least 1"),
    ],
)
def test_a_split_too_large_or_empty_names_both_numbers(
    train: int | None, val: int | None, own: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        split_dataset(dataset(300, own), train, val, seed=0)


@pytest.mark.parametrize(
    ("train", "val", "distinct"), [(20_000, 5_000, 16_147), (40_000, 10_000, 25_285)], ids=["37", "38"]
)
def test_replacement_gives_the_papers_distinct_counts(train: int, val: int, distinct: int) -> None:
    drawn, held = split_dataset(dataset(50_000), train, val, seed=0, replacement=True)
    assert (len(drawn), len(held)) == (train, val)
    drawn_numbers, held_numbers = set(numbers(drawn)), set(numbers(held))
    assert len(drawn_numbers) == pytest.approx(distinct, abs=250)
    assert len(held_numbers) == pytest.approx(val * (1 - np.exp(-1)), abs=150)
    assert not drawn_numbers & held_numbers


# photos


def test_photos_are_balanced_and_deterministic() -> None:
    loaded = load_dataset("photos", download=False)
    assert loaded.val is not None
    for images, count in ((loaded.train, 500), (loaded.val, 50), (loaded.test, 100)):
        assert images.size == (32, 32)
        assert list(images.count_classes().values()) == [count] * 10
    again = load_dataset("photos")
    every = np.arange(1000)
    assert np.array_equal(loaded.test.batch(every), again.test.batch(every))


def test_photos_parts_share_no_pixel() -> None:
    covered = {}
    for part, crops in locate_photo_crops().items():
        covered[part] = np.zeros((len(PHOTOS), 1000, 1000), bool)
        for place, top, left in crops.tolist():
            covered[part][place, top : top + SIDE, left : left + SIDE] = True
            assert top // CELL == (top + SIDE - 1) // CELL
            assert left // CELL == (left + SIDE - 1) // CELL
    total = np.sum([mask.sum() for mask in covered.values()])
    assert np.any(list(covered.values()), axis=0).sum() == total
    assert all(mask.any(axis=(1, 2)).all() for mask in covered.values())


def test_photos_are_cut_where_they_say() -> None:
    loaded = load_dataset("photos")
    crops = locate_photo_crops()["test"]
    astronaut = np.asarray(Image.open(PHOTOS[0].path()).convert("RGB"))
    for i in (0, 50, 99):
        place, top, left = crops[i]
        assert place == loaded.test.labels[i] == 0
        expected = astronaut[top : top + SIDE, left : left + SIDE].transpose(2, 0, 1)
        assert np.array_equal(loaded.test.batch(np.array([i]))[0], expected)


def test_few_photos_are_empty() -> None:
    images = load_dataset("photos").train
    spread = images.batch(np.arange(len(images))).std(axis=(2, 3)).max(axis=1)
    assert (spread < 2).mean() < 0.01


def test_photos_without_their_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'daelab\[photos\]'"):
        load_dataset("photos")


# npz


@pytest.mark.parametrize(
    ("array", "channels"),
    [
        (pixels(10, 5, 6, 3), lambda a: a.transpose(0, 3, 1, 2)),
        (pixels(10, 3, 5, 6), lambda a: a),
        (pixels(10, 5, 6), lambda a: np.stack([a, a, a], axis=1)),
        (pixels(10, 5, 6, 1), lambda a: np.stack([a[..., 0]] * 3, axis=1)),
        (pixels(10, 1, 5, 6), lambda a: np.repeat(a, 3, axis=1)),
    ],
    ids=["NHWC", "NCHW", "NHW", "NHW1", "N1HW"],
)
def test_npz_reads_any_layout(array: np.ndarray, channels: object, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=array, test_images=array)
    loaded = load_dataset(f"npz:{tmp_path / 'a.npz'}")
    assert np.array_equal(loaded.train.batch(np.arange(10)), channels(array))
    assert loaded.train.count_classes() == {"image": 10}


def test_npz_without_parts_holds_out_a_fixed_tenth(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=pixels(40, 4, 4, 3), labels=np.array(["b", "a"] * 20))
    loaded = load_dataset(f"npz:{tmp_path / 'a.npz'}")
    assert (len(loaded.train), len(loaded.test), loaded.val) == (36, 4, None)
    assert loaded.classes == ("a", "b")


def test_npz_reads_parts_as_medmnist_has_them(tmp_path: Path) -> None:
    parts = {"train": 6, "val": 2, "test": 4}
    images = {f"{part}_images": pixels(count, 28, 28) for part, count in parts.items()}
    labels = {f"{part}_labels": np.arange(count)[:, None] * 10 for part, count in parts.items()}
    np.savez(tmp_path / "a.npz", **images, **labels)
    loaded = load_dataset(f"npz:{tmp_path / 'a.npz'}")
    assert loaded.val is not None
    assert (len(loaded.train), len(loaded.val), len(loaded.test)) == (6, 2, 4)
    assert loaded.classes == ("0", "10", "20", "30", "40", "50")
    assert loaded.test.labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": pixels(4, 4, 4)}, "it has the arrays pictures; expected `images`"),
        ({"images": pixels(4, 4, 4, 3) / 255}, "`images` must be uint8 from 0 to 255, not float64"),
        ({"images": pixels(4, 4, 4, 5)}, r"not \(4, 4, 5, 4\)|not \(4, 4, 4, 5\)"),
        ({"images": pixels(4, 4)}, r"not \(4, 4\)"),
        ({"images": pixels(4, 4, 4), "labels": np.zeros(3)}, r"`labels` must be \(4,\)"),
        ({"images": pixels(0, 4, 4)}, r"must be \(N, H, W, 3\)"),
        ({"images": np.array([{}, {}])}, "Object arrays cannot be loaded"),
        (
            {"train_images": pixels(2, 4, 4), "test_images": pixels(2, 4, 4), "test_labels": np.zeros(2)},
            "has `test_labels` but not `train_labels`",
        ),
    ],
)
def test_an_unfit_npz_is_a_value_error(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message) as error:
        load_dataset(f"npz:{path}")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["absent", "text", "truncated", "flipped", "npy", "folder"])
def test_a_file_that_is_no_npz_is_a_value_error(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=pixels(40, 8, 8))
    content = path.read_bytes()
    if damage in ("absent", "folder", "npy"):
        path.unlink()
    if damage == "npy":
        np.save(tmp_path / "a.npy", pixels(4, 4, 4))
        (tmp_path / "a.npy").rename(path)
    elif damage == "folder":
        path.mkdir()
    elif damage != "absent":
        half = len(content) // 2
        flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        path.write_bytes({"text": b"images", "truncated": content[:half], "flipped": flipped}[damage])
    with pytest.raises(ValueError, match=str(path)) as error:
        load_dataset(f"npz:{path}")
    assert "\n" not in str(error.value)
