"""The paper's auto-encoders. Tensors are named as in its checkpoints: enc1.weight, batch_enc1.running_mean."""

from __future__ import annotations

from torch import Tensor

from daelab.models.layers import Network


class AutoencoderNetwork(Network):
    """Layer after layer."""

    def forward(self, x: Tensor) -> Tensor:
        for name in self.after:
            x = self.run(name, x)
        return x
