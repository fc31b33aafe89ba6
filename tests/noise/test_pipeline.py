"""The camera's pipeline: what it makes of the sensor's noise, and that no step changes the clean image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from daelab.noise.base import PRESETS
from daelab.noise.composition import Chain, Mixture
from daelab.noise.grammar import parse_noise
from daelab.noise.light import demosaic, make_bayer_masks, to_linear
from daelab.noise.pipeline import NoiseFilter, _bend
from daelab.noise.presets import FORMULAS
from daelab.noise.random_streams import BatchStream, IndexedStream

PICTURE = torch.rand(8, 3, 48, 40, generator=torch.Generator().manual_seed(2))
FILTERS = ["luma-smoothed(1, 1)", "chroma-smoothed(1, 2)", "sharpened(2, 1)", "resized(2.5)"]


def apply(text: str, x: Tensor, seed: int = 0) -> Tensor:
    return parse_noise(text).apply(x, IndexedStream(range(len(x)), seed))


def grey(value: float, size: int = 64, images: int = 8) -> Tensor:
    return torch.full((images, 3, size, size), value)


def correlate(noise: Tensor, distance: int) -> float:
    return float((noise[..., distance:] * noise[..., :-distance]).mean() / noise.square().mean())


def luma(x: Tensor) -> Tensor:
    return 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]


# Demosaicking


@pytest.mark.parametrize("phase", range(4))
@pytest.mark.parametrize("size", [(2, 2), (2, 5), (3, 3), (9, 12)])
def test_demosaicking_restores_a_constant_gray(phase: int, size: tuple[int, int]) -> None:
    masks = make_bayer_masks(*size, torch.device("cpu"))[phase : phase + 1]
    assert torch.allclose(demosaic(torch.full((1, 1, *size), 0.3), masks), torch.tensor(0.3))


@pytest.mark.parametrize("phase", range(4))
def test_demosaicking_restores_a_gray_ramp_inside_and_keeps_what_was_measured(phase: int) -> None:
    ramp = (torch.arange(12.0)[:, None] * 0.02 + torch.arange(10.0) * 0.05)[None, None]
    masks = make_bayer_masks(12, 10, torch.device("cpu"))[phase : phase + 1]
    result = demosaic(ramp, masks)
    inside = (..., slice(2, -2), slice(2, -2))
    assert torch.allclose(result[inside], ramp.expand_as(result)[inside], atol=1e-6)
    assert torch.equal((result * masks).sum(1, keepdim=True), ramp)


@pytest.mark.parametrize(
    "channel, at, weights",
    [
        # what one value of 8 at a pixel adds to each channel along its row, by the filters of the paper's figure 2
        (0, "red", [0, 4, 8, 4, 0]),
        (1, "red", [-1, 0, 4, 0, -1]),
        (2, "red", [-1.5, 0, 6, 0, -1.5]),
        (1, "green", [0, 2, 8, 2, 0]),
        (0, "green", [-1, 0, 5, 0, -1]),
    ],
)
def test_the_filters_are_those_of_the_paper(channel: int, at: str, weights: list[float]) -> None:
    masks = make_bayer_masks(13, 13, torch.device("cpu"))[:1]
    column = {"red": 6, "green": 7}[at]
    mosaic = torch.zeros(1, 1, 13, 13)
    mosaic[0, 0, 6, column] = 8.0
    row = demosaic(mosaic, masks)[0, channel, 6, column - 2 : column + 3]
    assert row.tolist() == pytest.approx(weights)


# The sensor


@pytest.mark.parametrize("development", ["1, 1, 0, 0", "2.5, 1.8, 1.2, 0.6", "1.2, 3, 0, 2"])
def test_without_noise_the_development_returns_the_picture(development: str) -> None:
    quiet = apply(f"raw(1e-6, 0, 0, {development})", PICTURE)
    loud = apply(f"raw(1e-4, 0, 0, {development})", PICTURE)
    # a hundredth of the variance is a tenth of the noise, so what is left without any noise is nothing
    ratio = float((loud - PICTURE).std() / (quiet - PICTURE).std())
    assert ratio == pytest.approx(10, rel=0.3)
    assert float((quiet - PICTURE).mean().abs()) < 1e-3


def test_the_tone_curve_is_undone_and_steep_in_the_mid_tones() -> None:
    x = torch.linspace(0, 1, 101)
    for contrast in (0.0, 0.3, 2.0):
        curve = _bend(x, contrast)
        assert torch.allclose(_bend(curve, contrast, undo=True), x, atol=1e-6)
        assert (curve[0], curve[50], curve[-1]) == pytest.approx((0, 0.5, 1))
        assert float(curve[51] - curve[49]) == pytest.approx(0.02 * (1 + contrast), rel=0.05)


def test_the_white_balance_amplifies_the_noise_of_its_channels() -> None:
    red_gain, blue_gain, gain, value = 2.5, 1.5, 1e-4, 0.5
    light = float(to_linear(torch.tensor(value)))
    noise = to_linear(apply(f"raw({gain}, 0, 0, {red_gain}, {blue_gain}, 0, 0)", grey(value))) - light
    # the variance of a balanced value: gain^2 times (sensor gain times the light that the sensor saw)
    red, green, blue = (gain * light * balance for balance in (red_gain, 1.0, blue_gain))

    def expect(own: float, other: float) -> float:
        # a quarter is measured; half is at a green pixel, beside or above two of its own; a quarter at the other color
        at_green = (25 * green + 2 * 16 * own + (2 + 4 + 2 / 4) * green) / 64
        return own / 4 + at_green / 2 + (36 * other + 4 * 4 * own + 4 * 2.25 * other) / 64 / 4

    expected = [expect(red, blue), None, expect(blue, red)]
    for channel in (0, 2):
        assert float(noise[:, channel, 4:-4, 4:-4].var()) == pytest.approx(expected[channel], rel=0.06)


def test_the_color_matrix_keeps_the_mean_of_the_channels_and_amplifies_the_rest() -> None:
    plain, colored = (
        to_linear(apply(f"raw(0.0002, 0.002, 0, 1, 1, {c}, 0)", grey(0.5))) - to_linear(torch.tensor(0.5))
        for c in (0, 1)
    )
    mean = plain.mean(1, keepdim=True)
    assert torch.allclose(colored.mean(1, keepdim=True), mean, atol=1e-4)
    assert torch.allclose(colored - mean, 2 * (plain - mean), atol=1e-3)


def test_row_noise_is_the_same_along_a_row_or_a_column() -> None:
    noise = apply("raw(1e-6, 0, 0.01, 1, 1, 0, 0)", grey(0.5, images=32)).sub(0.5).mean(1)
    along_rows, along_columns = noise.mean(2).std(1), noise.mean(1).std(1)
    assert 8 <= int((along_rows > 5 * along_columns).sum()) <= 24
    assert int(((along_rows > 5 * along_columns) | (along_columns > 5 * along_rows)).sum()) == 32


def test_white_is_clipped_by_the_sensor_before_black() -> None:
    """A sensor measures nothing brighter than white, so noise at white only darkens."""
    noisy = apply("raw(0.001, 0.01, 0, 1, 1, 0, 0)", grey(1.0))
    assert float(noisy.max()) == pytest.approx(1)
    assert 0.1 < float((noisy < 0.999).float().mean()) < 0.9
    black = apply("raw(0.001, 0.01, 0, 1, 1, 0, 0)", grey(0.0))
    assert black.min() == 0
    assert float(black.mean()) > 0.01


def test_a_telephones_noise_passes_60() -> None:
    noisy = apply("raw(0.08, 0.04, 0.004, 2, 1.6, 1, 0.3)", grey(0.4))
    assert float((noisy - 0.4).std()) > 60 / 255


@pytest.mark.parametrize("height, width", [(1, 5), (5, 1), (1, 1)])
def test_an_image_below_the_mosaic_is_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"raw: an image of {height}x{width} pixels is smaller than the mosaic"):
        apply("raw(0.1, 0, 0, 1, 1, 0, 0)", torch.zeros(1, 3, height, width))


@pytest.mark.parametrize("preset", ["camera-pipeline", "camera-file"])
@pytest.mark.parametrize("height, width", [(2, 2), (2, 7), (3, 2), (5, 3)])
def test_the_whole_pipeline_takes_small_images(height: int, width: int, preset: str) -> None:
    noisy = apply(preset, torch.rand(64, 3, height, width))
    assert noisy.isfinite().all()
    assert noisy.shape == (64, 3, height, width)


# The filters of noise


@pytest.mark.parametrize("text", FILTERS)
def test_a_filter_leaves_the_picture_and_changes_its_noise(text: str) -> None:
    assert torch.equal(apply(text, PICTURE), PICTURE)
    assert torch.allclose(apply(f"none > {text}", PICTURE), PICTURE)
    plain, filtered = apply("gaussian(0, 0.05)", PICTURE), apply(f"gaussian(0, 0.05) > {text}", PICTURE)
    assert float((filtered - plain).std()) > 0.01


@pytest.mark.parametrize("text", FILTERS)
def test_a_filter_knows_the_picture_inside_mixtures_and_chains(text: str) -> None:
    expected = apply(f"gaussian(0, 0.05) > {text}", PICTURE)
    for nested in (f"gaussian(0, 0.05) > ({text} | {text})", f"(none > gaussian(0, 0.05)) > (none > {text})"):
        noise = parse_noise(nested)
        assert isinstance(noise, Chain)
        assert isinstance(noise.steps[-1], Chain | Mixture)
        assert torch.allclose(noise.apply(PICTURE, IndexedStream(range(8), 0)), expected, atol=1e-6)


@pytest.mark.parametrize("text", ["luma-smoothed(0, 3)", "chroma-smoothed(0, 3)", "sharpened(0, 1)", "resized(1)"])
def test_a_filter_of_no_strength_keeps_the_noise(text: str) -> None:
    assert torch.allclose(apply(f"awgn(10) > {text}", grey(0.5)), apply("awgn(10)", grey(0.5)), atol=1e-6)


def test_luma_and_chroma_are_smoothed_apart() -> None:
    x = grey(0.5)
    plain = apply("awgn(10)", x) - x
    by_luma, by_chroma = (apply(f"awgn(10) > {name}-smoothed(1, 2)", x) - x for name in ("luma", "chroma"))
    assert torch.allclose(by_luma - luma(by_luma), plain - luma(plain), atol=1e-6)
    assert torch.allclose(luma(by_chroma), luma(plain), atol=1e-6)
    # white noise that a Gaussian smoothed: correlation exp(-d^2 / (4 r^2)), variance 1 / (4 pi r^2)
    for smooth, white in ((luma(by_luma), luma(plain)), ((by_chroma - luma(by_chroma)), plain - luma(plain))):
        inside = smooth[..., 8:-8, 8:-8]
        assert correlate(inside, 2) == pytest.approx(0.78, abs=0.06)
        assert float(inside.var() / white.var()) == pytest.approx(1 / (16 * torch.pi), rel=0.15)


def test_half_a_share_leaves_half_of_the_difference() -> None:
    x = grey(0.5)
    none, half, whole = (apply(f"awgn(10) > chroma-smoothed({share}, 1.5)", x) for share in (0, 0.5, 1))
    assert torch.allclose(half, (none + whole) / 2, atol=1e-6)


def test_sharpening_amplifies_fine_noise_only() -> None:
    x = grey(0.5)
    for noise, least, most in (("awgn(10)", 1.8, 2.0), ("correlated(10, 6)", 1.0, 1.05)):
        before, after = apply(noise, x) - x, apply(f"{noise} > sharpened(1, 1)", x) - x
        assert least < float(after.std() / before.std()) < most


def test_resized_noise_is_coarser_and_weaker() -> None:
    x = grey(0.5)
    noise = apply("awgn(10) > resized(2)", x) - x
    plain = apply("awgn(10)", x) - x
    # every second value stays, the others are means of two: variances 1 and 1/2 in each direction
    assert torch.allclose(noise[..., ::2, ::2], plain[..., ::2, ::2], atol=1e-6)
    assert float(noise.var() / plain.var()) == pytest.approx(0.75**2, rel=0.06)
    assert correlate(noise, 1) > 0.5


def test_each_image_is_resized_by_its_own_scale() -> None:
    both = apply("gaussian(0, 0.05) > resized(1..4)", PICTURE)
    for number in range(len(PICTURE)):
        alone = parse_noise("gaussian(0, 0.05) > resized(1..4)").apply(PICTURE[[number]], IndexedStream([number], 0))
        assert torch.equal(alone[0], both[number])


# Whole pixels


def test_salt_and_pepper_on_whole_pixels() -> None:
    noisy = apply("salt-and-pepper-pixels(0.2)", PICTURE)
    changed = (noisy != PICTURE).any(1)
    assert float(changed.float().mean()) == pytest.approx(0.2, abs=0.02)
    spots = noisy.movedim(1, -1)[changed]
    assert torch.equal(spots, spots[:, :1].expand_as(spots))
    assert set(spots.unique().tolist()) == {0, 1}
    assert float(spots.mean()) == pytest.approx(0.5, abs=0.04)


def test_a_gray_picture_stays_gray_under_noise_of_whole_pixels() -> None:
    for text in ("salt-and-pepper-pixels(0.3)", "hot-pixels(0.3)"):
        noisy = apply(text, PICTURE[:, :1].expand(-1, 3, -1, -1))
        assert torch.equal(noisy, noisy[:, :1].expand_as(noisy))


def test_hot_pixels_only_brighten() -> None:
    change = apply("hot-pixels(0.1)", grey(0.0)).mean(1)
    assert change.min() == 0
    assert float((change > 0).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert float(change[change > 0].mean()) == pytest.approx(0.5, abs=0.02)


# The mixture


def test_the_mixture_has_every_step_and_reaches_every_strength() -> None:
    steps = ["raw", "demosaicked", "hot-pixels", "resized", "sharpened", "luma-smoothed", "chroma-smoothed", "jpeg"]
    assert all(f"{step}(" in FORMULAS["camera-pipeline"] for step in [*steps, "salt-and-pepper-pixels"])
    x = grey(0.4, 32, 400)
    strength = (PRESETS["camera-pipeline"].apply(x, BatchStream(len(x), 0)) - x).flatten(1).std(1) * 255
    assert strength.min() < 1
    assert strength.max() > 60
    assert 0.2 < float((strength < 6).float().mean()) < 0.6


def test_noise_in_camera_files_is_weak_and_correlated() -> None:
    x = grey(0.4, 64, 300)
    noise = (PRESETS["camera-file"].apply(x, BatchStream(len(x), 0)) - x) * 255
    luma = (0.299 * noise[:, 0] + 0.587 * noise[:, 1] + 0.114 * noise[:, 2])[:, None]
    color = noise[:, :1] - luma

    def correlate(planes: torch.Tensor, distance: int) -> float:
        planes = planes - planes.mean((2, 3), keepdim=True)
        both = (planes[..., distance:] * planes[..., :-distance]).mean((1, 2, 3))
        return float((both / planes.square().mean((1, 2, 3))).median())

    assert 1 < float(luma.std((1, 2, 3)).median()) < 6
    assert 0.5 < float(color.std((1, 2, 3)).median()) < 4
    # as in pairs of real photographs
    assert [correlate(luma, d) for d in (1, 2, 4)] == pytest.approx([0.5, 0.2, 0.1], abs=0.2)
    assert [correlate(color, d) for d in (1, 2, 4)] == pytest.approx([0.9, 0.8, 0.5], abs=0.2)


def test_the_filters_are_known_by_their_kind() -> None:
    filters = [step for option in PRESETS["camera-pipeline"].options() for step in option.steps]  # type: ignore[attr-defined]
    assert {step.name for step in filters if isinstance(step, NoiseFilter)} == {
        "luma-smoothed",
        "chroma-smoothed",
        "sharpened",
        "resized",
    }
