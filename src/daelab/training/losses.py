"""Losses by name, and weighted sums of them: "mse", "l1", "mse + 0.1 * dssim".

A loss takes images (N, C, H, W) and the clean ones, and gives a scalar to make small: the mean over images of what
each of them says, so that several processes may share a batch.
"""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor

from daelab._util.hardware import choose_precision
from daelab.errors import unknown_name
from daelab.evaluation.classifiers.network import ConvNet
from daelab.evaluation.classifiers.registry import load_classifier_network
from daelab.evaluation.evaluate import LossFunction
from daelab.evaluation.metrics import convert_mse_to_psnr, mse, ssim


def charbonnier(image: Tensor, clean: Tensor, epsilon: float = 1e-3) -> Tensor:
    """mean sqrt(d^2 + epsilon^2): L1, smooth at zero (Charbonnier et al., 1994)."""
    return torch.sqrt((image - clean).square() + epsilon**2).mean()


def negative_psnr(image: Tensor, clean: Tensor) -> Tensor:
    """Minus the mean per-image PSNR, dB: every image counts alike, however noisy.

    No image counts for more than 100 dB: one that is met exactly, as at the start of a curriculum, would be infinite.
    """
    return -convert_mse_to_psnr(mse(image, clean).clamp_min(1e-10)).mean()


def dssim(image: Tensor, clean: Tensor) -> Tensor:
    """(1 - SSIM) / 2, mean over images: 0 for equal images, at most 1."""
    return (1 - ssim(image, clean)).mean() / 2


class ClassifierFeatureLoss:
    """How far a judge's features of the image are from those of the clean one (after Johnson et al., 2016).

    The mean over images and over the judge's blocks of ||f(image) - f(clean)||^2 / ||f(clean)||^2: about 1
    for images that have nothing in common. The judge is read at the first call, and never changes.

    Args:
        name: of a judge of ours that ships, or a judge's file.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._networks: dict[torch.device, ConvNet] = {}

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        network = self._networks.get(image.device) or self._load(image.device)
        bf16 = choose_precision("auto", image.device) == "bf16"
        with torch.autocast(image.device.type, torch.bfloat16, enabled=bf16):
            with torch.no_grad():
                wanted = network.features(clean)
            found = network.features(image)
        terms = [
            (one.float() - other.float()).square().flatten(1).sum(1) / other.float().square().flatten(1).sum(1)
            for one, other in zip(found, wanted, strict=True)
        ]
        return torch.stack(terms).mean()

    def _load(self, device: torch.device) -> ConvNet:
        # the first call may be a validation's; tensors made in inference mode could not be trained through
        with torch.inference_mode(False):
            network = load_classifier_network(self.name).to(device).eval().requires_grad_(False)
        self._networks[device] = network
        return network


LOSSES: dict[str, LossFunction] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "charbonnier": charbonnier,
    "psnr": negative_psnr,
    "dssim": dssim,
    "judge_features": ClassifierFeatureLoss("builtin"),
}


def parse_loss(text: str) -> LossFunction:
    """The loss of a text: names of `LOSSES` with weights, added.

    Raises:
        ValueError: an unknown name, or text of another form.

    >>> x = torch.zeros(1, 3, 4, 4)
    >>> round(float(parse_loss("mse + 0.5 * l1")(x, x + 0.2)), 6)
    0.14
    """
    terms = [_term(part) for part in text.split("+")]
    if len(terms) == 1 and terms[0][0] == 1:
        return terms[0][1]

    def total(image: Tensor, clean: Tensor) -> Tensor:
        return torch.stack([weight * loss(image, clean) for weight, loss in terms]).sum()

    return total


def _term(part: str) -> tuple[float, LossFunction]:
    match = re.fullmatch(r"\s*(?:(\d+(?:\.\d*)?|\.\d+)\s*\*)?\s*([A-Za-z_]\w*)\s*", part)
    if match is None:
        raise ValueError(f"loss: expected [weight *] name, found {part.strip()!r}, as in 'mse + 0.1 * dssim'")
    weight, name = match.groups()
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    return float(weight or 1), LOSSES[name]
