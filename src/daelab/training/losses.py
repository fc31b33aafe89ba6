"""Losses by name, and weighted sums of them: "mse", "l1", "mse + 0.1 * dssim".

A loss takes images and clean images (N, C, H, W) and returns a scalar to minimize. It is a mean over the images, so
that several processes may share a batch.
"""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor

from daelab._util.hardware import choose_precision
from daelab._util.plugins import PluginTable, import_object, is_object_name
from daelab._util.text import summarize_error
from daelab.errors import make_unknown_name_error
from daelab.evaluation.classifiers.network import ClassifierNetwork
from daelab.evaluation.classifiers.registry import load_classifier_network
from daelab.evaluation.evaluate import LossFunction
from daelab.evaluation.metrics import convert_mse_to_psnr, mse, ssim
from daelab.training.self_supervised import BlindSpotLoss, NeighborLoss, SelfSupervisedLoss, SteinLoss


def charbonnier(image: Tensor, clean: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Return the mean of sqrt(d^2 + epsilon^2): L1, but smooth at zero (Charbonnier et al., 1994).

    Args:
        image: Images (N, C, H, W).
        clean: Clean images (N, C, H, W).
        epsilon: The difference below which the loss is about quadratic.
    """
    return torch.sqrt((image - clean).square() + epsilon**2).mean()


def negative_psnr(image: Tensor, clean: Tensor) -> Tensor:
    """Return minus the mean PSNR of the images in dB, so that every image counts alike, however noisy it is.

    An image counts for at most 100 dB: one that is equal to the clean image, as at the start of a curriculum, would
    have an infinite PSNR.

    Args:
        image: Images (N, C, H, W) in [0, 1].
        clean: Clean images (N, C, H, W) in [0, 1].
    """
    return -convert_mse_to_psnr(mse(image, clean).clamp_min(1e-10)).mean()


def dssim(image: Tensor, clean: Tensor) -> Tensor:
    """Return the mean of (1 - SSIM) / 2 over the images: 0 for equal images, and at most 1.

    Args:
        image: Images (N, C, H, W) in [0, 1].
        clean: Clean images (N, C, H, W) in [0, 1].
    """
    return (1 - ssim(image, clean)).mean() / 2


class ClassifierFeatureLoss:
    """The distance between a classifier's features of images and of clean images (after Johnson et al., 2016).

    It is the mean over images and over the classifier's blocks of ||f(image) - f(clean)||^2 / ||f(clean)||^2, which is
    about 1 for images that have nothing in common. The classifier is loaded at the first call and never changes.

    Args:
        name: The name of a shipped classifier, or a classifier's file.
    """

    def __init__(self, name: str) -> None:
        """Remember the name."""
        self.name = name
        self._networks: dict[torch.device, ClassifierNetwork] = {}

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        """Return the loss.

        Args:
            image: Images (N, 3, H, W) in [0, 1].
            clean: Clean images (N, 3, H, W) in [0, 1].
        """
        network = self._networks.get(image.device) or self._load(image.device)
        bf16 = choose_precision("auto", image.device) == "bf16"
        with torch.autocast(image.device.type, torch.bfloat16, enabled=bf16):
            with torch.no_grad():
                targets = network.features(clean)
            features = network.features(image)
        # In float32, since bf16 keeps only eight significant bits and these are sums of many squares.
        terms = [
            (one.float() - other.float()).square().flatten(1).sum(1) / other.float().square().flatten(1).sum(1)
            for one, other in zip(features, targets, strict=True)
        ]
        return torch.stack(terms).mean()

    def _load(self, device: torch.device) -> ClassifierNetwork:
        # The first call may come from validation, and gradients cannot pass tensors made in inference mode.
        with torch.inference_mode(False):
            network = load_classifier_network(self.name).to(device).eval().requires_grad_(False)
        self._networks[device] = network
        return network


_ROWS: dict[str, LossFunction] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "charbonnier": charbonnier,
    "psnr": negative_psnr,
    "dssim": dssim,
    "judge_features": ClassifierFeatureLoss("builtin"),
    "holdout_features": ClassifierFeatureLoss("holdout"),
    "noise2void": BlindSpotLoss(),
    "neighbor2neighbor": NeighborLoss(),
    "sure": SteinLoss(),
}
LOSSES = PluginTable("losses", _ROWS)
"""Name -> loss. A new loss is a row of `_ROWS`, or of an installed plugin."""


def parse_loss(text: str) -> LossFunction:
    """Return the loss that a text means.

    Args:
        text: Names of `LOSSES` with weights, added, such as `mse + 0.1 * dssim`. `package.module:name` is a function of
            the user's own.

    Raises:
        ValueError: A name is unknown, or the text has another form.

    >>> x = torch.zeros(1, 3, 4, 4)
    >>> round(float(parse_loss("mse + 0.5 * l1")(x, x + 0.2)), 6)
    0.14
    """
    terms = [_parse_term(part) for part in text.split("+")]
    if any(isinstance(loss, SelfSupervisedLoss) for _, loss in terms) and (len(terms) > 1 or terms[0][0] != 1):
        raise ValueError(f"loss {text!r}: a loss of noisy images alone takes no weight and no other loss beside it")
    if len(terms) == 1 and terms[0][0] == 1:
        return terms[0][1]

    def total(image: Tensor, clean: Tensor) -> Tensor:
        return torch.stack([weight * loss(image, clean) for weight, loss in terms]).sum()

    return total


class ImportedLoss:
    """A loss of the user's own code, which is imported when it is first called and not when a recipe is read.

    Args:
        name: The function, as `package.module:name`.
    """

    def __init__(self, name: str) -> None:
        """Remember the name."""
        self.name = name
        self._function: LossFunction | None = None

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        """Return the loss.

        Args:
            image: Images (N, C, H, W) in [0, 1].
            clean: Clean images (N, C, H, W) in [0, 1].

        Raises:
            ValueError: The function does not exist, failed, or returned something else than one number.
        """
        self._function = self._function or import_object(self.name, "loss")
        try:
            loss: Tensor = self._function(image, clean)
        except Exception as error:  # the user's code may raise anything
            raise ValueError(f"loss {self.name}: {summarize_error(error)}") from None
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(f"loss {self.name}: it returned {got}, not a tensor of one number")
        return loss


def _parse_term(part: str) -> tuple[float, LossFunction]:
    match = re.fullmatch(r"\s*(?:(\d+(?:\.\d*)?|\.\d+)\s*\*)?\s*([A-Za-z_][\w.:]*)\s*", part)
    if match is None:
        raise ValueError(f"loss: expected [weight *] name, found {part.strip()!r}, as in 'mse + 0.1 * dssim'")
    weight, name = match.groups()
    if is_object_name(name):
        return float(weight or 1), ImportedLoss(name)
    if name not in LOSSES:
        raise make_unknown_name_error("loss", name, LOSSES)
    return float(weight or 1), LOSSES[name]
