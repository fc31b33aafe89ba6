"""Pairs made from noisy images alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daelab.datasets.neighbors import measure_correlation, split_neighbors
from daelab.datasets.registry import load_dataset

RNG = np.random.default_rng(0)
NOISE = RNG.normal(128, 20, (4, 3, 64, 64))


def test_each_square_gives_two_neighbors() -> None:
    pixels = np.arange(3 * 16 * 16).reshape(1, 3, 16, 16).astype(np.uint8)
    places = np.arange(256).reshape(16, 16)
    (pair,) = split_neighbors(np.broadcast_to(places, (1, 3, 16, 16)).astype(np.uint8))
    target, given = pair[:3].astype(int), pair[3:].astype(int)
    assert (target[0] == target[1]).all()
    assert (given[0] == given[2]).all()
    squares = np.add.outer(np.arange(8), np.arange(8) * 0) * 0
    for one in (target[0], given[0]):
        assert (one // 16 // 2 == np.arange(8)[:, None] + squares).all()
        assert (one % 16 // 2 == np.arange(8)[None, :] + squares).all()
    # Neighbors differ by one column or by one row, never by both, and are never the same pixel.
    assert set(np.abs(target[0] - given[0]).ravel()) == {1, 16}
    assert np.array_equal(split_neighbors(pixels), split_neighbors(pixels))


def test_all_eight_ways_occur_alike() -> None:
    pixels = np.broadcast_to(np.arange(256).reshape(16, 16), (64, 3, 16, 16)).astype(np.uint8)
    pixels = np.concatenate([pixels[:, :2], np.arange(64, dtype=np.uint8)[:, None, None, None] + pixels[:, 2:] * 0], 1)
    pair = split_neighbors(pixels)
    ways = pair[:, 3].astype(int) % 2 * 1 + pair[:, 3].astype(int) // 16 % 2 * 2
    others = pair[:, 0].astype(int) % 2 * 1 + pair[:, 0].astype(int) // 16 % 2 * 2
    counts = np.unique(ways * 4 + others, return_counts=True)[1]
    assert len(counts) == 8
    assert counts.min() > 0.8 * counts.mean()


def smooth(noise: np.ndarray) -> np.ndarray:
    return (noise + np.roll(noise, 1, 3)) / 2


def test_correlation_tells_independent_from_smooth_noise() -> None:
    ramp = np.linspace(0, 60, 64)[None, None, :, None]
    for noise, low, high in ((NOISE, -0.05, 0.1), (smooth(NOISE), 0.4, 0.6)):
        for clean in (0, ramp - 30):
            pixels = (noise + clean).clip(0, 255).round().astype(np.uint8)
            correlation = measure_correlation(pixels)
            assert correlation is not None
            assert low < correlation < high
    assert measure_correlation(np.zeros((1, 3, 15, 64), np.uint8)) is None
    assert measure_correlation(np.zeros((1, 3, 64, 64), np.uint8)) is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        pixels = RNG.integers(0, 256, (40, 44, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number:02}.png")
    return tmp_path


def test_a_folder_gives_pairs_that_stream_the_same_wherever_they_start(folder: Path) -> None:
    loaded = load_dataset(f"neighbors:{folder}", crop=8)
    assert (loaded.train.size, loaded.train.paired, loaded.name) == ((8, 8), True, "neighbors")
    orders = [np.array([0, 1, 2]), np.array([3, 1]), np.array([2, 2, 0, 1])]
    whole = list(loaded.train.batches(orders, seed=5))
    assert [batch.shape for batch in whole] == [(3, 6, 8, 8), (2, 6, 8, 8), (4, 6, 8, 8)]
    resumed = list(loaded.train.batches(orders[1:], seed=5, start=3))
    assert all(np.array_equal(a, b) for a, b in zip(whole[1:], resumed, strict=True))
    some = np.array([1, 0])
    assert np.array_equal(loaded.train.take(some).batch(np.arange(2)), loaded.train.batch(some))
