"""The network of the paper's auto-encoders.

Its tensors are named as in the paper's checkpoints: enc1.weight, batch_enc1.running_mean.
"""

from __future__ import annotations

from torch import Tensor

from daelab.models.layers import Network


class AutoencoderNetwork(Network):
    """An auto-encoder, which runs layer after layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Denoise images.

        Args:
            x: The images (N, C, H, W) in [0, 1]; H and W are multiples of `spec.multiple`.

        Returns:
            The denoised images, of the same shape.
        """
        for name in self.after:
            x = self.run(name, x)
        return x
