"""Networks of one, four and five channels, grey data sets, and stacks of slices in arrays, files and zarr."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor, nn

import daelab
from daelab.cli import main
from daelab.datasets.arrays import make_dataset
from daelab.datasets.grey import GreyImages, match_channels
from daelab.denoising.stacks import denoise_stack
from daelab.image_io.read import read_picture
from daelab.training.recipe import parse_recipe

RNG = np.random.default_rng(0)


class Shrink(nn.Module):
    """A network that takes a part of each channel, and more of the last one, so that mixed-up channels show."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.channels = channels
        self.weights = nn.Parameter(torch.linspace(0.5, 0.9, channels).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights


def make_denoiser(channels: int) -> daelab.Denoiser:
    return daelab.Denoiser(Shrink(channels))


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_network_of_any_channels_denoises_arrays(channels: int, dtype: str) -> None:
    top = 1 if dtype == "float32" else np.iinfo(dtype).max
    images = (RNG.random((2, 21, 19, channels)) * top).astype(dtype)
    images[0, 0, 0] = top  # so that the range of values is known
    denoiser, factors = make_denoiser(channels), np.linspace(0.5, 0.9, channels)
    expected = images * factors
    for given, due in ((images, expected), (images[0], expected[0])):
        denoised = denoiser(given)
        assert (denoised.shape, denoised.dtype) == (given.shape, given.dtype)
        np.testing.assert_allclose(denoised, due, atol=top * 1e-6 + (top > 1))
    first = torch.from_numpy(images[0].astype(np.float32) / top).movedim(-1, 0)
    np.testing.assert_allclose(denoiser(first).numpy(), np.moveaxis(expected[0] / top, -1, 0), atol=1e-5)


def test_a_grey_network_takes_each_channel_of_a_color_picture() -> None:
    denoiser = make_denoiser(1)
    color = RNG.integers(0, 256, (9, 7, 3), np.uint8)
    np.testing.assert_array_equal(denoiser(color), np.dstack([denoiser(color[..., c]) for c in range(3)]))
    x = torch.rand(2, 3, 9, 7)
    torch.testing.assert_close(denoiser.batch(x), x * 0.5)
    denoised, spread = denoiser.with_spread(color)
    assert (denoised.shape, spread.shape) == ((9, 7, 3), (9, 7))
    assert spread.max() < 1e-6


def test_wrong_channels_are_one_line() -> None:
    with pytest.raises(ValueError, match=r"must be \(H, W\), \(H, W, 4\) or \(N, H, W, 4\), not \(9, 7, 2\)"):
        make_denoiser(4)(np.zeros((9, 7, 2), np.uint8))
    with pytest.raises(ValueError, match="takes pictures of 4 channels, not 3"):
        make_denoiser(4)(np.zeros((9, 7, 3), np.uint8))
    with pytest.raises(ValueError, match="takes pictures of 4 channels, not 1"):
        make_denoiser(4).batch(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="chroma and detail are for color pictures"):
        make_denoiser(4)(np.zeros((9, 7, 4), np.uint8), chroma=0.5)
    with pytest.raises(ValueError, match="channels=C"):
        daelab.Denoiser(nn.Conv2d(1, 1, 3, padding=1))
    assert daelab.Denoiser(nn.Conv2d(1, 1, 3, padding=1), channels=1).method.channels == 1


# Training


@pytest.mark.parametrize(("channels", "shape"), [(1, (40, 16, 16)), (1, (40, 16, 16, 3)), (4, (40, 4, 16, 16))])
def test_networks_of_other_channels_train_and_evaluate(
    channels: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daelab.experiments.train.write_run_report", lambda run: None)
    images = RNG.integers(0, 256, shape, np.uint8)
    dataset = make_dataset(images, channels=3 if shape[-1] == 3 else channels)
    recipe = parse_recipe(
        {
            "spec": {"stages": [4], "channels": channels},
            "noise": "gaussian(0, 0.1)",
            "training": {"epochs": 1, "batch": 16, "precision": "float32"},
        }
    )
    result = daelab.train(recipe, "a", dataset=dataset)
    denoiser = daelab.load_model(result.run.best)
    assert denoiser.method.channels == channels
    with np.load(result.run.path / "samples.npz") as samples:
        assert samples["noisy"].shape[1:] == (3, 16, 16)
    scores = daelab.evaluate(denoiser, dataset, "gaussian(0, 0.1)").scores
    assert scores.overall.images == 4
    with pytest.raises(ValueError, match=r"noise jpeg\(50\) cannot be added to .-channel images"):
        daelab.train(parse_recipe(recipe.to_dict() | {"noise": "jpeg(50)"}), "b", dataset=dataset)


def test_color_data_sets_become_grey_and_others_are_refused() -> None:
    dataset = daelab.load_dataset("photos")
    grey = GreyImages(dataset.test)
    pixels, colors = grey.batch(np.arange(3)), dataset.test.batch(np.arange(3)).astype(float)
    assert pixels.shape[1] == 1
    luma = 0.299 * colors[:, 0] + 0.587 * colors[:, 1] + 0.114 * colors[:, 2]
    np.testing.assert_allclose(pixels[:, 0], luma, atol=0.51)
    assert match_channels(dataset.test, 3) is dataset.test
    with pytest.raises(ValueError, match="has images of 3 channels, and the network takes 4"):
        match_channels(dataset.test, 4)


# Stacks


def make_stack(dtype: str = "uint16") -> np.ndarray[Any, Any]:
    stack = RNG.integers(0, 4096, (5, 20, 24)).astype(dtype)
    stack[2, 0, 0] = 4095
    return stack


def test_a_stack_is_denoised_slice_by_slice_in_one_range() -> None:
    stack = make_stack()
    denoised = denoise_stack(make_denoiser(3), stack)
    assert (denoised.shape, denoised.dtype) == (stack.shape, stack.dtype)
    np.testing.assert_allclose(denoised, stack * 0.7, atol=1)  # the mean of the three channels' factors


class Neighbors(nn.Module):
    """A network whose middle channel becomes the sum of parts of its neighbors."""

    channels, multiple, halo = 3, 1, 0

    def forward(self, x: Tensor) -> Tensor:
        mixed = 0.5 * x[:, :1] + 0.25 * x[:, 2:]
        return torch.cat([x[:, :1], mixed, x[:, 2:]], 1)


def test_neighbors_are_the_slices_beside_and_mirrored_at_the_ends() -> None:
    stack = make_stack("float32") / 4096
    denoised = denoise_stack(daelab.Denoiser(Neighbors()), stack, neighbors=1)
    below, above = stack[[1, 0, 1, 2, 3]], stack[[1, 2, 3, 4, 3]]
    np.testing.assert_allclose(denoised, 0.5 * below + 0.25 * above, atol=1e-6)
    single = denoise_stack(daelab.Denoiser(Neighbors()), stack[:1], neighbors=1)
    # A slice without others is grey to the network, whose three channels are then averaged.
    np.testing.assert_allclose(single, (1 + 0.75 + 1) / 3 * stack[:1], atol=1e-6)


def test_wrong_stacks_are_one_line() -> None:
    with pytest.raises(ValueError, match=r"a stack must be \(Z, H, W\)"):
        denoise_stack(make_denoiser(3), np.zeros((4, 4)))
    with pytest.raises(ValueError, match="2 neighbors on each side are 5 channels, and Shrink takes 3"):
        denoise_stack(make_denoiser(3), make_stack(), neighbors=2)
    with pytest.raises(ValueError, match="at least 0, not -1"):
        denoise_stack(make_denoiser(3), make_stack(), neighbors=-1)


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["daelab", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_files_of_slices_are_denoised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = make_stack()
    np.save(tmp_path / "a.npy", stack)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    monkeypatch.chdir(tmp_path)
    for name in ("a.npy", "a.tif"):
        assert run(monkeypatch, "denoise", name, "--model", "photo-s", "--neighbors", "1") == 0
        assert run(monkeypatch, "denoise", name, "--model", "photo-s", "--out", f"plain{Path(name).suffix}") == 0
    due = denoise_stack(daelab.load_model("photo-s"), stack, neighbors=1)
    np.testing.assert_array_equal(np.load("a_clean.npy"), due)
    np.testing.assert_array_equal(tifffile.imread("a_clean.tif"), due)
    plain = denoise_stack(daelab.load_model("photo-s"), stack).astype(int)
    np.testing.assert_allclose(np.load("plain.npy"), plain, atol=1)  # a batch is rounded in another order
    assert len(read_picture("a_clean.tif").pages) == 5
    capsys.readouterr()
    np.save("flat.npy", stack[0])
    for words in (("flat.npy", "--model", "photo-s"), ("a.npy",)):
        assert run(monkeypatch, "denoise", *words, "--neighbors", "1", "--out", "b.npy") == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert "neighbors need a" in err
    assert not Path("b.npy").exists()


def test_automatic_chooses_for_each_slice(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", make_stack() // 16)
    result = daelab.denoise_file(tmp_path / "a.npy", tmp_path / "b.npy")
    assert result.why
    assert np.load(tmp_path / "b.npy").shape == (5, 20, 24)


def test_an_array_of_zarr_is_denoised_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zarr = pytest.importorskip("zarr")
    stack = np.stack([make_stack(), make_stack() // 2])
    source = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=stack.shape, dtype=stack.dtype, chunks=(1, 1, 8, 24), attributes={"um": 0.2}
    )
    source[...] = stack
    monkeypatch.setattr("daelab.denoising.stacks._SLAB", 2)
    seen: list[tuple[int, int]] = []
    daelab.denoise_zarr(
        daelab.Denoiser(Neighbors()),
        tmp_path / "a.zarr",
        tmp_path / "b.zarr",
        neighbors=1,
        progress=lambda *numbers: seen.append(numbers),
    )
    result = zarr.open_array(str(tmp_path / "b.zarr"), mode="r")
    assert (result.chunks, dict(result.attrs), seen[-1]) == ((1, 1, 8, 24), {"um": 0.2}, (10, 10))
    for place in range(2):  # the second has half the values, and yet the range of the whole
        due = denoise_stack(daelab.Denoiser(Neighbors()), stack[place], neighbors=1)
        np.testing.assert_allclose(result[place], due, atol=1)
    with pytest.raises(FileExistsError):
        daelab.denoise_zarr(make_denoiser(3), tmp_path / "a.zarr", tmp_path / "b.zarr")
    with pytest.raises(ValueError, match="not an array of zarr"):
        daelab.denoise_zarr(make_denoiser(3), tmp_path, tmp_path / "c.zarr")


def test_zarr_that_is_absent_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("daelab.denoising.stacks.find_spec", lambda name: None)
    cases = {
        ("--model", "model-c", "--out", "b.zarr"): "pip install 'daelab[zarr]'",
        ("--model", "model-c"): "into a new folder (--out)",
        ("--model", "model-c", "--out", "b.zarr", "--strip"): "a zarr array is denoised alone",
        ("--out", "b.zarr"): "a model that is named",
    }
    for words, message in cases.items():
        assert run(monkeypatch, "denoise", "a.zarr", *words) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
