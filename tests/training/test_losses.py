"""Every loss of the table is a scalar that falls as an image comes closer to the clean one, and a text adds losses."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from daelab.training.losses import LOSSES, ClassifierFeatureLoss, parse_loss
from daelab.training.self_supervised import SelfSupervisedLoss

CLEAN = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
NOISE = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def noisy(level: float) -> Tensor:
    return (CLEAN + level * NOISE).requires_grad_()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_a_scalar_that_falls_towards_the_clean_image(name: str) -> None:
    values = [LOSSES[name](noisy(level), CLEAN) for level in (0.3, 0.1, 0.03)]
    assert all(value.shape == () for value in values)
    assert values[0] > values[1] > values[2]


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_down_the_gradient_lowers_the_loss(name: str) -> None:
    image = noisy(0.1)
    before = LOSSES[name](image, CLEAN)
    (gradient,) = torch.autograd.grad(before, image)
    assert gradient.dtype == torch.float32
    after = LOSSES[name](image - 0.01 * gradient / gradient.abs().max(), CLEAN)
    assert after < before


@pytest.mark.parametrize("name", LOSSES)
def test_an_image_that_is_met_exactly_has_a_finite_loss_and_gradient(name: str) -> None:
    image = CLEAN.clone().requires_grad_()
    loss = LOSSES[name](image, CLEAN)
    (gradient,) = torch.autograd.grad(loss, image)
    assert bool(loss.isfinite())
    assert bool(gradient.isfinite().all())


ON_GREY = {"mse": 0.04, "l1": 0.2, "charbonnier": (0.04 + 1e-6) ** 0.5, "psnr": 10 * -1.3979400086720375}


@pytest.mark.parametrize("name", ON_GREY)
def test_known_values(name: str) -> None:
    grey = torch.full((2, 3, 16, 16), 0.5)
    assert float(LOSSES[name](grey + 0.2, grey)) == pytest.approx(ON_GREY[name])


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"psnr", "charbonnier"}))
def test_equal_images_cost_nothing(name: str) -> None:
    assert float(LOSSES[name](CLEAN.clone(), CLEAN)) == pytest.approx(0, abs=1e-6)


def test_the_psnr_loss_counts_every_image_alike() -> None:
    # of two images with errors 0.1 and 0.01: the mean of 20 and 40 dB, not the PSNR of the mean
    grey = torch.full((2, 3, 16, 16), 0.5)
    image = grey + torch.tensor([0.1, 0.01])[:, None, None, None]
    assert float(LOSSES["psnr"](image, grey)) == pytest.approx(-30, abs=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_a_name_alone_is_the_function_itself(name: str) -> None:
    assert parse_loss(name) is LOSSES[name]
    assert parse_loss(f" {name} ") is LOSSES[name]


SUMMED = [name for name, loss in LOSSES.items() if not isinstance(loss, SelfSupervisedLoss)]
"""The losses that may be added: those of noisy images alone stand alone."""


@pytest.mark.parametrize("a, b", list(itertools.combinations(SUMMED, 2)))
def test_a_sum_is_weighted_and_has_a_gradient(a: str, b: str) -> None:
    image = noisy(0.1)
    total = parse_loss(f"{a} + .5*{b}")(image, CLEAN)
    parts = (LOSSES[a](image, CLEAN) + 0.5 * LOSSES[b](image, CLEAN)).item()
    assert total.item() == pytest.approx(parts, rel=1e-6)
    assert torch.autograd.grad(total, image)[0].isfinite().all()


def test_the_judges_features_are_far_apart_for_other_images_and_the_judge_never_changes() -> None:
    loss = ClassifierFeatureLoss("photos")
    assert 0.1 < float(loss(CLEAN.flip(0), CLEAN)) < 3
    (network,) = loss._networks.values()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    loss(noisy(0.1), CLEAN).backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with pytest.raises(FileNotFoundError, match="classifier nobody: its weights are not in this installation"):
        ClassifierFeatureLoss("nobody")(CLEAN, CLEAN)


WRONG = {
    "msee": "unknown loss 'msee'; did you mean 'mse'?",
    "mse + 0.1 * ssim": "unknown loss 'ssim'; did you mean 'dssim'?",
    "": "loss: expected [weight *] name, found ''",
    "mse +": "loss: expected [weight *] name, found ''",
    "mse * 0.1": "loss: expected [weight *] name, found 'mse * 0.1', as in 'mse + 0.1 * dssim'",
    "-1 * mse": "loss: expected [weight *] name, found '-1 * mse'",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_text_is_one_line_that_says_why(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_loss(text)
    assert str(caught.value).startswith(WRONG[text])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "reason"),
    [("posix:abort", r"TypeError: .* takes no arguments"), ("torch:add", "a tensor of shape"), ("builtins:max", "")],
)
def test_a_loss_of_own_code_that_fails_is_named(function: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^loss {function}: .*{reason}"):
        parse_loss(function)(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4))
