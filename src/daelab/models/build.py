"""The network of an architecture."""

from __future__ import annotations

from collections.abc import Callable

import torch

from daelab.models.architectures.autoencoder import Autoencoder
from daelab.models.architectures.base import Architecture
from daelab.models.architectures.external import ExternalArchitecture
from daelab.models.architectures.unet import UNet
from daelab.models.autoencoder import AutoencoderNetwork
from daelab.models.external import ExternalNetwork
from daelab.models.layers import Network
from daelab.models.unet import UNetwork

NETWORKS: dict[type[Architecture], Callable[..., Network]] = {Autoencoder: AutoencoderNetwork, UNet: UNetwork}
"""The network class of each kind of architecture."""


def build_network(architecture: Architecture, seed: int | None = None) -> Network:
    """Build the network of an architecture, with initial weights.

    Args:
        architecture: The architecture.
        seed: The seed of the weights. None draws them from PyTorch's global generator.

    Returns:
        The network, in training mode.
    """
    if seed is None:
        return _build(architecture)
    # The global generator of the caller stays as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build(architecture)


def _build(architecture: Architecture) -> Network:
    if isinstance(architecture, ExternalArchitecture):
        return ExternalNetwork(architecture)
    return NETWORKS[type(architecture)](architecture)
