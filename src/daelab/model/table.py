"""Spec -> nn.Module."""

from __future__ import annotations

from collections.abc import Callable

import torch

from daelab.model.autoencoder import AutoencoderNetwork
from daelab.model.network import Network
from daelab.model.unet import UNetwork
from daelab.spec import Autoencoder, Spec, UNet

NETWORKS: dict[type[Spec], Callable[..., Network]] = {Autoencoder: AutoencoderNetwork, UNet: UNetwork}


def build(spec: Spec, seed: int | None = None) -> Network:
    """The module of a spec, freshly initialised; with a `seed`, always the same."""
    if seed is None:
        return NETWORKS[type(spec)](spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[type(spec)](spec)
