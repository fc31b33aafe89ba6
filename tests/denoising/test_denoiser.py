"""Denoisers take any size and type and return the same; tiles equal the whole picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from narrow import NARROW_PRESETS
from PIL import Image
from torch import Tensor

import daelab
from daelab.denoising.automatic import AutomaticDenoiser
from daelab.denoising.backends import Backend, make_network_backend
from daelab.denoising.denoiser import TILE, Denoiser, estimate_noise_level
from daelab.denoising.named_models import find_model
from daelab.denoising.pipeline import DenoiseOptions, run_bytes
from daelab.denoising.tiling import TilePlace, denoise_tiles, reflect_indices
from daelab.models.architectures.autoencoder import Autoencoder, Stage
from daelab.models.architectures.base import Architecture
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.models.architectures.unet import UNet
from daelab.models.build import build_network
from daelab.models.inference import fold_batch_norms
from daelab.models.layers import NO_MARGINS, Network, append_noise_level
from daelab.models.model_file import ModelMetadata, load_network, save_model
from daelab.models.registry import list_shipped_models


def lively(spec: Architecture) -> Network:
    """Return a network whose norms have statistics, so that folding them has an effect."""
    network = build_network(spec, seed=1)
    with torch.no_grad():
        network.train()(torch.rand(8, spec.inputs, 32, 32, generator=torch.Generator().manual_seed(0)))
    return network.eval()


def made(spec: Architecture, **options: Any) -> Denoiser:
    return Denoiser(make_network_backend(lively(spec), ModelMetadata(spec=spec, name="made"), "cpu"), **options)


def noisy(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


SMALL = made(ARCHITECTURE_PRESETS["model-b-35"])
TOLD = UNet((4, 6), (1, 1), conditioned=True)


# Tiles

SHIPPED = list_shipped_models()
NETWORKS = {name: lively(spec) for name, spec in NARROW_PRESETS.items()} | {
    f"shipped {name}": load_network(path)[0] for name, path in SHIPPED.items()
}
# Its inner levels are cropped where only the inside of a window is wanted.
NETWORKS["gated levels"] = lively(UNet((4, 4, 4), (1, 1, 1), block="gated", norm="none"))
SIZES = [(1, 1), (3, 5), (31, 33), (64, 64), (97, 65)]


def method_of(name: str) -> Backend:
    return make_network_backend(NETWORKS[name], ModelMetadata(spec=NETWORKS[name].spec), "cpu")


def padded_by_numpy(method: Backend, x: Tensor) -> Tensor:
    """Return the method's result for the whole picture, padded at once, which tiles must equal."""
    height, width = x.shape[-2:]
    below, right = -height % method.multiple, -width % method.multiple
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (0, below), (0, right)), mode="reflect")
    return method.run(torch.from_numpy(padded))[..., :height, :width]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("size", "tile"), [*product(SIZES, (48, None)), *product(SIZES[:3], (1,))])
def test_tiles_equal_the_whole(name: str, size: tuple[int, int], tile: int | None) -> None:
    method = method_of(name)
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    calls: list[tuple[int, int]] = []
    sigma = 25.5 if method.conditioned else None
    cleaned = Denoiser(method, tile=tile, sigma=sigma).batch(x, lambda done, total: calls.append((done, total)))
    step = max(method.multiple, -(-(tile or TILE) // method.multiple) * method.multiple)
    assert len(calls) == calls[-1][1] == -(-size[0] // step) * -(-size[1] // step)
    x = append_noise_level(x, torch.tensor([0.1])) if method.conditioned else x
    torch.testing.assert_close(cleaned, padded_by_numpy(method, x), rtol=0, atol=1e-5)


def exactly(spec: Autoencoder) -> Backend:
    """Return a network that computes in float64, so that only the tiles could cause a difference."""
    module = fold_batch_norms(lively(spec)).double()
    return Backend(
        "exact",
        lambda x: module(x.double()),
        spec.multiple,
        spec.halo,
        run_inside=lambda x, margins=NO_MARGINS, /: module.denoise_inside(x.double(), margins),
    )


@pytest.mark.parametrize("name", NARROW_PRESETS)
def test_in_float64_tiles_equal_the_whole_to_its_last_digits(name: str) -> None:
    method = exactly(NARROW_PRESETS[name])
    x = torch.rand(1, 3, 130, 77, generator=torch.Generator().manual_seed(0))
    whole: list[Tensor] = []
    parts = torch.empty(x.shape, dtype=torch.float64)

    def store(place: TilePlace, clean: Tensor, spread: Tensor | None) -> None:
        parts[place.images, :, place.rows, place.columns] = clean

    with torch.no_grad():
        whole.append(padded_by_numpy(method, x))
        denoise_tiles(method, (1, 130, 77), lambda p: x[p.images, :, p.rows, p.columns], store, side=32)
    torch.testing.assert_close(parts, whole[0], rtol=0, atol=1e-14)


def test_too_small_a_halo_would_be_seen() -> None:
    method = exactly(ARCHITECTURE_PRESETS["model-c"])
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    short = Denoiser(replace(method, halo=method.multiple), tile=16).batch(x)
    assert (short - padded_by_numpy(method, x)).abs().max() > 1e-5


def test_a_method_that_needs_the_whole_picture_gets_it() -> None:
    seen: list[tuple[int, ...]] = []
    method = Backend("whole", lambda x: seen.append(tuple(x.shape)) or x.flip(2), halo=None)  # type: ignore[func-returns-value]
    image = noisy(40, 50, 3)
    assert np.array_equal(Denoiser(method, tile=8)(image), image[::-1])
    assert seen == [(1, 3, 40, 50)]


@pytest.mark.parametrize(
    ("length", "heights"), [(64, [64]), (65, [36, 29]), (130, [44, 44, 42]), (200, [52, 52, 52, 44])]
)
def test_the_tiles_of_a_picture_are_about_as_large_as_each_other(length: int, heights: list[int]) -> None:
    method = Backend("same", lambda x: x, multiple=4, halo=4)
    found: list[int] = []

    def store(place: TilePlace, clean: Tensor, spread: Tensor | None) -> None:
        found.append(place.rows.stop - place.rows.start)

    denoise_tiles(method, (1, length, 8), lambda p: torch.zeros(1, 3, p.rows.stop - p.rows.start, 8), store, side=64)
    assert found == heights


@pytest.mark.parametrize("side", [7, 33, 65, 130, 200])
def test_no_window_of_several_pictures_is_larger_than_that_of_a_tile(side: int) -> None:
    largest = 0

    def run(x: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, x[:, 0].numel())
        return x

    Denoiser(Backend("same", run, multiple=4, halo=8), tile=64).batch(torch.zeros(40, 3, side, side))
    assert largest <= (64 + 2 * 8) ** 2


# Memory


@pytest.mark.parametrize(("memory", "side"), [(10**12, TILE), ("2GB", TILE), ("20MB", None), (1, 4)])
def test_the_budget_makes_tiles_smaller(memory: int | str, side: int | None) -> None:
    widest = 0

    def run(x: Tensor) -> Tensor:
        nonlocal widest
        widest = max(widest, x.shape[-2])
        return x

    method = replace(method_of("model-c"), run=run, run_inside=None)
    Denoiser(method, memory=memory)(np.zeros((3 * TILE, TILE) if memory != 1 else (40, 40), np.uint8))
    if side is None:
        assert 100 < widest < TILE
        assert method.bytes_per_pixel * widest**2 <= 20_000_000
    else:
        assert widest == side + 2 * method.halo


def short_of_memory(most: int, error: Exception) -> tuple[Backend, list[int]]:
    """Return a method that fails above a number of pixels."""
    areas: list[int] = []

    def run(x: Tensor) -> Tensor:
        areas.append(x[:, 0].numel())
        if areas[-1] > most:
            raise error
        return 1 - x

    return Backend("short", run, multiple=4, halo=8), areas


OUT_OF_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("shape", [(300, 200, 3), (9, 40, 40, 3)])
def test_out_of_memory_halves_the_tiles(shape: tuple[int, ...], error: Exception) -> None:
    method, areas = short_of_memory(3000, error)
    image = noisy(*shape)
    assert np.array_equal(Denoiser(method)(image), 255 - image)
    failed = [area for area in areas if area > 3000]
    assert failed
    assert areas.index(failed[-1]) < 10  # once they are small enough, they stay so


def test_memory_too_short_for_anything_is_one_line() -> None:
    method, _ = short_of_memory(0, MemoryError())
    with pytest.raises(ValueError, match="the free memory is too small"):
        Denoiser(method)(noisy(20, 20))


def test_another_error_is_no_lack_of_memory() -> None:
    method, areas = short_of_memory(0, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        Denoiser(method)(noisy(20, 20))
    assert len(areas) == 1


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "0", "12 TB", "1e9", "nan", "512 potatoes"])
def test_no_amount_of_memory(text: str) -> None:
    with pytest.raises(ValueError, match="such as 512MB"):
        made(ARCHITECTURE_PRESETS["model-b-35"], memory=text)


@pytest.mark.parametrize("tile", [0, -3, 1.5, "16", float("nan"), True])
def test_a_tile_has_whole_pixels(tile: Any) -> None:
    for make in (lambda: made(ARCHITECTURE_PRESETS["model-b-35"], tile=tile), lambda: AutomaticDenoiser(tile=tile)):
        with pytest.raises(ValueError, match="tile must be at least 1 pixel, and a whole number"):
            make()
    assert made(ARCHITECTURE_PRESETS["model-b-35"], tile=np.int64(16))(noisy(4, 4)).shape == (4, 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_no_copy_of_the_picture_is_made(dtype: type) -> None:
    import tracemalloc

    # White everywhere, since the range of the values decides whether they are scaled.
    image = np.full((401, 599, 3), 1 if dtype == np.float32 else np.iinfo(dtype).max, dtype)
    denoiser = Denoiser(Backend("same", lambda x: x, multiple=16, halo=16), tile=64)
    denoiser(image[:200, :200])
    tracemalloc.start()  # numpy tells it of its arrays
    denoiser(image, self_ensemble=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < image.nbytes + 800_000  # a float32 copy would take 2,900,000


# Strength and self-ensemble


def test_strength_blends() -> None:
    for image in (noisy(20, 24, 3), noisy(20, 24).astype(np.uint16) * 257, noisy(9, 9, 3) / np.float32(255)):
        assert np.array_equal(SMALL(image, strength=0), image)
        assert np.array_equal(SMALL(image, strength=1), SMALL(image))
        half, middle = SMALL(image, strength=0.5), (image.astype(np.float64) + SMALL(image)) / 2
        assert np.abs(half - middle).max() <= (1 if image.dtype != np.float32 else 1e-6)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="strength"):
            SMALL(noisy(4, 4), strength=wrong)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (31, 33), (70, 45), (157, 61)])
@pytest.mark.parametrize("name", ["model-b-35", "model-c", "gated levels"])
def test_self_ensemble_is_the_mean_over_flips_and_rotations(size: tuple[int, int], name: str) -> None:
    image = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    denoiser = Denoiser(method_of(name), tile=32)
    results = []
    for turns in range(4):
        for flip in (False, True):
            turned = np.rot90(image[:, ::-1] if flip else image, turns)
            back = np.rot90(denoiser(turned), -turns)
            results.append(back[:, ::-1] if flip else back)
    mean, deviation = np.mean(results, 0), np.sqrt(np.var(results, 0).mean(-1))
    clean, spread = denoiser.with_spread(image)
    np.testing.assert_allclose(clean, mean, rtol=0, atol=2e-6)
    np.testing.assert_allclose(spread, deviation, rtol=0, atol=2e-5)
    assert np.array_equal(denoiser(image, self_ensemble=True), clean)
    batch = denoiser.batch(torch.from_numpy(image).permute(2, 0, 1)[None], self_ensemble=True)
    np.testing.assert_allclose(batch[0].permute(1, 2, 0).numpy(), clean, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("shape", "map_shape"), [((5, 6), (5, 6)), ((5, 6, 3), (5, 6)), ((2, 5, 6, 3), (2, 5, 6))])
def test_the_spread_has_a_value_per_pixel(shape: tuple[int, ...], map_shape: tuple[int, ...]) -> None:
    clean, spread = SMALL.with_spread(noisy(*shape))
    assert (clean.shape, spread.shape, spread.dtype) == (shape, map_shape, np.float32)
    assert spread.max() > 0


# Shapes and types


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


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (0, 0, 3), (0, 5), (7, 0)])
def test_nothing_in_nothing_out(shape: tuple[int, ...]) -> None:
    image = np.zeros(shape, np.uint8)
    for denoised in (SMALL(image), daelab.denoise(image)):
        assert (denoised.shape, denoised.dtype) == (shape, np.uint8)
        assert denoised is not image


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), "must be"),
        (np.zeros(4, np.uint8), "must be"),
        (np.zeros((4, 4, 1)), "must be"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.full((4, 4), np.inf), "NaN"),
        (np.zeros((4, 4), bool), "integers or floats, not bool"),
        (np.zeros((4, 4), complex), "integers or floats, not complex"),
        (np.full((4, 4), None), "integers or floats, not object"),
        (None, "integers or floats, not NoneType"),
        ({}, "integers or floats, not dict"),
        (np.zeros((4, 4), "M8[s]"), "integers or floats, not datetime"),
        (np.ma.masked_less(np.arange(16).reshape(4, 4), 3), "fill it first"),
        ([[1, 2], [3]], "an array of numbers"),
        (np.full((4, 4), "a"), "integers or floats, not <U"),
        (torch.zeros(4, 4).bfloat16(), "an array of numbers"),
        (torch.zeros(4, 4, device="meta"), "an array of numbers"),
        (Image.new("P", (4, 4)), r"mode L or RGB, not P: image.convert\('RGB'\)"),
        (Image.new("RGBA", (4, 4)), "not RGBA"),
        (Image.new("HSV", (4, 4)), "not HSV"),
        (Image.new("1", (4, 4)), "not 1"),
    ],
    ids=lambda value: f"{value.mode} image" if isinstance(value, Image.Image) else str(value),
)
def test_mistakes(image: Any, message: str) -> None:
    for take in (SMALL, daelab.identify_noise):
        with pytest.raises(ValueError, match=message) as caught:
            take(image)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.png", Path("a.png"), b"the bytes of a file"])
def test_the_name_of_a_file_is_no_image(name: Any) -> None:
    for take in (SMALL, daelab.denoise):
        with pytest.raises(ValueError, match=r"not a file or its name; daelab\.denoise_file takes a name"):
            take(name)


@pytest.mark.parametrize("model", [None, 3, torch.nn.Identity(), abs], ids=str)
def test_what_is_no_model_is_named(model: Any, tmp_path: Path) -> None:
    """A network is not taken for a model by its name, and the message says how to make a denoiser of it."""
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    image = np.zeros((8, 8), np.uint8)
    for take in (
        lambda: daelab.load_model(model),
        lambda: daelab.denoise(image, model=model),
        lambda: daelab.denoise_file(tmp_path / "a.png", model=model),
    ):
        with pytest.raises(TypeError, match=f"not {type(model).__name__}; daelab.Denoiser.NETWORK. makes one"):
            take()


def test_what_else_holds_an_image_is_understood() -> None:
    image = noisy(9, 8, 3)
    expected = SMALL(image)
    tensor = torch.tensor(image / np.float32(255), requires_grad=True)
    np.testing.assert_array_equal((SMALL(tensor) * 255).round(), expected)
    for other in (image.tolist(), Image.fromarray(image), torch.from_numpy(image), image.astype(np.int64)):
        np.testing.assert_array_equal(SMALL(other), expected)


# What must never come out


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_result_that_is_no_number_is_refused(value: float, tmp_path: Path) -> None:
    broken = Denoiser(Backend("broken", lambda x: torch.where(x > 0.9, value, x)))
    image = noisy(20, 24, 3)
    paths: list[Callable[[], object]] = [
        lambda: broken(image),
        lambda: broken(image, self_ensemble=True),
        lambda: broken.with_spread(image),
        lambda: broken.batch(torch.rand(1, 3, 9, 9)),
        lambda: daelab.denoise_file(tmp_path / "a.png", model=broken, in_place=True),
        lambda: run_bytes(broken, (tmp_path / "a.png").read_bytes(), DenoiseOptions()),
    ]
    Image.fromarray(image).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    for path in paths:
        with pytest.raises(ValueError, match="broken returned NaN or infinite values"):
            path()
    assert (tmp_path / "a.png").read_bytes() == before


COLORING = Denoiser(Backend("coloring", lambda x: (x * torch.tensor([0.9, 0.5, 0.1]).view(-1, 1, 1)).clamp(0, 1)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("options", [{}, {"self_ensemble": True}, {"strength": 0.5}], ids=str)
def test_grey_in_three_channels_stays_grey(dtype: type, options: dict[str, Any]) -> None:
    grey = np.dstack([noisy(20, 24)] * 3).astype(dtype) / (255 if dtype == np.float32 else 1)
    grey = (grey * (257 if dtype == np.uint16 else 1)).astype(dtype)
    color = noisy(20, 24, 3).astype(dtype) / (255 if dtype == np.float32 else 1)
    color = (color * (257 if dtype == np.uint16 else 1)).astype(dtype)
    for found in (COLORING(grey, **options), COLORING(np.stack([color, grey]), **options)[1]):
        assert np.ptp(found, axis=2).max() == 0
        assert found.max() > 0
    assert np.ptp(COLORING(color, **options), axis=2).max() > 0
    if not options:
        tensor = torch.from_numpy(np.stack([color, grey]).astype(np.float32)).permute(0, 3, 1, 2)
        spreads = COLORING.batch(tensor / tensor.max()).var(1).amax((1, 2))
        assert spreads[0] > 0
        assert spreads[1] == 0


@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_reflection_is_numpys(side: int) -> None:
    expected = np.pad(np.arange(side), (0, 20), mode="reflect")
    assert np.array_equal(reflect_indices(0, side + 20, side), expected)
    assert np.array_equal(reflect_indices(2, side + 7, side), expected[2 : side + 7])


@pytest.mark.parametrize("view", [np.flipud, np.fliplr, lambda image: image.swapaxes(0, 1), lambda image: image[::2]])
def test_views_and_read_only_arrays(view: Callable[[np.ndarray], np.ndarray]) -> None:
    image = noisy(20, 24, 3)
    image.flags.writeable = False
    assert np.array_equal(SMALL(view(image)), SMALL(view(image).copy()))


def test_big_endian() -> None:
    image = noisy(8, 9).astype(np.uint16) * 257
    for order in "<>":
        assert np.array_equal(SMALL(image.astype(f"{order}u2")), SMALL(image))


def test_found_by_path_and_by_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAELAB_RUNS", str(tmp_path / "runs"))
    spec = Autoencoder((Stage(4),))
    network = lively(spec)
    path = tmp_path / "runs" / "mine" / "best.safetensors"
    save_model(path, network, ModelMetadata(spec=spec, name="mine"))
    image = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
    assert np.array_equal(Denoiser.load("mine")(image), Denoiser.load(path)(image))
    assert find_model("mine") == path
    assert find_model(path.parent) == path
    with pytest.raises(FileNotFoundError, match="did you mean 'mine'"):
        find_model("mime")


# The level of the noise


def told(**options: Any) -> Denoiser:
    """Return a conditioned network that depends on the level, since its last layer is not zero."""
    network = lively(TOLD)
    out = network.get_parameter("out.weight")
    out.data.normal_(0, 0.05, generator=torch.Generator().manual_seed(2))
    return Denoiser(make_network_backend(network, ModelMetadata(spec=TOLD, name="told"), "cpu"), **options)


@pytest.mark.parametrize("sigma", [5.0, 15.0, 50.0])
def test_the_level_of_white_noise_is_found(sigma: float) -> None:
    flat = torch.linspace(0.3, 0.7, 128).expand(2, 3, 128, 128)
    noise = torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    levels = estimate_noise_level(flat + noise * torch.tensor([sigma / 255, 0]).view(2, 1, 1, 1))
    assert float(levels[0]) * 255 == pytest.approx(sigma, rel=0.02)
    assert float(levels[1]) == pytest.approx(0, abs=1e-6)


def test_a_conditioned_network_is_told_the_level() -> None:
    images = noisy(2, 40, 24, 3)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    one = told(sigma=25.5)
    expected = one.method.run(append_noise_level(x, torch.full((2,), 0.1)))
    torch.testing.assert_close(one.batch(x), expected, rtol=0, atol=1e-6)
    # left to itself, it is each picture's own
    calm = np.stack([images[0], np.full_like(images[0], 99)])
    itself = told()
    alone = [itself(image) for image in calm]
    np.testing.assert_array_equal(itself(calm), np.stack(alone))
    assert np.abs(told(sigma=50)(images[0]).astype(int) - told(sigma=5)(images[0])).max() > 1


def test_a_conditioned_networks_tiles_are_told_the_pictures_level() -> None:
    image = noisy(64, 96, 3)
    image[:, :48] //= 4
    np.testing.assert_array_equal(told(tile=16)(image), told()(image))
    assert told()(image[:1, :1]).shape == (1, 1, 3)


def test_a_sigma_that_nobody_can_be_told() -> None:
    with pytest.raises(ValueError, match="^made takes no sigma: it was trained for all noise levels at once$"):
        made(ARCHITECTURE_PRESETS["model-b-35"], sigma=25)
    with pytest.raises(ValueError, match=r"^sigma must lie in \[0, 255\], .*, not 300$"):
        told(sigma=300)
