"""Weights of other people's networks, whose architectures the package spandrel knows by their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daelab._util.text import summarize_error
from daelab.models.external import ExternalNetwork, wrap_module


class SpandrelModule(nn.Module):
    """A network of spandrel that takes images of three channels and of any size that is a multiple.

    Args:
        descriptor: spandrel's description of the network.
    """

    def __init__(self, descriptor: Any) -> None:
        """Take over the network and its size rules."""
        super().__init__()
        self.network = descriptor.model
        self._call = descriptor
        self._channels = descriptor.input_channels
        rules = descriptor.size_requirements
        self._minimum, self._square = rules.minimum or 0, rules.square
        self.multiple = rules.multiple_of or 1

    def forward(self, x: Tensor) -> Tensor:
        """Denoise images. A network of one channel takes each channel as a picture.

        Args:
            x: The images (N, 3, H, W) in [0, 1].

        Returns:
            The denoised images, of the same shape.
        """
        height, width = x.shape[2:]
        if self._square or min(height, width) < self._minimum:
            side = max(height, width) if self._square else 0
            bottom, right = (max(self._minimum, side, length) - length for length in (height, width))
            x = F.pad(x, (0, right, 0, bottom), mode="replicate")
        images = x.reshape(-1, 1, *x.shape[2:]) if self._channels == 1 else x
        # The descriptor is called, since it adds what a network takes beside the image, such as a noise level.
        out: Tensor = self._call(images)
        return out.reshape(x.shape)[..., :height, :width]


def load_spandrel_network(path: Path, state: Mapping[str, Tensor]) -> ExternalNetwork:
    """Make the network of other people's weights.

    Args:
        path: The file of the weights, for error messages.
        state: Its tensors by name, which were read without running code.

    Raises:
        ValueError: spandrel does not know the architecture, or it is not one that denoises.
    """
    try:
        from spandrel import ModelLoader

        descriptor = ModelLoader(device=torch.device("cpu")).load_from_state_dict(dict(state))
    except Exception as error:  # spandrel and torchvision raise errors of many classes
        reason = summarize_error(error)
        # spandrel says so without a text.
        if type(error).__name__ == "UnsupportedModelError":
            reason = "it knows no architecture with these tensors"
        raise ValueError(f"{path}: spandrel does not load it: {reason}") from None
    if descriptor.scale != 1 or descriptor.input_channels not in (1, 3):
        raise ValueError(
            f"{path}: a {descriptor.architecture.name} of {descriptor.input_channels} channels and scale"
            f" {descriptor.scale}; a denoiser takes 1 or 3 channels and keeps the size"
        )
    if descriptor.input_channels != descriptor.output_channels:
        raise ValueError(f"{path}: it returns {descriptor.output_channels} channels for {descriptor.input_channels}")
    module = SpandrelModule(descriptor).eval()
    name = "".join(letter for letter in descriptor.architecture.name if letter.isalnum())
    network, _ = wrap_module(module, f"spandrel:{name}")
    return network
