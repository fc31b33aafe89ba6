"""The network of a U-Net. daelab.models.architectures.unet describes its parts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daelab.models.architectures.unet import UNet
from daelab.models.layers import NO_MARGINS, Margins, Network, crop_margins, widen_to_float32

MIN_SATURATED = 1 - 0.5 / 255
"""The least value that 8 bits cannot distinguish from a clipped one."""


class UNetwork(Network):
    """A U-Net: (N, C, H, W), plus a channel with the noise level if it is conditioned -> (N, C, H, W).

    It begins as the identity if the output is residual. If only the inside of a window is wanted, features are cropped
    after the first layer, and at each change of the resolution, to what the remaining layers need. A subclass that
    changes `forward` must change `denoise_inside`.
    """

    spec: UNet

    def __init__(self, spec: UNet) -> None:
        """Create the layers of an architecture, with zeros in the last layer of each residual branch."""
        super().__init__(spec)
        self._reaches = spec.list_reaches()
        last = [layer.name for layer in spec.layers() if layer.name[-1] in "bf" and "_" in layer.name]
        # With zeros there, each block begins as the identity, so a network can start from one with fewer blocks.
        for name in [*last, "out"] if spec.residual else last:
            layer = self.get_submodule(name)
            assert isinstance(layer, nn.Conv2d)
            nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Denoise images.

        Args:
            x: The images and noise maps (N, `spec.inputs`, H, W) in [0, 1]; H and W are multiples of `spec.multiple`.

        Returns:
            The denoised images (N, C, H, W).
        """
        return self.denoise_inside(x, NO_MARGINS)

    def denoise_inside(self, x: Tensor, margins: Margins) -> Tensor:
        """Denoise images of which only the inside is wanted; see `Network.denoise_inside`."""
        spec, last = self.spec, len(self.spec.widths) - 1
        picture = x[:, : spec.channels]
        if spec.saturated:
            x = torch.cat([x, (picture >= MIN_SATURATED).to(x.dtype)], 1)
        x = self.run("stem", F.pixel_unshuffle(x, spec.unshuffle))  # (N, K, H / r, W / r)
        context, around = self._compute_context(x) if spec.context else None, margins
        x, context, margins = self._trim("stem", 0, x, context, margins)
        skipped = []
        for level in range(last + 1):
            for number in range(spec.blocks[level]):
                x = self._run_block(f"enc{level + 1}_{number + 1}", x, context, level)
            if level < last:
                skipped.append((x, margins))
                x = self.run(f"down{level + 1}", x)
                x, context, margins = self._trim(f"down{level + 1}", level + 1, x, context, margins)
        for level in reversed(range(last)):
            x = self.run(f"up{level + 1}", x)
            x, context, margins = self._trim(f"up{level + 1}", level, x, context, margins)
            if spec.skips:
                features, before = skipped[level]
                x = x + crop_margins(features, before, margins, spec.unshuffle * 2**level)
            for number in range(spec.decoder[level]):
                x = self._run_block(f"dec{level + 1}_{number + 1}", x, context, level)
        out = crop_margins(F.pixel_shuffle(self.run("out", x), spec.unshuffle), margins)
        return crop_margins(picture, around) + widen_to_float32(out) if spec.residual else out

    def _trim(
        self, name: str, level: int, x: Tensor, context: Tensor | None, margins: Margins
    ) -> tuple[Tensor, Tensor | None, Margins]:
        """Crop features after a layer, and the context, to what the following layers need; return the new margins."""
        # Only whole pixels of the lowest level are cropped, so the features of every level stay on the same grid.
        # The inside may begin between two of them, so the reach is rounded up too.
        step = self.spec.multiple
        needed = -(-self._reaches[name] // step) * step
        top, bottom, left, right = (have - max(0, have - needed) // step * step for have in margins)
        wanted = (top, bottom, left, right)
        if wanted == margins:
            return x, context, margins
        if context is not None and context.shape[-2:] != (1, 1):
            context = crop_margins(context, margins, wanted, self.spec.unshuffle)
        return crop_margins(x, margins, wanted, self.spec.unshuffle * 2**level), context, wanted

    def _compute_context(self, x: Tensor) -> Tensor:
        """Compute the context: (N, K, 1, 1) if every window covers the whole image, else (N, K, H, W)."""
        reach = self.spec.reach_of_window
        x = self.run("context1", x)
        # One mean is the cheaper way to compute equal ones. A traced graph must fit any size, so it has no such branch.
        tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        covered = not tracing and reach >= max(x.shape[-2:]) - 1
        return self.run("context2", x.mean((-2, -1), keepdim=True) if covered else compute_window_means(x, reach))

    def _run_block(self, name: str, x: Tensor, context: Tensor | None, level: int) -> Tensor:
        if self.spec.block == "conv":
            inner = self._scale(name, self.run(f"{name}a", x), context, level)
            # In place, since no gradient needs the output of this layer, and new memory is slow.
            return self.run(f"{name}b", inner).add_(x)
        left, right = self.run(f"{name}d", self.run(f"{name}a", x)).chunk(2, 1)  # each (N, C, H, W)
        x = x + self.run(f"{name}b", self._scale(name, left * right, context, level))
        left, right = self.run(f"{name}e", x).chunk(2, 1)
        return x + self.run(f"{name}f", left * right)

    def _scale(self, name: str, x: Tensor, context: Tensor | None, level: int) -> Tensor:
        """Multiply the features of a block by their gains, in place where no gradient needs them."""
        if context is None:
            return x
        # A lower level takes every 2**level-th pixel of the context, or its only one.
        gain = self.run(f"{name}c", context[..., :: 2**level, :: 2**level]).add_(1)
        return x * gain if torch.is_grad_enabled() else x.mul_(gain)


def compute_window_means(x: Tensor, reach: int) -> Tensor:
    """Compute the means over a square window around each pixel, from its pixels inside the image.

    Args:
        x: (N, C, H, W).
        reach: How far the window reaches from its center, in pixels.

    Returns:
        (N, C, H, W).
    """
    for kernel, padding in (((2 * reach + 1, 1), (reach, 0)), ((1, 2 * reach + 1), (0, reach))):
        # The square is separable, and two narrow passes cost far less than one over the whole square.
        x = F.avg_pool2d(x, kernel, 1, padding, count_include_pad=False)
    return x
