"""What cleans pictures, and what cutting a picture into tiles has to know of it: the seam under `Denoiser`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from daelab.models.architectures.base import Architecture
from daelab.models.layers import Network, prepare_inference
from daelab.models.model_file import ModelMetadata
from daelab.models.onnx import OnnxModel

CPU_DEVICE = torch.device("cpu")


@dataclass(frozen=True)
class Backend:
    """A function that cleans, with what it needs around a tile and what it costs."""

    name: str
    run: Callable[[Tensor], Tensor]
    """(N, 3, H, W) float32 in [0, 1] on `device` -> the same; H and W are multiples of `multiple`.
    It leaves its input alone. Where it is `conditioned`, the noise's level comes as a fourth channel."""
    multiple: int = 1
    """Height and width must be multiples of this."""
    halo: int | None = 0
    """Pixels around a tile, whose edges are multiples of `multiple`, that make it equal to the same
    part of the whole; itself a multiple of it. None: a tile will not do, the whole picture is needed."""
    bytes_per_pixel: int = 200
    """What `run` needs of memory for each pixel, roughly: what a budget is divided by."""
    device: torch.device = CPU_DEVICE
    parameters: int = 0
    """Trained numbers; none in a classical method."""
    noise: str = ""
    """Text of the noise that it is made for."""
    conditioned: bool = False
    """Whether it must be told the level of the noise."""

    def __post_init__(self) -> None:
        assert self.multiple >= 1
        assert self.bytes_per_pixel >= 1
        assert self.halo is None or (self.halo >= 0 and self.halo % self.multiple == 0)


def make_network_backend(network: Network, card: ModelMetadata, device: torch.device | str | None = None) -> Backend:
    """A trained network as a method, in float32, with the norms folded in."""
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return make_backend(replace(card, spec=network.spec), prepare_inference(network, device), device)


def make_onnx_backend(path: Path) -> Backend:
    """An ONNX file that `export` wrote, run by onnxruntime on the CPU."""
    model = OnnxModel(path)
    return make_backend(model.card, model)


def make_backend(card: ModelMetadata, run: Callable[[Tensor], Tensor], device: torch.device = CPU_DEVICE) -> Backend:
    """What a card says of a trained model, and the function that runs it."""
    spec = card.spec
    if spec.channels != 3:
        raise ValueError(f"{card.name or 'the model'} takes {spec.channels} channels; pictures have 3")
    return Backend(
        name=card.name,
        run=run,
        multiple=spec.multiple,
        halo=spec.halo,
        bytes_per_pixel=estimate_memory_per_pixel(spec),
        device=device,
        parameters=spec.parameters,
        noise=card.noise,
        conditioned=spec.conditioned,
    )


def estimate_memory_per_pixel(spec: Architecture) -> int:
    """Bytes for each pixel of a picture that computing a network takes, roughly.

    What the hungriest layer reads and writes in float32, twice, since kernels reorder what they
    read; and as much again as a few copies of the picture.
    """
    side = spec.multiple * 64
    hungriest, area = 0.0, 1 / spec.unshuffle**2
    for layer in spec.layers():
        if layer.pooled:
            continue
        after = area * (layer.size(side) / side) ** 2
        hungriest = max(hungriest, layer.inputs * area + layer.outputs * after)
        area = after
    return round(2 * 4 * hungriest + 5 * 4 * spec.inputs)
