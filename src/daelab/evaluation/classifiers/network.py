"""The network of daelab's classifiers: a recipe's `network` -> nn.Module.

A network in the style of the fast CIFAR-10 literature (Page, 2019, "How to train your ResNet";
Jordan, 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU"): a fixed layer that whitens
patches, then blocks of 3x3 convolutions that begin as identities, with skips or without,
batch norm without a gain, GELU, and a small logit scale.

Shapes: N images, K classes, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from daelab.evaluation.classifiers.preactivation import PreactivationNet
from daelab.evaluation.classifiers.recipe import ClassifierNetworkConfig

SCALE = 1 / 9
"""The scale of the logits. Without it, the cross entropy of the first steps is too large."""
WHITEN_EPS = 5e-4
"""A constant added to the patches' variances, in units of the images' variance."""
WHITEN_IMAGES = 5000
"""The number of training images that the whitening filters are computed from."""

TTA = {
    "none": (1.0,),
    "mirror": (0.5, 0.5),
    "shift": (0.25, 0.25, 0.125, 0.125, 0.125, 0.125),
}
"""The weights of the logits of the first views of `make_views`, by the name of the test-time augmentation."""


class _Block(nn.Module):
    """A block of convolutions: (N, C, H, W) -> (N, width, H // 2, W // 2)."""

    def __init__(self, channels: int, width: int, skips: str | None) -> None:
        super().__init__()
        self.skips = skips
        self.conv1, self.norm1 = _conv(channels, width), _norm(width)
        self.conv2, self.norm2 = _conv(width, width), _norm(width)
        if skips:
            self.conv3, self.norm3 = _conv(width, width), _norm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        y = F.gelu(self.norm2(self.conv2(x)))
        return x + F.gelu(self.norm3(self.conv3(y))) if self.skips else y


class ConvNet(nn.Module):
    """A convolutional classifier: (N, 3, H, W) in [0, 1] -> logits (N, K).

    Args:
        shape: The widths and the kind of the blocks.
        classes: K.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: ClassifierNetworkConfig, classes: int) -> None:
        """Build the network; the weights are set by `build_classifier` and `prepare`."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("std", torch.ones(3, 1, 1))
        whitened = 2 * 3 * shape.kernel**2
        self.whiten = nn.Conv2d(3, whitened, shape.kernel)
        self.whiten.weight.requires_grad_(False)
        nn.init.zeros_(self.whiten.bias)  # type: ignore[arg-type]
        widths = (whitened, *shape.widths)
        self.blocks = nn.Sequential(*(_Block(*pair, shape.skips) for pair in pairwise(widths)))
        self.head = nn.Linear(widths[-1], classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            x: (N, 3, H, W) in [0, 1].

        Returns:
            (N, K) float32.
        """
        logits: Tensor = self.head(self.features(x)[-1].amax((-2, -1)))
        return logits.float() * SCALE

    def features(self, x: Tensor) -> list[Tensor]:
        """Compute the outputs of all blocks, (N, width, h, w) each.

        Args:
            x: (N, 3, H, W) in [0, 1].
        """
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        x, outputs = F.gelu(self.whiten(x)), []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return outputs


ClassifierNetwork = ConvNet | PreactivationNet


def prepare_classifier(network: ClassifierNetwork, images: Tensor) -> None:
    """Set the normalization and the whitening filters, which depend on the images and are not trained.

    Args:
        network: The network, which is changed.
        images: (N, 3, H, W) uint8, the training images.
    """
    x = images[:WHITEN_IMAGES].float().div(255)
    network.mean.copy_(x.mean((0, 2, 3))[:, None, None])
    # The lower bound keeps a channel without contrast from dividing by zero.
    network.std.copy_(x.std((0, 2, 3))[:, None, None].clamp_min(1e-3))
    if isinstance(network, ConvNet):
        filters = compute_whitening((x - network.mean) / network.std, network.whiten.kernel_size[0])
        network.whiten.weight.data.copy_(torch.cat([filters, -filters]))


def compute_whitening(x: Tensor, side: int, eps: float = WHITEN_EPS) -> Tensor:
    """Compute filters whose outputs on patches of the images are uncorrelated and of variance 1.

    Args:
        x: (N, 3, H, W) images of mean 0.
        side: The side of a patch, in pixels.
        eps: A constant added to each variance, so that directions without content are not amplified.

    Returns:
        (3 * side**2, 3, side, side) filters.
    """
    # In float64, since the smallest eigenvalues are lost in the rounding errors of float32.
    patches = F.unfold(x, side).transpose(1, 2).flatten(0, 1).double()
    patches = patches - patches.mean(0)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = vectors.T / (values.clamp_min(0) + eps).sqrt()[:, None]
    out: Tensor = filters.flip(0).reshape(-1, x.shape[1], side, side).float()
    return out


def make_classifier_network(shape: ClassifierNetworkConfig, classes: int) -> ClassifierNetwork:
    """Make a network of the kind that a recipe names, with random weights.

    Args:
        shape: The widths and the kind of the blocks.
        classes: K.
    """
    return (PreactivationNet if shape.skips == "preactivation" else ConvNet)(shape, classes)


def build_classifier(shape: ClassifierNetworkConfig, classes: int, seed: int = 0) -> ClassifierNetwork:
    """Build an untrained network.

    The convolutions of a `ConvNet` pass their first channels on (Zagoruyko and Komodakis, 2017).

    Args:
        shape: The widths and the kind of the blocks.
        classes: K.
        seed: The seed of the weights.
    """
    # The caller's random state stays as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_classifier_network(shape, classes)
    if isinstance(network, ConvNet):
        for module in network.blocks.modules():
            if isinstance(module, nn.Conv2d):
                same = min(module.weight.shape[:2])
                nn.init.dirac_(module.weight.data[:same])
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def make_views(x: Tensor, count: int) -> Iterator[Tensor]:
    """Yield the first views of: the images, their mirror images, and both moved by a pixel to two corners.

    Args:
        x: (N, 3, H, W) images.
        count: The number of views, from 1 to 6.
    """
    height, width = x.shape[-2:]
    padded = F.pad(x, (1, 1, 1, 1), "reflect") if count > 2 else x
    moved = (padded[..., at : at + height, at : at + width] for at in (0, 2))
    views = (view for image in (x, *(moved if count > 2 else ())) for view in (image, image.flip(-1)))
    for _, view in zip(range(count), views, strict=False):
        yield view


def compute_view_logits(network: nn.Module, x: Tensor, count: int, precision: str) -> Tensor:
    """Compute the logits of several views of each image.

    Args:
        network: The classifier network, in evaluation mode.
        x: (N, 3, H, W) in [0, 1].
        count: The number of views.
        precision: "float32" or "bf16".

    Returns:
        (count, N, K) float32.
    """
    with torch.inference_mode(), torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
        return torch.stack([network(view).float() for view in make_views(x, count)])


def average_views(logits: Tensor, tta: str) -> Tensor:
    """Average the logits of the views.

    Args:
        logits: (views, N, K).
        tta: The test-time augmentation, a name of `TTA`.

    Returns:
        (N, K) logits.
    """
    weights = torch.tensor(TTA[tta], device=logits.device)
    return torch.einsum("v,vnk->nk", weights, logits[: len(weights)])


def _conv(channels: int, width: int) -> nn.Conv2d:
    return nn.Conv2d(channels, width, 3, padding=1, bias=False)


def _norm(width: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(width)
    norm.weight.requires_grad_(False)  # the next layer has its own gain
    return norm


def count_macs(shape: ClassifierNetworkConfig, height: int, width: int) -> int:
    """Count the multiplications per image.

    Args:
        shape: The widths and the kind of the blocks.
        height: The height of an image, in pixels.
        width: The width of an image, in pixels.
    """
    # On the meta device nothing is computed; the counter sees two operations for each multiplication.
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        make_classifier_network(shape, 2).eval()(torch.empty(1, 3, height, width))
    return int(counter.get_total_flops()) // 2
