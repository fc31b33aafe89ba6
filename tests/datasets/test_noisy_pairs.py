"""Pairs of noisy and clean images for users' own training loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import daelab
from daelab.datasets.arrays import make_dataset
from daelab.datasets.base import ImageSet

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
IMAGES = make_dataset(PIXELS).whole
NOISE = daelab.parse_noise("gaussian(0, 0.1)")
assert isinstance(IMAGES, ImageSet)


def test_a_loader_gives_noisy_and_clean_images() -> None:
    noisy, clean = next(iter(DataLoader(daelab.NoisyPairs(IMAGES, NOISE), batch_size=20)))
    np.testing.assert_array_equal((clean * 255).round().numpy(), PIXELS.transpose(0, 3, 1, 2))
    assert noisy.shape == clean.shape == (20, 3, 8, 8)
    inner = (clean > 0.4) & (clean < 0.6)
    assert float((noisy - clean)[inner].std()) == pytest.approx(0.1, rel=0.15)


def test_a_seed_fixes_the_noise_of_each_image() -> None:
    fixed, fresh = daelab.NoisyPairs(IMAGES, NOISE, seed=1), daelab.NoisyPairs(IMAGES, NOISE)
    assert torch.equal(fixed[3][0], fixed[3][0])
    assert torch.equal(fixed[-1][0], fixed[19][0])
    assert not torch.equal(fresh[3][0], fresh[3][0])
    differences = [noisy - clean for noisy, clean in (fixed[0], fixed[1])]
    assert not torch.equal(*differences)
    assert not torch.equal(fixed[3][0], daelab.NoisyPairs(IMAGES, NOISE, seed=2)[3][0])
    assert len(list(fixed)) == len(fixed) == 20


def test_pairs_need_no_noise_and_others_do() -> None:
    with pytest.raises(ValueError, match="needs a noise"):
        daelab.NoisyPairs(IMAGES)

    class Pairs(ImageSet):
        paired = True

        def batch(self, indices: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
            return np.concatenate([self.images[indices], 255 - self.images[indices]], 1)

    pairs = Pairs("pairs", IMAGES.images, IMAGES.labels, IMAGES.classes)
    noisy, clean = daelab.NoisyPairs(pairs)[0]
    torch.testing.assert_close(noisy, 1 - clean)
    with pytest.raises(ValueError, match="holds pairs, so noise must be None"):
        daelab.NoisyPairs(pairs, NOISE)


def test_a_noise_is_a_transform() -> None:
    x = torch.full((3, 8, 8), 0.5)
    assert torch.equal(NOISE(x, 3), NOISE(x, 3))
    assert torch.equal(NOISE(x, 3), NOISE(x[None], 3)[0])
    torch.manual_seed(0)
    assert not torch.equal(NOISE(x), NOISE(x))


def test_arrays_make_a_data_set() -> None:
    dataset = make_dataset(PIXELS, "mine", ["cat", "dog"] * 10)
    assert (dataset.name, dataset.classes, len(dataset.train), len(dataset.test)) == ("mine", ("cat", "dog"), 18, 2)
    with pytest.raises(ValueError, match="mine: `images` must be uint8"):
        make_dataset(PIXELS / 255, "mine")
    with pytest.raises(ValueError, match=r"mine: labels must be \(20,\)"):
        make_dataset(PIXELS, "mine", ["cat"])
