"""Losses of noisy images alone, without clean ones: blind spots, neighbors, and Stein's unbiased risk estimate.

All assume noise with mean zero that is independent from pixel to pixel. A recipe names one of them alone as its `loss`.
The noise of the recipe is added first; it is `none` for pictures that are noisy already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from daelab.denoising.arrays import estimate_noise_level

_NetworkFunction = Callable[[Tensor], Tensor]
"""A network, as a function of images (N, C, H, W)."""


class SelfSupervisedLoss:
    """The base class of the losses that train a network with noisy images alone.

    Called with images and clean images, as by validation and by a sum of losses, it is the mean squared error.
    """

    shrinks: ClassVar[int] = 1
    """The factor by which the images that the network sees are smaller."""

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        """Return the mean squared error.

        Args:
            image: Images (N, C, H, W).
            clean: Clean images (N, C, H, W).
        """
        return F.mse_loss(image, clean)

    def draw(self, noisy: Tensor, generator: torch.Generator) -> Tensor:
        """Return what is random in the loss of a batch, (N, C, H, W).

        Args:
            noisy: Noisy images (N, C, H, W).
            generator: The source of randomness, on the device of the images.
        """
        raise NotImplementedError

    def compute(self, network: _NetworkFunction, noisy: Tensor, drawn: Tensor) -> Tensor:
        """Return the loss of a network, a scalar.

        Args:
            network: The network.
            noisy: Noisy images (N, C, H, W).
            drawn: What `draw` returned for them.
        """
        raise NotImplementedError

    def validate(self, network: _NetworkFunction, noisy: Tensor) -> Tensor:
        """Return the loss of a network on validation images, with the same random draws each time.

        Args:
            network: The network.
            noisy: Noisy images (N, C, H, W).
        """
        return self.compute(network, noisy, self.draw(noisy, torch.Generator(noisy.device).manual_seed(0)))


class BlindSpotLoss(SelfSupervisedLoss):
    """The error at pixels that the network does not see (Noise2Void; Krull et al., 2019, section 3.2).

    About one pixel in `every` is replaced by one of the eight around it, and predicted.

    Args:
        every: The mean number of pixels for each one that is replaced. Noise2Void replaces 1 in 64, and Noise2Self
            (Batson and Royer, 2019) 1 in 16, from which a short training learns more.
    """

    def __init__(self, every: int = 16) -> None:
        """Remember the density."""
        self.every = every

    def draw(self, noisy: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images with replaced pixels; see `SelfSupervisedLoss.draw`.

        Args:
            noisy: Noisy images (N, C, H, W).
            generator: The source of randomness.
        """
        n, _, height, width = noisy.shape
        shape = (n, 1, height, width)
        chosen = torch.rand(shape, generator=generator, device=noisy.device) * self.every < 1
        # One of the eight neighbors: positions 0 to 8 of a square without its middle.
        place = torch.randint(8, shape, generator=generator, device=noisy.device)
        place = place + (place >= 4)
        padded = F.pad(noisy, (1, 1, 1, 1), mode="replicate")
        replaced = noisy
        for number in range(9):
            top, left = divmod(number, 3)
            shifted = padded[..., top : top + height, left : left + width]
            replaced = torch.where(chosen & (place == number), shifted, replaced)
        return replaced

    def compute(self, network: _NetworkFunction, noisy: Tensor, drawn: Tensor) -> Tensor:
        """Return the mean squared error at the replaced pixels; see `SelfSupervisedLoss.compute`.

        Args:
            network: The network.
            noisy: Noisy images (N, C, H, W).
            drawn: The images with replaced pixels.
        """
        hidden = drawn != noisy
        return ((network(drawn) - noisy).square() * hidden).sum() / hidden.sum().clamp_min(1)


class NeighborLoss(SelfSupervisedLoss):
    """The error of half an image as the prediction of the other half (Neighbor2Neighbor; Huang et al., 2021, eq. 9).

    Of each 2x2 pixels, two neighbors are drawn for two smaller images, of which the first should predict the second.

    Args:
        weight: The weight gamma of the second term, which corrects for the difference of the two halves. The paper lets
            it grow during the training; the constant is about its mean.
    """

    shrinks = 2

    def __init__(self, weight: float = 0.5) -> None:
        """Remember the weight."""
        self.weight = weight

    def draw(self, noisy: Tensor, generator: torch.Generator) -> Tensor:
        """Choose one of eight pairs of neighbors in each block of 2x2 pixels: (N, 1, H, W), of which a quarter is used.

        Args:
            noisy: Noisy images (N, C, H, W).
            generator: The source of randomness.
        """
        shape = (len(noisy), 1, *noisy.shape[2:])
        return torch.randint(8, shape, generator=generator, device=noisy.device).float()

    def compute(self, network: _NetworkFunction, noisy: Tensor, drawn: Tensor) -> Tensor:
        """Return the loss; see `SelfSupervisedLoss.compute`.

        Args:
            network: The network.
            noisy: Noisy images (N, C, H, W), whose sides are even.
            drawn: The pairs that `draw` returned.
        """
        pairs = drawn[..., ::2, ::2].long()
        one, other = _take_halves(noisy, pairs)
        # The second term compares with the denoised whole, through which no gradient flows in the paper either.
        with torch.no_grad():
            whole_one, whole_other = _take_halves(network(noisy), pairs)
        error = network(one) - other
        return error.square().mean() + self.weight * (error - (whole_one - whole_other)).square().mean()


_PAIRS = torch.tensor([[0, 1], [1, 0], [2, 3], [3, 2], [0, 2], [2, 0], [1, 3], [3, 1]])
"""The pairs of neighbors among 2x2 pixels, which are numbered by rows."""


def _take_halves(images: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    n, channels, height, width = images.shape
    cells = images.reshape(n, channels, height // 2, 2, width // 2, 2).permute(0, 1, 2, 4, 3, 5)
    cells = cells.reshape(n, channels, height // 2, width // 2, 4)
    chosen = _PAIRS.to(images.device)[pairs].expand(-1, channels, -1, -1, -1)
    one, other = cells.gather(-1, chosen).unbind(-1)
    return one, other


class SteinLoss(SelfSupervisedLoss):
    """Stein's unbiased risk estimate for white Gaussian noise (SURE; Stein, 1981).

    It is the expected error against the clean image: the error against the noisy one, less its noise, plus twice the
    noise times how strongly each pixel depends on itself. That is measured with one random probe (Ramani et al., 2008).
    The level of the noise is estimated from each image.

    Args:
        step: The length of the probe.
    """

    def __init__(self, step: float = 1e-2) -> None:
        """Remember the length of the probe."""
        self.step = step

    def draw(self, noisy: Tensor, generator: torch.Generator) -> Tensor:
        """Return the directions of the probe, -1 or 1; see `SelfSupervisedLoss.draw`.

        Args:
            noisy: Noisy images (N, C, H, W).
            generator: The source of randomness.
        """
        return torch.randint(2, noisy.shape, generator=generator, device=noisy.device) * 2.0 - 1

    def compute(self, network: _NetworkFunction, noisy: Tensor, drawn: Tensor) -> Tensor:
        """Return the estimated mean squared error; see `SelfSupervisedLoss.compute`.

        Args:
            network: The network.
            noisy: Noisy images (N, C, H, W).
            drawn: The directions of the probe.
        """
        variance = estimate_noise_level(noisy).square().to(noisy.device)
        denoised = network(noisy)
        slopes = (drawn * (network(noisy + self.step * drawn) - denoised)).flatten(1).mean(1) / self.step
        errors = (denoised - noisy).square().flatten(1).mean(1)
        return (errors - variance + 2 * variance * slopes).mean()
