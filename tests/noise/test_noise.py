"""Every noise of the table keeps the contract, and text and value are two forms of the same noise."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from daelab.denoising.noisy_images import make_noisy
from daelab.evaluation.evaluate import make_noisy_batch
from daelab.image_io.bundled_photos import find_photo
from daelab.noise.base import PRESETS, LevelRange, Noise, list_terms
from daelab.noise.composition import Chain, Mixture
from daelab.noise.grammar import parse_noise
from daelab.noise.light import to_linear, to_srgb
from daelab.noise.presets import FORMULAS
from daelab.noise.random_streams import BatchStream, IndexedStream, generate_philox

GREY = torch.full((64, 3, 16, 16), 0.5)
TEXTURE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)).repeat(64, 1, 1, 1)

# One example of each noise whose levels a picture of 0.5 survives unclipped; a noise that is
# not named here takes 0.1 for every level.
LEVELS: dict[str, tuple[float, ...]] = {
    "gaussian": (0.05, 0.08),
    "multiplicative": (0.1, 0.15),
    "uniform": (-0.1, 0.2),
    "poisson": (60.0,),
    "awgn": (20.0,),
    "camera": (0.0002, 0.002),
    "demosaicked": (0.0002, 0.002),
    "correlated": (20.0, 0.6),
    "jpeg": (75.0,),
    "grain": (0.08, 0.6),
    "chroma": (10.0, 0.6),
    "stripes": (0.08,),
    "raw": (0.0002, 0.002, 0.0, 1.0, 1.0, 0.0, 0.0),
    "resized": (2.0,),
}
# The exceptions: those that may leave [0, 1], as the literature's protocol does, and those that draw nothing.
UNCLIPPED = {"awgn", "real"}
FILTERS = {"luma-smoothed", "chroma-smoothed", "sharpened", "resized"}
SILENT = {"none", "quantised", "jpeg", *FILTERS}


def example(name: str) -> Noise:
    kind = list_terms()[name]
    return kind(*LEVELS.get(name, (0.1,) * len(fields(kind))))


EVERY = {name: example(name) for name in list_terms()} | PRESETS
RANDOM = {name: noise for name, noise in EVERY.items() if name not in SILENT}
TRICKY = {
    text: parse_noise(text)
    for text in (
        "gaussian(0..0.2, 0.05..0.1)",
        "(gaussian(0, 0.1) | poisson(9)) > uniform(-0.1, 0.1)",
        "type-1 | (type-2 | none) | (speckle(0.1) | salt-and-pepper(0..0.5)) > type-1",
    )
}


def indexed(noise: Noise, indices: list[int], seed: int = 0) -> Tensor:
    return noise.apply(GREY[: len(indices), :, :3, :5], IndexedStream(indices, seed))


# Text


def levels(low: float, high: float) -> st.SearchStrategy[float | LevelRange]:
    number = st.floats(low, high, allow_nan=False)
    return number | st.tuples(number, number).map(lambda pair: LevelRange(*sorted(pair)))


def single() -> st.SearchStrategy[Noise]:
    """Draw any noise with levels inside its bounds, as numbers or ranges."""
    made = []
    for kind in list_terms().values():
        bounds = [kind.bounds.get(field.name, (-9.0, 9.0)) for field in fields(kind)]
        numbers = st.tuples(*(levels(low, min(high, 1e6)) for low, high in bounds))
        made.append(numbers.map(lambda numbers, kind=kind: ordered(kind, numbers)))
    return st.one_of(made)


def ordered(kind: type, numbers: tuple[float | LevelRange, ...]) -> Noise:
    """Sort the levels of uniform(low, high); for other noises any order is valid."""
    if [field.name for field in fields(kind)] == ["low", "high"]:
        numbers = tuple(sorted(numbers, key=lambda n: n.low if isinstance(n, LevelRange) else n))
    try:
        return kind(*numbers)
    except ValueError:  # ranges that overlap
        return kind(*(n.low if isinstance(n, LevelRange) else n for n in numbers))


def groups(inner: st.SearchStrategy[Noise]) -> st.SearchStrategy[Noise]:
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return several.map(Chain) | several.map(Mixture)


NOISES = st.recursive(single() | st.sampled_from(list(PRESETS.values())), groups, max_leaves=6)


@settings(max_examples=200, deadline=None)
@given(NOISES)
def test_a_printed_noise_reads_back_equal(noise: Noise) -> None:
    assert parse_noise(str(noise)) == noise
    assert parse_noise(noise.formula()) == noise
    assert str(parse_noise(str(noise))) == str(noise)


@pytest.mark.parametrize("name", EVERY)
def test_every_name_reads_back(name: str) -> None:
    assert parse_noise(str(EVERY[name])) == EVERY[name]
    if name in PRESETS:
        assert str(parse_noise(FORMULAS[name])) == name


def test_the_presets_are_the_papers_table_1_and_its_code() -> None:
    four = "gaussian(0.3, 0.05) | multiplicative(0.8, 0.5) | gaussian(0.2, 0.05) > multiplicative(0.2, 0.1)"
    assert parse_noise(f"{four} | multiplicative(0.2, 0.2) > gaussian(0.2, 0.05)") == PRESETS["table-1"]
    assert parse_noise(f"{four} | multiplicative(0.2, 0.2) > gaussian(0.1, 0.08)") == PRESETS["published-code"]


def test_then_binds_tighter_than_or() -> None:
    a, b, c = (parse_noise(f"speckle(0.{n})") for n in "123")
    assert parse_noise("speckle(0.1) > speckle(0.2) | speckle(0.3)") == Mixture((Chain((a, b)), c))
    assert parse_noise("speckle(0.1) > (speckle(0.2) | speckle(0.3))") == Chain((a, Mixture((b, c))))


WRONG = {
    "gaussian(0.1 0.2)": ("expected ')', found '0.2'", 13),
    "gauss(0.1, 0.2)": ("unknown noise 'gauss'; did you mean 'gaussian'? Valid:", 0),
    "type-1 | type-9": ("unknown noise 'type-9'", 9),
    "none > gaussian(0.1)": ("write gaussian(mean, std); 1 number is given", 7),
    "none(1)": ("write none; 1 number is given", 0),
    "  gaussian(0, -1)": ("gaussian: std must be at least 0, not -1", 2),
    "gaussian(1e999, 0)": ("gaussian: mean must be a finite number, not inf", 0),
    "gaussian(0, 1e999)": ("gaussian: std must be a finite number, not inf", 0),
    "salt-and-pepper(0.5..1.5)": ("p must be between 0 and 1, not 0.5..1.5", 0),
    "uniform(0.2, 0.1)": ("uniform: low must not be above high", 0),
    "speckle(0.3..0.1)": ("the range 0.3..0.1 runs backwards", 8),
    "speckle(0.1..)": ("expected a number, found ')'", 13),
    "speckle(0.1": ("expected ')', found the end", 11),
    "speckle(x)": ("expected a number, found 'x'", 8),
    "speckle(0.1) |": ("expected the name of a noise, found the end", 14),
    "speckle(0.1) speckle(0.1)": ("expected '>', '|' or the end, found 'speckle'", 13),
    "type-1(0.3)": ("expected '>', '|' or the end, found '('", 6),
    "speckle(0.1) & type-1": ("unexpected character '&'", 13),
    "type-1 |\n\t? ": ("unexpected character '?'", 10),
    "raw(0.1, 0, 0, 0.01, 1, 0, 0)": ("raw: red must be between 1 and 10, not 0.01", 0),
    "awgn(25) > resized(0.5..2)": ("resized: scale must be between 1 and 16, not 0.5..2", 11),
    "sharpened(1)": ("write sharpened(amount, radius); 1 number is given", 0),
    "salt-and-pepper-pixel(0.1)": ("did you mean 'salt-and-pepper-pixels'", 0),
    "(" * 30: ("brackets are nested over 20 deep", 20),
}


@pytest.mark.parametrize("text", WRONG)
def test_an_error_names_the_place_in_one_line(text: str) -> None:
    what, place = WRONG[text]
    with pytest.raises(ValueError) as caught:
        parse_noise(text)
    said = str(caught.value)
    assert said.startswith("noise: ")
    assert what in said
    shown = text.replace("\n", " ").replace("\t", " ").strip()
    assert said.endswith(f"; at character {place + 1} of {shown!r}")


def test_only_the_neighbourhood_of_an_error_is_shown() -> None:
    with pytest.raises(ValueError) as caught:
        parse_noise("speckle(0.1) | " * 100 + "speckel(0.1)" + " | speckle(0.1)" * 100)
    assert "at character 1501 of " in str(caught.value)
    assert "speckel(0.1)" in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_noise_is_called_empty(text: str) -> None:
    with pytest.raises(ValueError, match="the text is empty"):
        parse_noise(text)


def test_an_unknown_noise_lists_every_name() -> None:
    with pytest.raises(ValueError) as caught:
        parse_noise("nonesuch")
    assert all(name in str(caught.value) for name in [*list_terms(), *FORMULAS])


def test_a_very_long_text_is_refused() -> None:
    with pytest.raises(ValueError, match="10002 characters; at most 10000"):
        parse_noise(" " * 9998 + "none")


# Every noise


@pytest.mark.parametrize("name", EVERY | TRICKY)
@pytest.mark.parametrize("source", [BatchStream, IndexedStream])
def test_the_result_is_an_image_and_the_input_is_left_alone(name: str, source: type) -> None:
    x = torch.rand(7, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    noisy = (EVERY | TRICKY)[name].apply(x, source(7 if source is BatchStream else range(7), 0))
    assert torch.equal(x, before)
    assert (noisy.shape, noisy.dtype) == (x.shape, torch.float32)
    assert noisy.isfinite().all()
    if name not in UNCLIPPED:
        assert noisy.min() >= 0
        assert noisy.max() <= 1
    assert noisy.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("name", RANDOM | TRICKY)
@pytest.mark.parametrize("source", [BatchStream, IndexedStream])
def test_same_seed_same_noise_other_seed_other_noise(name: str, source: type) -> None:
    noise = (RANDOM | TRICKY)[name]

    def noisy(seed: int) -> Tensor:
        return noise.apply(GREY, source(64 if source is BatchStream else range(64), seed))

    assert torch.equal(noisy(3), noisy(3))
    # torch's generator on a CPU heeds 32 bits of a seed
    for other in (4,) if source is BatchStream else (4, 3 + (1 << 32), 3 + (1 << 62)):
        assert not torch.equal(noisy(3), noisy(other))


class Faulty(Noise):
    """A noise whose code has a mistake."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        self.change = change

    def apply(self, x: Tensor, stream: BatchStream | IndexedStream) -> Tensor:
        return self.change(x)

    def formula(self) -> str:
        return "faulty(1)"


FAULTS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "fewer rows": (lambda x: x[:, :, 1:], r"makes \(2, 3, 15, 16\) float32 on cpu of images that are \(2, 3, 16, 16\)"),
    "one channel": (lambda x: x.mean(1, keepdim=True), r"makes \(2, 1, 16, 16\)"),
    "an image more": (lambda x: torch.cat([x, x[:1]]), r"makes \(3, 3, 16, 16\)"),
    "another type": (lambda x: x.double(), "makes .* float64 on cpu of"),
    "an array": (lambda x: x.numpy(), "makes ndarray of"),
    "nothing": (lambda x: None, "makes NoneType of"),
    "in place": (lambda x: x.mul_(0.5), "changes the clean images in place"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_noise_that_does_not_fit_its_images_is_one_line_wherever_it_is_applied(fault: str) -> None:
    change, message = FAULTS[fault]
    noise, stream = Faulty(change), BatchStream(2, 0)
    alone, after = Chain((noise,)), Chain((parse_noise("none"), noise))
    for use in (noise.apply, alone.apply, after.apply):
        with pytest.raises(ValueError, match=rf"^noise faulty\(1\) {message}"):
            use(GREY[:2].clone(), stream)
    for use in (Mixture((noise, noise)).apply, lambda x, _: noise(x)):
        with pytest.raises(ValueError, match="noise faulty"):
            use(GREY[:2].clone(), stream)
    with pytest.raises(ValueError, match="noise faulty"):
        make_noisy(np.full((16, 16, 3), 9, np.uint8), noise)
    with pytest.raises(ValueError, match="noise faulty"):
        make_noisy_batch(GREY[:2].clone(), noise, stream)


@pytest.mark.parametrize("name", RANDOM | TRICKY)
def test_no_two_images_get_the_same_noise(name: str) -> None:
    # not of grey, in which JPEG leaves no trace of a weak noise
    whole = (RANDOM | TRICKY)[name].apply(TEXTURE, IndexedStream(range(64), 0)).flatten(1)
    # a mixture may hold `none` and its file: images that are still clean say nothing
    clean = [TEXTURE[0].flatten(), TEXTURE[0].mul(255).round().div(255).flatten()]
    changed = [row for row in whole if not any(torch.equal(row, image) for image in clean)]
    assert len(changed) > 32
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(changed, 2))


@pytest.mark.parametrize("name", RANDOM | TRICKY)
def test_evaluation_noise_depends_on_the_index_alone(name: str) -> None:
    noise = (RANDOM | TRICKY)[name]
    whole = indexed(noise, list(range(12)))
    order = np.random.default_rng(0).permutation(12).tolist()
    assert torch.equal(indexed(noise, order), whole[order])
    for size in (1, 5, 11):
        parts = [indexed(noise, list(range(at, min(at + size, 12)))) for at in range(0, 12, size)]
        assert torch.equal(torch.cat(parts), whole)


def test_an_index_may_pass_32_bits() -> None:
    noise = PRESETS["type-1"]
    a, b = indexed(noise, [5, 5 + (1 << 32)])
    assert not torch.equal(a, b)
    assert torch.equal(indexed(noise, [5 + (1 << 32)])[0], b)


@pytest.mark.parametrize("source", [BatchStream(64, 0), IndexedStream(range(64), 0)])
def test_a_chain_after_a_mixture_draws_afresh(source: BatchStream | IndexedStream) -> None:
    # were the numbers the same, the noises would add up to twice one of them: a std of 0.2
    noise = parse_noise("(gaussian(0, 0.1) | gaussian(0, 0.1)) > gaussian(0, 0.1)")
    assert float((noise.apply(GREY, source) - 0.5).std()) == pytest.approx(0.1 * 2**0.5, rel=0.02)


def test_a_mixture_leaves_the_others_draws_alone() -> None:
    """The numbers that an image gets after a mixture do not depend on what other images drew in it."""
    noise = parse_noise("(none | gaussian(0, 0.1) > gaussian(0, 0.1) | (none | speckle(0.1))) > speckle(0.1)")
    whole = indexed(noise, list(range(24)))
    assert torch.equal(torch.cat([indexed(noise, [i]) for i in range(24)]), whole)


@pytest.mark.parametrize("name", EVERY | TRICKY)
def test_component_says_which_option_an_image_got(name: str) -> None:
    noise = (EVERY | TRICKY)[name]
    component = noise.component(IndexedStream(range(64), 0))
    assert component.dtype == torch.int64
    assert set(component.tolist()) == set(range(len(noise.options())))
    if isinstance(noise, Mixture):
        noisy = indexed(noise, list(range(64)))
        for number, option in enumerate(noise.options()):
            chosen = torch.nonzero(component == number).flatten()
            draws = IndexedStream(range(64), 0)
            draws.pick(len(noise.options()))
            assert torch.equal(option.apply(GREY[chosen, :, :3, :5], draws.take(chosen)), noisy[chosen])


def test_a_mixture_draws_its_options_alike() -> None:
    for draws in (BatchStream(8000, 0), IndexedStream(range(8000), 0)):
        counts = torch.bincount(draws.pick(4))
        assert counts.sum() == 8000
        assert ((counts - 2000).abs() < 5 * (8000 * 0.25 * 0.75) ** 0.5).all()


# What each noise does, on grey 0.5: mean and variance of the result

MOMENTS = {
    "none": (0.5, 0.0),
    "gaussian": (0.55, 0.08**2),
    "multiplicative": (0.55, 0.075**2),
    "speckle": (0.5, 0.05**2),
    "uniform": (0.55, 0.3**2 / 12),
    "salt-and-pepper": (0.5, 0.1 * 0.25),
    "poisson": (0.5, 0.5 / 60),
    "awgn": (0.5, (20 / 255) ** 2),
    "quantised": (128 / 255, 0.0),
    "jpeg": (128 / 255, 0.0),
    "correlated": (0.5, (20 / 255) ** 2),
    "grain": (0.5, 0.08**2),
    "chroma": (0.5, (10 / 255) ** 2 * (1.402**2 + 0.344136**2 + 0.714136**2 + 1.772**2) / 3),
    "stripes": (0.5, 0.08**2),
}
MOMENTS["salt-and-pepper-pixels"] = MOMENTS["salt-and-pepper"]
# a share of 0.1 gets an amount U in [0, 1), and is clipped at 1: the brightening is U up to 0.5, then 0.5
MOMENTS["hot-pixels"] = (0.5 + 0.1 * 0.375, 0.1 / 6 - (0.1 * 0.375) ** 2)
GREEN_SHARE = (1 + (4**2 + 4 * 2**2 + 4) / 64) / 2
RED_SHARE = (1 + 2 * (5**2 + 2 * 4**2 + 6 + 2 / 4) / 64 + (6**2 + 4 * 2**2 + 4 * 1.5**2) / 64) / 4
RAW_SHARE = (GREEN_SHARE + 2 * RED_SHARE) / 3
LINEAR = ((0.5 + 0.055) / 1.055) ** 2.4
SLOPE = 1.055 / 2.4 * LINEAR ** (1 / 2.4 - 1)
MOMENTS["camera"] = (0.5, SLOPE**2 * (0.0002 * LINEAR + 0.002**2))
# of a grey mosaic, bilinear demosaicking leaves 9/16 of the variance in red and blue and 5/8 in green
# gradient-corrected demosaicking leaves, of the same noise, the sum of the squares of its filters' weights
MOMENTS["raw"] = (0.5, MOMENTS["camera"][1] * RAW_SHARE)
MOMENTS |= dict.fromkeys(FILTERS, (0.5, 0.0))
MOMENTS["demosaicked"] = (0.5, MOMENTS["camera"][1] * (2 * 9 / 16 + 5 / 8) / 3)
# values that say something of their own, as a share of all; a smoothed or shared noise has fewer
OWN = {
    "correlated": 1 / 5,
    "grain": 1 / 15,
    "chroma": 1 / 8,
    "stripes": 1 / 16,
    "demosaicked": 1 / 4,
    "raw": 1 / 4,
    "hot-pixels": 1 / 3,
}
OWN["salt-and-pepper-pixels"] = 1 / 3
# at the borders of a picture of 16 x 16, fewer samples are averaged
LOOSE = {"demosaicked": 0.12, "raw": 0.12}


@pytest.mark.parametrize("name", list_terms())
@pytest.mark.parametrize("source", [BatchStream, IndexedStream])
def test_moments(name: str, source: type) -> None:
    noisy = example(name).apply(GREY, source(64 if source is BatchStream else range(64), 1))
    mean, variance = MOMENTS[name]
    own = GREY.numel() * OWN.get(name, 1)
    # the sRGB curve bends, which shifts the mean by less than a ten-thousandth
    assert float(noisy.mean()) == pytest.approx(mean, abs=5 * (variance / own) ** 0.5 + 1e-7)
    spread = LOOSE.get(name, max(0.04, 4 * (2 / own) ** 0.5))
    assert float(noisy.var()) == pytest.approx(variance, rel=spread, abs=1e-9)


def test_a_chain_is_one_after_the_other_clipped_after_each() -> None:
    noisy = parse_noise("gaussian(0.8, 0) > gaussian(-0.3, 0)").apply(GREY, BatchStream(64, 0))
    assert torch.allclose(noisy, torch.tensor(0.7))


def test_salt_and_pepper_come_half_and_half() -> None:
    noisy = parse_noise("salt-and-pepper(0.2)").apply(GREY, IndexedStream(range(64), 0))
    share = [float((noisy == value).double().mean()) for value in (0, 0.5, 1)]
    assert share == pytest.approx([0.1, 0.8, 0.1], abs=0.01)
    assert set(parse_noise("salt-and-pepper(1)").apply(GREY, BatchStream(64, 0)).unique().tolist()) == {0, 1}


def test_a_range_is_drawn_per_image_and_uniformly() -> None:
    noisy = parse_noise("gaussian(-0.3..0.3, 0)").apply(torch.full((4000, 1, 2, 2), 0.5), IndexedStream(range(4000), 0))
    shift = noisy[:, 0, 0, 0] - 0.5
    assert torch.equal(noisy, noisy[:, :, :1, :1].expand_as(noisy))
    expected = torch.linspace(-0.3, 0.3, 4000)
    assert float((shift.sort().values - expected).abs().max()) < 0.02


def test_a_range_does_not_depend_on_the_size_of_the_picture() -> None:
    noise = parse_noise("gaussian(0.1..0.3, 0)")
    small, large = (noise.apply(torch.full((9, 3, n, n), 0.5), IndexedStream(range(9), 0)) for n in (1, 8))
    assert torch.equal(small[:, 0, 0, 0], large[:, 2, 7, 7])


@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.02, 0.7, 3.0, 25.0, 900.0, 1e6])
def test_poisson_counts_follow_the_exact_distribution(rate: float) -> None:
    n = 20_000
    counts = IndexedStream(range(n), 0).poisson(torch.full((n,), rate)).double()
    assert float(counts.mean()) == pytest.approx(rate, abs=5 * (rate / n) ** 0.5)
    k, seen = counts.unique(return_counts=True)
    below = seen.cumsum(0).double() / n
    exact = torch.special.gammaincc(k + 1, torch.tensor(rate, dtype=torch.float64)) if rate else torch.ones(1)
    assert float((below - exact).abs().max()) < 1.95 / n**0.5  # Kolmogorov and Smirnov, p = 0.001


# Photographs


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """Return a photograph, uint8 (H, W, 3), whose sides are no multiples of 16."""
    with Image.open(find_photo("astronaut")) as image:
        return np.asarray(image.convert("RGB").crop((100, 20, 349, 201)))


def tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255


def uniform_grey(value: float) -> Tensor:
    return torch.full((8, 3, 64, 64), value)


def shifted(noise: Tensor, down: int, right: int) -> float:
    """Return the correlation of values at a distance."""
    height, width = noise.shape[-2:]
    a, b = noise[..., : height - down, : width - right], noise[..., down:, right:]
    return float((a * b).mean() / noise.square().mean())


def test_awgn_leaves_the_range_and_keeps_its_deviation() -> None:
    x = torch.zeros(8, 3, 64, 64)
    noisy = parse_noise("awgn(25)").apply(x, IndexedStream(range(8), 0))
    assert noisy.min() < 0
    assert float(noisy.std()) == pytest.approx(25 / 255, rel=0.01)
    assert float(noisy.square().mean()) == pytest.approx((25 / 255) ** 2, rel=0.02)
    clipped = parse_noise("awgn(25) > quantised").apply(x, IndexedStream(range(8), 0))
    assert torch.equal(clipped, noisy.clamp(0, 1).mul(255).round() / 255)


@pytest.mark.parametrize("text", ["awgn(50) > quantised", "awgn(50) > jpeg(40)"])
def test_a_files_values_are_of_8_bits(text: str) -> None:
    noisy = parse_noise(text).apply(GREY, BatchStream(64, 0))
    levels = noisy * 255
    assert torch.equal(levels.round() / 255, noisy)
    assert (float(levels.min()), float(levels.max())) >= (0, 0)
    assert len(noisy.unique()) > 10


def test_the_srgb_curve_is_the_standards() -> None:
    x = torch.linspace(0, 1, 1001)
    assert float((to_srgb(to_linear(x)) - x).abs().max()) < 1e-5
    # IEC 61966-2-1: mid-grey, and the straight part
    assert to_linear(torch.tensor([0.0, 0.04, 0.5, 1.0])).tolist() == pytest.approx([0, 0.04 / 12.92, 0.214041, 1])


@pytest.mark.parametrize("value", [0.35, 0.5, 0.8])
@pytest.mark.parametrize("gain, read", [(0.001, 0.0), (1e-6, 0.01), (0.0008, 0.01), (0.003, 0.0)])
def test_a_cameras_variance_in_linear_light_is_gain_y_plus_read_squared(value: float, gain: float, read: float) -> None:
    x = uniform_grey(value)
    y = float(to_linear(x[0, 0, 0, 0]))
    wide = (gain * y + read**2) ** 0.5
    assert 4 * wide < y < 1 - 4 * wide  # nothing is clipped
    light = to_linear(parse_noise(f"camera({gain}, {read})").apply(x, BatchStream(8, 0)))
    assert float(light.mean()) == pytest.approx(y, abs=5 * wide / light.numel() ** 0.5)
    assert float(light.var()) == pytest.approx(gain * y + read**2, rel=0.03)


def test_few_photons_are_counted() -> None:
    """With 20 electrons at white, a sensor gives 21 distinct values."""
    light = to_linear(parse_noise("camera(0.05, 0)").apply(uniform_grey(0.3), BatchStream(8, 0)))
    counts = light / 0.05
    assert torch.allclose(counts, counts.round(), atol=1e-3)


def test_demosaicking_correlates_neighbours_and_leaves_the_picture() -> None:
    x = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    untouched = parse_noise("demosaicked(1e-6, 0)").apply(x, BatchStream(8, 0))
    # sqrt(1e-6) of noise, which the curve magnifies by 13 in the shadows
    assert float((untouched - x).abs().max()) < 0.03
    noise = to_linear(parse_noise("demosaicked(0.0002, 0.002)").apply(uniform_grey(0.5), BatchStream(8, 0))) - LINEAR
    variance = noise[..., 4:-4, 4:-4].square().mean((0, 2, 3))
    whole = 0.0002 * LINEAR + 0.002**2
    assert (variance / whole).tolist() == pytest.approx([9 / 16, 5 / 8, 9 / 16], rel=0.05)
    red = noise[:, :1]
    # 1 2 1 in both directions, over a grid of every other pixel
    assert [shifted(red, 0, d) for d in (1, 2, 3)] == pytest.approx([2 / 3, 1 / 6, 0], abs=0.04)
    with pytest.raises(ValueError, match="1x5 pixels is smaller than the mosaic"):
        parse_noise("demosaicked(0.1, 0)").apply(x[..., :1, :5], BatchStream(8, 0))


def test_every_phase_of_the_mosaic_is_drawn() -> None:
    noisy = parse_noise("demosaicked(0.0002, 0)").apply(uniform_grey(0.5).repeat(4, 1, 1, 1), BatchStream(32, 0))
    # a measured value varies more than an interpolated one: where red varies most is the phase
    red = (to_linear(noisy[:, 0]) - LINEAR)[:, 4:-4, 4:-4]
    variances = torch.stack([red[:, i::2, j::2].square().mean((1, 2)) for i in (0, 1) for j in (0, 1)], 1)
    assert set(variances.argmax(1).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ["correlated(10, {})", "grain(0.04, {})", "chroma(5, {})"])
@pytest.mark.parametrize("radius", [0, 1, 2.5])
def test_a_smoothed_noise_has_the_correlation_of_its_radius(name: str, radius: float) -> None:
    x = uniform_grey(0.5).repeat(2, 1, 1, 1)
    noise = parse_noise(name.format(radius)).apply(x, IndexedStream(range(16), 0)) - 0.5
    for distance in (1, 2, 4):
        expected = np.exp(-(distance**2) / (4 * radius**2)) if radius else 0
        assert shifted(noise, 0, distance) == pytest.approx(expected, abs=0.05)
        assert shifted(noise, distance, 0) == pytest.approx(expected, abs=0.05)
    # as strong at the borders as inside
    edge, inside = noise[..., 0, :].square().mean(), noise[..., 20:40, :].square().mean()
    assert float(edge / inside) == pytest.approx(1, abs=0.25)


def test_a_range_of_radii_keeps_the_deviation() -> None:
    noise = parse_noise("correlated(10, 0..3)").apply(torch.full((64, 3, 64, 64), 0.5), BatchStream(64, 0)) - 0.5
    spread = noise.flatten(1).std(1) * 255
    assert float(spread.mean()) == pytest.approx(10, rel=0.03)
    near = (noise[..., 1:] * noise[..., :-1]).mean((1, 2, 3)) / noise.square().mean((1, 2, 3))
    assert near.min() < 0.3
    assert near.max() > 0.9


def test_grain_is_grey_and_strongest_in_the_mid_tones() -> None:
    grain = parse_noise("grain(0.05, 1)")
    deviations = []
    for value in (0.05, 0.25, 0.5, 0.75, 0.95):
        noise = grain.apply(uniform_grey(value), BatchStream(8, 0)) - value
        assert float((noise[:, 0] - noise[:, 2]).abs().max()) < 1e-6
        deviations.append(float(noise.std()))
    assert deviations[1:4] == pytest.approx([0.05 * 0.75**0.5, 0.05, 0.05 * 0.75**0.5], rel=0.05)
    assert max(deviations[0], deviations[4]) < 0.5 * deviations[2]
    assert torch.equal(grain.apply(torch.ones(8, 3, 9, 9), BatchStream(8, 0)), torch.ones(8, 3, 9, 9))


def test_chroma_leaves_the_luma() -> None:
    noise = parse_noise("chroma(10, 2)").apply(uniform_grey(0.5), BatchStream(8, 0)) - 0.5
    red, green, blue = noise.unbind(1)
    assert float((0.299 * red + 0.587 * green + 0.114 * blue).abs().max()) < 1e-5
    assert float((blue / 1.772).std()) == pytest.approx(10 / 255, rel=0.1)


def test_stripes_run_down_or_across() -> None:
    noisy = parse_noise("stripes(0.05)").apply(GREY, IndexedStream(range(64), 0))
    down = (noisy == noisy[:, :, :1]).flatten(1).all(1)
    across = (noisy == noisy[:, :, :, :1]).flatten(1).all(1)
    assert torch.equal(down, ~across)
    assert 16 < int(down.sum()) < 48


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90, 97, 100])
def test_jpeg_is_what_pillow_writes_and_reads(photograph: np.ndarray, quality: int) -> None:
    file = io.BytesIO()
    Image.fromarray(photograph).save(file, "JPEG", quality=quality)
    real = tensor(np.asarray(Image.open(file)))
    made = parse_noise(f"jpeg({quality})").apply(tensor(photograph), BatchStream(1, 0))
    between = -10 * torch.log10((made - real).square().mean())
    loss = -10 * torch.log10((made - tensor(photograph)).square().mean())
    true_loss = -10 * torch.log10((real - tensor(photograph)).square().mean())
    assert float(between) > 45
    assert float(loss) == pytest.approx(float(true_loss), abs=0.05)


def test_each_image_has_its_own_jpeg_quality(photograph: np.ndarray) -> None:
    x = tensor(photograph)
    both = parse_noise("jpeg(5..100)").apply(x.repeat(6, 1, 1, 1), IndexedStream(range(6), 0))
    quality = (IndexedStream(range(6), 0).uniform(1, 1, 1) * 95 + 5).flatten().round()
    for image, level in zip(both, quality.tolist(), strict=True):
        assert torch.equal(parse_noise(f"jpeg({level})").apply(x, BatchStream(1, 0))[0], image)


def test_real_draws_every_kind_of_degradation() -> None:
    assert len(PRESETS["real"].options()) == 11
    photographic = [name for name, kind in list_terms().items() if kind.__module__.endswith("noise.camera")]
    assert len(photographic) == 9
    assert all(f"{name}(" in FORMULAS["real"] for name in photographic if name != "quantised")


# Philox: the known answers of Salmon's Random123, kat_vectors, philox 4x32 10

KNOWN = {
    ((0, 0, 0, 0), (0, 0)): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2): (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)): (
        0xD16CFE09,
        0x94FDCCEB,
        0x5001E420,
        0x24126EA1,
    ),
}


@pytest.mark.parametrize("counter, key", KNOWN)
def test_philox_known_answers(counter: tuple[int, ...], key: tuple[int, int]) -> None:
    c0, c1, c2, c3 = (torch.tensor(word) for word in counter)
    assert tuple(map(int, generate_philox((c0, c1, c2, c3), key))) == KNOWN[counter, key]


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 3, 7)])
def test_draws_have_the_shape_asked_for_and_are_fresh(kind: str, shape: tuple[int, ...]) -> None:
    for draws in (BatchStream(6, 0), IndexedStream(range(6), 0)):
        first, second = getattr(draws, kind)(*shape), getattr(draws, kind)(*shape)
        assert (first.shape, first.dtype) == ((6, *shape), torch.float32)
        assert not torch.equal(first, second)


def test_indexed_draws_are_distributed_as_they_say() -> None:
    draws = IndexedStream(range(200), 0)
    uniform, normal = draws.uniform(1000).flatten().double(), draws.normal(1000).flatten().double()
    n = len(uniform)
    cdf = {"uniform": uniform, "normal": torch.special.ndtr(normal)}
    for name, value in cdf.items():
        steps = torch.arange(1, n + 1) / n
        assert float((value.sort().values - steps).abs().max()) < 1.95 / n**0.5, name
    assert uniform.min() >= 0
    assert uniform.max() < 1
    # Box and Muller give their numbers in pairs: they must not go together
    halves = normal.view(200, 2, 500)
    assert abs(float((halves[:, 0] * halves[:, 1]).mean())) < 5 / (n / 2) ** 0.5
