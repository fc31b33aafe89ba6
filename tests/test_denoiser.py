"""Any size and type in, the same out; tiles equal the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daelab import denoiser as module
from daelab import modelfile
from daelab.denoiser import Denoiser, find, reflect
from daelab.model import Network, build
from daelab.spec import PRESETS, Autoencoder, Stage


def lively(spec: Autoencoder) -> Network:
    """A network whose norms have statistics, so that folding them matters."""
    network = build(spec, seed=1)
    with torch.no_grad():
        network.train()(torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    return network.eval()


def made(spec: Autoencoder) -> Denoiser:
    return Denoiser(lively(spec), modelfile.Card(spec=spec, name="made"), "cpu")


SMALL = made(PRESETS["model-b-35"])


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (31, 33), (64, 64), (257, 129)])
def test_every_size_comes_back(name: str, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    cleaned = made(PRESETS[name])(image)
    assert cleaned.shape == image.shape
    assert cleaned.dtype == image.dtype
    assert (cleaned >= 0).all()
    assert (cleaned <= 1).all()


@pytest.mark.parametrize("name", PRESETS)
def test_tiles_equal_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = made(PRESETS[name])
    x = torch.rand(1, 3, 130, 77, generator=torch.Generator().manual_seed(0))
    whole = denoiser.batch(x)
    monkeypatch.setattr(module, "TILE", 32)
    calls: list[tuple[int, int]] = []
    tiled = denoiser.batch(x, lambda done, total: calls.append((done, total)))
    assert len(calls) == calls[-1][1] > 4
    torch.testing.assert_close(tiled, whole, rtol=0, atol=2e-6)


@settings(deadline=None, max_examples=40)
@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 40), st.integers(1, 40)),
        st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)),
        st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20), st.just(3)),
    ),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float16, np.float32, np.float64]),
)
def test_shapes_and_types(shape: tuple[int, ...], dtype: type) -> None:
    values = np.random.default_rng(0).random(shape)
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    image = (values * top).astype(dtype)
    before = image.copy()
    cleaned = SMALL(image)
    assert (cleaned.shape, cleaned.dtype) == (image.shape, image.dtype)
    assert np.array_equal(image, before)


def test_types_agree() -> None:
    bytes_ = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    floats = SMALL(bytes_ / np.float32(255))
    assert np.array_equal(SMALL(bytes_), (floats * 255).round().astype(np.uint8))
    wide = SMALL(bytes_.astype(np.uint16) * 257)
    assert np.abs(wide / 65535 - floats).max() < 2e-5


def test_a_batch_equals_its_images_one_by_one() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3), dtype=np.uint8)
    assert np.array_equal(SMALL(images), np.stack([SMALL(image) for image in images]))


def test_nothing_in_nothing_out() -> None:
    assert SMALL(np.zeros((0, 8, 8, 3), np.uint8)).shape == (0, 8, 8, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), "must be"),
        (np.zeros(4, np.uint8), "must be"),
        (np.zeros((4, 4), np.int32), "uint8"),
        (np.full((4, 4), 2.0), r"\[0, 1\]"),
        (np.full((4, 4), np.nan), r"\[0, 1\]"),
    ],
)
def test_mistakes(image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SMALL(image)


@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_reflection_is_numpys(side: int) -> None:
    x = torch.arange(side * side, dtype=torch.float32).reshape(1, side, side)
    expected = np.pad(x.numpy(), ((0, 0), (0, 9), (0, 5)), mode="reflect")
    assert np.array_equal(reflect(x, 9, 5).numpy(), expected)


def test_found_by_path_and_by_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAELAB_RUNS", str(tmp_path / "runs"))
    spec = Autoencoder((Stage(4),))
    network = lively(spec)
    path = tmp_path / "runs" / "mine" / "best.safetensors"
    modelfile.save(path, network, modelfile.Card(spec=spec, name="mine"))
    image = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
    assert np.array_equal(Denoiser.load("mine")(image), Denoiser.load(path)(image))
    assert find("mine") == path
    with pytest.raises(FileNotFoundError, match="did you mean 'mine'"):
        find("mime")
