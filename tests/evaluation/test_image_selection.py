"""A limited evaluation tests every class, and says which images it tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daelab.datasets.base import Dataset, ImageSet
from daelab.datasets.registry import load_dataset
from daelab.evaluation.image_selection import select_test_images, take_representative, use_all_images


def image_set(labels: list[int]) -> ImageSet:
    """Return images whose pixels all hold the position of the image."""
    pixels = np.broadcast_to(np.arange(len(labels), dtype=np.uint8)[:, None, None, None], (len(labels), 3, 2, 2))
    classes = tuple(map(str, range(max(labels, default=0) + 1)))
    return ImageSet("numbers", np.ascontiguousarray(pixels), np.array(labels, np.int64), classes)


# labels, limit, positions of the images that are taken
CHOICES: dict[str, tuple[list[int], int, list[int]]] = {
    "sorted": ([0, 0, 0, 0, 1, 1, 1, 1], 4, [0, 2, 4, 6]),
    "sorted backwards": ([1, 1, 1, 0, 0, 0], 2, [0, 3]),
    "sorted, of unequal classes": ([0] * 9 + [1] * 3, 4, [0, 3, 6, 9]),
    "sorted in two runs": ([0] * 6 + [1] * 6 + [0] * 6 + [1] * 6, 4, [0, 6, 12, 18]),
    "alternating": ([0, 1] * 4, 4, [0, 1, 2, 3]),
    "mixed": ([0, 1, 1, 0, 1, 0, 0, 1], 3, [0, 1, 2]),
    "of one class": ([0] * 8, 3, [0, 1, 2]),
    "limit above the number": ([0, 0, 1, 1], 9, [0, 1, 2, 3]),
    "one image of each class": ([0, 1, 2], 2, [0, 1]),
    "one image": ([0, 0, 1, 1], 1, [0]),
}


@pytest.mark.parametrize(("labels", "limit", "taken"), CHOICES.values(), ids=CHOICES)
def test_sorted_sets_are_drawn_evenly(labels: list[int], limit: int, taken: list[int]) -> None:
    images = take_representative(image_set(labels), limit)
    assert images.batch(np.arange(len(images)))[:, 0, 0, 0].tolist() == taken


def test_a_limit_of_the_bundled_photos_has_every_photograph() -> None:
    images, selection = select_test_images(load_dataset("photos"), 20)
    assert set(images.count_classes().values()) == {2}
    assert selection == "20 of 1,000 test images, evenly spaced, since they are sorted by class"


def numbers(labels: list[int], *, whole: bool = False) -> Dataset:
    images = image_set(labels)
    if not whole:
        return Dataset("numbers", images, None, images, images.classes, "")
    test = images.take(np.arange(2))
    return Dataset("numbers", images.take(np.arange(2, len(labels))), None, test, images.classes, "", images)


def test_it_says_what_is_tested() -> None:
    assert select_test_images(numbers([0, 1, 0]), None)[1] == ""
    assert select_test_images(numbers([0, 1, 0]), 3)[1] == ""
    assert select_test_images(numbers([0, 1, 0]), 2)[1] == "2 of 3 test images, the first"
    part = numbers([0, 1, 0, 1], whole=True)
    tenth = "a fixed tenth of the 4 images, since numbers has no test part (--all uses all)"
    assert select_test_images(part, None)[1] == tenth
    assert select_test_images(part, 1)[1] == f"{tenth}; 1 of 2 test images, the first"
    images, selection = select_test_images(use_all_images(part), None)
    assert (len(images), selection) == (4, "all 4 images, also those that a training on them would use")
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        select_test_images(part, 0)


def test_all_images_leave_none_to_train_on() -> None:
    everything = use_all_images(numbers([0, 1, 0, 1], whole=True))
    assert (len(everything.train), everything.val) == (0, None)
    with pytest.raises(ValueError, match="numbers has a test part of its own"):
        use_all_images(replace(numbers([0, 1]), whole=None))


def test_a_set_without_a_test_part_knows_all_its_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(20):
        path = tmp_path / "set" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    pixels = rng.integers(0, 256, (20, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "one.npz", images=pixels)
    np.savez(tmp_path / "two.npz", train_images=pixels, test_images=pixels)
    folder, one, two = (
        load_dataset(name)
        for name in (f"folder:{tmp_path / 'set'}", *(f"npz:{tmp_path / f'{n}.npz'}" for n in ("one", "two")))
    )
    assert two.whole is None
    for dataset in (folder, one):
        assert dataset.whole is not None
        assert (len(dataset.whole), len(dataset.test)) == (20, 2)
    assert select_test_images(folder, None)[1].endswith("; only the central 32x32 pixels of each")
