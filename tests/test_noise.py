"""Every noise of the table keeps the contract; text and value are two forms of one thing."""

from __future__ import annotations

import itertools
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from daelab.noise import FORMULAS, PRESETS, BatchDraws, Chain, IndexedDraws, Mixture, Noise, Range, parse, terms
from daelab.noise.draws import philox

GREY = torch.full((64, 3, 16, 16), 0.5)

# One example of each noise whose levels a picture of 0.5 survives unclipped; a noise that is
# not named here takes 0.1 for every level.
LEVELS: dict[str, tuple[float, ...]] = {
    "gaussian": (0.05, 0.08),
    "multiplicative": (0.1, 0.15),
    "uniform": (-0.1, 0.2),
    "poisson": (60.0,),
}


def example(name: str) -> Noise:
    kind = terms()[name]
    return kind(*LEVELS.get(name, (0.1,) * len(fields(kind))))


EVERY = {name: example(name) for name in terms()} | PRESETS
RANDOM = {name: noise for name, noise in EVERY.items() if name != "none"}
TRICKY = {
    text: parse(text)
    for text in (
        "gaussian(0..0.2, 0.05..0.1)",
        "(gaussian(0, 0.1) | poisson(9)) > uniform(-0.1, 0.1)",
        "type-1 | (type-2 | none) | (speckle(0.1) | salt-and-pepper(0..0.5)) > type-1",
    )
}


def indexed(noise: Noise, indices: list[int], seed: int = 0) -> Tensor:
    return noise.apply(GREY[: len(indices), :, :3, :5], IndexedDraws(indices, seed))


# Text


def levels(low: float, high: float) -> st.SearchStrategy[float | Range]:
    number = st.floats(low, high, allow_nan=False)
    return number | st.tuples(number, number).map(lambda pair: Range(*sorted(pair)))


def single() -> st.SearchStrategy[Noise]:
    """Any term, with levels inside its bounds, numbers or ranges."""
    made = []
    for kind in terms().values():
        bounds = [kind.bounds.get(field.name, (-9.0, 9.0)) for field in fields(kind)]
        numbers = st.tuples(*(levels(low, min(high, 1e6)) for low, high in bounds))
        made.append(numbers.map(lambda numbers, kind=kind: ordered(kind, numbers)))
    return st.one_of(made)


def ordered(kind: type, numbers: tuple[float | Range, ...]) -> Noise:
    """uniform(low, high) wants them in order; for the others any order is as good."""
    if [field.name for field in fields(kind)] == ["low", "high"]:
        numbers = tuple(sorted(numbers, key=lambda n: n.low if isinstance(n, Range) else n))
    try:
        return kind(*numbers)
    except ValueError:  # ranges that overlap
        return kind(*(n.low if isinstance(n, Range) else n for n in numbers))


def groups(inner: st.SearchStrategy[Noise]) -> st.SearchStrategy[Noise]:
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return several.map(Chain) | several.map(Mixture)


NOISES = st.recursive(single() | st.sampled_from(list(PRESETS.values())), groups, max_leaves=6)


@settings(max_examples=200, deadline=None)
@given(NOISES)
def test_a_printed_noise_reads_back_equal(noise: Noise) -> None:
    assert parse(str(noise)) == noise
    assert parse(noise.formula()) == noise
    assert str(parse(str(noise))) == str(noise)


@pytest.mark.parametrize("name", EVERY)
def test_every_name_reads_back(name: str) -> None:
    assert parse(str(EVERY[name])) == EVERY[name]
    if name in PRESETS:
        assert str(parse(FORMULAS[name])) == name


def test_the_presets_are_the_papers_table_1_and_its_code() -> None:
    four = "gaussian(0.3, 0.05) | multiplicative(0.8, 0.5) | gaussian(0.2, 0.05) > multiplicative(0.2, 0.1)"
    assert parse(f"{four} | multiplicative(0.2, 0.2) > gaussian(0.2, 0.05)") == PRESETS["table-1"]
    assert parse(f"{four} | multiplicative(0.2, 0.2) > gaussian(0.1, 0.08)") == PRESETS["published-code"]


def test_then_binds_tighter_than_or() -> None:
    a, b, c = (parse(f"speckle(0.{n})") for n in "123")
    assert parse("speckle(0.1) > speckle(0.2) | speckle(0.3)") == Mixture((Chain((a, b)), c))
    assert parse("speckle(0.1) > (speckle(0.2) | speckle(0.3))") == Chain((a, Mixture((b, c))))


WRONG = {
    "gaussian(0.1 0.2)": ("expected ')', found '0.2'", 13),
    "gauss(0.1, 0.2)": ("unknown noise 'gauss'; did you mean 'gaussian'? Valid:", 0),
    "type-1 | type-9": ("unknown noise 'type-9'", 9),
    "none > gaussian(0.1)": ("write gaussian(mean, std); 1 numbers given", 7),
    "none(1)": ("write none; 1 numbers given", 0),
    "  gaussian(0, -1)": ("gaussian: std must be at least 0, not -1", 2),
    "gaussian(1e999, 0)": ("gaussian: mean must be a finite number, not inf", 0),
    "gaussian(0, 1e999)": ("gaussian: std must be a finite number, not inf", 0),
    "salt-and-pepper(0.5..1.5)": ("p must be between 0 and 1, not 0.5..1.5", 0),
    "uniform(0.2, 0.1)": ("uniform: low must not be above high", 0),
    "speckle(0.3..0.1)": ("the range 0.3..0.1 runs backwards", 8),
    "speckle(0.1..)": ("expected a number, found ')'", 13),
    "speckle(0.1": ("expected ')', found 'the end'", 11),
    "speckle(x)": ("expected a number, found 'x'", 8),
    "speckle(0.1) |": ("expected the name of a noise, found 'the end'", 14),
    "speckle(0.1) speckle(0.1)": ("expected '>', '|' or the end, found 'speckle'", 13),
    "type-1(0.3)": ("expected '>', '|' or the end, found '('", 6),
    "speckle(0.1) & type-1": ("'&' has no meaning here", 13),
    "type-1 |\n\t? ": ("'?' has no meaning here", 10),
    "": ("expected the name of a noise, found 'the end'", 0),
    "(" * 30: ("more than 20 brackets deep", 20),
}


@pytest.mark.parametrize("text", WRONG)
def test_an_error_shows_the_place_with_a_caret(text: str) -> None:
    what, place = WRONG[text]
    with pytest.raises(ValueError) as caught:
        parse(text)
    first, shown, caret = str(caught.value).split("\n")
    assert first.startswith("noise: ")
    assert what in first
    assert shown == "  " + text.replace("\n", " ").replace("\t", " ")
    assert caret == " " * (place + 2) + "^"


def test_an_unknown_noise_lists_every_name() -> None:
    with pytest.raises(ValueError) as caught:
        parse("nonesuch")
    assert all(name in str(caught.value) for name in [*terms(), *FORMULAS])


def test_a_very_long_text_is_refused() -> None:
    with pytest.raises(ValueError, match="2002 characters; at most 2000"):
        parse(" " * 1998 + "none")


# Every noise


@pytest.mark.parametrize("name", EVERY | TRICKY)
@pytest.mark.parametrize("source", [BatchDraws, IndexedDraws])
def test_the_result_is_an_image_and_the_input_is_left_alone(name: str, source: type) -> None:
    x = torch.rand(7, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    noisy = (EVERY | TRICKY)[name].apply(x, source(7 if source is BatchDraws else range(7), 0))
    assert torch.equal(x, before)
    assert (noisy.shape, noisy.dtype) == (x.shape, torch.float32)
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    assert noisy.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("name", RANDOM | TRICKY)
@pytest.mark.parametrize("source", [BatchDraws, IndexedDraws])
def test_same_seed_same_noise_other_seed_other_noise(name: str, source: type) -> None:
    noise = (RANDOM | TRICKY)[name]

    def noisy(seed: int) -> Tensor:
        return noise.apply(GREY, source(64 if source is BatchDraws else range(64), seed))

    assert torch.equal(noisy(3), noisy(3))
    # torch's generator on a CPU heeds 32 bits of a seed
    for other in (4,) if source is BatchDraws else (4, 3 + (1 << 32), 3 + (1 << 62)):
        assert not torch.equal(noisy(3), noisy(other))


@pytest.mark.parametrize("name", RANDOM | TRICKY)
def test_no_two_images_get_the_same_noise(name: str) -> None:
    whole = (RANDOM | TRICKY)[name].apply(GREY, IndexedDraws(range(64), 0)).flatten(1)
    # a mixture may hold `none`: images that are still grey say nothing
    changed = [row for row in whole if not torch.equal(row, GREY[0].flatten())]
    assert len(changed) > 32
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(changed, 2))


@pytest.mark.parametrize("name", RANDOM | TRICKY)
def test_evaluation_noise_depends_on_the_index_alone(name: str) -> None:
    noise = (RANDOM | TRICKY)[name]
    whole = indexed(noise, list(range(24)))
    order = np.random.default_rng(0).permutation(24).tolist()
    assert torch.equal(indexed(noise, order), whole[order])
    for size in (1, 5, 23):
        parts = [indexed(noise, list(range(at, min(at + size, 24)))) for at in range(0, 24, size)]
        assert torch.equal(torch.cat(parts), whole)


def test_an_index_may_pass_32_bits() -> None:
    noise = PRESETS["type-1"]
    a, b = indexed(noise, [5, 5 + (1 << 32)])
    assert not torch.equal(a, b)
    assert torch.equal(indexed(noise, [5 + (1 << 32)])[0], b)


@pytest.mark.parametrize("source", [BatchDraws(64, 0), IndexedDraws(range(64), 0)])
def test_a_chain_after_a_mixture_draws_afresh(source: BatchDraws | IndexedDraws) -> None:
    # were the numbers the same, the noises would add up to twice one of them: a std of 0.2
    noise = parse("(gaussian(0, 0.1) | gaussian(0, 0.1)) > gaussian(0, 0.1)")
    assert float((noise.apply(GREY, source) - 0.5).std()) == pytest.approx(0.1 * 2**0.5, rel=0.02)


def test_a_mixture_leaves_the_others_draws_alone() -> None:
    """What an image gets after a mixture does not depend on what its neighbours drew in it."""
    noise = parse("(none | gaussian(0, 0.1) > gaussian(0, 0.1) | (none | speckle(0.1))) > speckle(0.1)")
    whole = indexed(noise, list(range(24)))
    assert torch.equal(torch.cat([indexed(noise, [i]) for i in range(24)]), whole)


@pytest.mark.parametrize("name", EVERY | TRICKY)
def test_component_says_which_option_an_image_got(name: str) -> None:
    noise = (EVERY | TRICKY)[name]
    component = noise.component(IndexedDraws(range(64), 0))
    assert component.dtype == torch.int64
    assert set(component.tolist()) == set(range(len(noise.options())))
    if isinstance(noise, Mixture):
        noisy = indexed(noise, list(range(64)))
        for number, option in enumerate(noise.options()):
            chosen = torch.nonzero(component == number).flatten()
            draws = IndexedDraws(range(64), 0)
            draws.pick(len(noise.options()))
            assert torch.equal(option.apply(GREY[chosen, :, :3, :5], draws.take(chosen)), noisy[chosen])


def test_a_mixture_draws_its_options_alike() -> None:
    for draws in (BatchDraws(8000, 0), IndexedDraws(range(8000), 0)):
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
}


@pytest.mark.parametrize("name", terms())
@pytest.mark.parametrize("source", [BatchDraws, IndexedDraws])
def test_moments(name: str, source: type) -> None:
    noisy = example(name).apply(GREY, source(64 if source is BatchDraws else range(64), 1))
    mean, variance = MOMENTS[name]
    assert float(noisy.mean()) == pytest.approx(mean, abs=5 * (variance / GREY.numel()) ** 0.5 + 1e-7)
    assert float(noisy.var()) == pytest.approx(variance, rel=0.04, abs=1e-9)


def test_a_chain_is_one_after_the_other_clipped_after_each() -> None:
    noisy = parse("gaussian(0.8, 0) > gaussian(-0.3, 0)").apply(GREY, BatchDraws(64, 0))
    assert torch.allclose(noisy, torch.tensor(0.7))


def test_salt_and_pepper_come_half_and_half() -> None:
    noisy = parse("salt-and-pepper(0.2)").apply(GREY, IndexedDraws(range(64), 0))
    share = [float((noisy == value).double().mean()) for value in (0, 0.5, 1)]
    assert share == pytest.approx([0.1, 0.8, 0.1], abs=0.01)
    assert set(parse("salt-and-pepper(1)").apply(GREY, BatchDraws(64, 0)).unique().tolist()) == {0, 1}


def test_a_range_is_drawn_per_image_and_uniformly() -> None:
    noisy = parse("gaussian(-0.3..0.3, 0)").apply(torch.full((4000, 1, 2, 2), 0.5), IndexedDraws(range(4000), 0))
    shift = noisy[:, 0, 0, 0] - 0.5
    assert torch.equal(noisy, noisy[:, :, :1, :1].expand_as(noisy))
    expected = torch.linspace(-0.3, 0.3, 4000)
    assert float((shift.sort().values - expected).abs().max()) < 0.02


def test_a_range_does_not_depend_on_the_size_of_the_picture() -> None:
    noise = parse("gaussian(0.1..0.3, 0)")
    small, large = (noise.apply(torch.full((9, 3, n, n), 0.5), IndexedDraws(range(9), 0)) for n in (1, 8))
    assert torch.equal(small[:, 0, 0, 0], large[:, 2, 7, 7])


@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.02, 0.7, 3.0, 25.0, 900.0, 1e6])
def test_poisson_counts_follow_the_exact_distribution(rate: float) -> None:
    n = 20_000
    counts = IndexedDraws(range(n), 0).poisson(torch.full((n,), rate)).double()
    assert float(counts.mean()) == pytest.approx(rate, abs=5 * (rate / n) ** 0.5)
    k, seen = counts.unique(return_counts=True)
    below = seen.cumsum(0).double() / n
    exact = torch.special.gammaincc(k + 1, torch.tensor(rate, dtype=torch.float64)) if rate else torch.ones(1)
    assert float((below - exact).abs().max()) < 1.95 / n**0.5  # Kolmogorov and Smirnov, p = 0.001


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
    assert tuple(map(int, philox((c0, c1, c2, c3), key))) == KNOWN[counter, key]


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 3, 7)])
def test_draws_have_the_shape_asked_for_and_are_fresh(kind: str, shape: tuple[int, ...]) -> None:
    for draws in (BatchDraws(6, 0), IndexedDraws(range(6), 0)):
        first, second = getattr(draws, kind)(*shape), getattr(draws, kind)(*shape)
        assert (first.shape, first.dtype) == ((6, *shape), torch.float32)
        assert not torch.equal(first, second)


def test_indexed_draws_are_distributed_as_they_say() -> None:
    draws = IndexedDraws(range(200), 0)
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
