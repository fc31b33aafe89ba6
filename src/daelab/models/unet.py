"""The U-Net of a spec; see daelab.models.architectures.unet for what its parts are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daelab.models.architectures.unet import UNet
from daelab.models.layers import Network, widen_to_float32

SATURATED = 1 - 0.5 / 255
"""A value at least so bright is clipped, for all that 8 bits can say."""


class UNetwork(Network):
    """(N, C, H, W), with the noise's level as a further channel where it is told -> (N, C, H, W).

    Begins as the identity where the output is residual.
    """

    spec: UNet

    def __init__(self, spec: UNet) -> None:
        super().__init__(spec)
        last = [layer.name for layer in spec.layers() if layer.name[-1] in "bf" and "_" in layer.name]
        for name in [*last, "out"] if spec.residual else last:
            layer = self.get_submodule(name)
            assert isinstance(layer, nn.Conv2d)
            nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        spec, last = self.spec, len(self.spec.widths) - 1
        picture = x[:, : spec.channels]
        if spec.saturated:
            x = torch.cat([x, (picture >= SATURATED).to(x.dtype)], 1)
        x = self.run("stem", F.pixel_unshuffle(x, spec.unshuffle))
        context = self._context(x) if spec.context else None
        kept = []
        for level in range(last + 1):
            for number in range(spec.blocks[level]):
                x = self._block(f"enc{level + 1}_{number + 1}", x, context, level)
            if level < last:
                kept.append(x)
                x = self.run(f"down{level + 1}", x)
        for level in reversed(range(last)):
            x = self.run(f"up{level + 1}", x)
            x = x + kept[level] if spec.skips else x
            for number in range(spec.decoder[level]):
                x = self._block(f"dec{level + 1}_{number + 1}", x, context, level)
        out = F.pixel_shuffle(self.run("out", x), spec.unshuffle)
        return picture + widen_to_float32(out) if spec.residual else out

    def _context(self, x: Tensor) -> Tensor:
        """(N, K, 1, 1) where the window covers the picture from everywhere, else (N, K, H, W)."""
        reach = self.spec.reach_of_window
        x = self.run("context1", x)
        covered = reach >= max(x.shape[-2:]) - 1
        return self.run("context2", x.mean((-2, -1), keepdim=True) if covered else compute_window_means(x, reach))

    def _block(self, name: str, x: Tensor, context: Tensor | None, level: int) -> Tensor:
        gain = None
        if context is not None:
            # at a lower level, every 2**level-th pixel of the context; of a single one, that one
            gain = 1 + self.run(f"{name}c", context[..., :: 2**level, :: 2**level])
        if self.spec.block == "conv":
            inner = self.run(f"{name}a", x)
            return x + self.run(f"{name}b", inner if gain is None else inner * gain)
        left, right = self.run(f"{name}d", self.run(f"{name}a", x)).chunk(2, 1)
        inner = left * right
        x = x + self.run(f"{name}b", inner if gain is None else inner * gain)
        left, right = self.run(f"{name}e", x).chunk(2, 1)
        return x + self.run(f"{name}f", left * right)


def compute_window_means(x: Tensor, reach: int) -> Tensor:
    """Means over the pixels of the picture within `reach` of each pixel, along both axes; (N, C, H, W)."""
    for kernel, padding in (((2 * reach + 1, 1), (reach, 0)), ((1, 2 * reach + 1), (0, reach))):
        x = F.avg_pool2d(x, kernel, 1, padding, count_include_pad=False)
    return x
