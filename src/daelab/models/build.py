"""Spec -> nn.Module."""

from __future__ import annotations

from collections.abc import Callable

import torch

from daelab.models.architectures.autoencoder import Autoencoder
from daelab.models.architectures.base import Architecture
from daelab.models.architectures.unet import UNet
from daelab.models.autoencoder import AutoencoderNetwork
from daelab.models.layers import Network
from daelab.models.unet import UNetwork

NETWORKS: dict[type[Architecture], Callable[..., Network]] = {Autoencoder: AutoencoderNetwork, UNet: UNetwork}


def build_network(spec: Architecture, seed: int | None = None) -> Network:
    """The module of a spec, freshly initialised; with a `seed`, always the same."""
    if seed is None:
        return NETWORKS[type(spec)](spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[type(spec)](spec)
