"""A classifier network of another kind than `ConvNet`, for scores that owe nothing to that family.

It has no whitening layer and no max pooling: patches, residual blocks whose norms and activations come first
(He et al., 2016, "Identity mappings in deep residual networks"), and the mean over all places.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daelab.evaluation.classifiers.recipe import ClassifierNetworkConfig


class _PreactivationBlock(nn.Module):
    """A residual block: (N, C, h, w) -> (N, C, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        # A block that begins as the identity lets a deep network learn from the first step.
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        out: Tensor = x + self.conv2(F.silu(self.norm2(y)))
        return out


class PreactivationNet(nn.Module):
    """A pre-activation residual classifier: (N, 3, H, W) in [0, 1] -> logits (N, K).

    Args:
        shape: The widths of the stages; `kernel` is the side of the patches that become channels.
        classes: K.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: ClassifierNetworkConfig, classes: int) -> None:
        """Build the network; the weights are drawn from torch's random state."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("std", torch.ones(3, 1, 1))
        self.patch = shape.kernel
        widths = shape.widths
        self.stem = nn.Conv2d(3 * shape.kernel**2, widths[0], 3, padding=1, bias=False)
        self.stages = nn.ModuleList(
            nn.Sequential(_PreactivationBlock(width), _PreactivationBlock(width)) for width in widths
        )
        self.widen = nn.ModuleList(nn.Conv2d(narrow, wide, 1, bias=False) for narrow, wide in pairwise(widths))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            x: (N, 3, H, W) in [0, 1].

        Returns:
            (N, K) float32.
        """
        pooled = F.silu(self.norm(self.features(x)[-1])).mean((-2, -1))
        logits: Tensor = self.head(pooled)
        return logits.float()

    def features(self, x: Tensor) -> list[Tensor]:
        """Compute the outputs of all stages, (N, width, h, w) each.

        Args:
            x: (N, 3, H, W) in [0, 1]; H and W are cut to multiples of the patches' side.
        """
        height, width = (size - size % self.patch for size in x.shape[-2:])
        x = ((x - self.mean) / self.std)[..., :height, :width]
        x = self.stem(F.pixel_unshuffle(x, self.patch).contiguous(memory_format=torch.channels_last))
        outputs = []
        for number, stage in enumerate(self.stages):
            if number:
                x = self.widen[number - 1](F.avg_pool2d(x, 2))
            x = stage(x)
            outputs.append(x)
        return outputs
