"""The backend of a denoiser: the function that denoises, and what tiling must know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from daelab._util.hardware import choose_device
from daelab.models.architectures.base import Architecture
from daelab.models.architectures.external import ExternalArchitecture
from daelab.models.external import Halo, wrap_module
from daelab.models.inference import InferenceFunction, prepare_inference
from daelab.models.int8 import choose_ranges
from daelab.models.layers import Margins, Network, crop_margins
from daelab.models.model_file import ModelMetadata
from daelab.models.onnx import OnnxModel
from daelab.noise.base import LevelRange
from daelab.noise.camera import Awgn
from daelab.noise.grammar import parse_noise

CPU_DEVICE = torch.device("cpu")
"""The default device of a backend."""


@dataclass(frozen=True)
class Backend:
    """A function that denoises, with what it needs around a tile and what it costs."""

    name: str
    run: Callable[[Tensor], Tensor]
    """A function from and to (N, C, H, W) float32 in [0, 1] on `device`; H and W are multiples of `multiple`.

    It does not change its input. If it is `conditioned`, the noise level is a further channel of its input. Tiles are
    computed by `run_inside` instead if there is one.
    """
    multiple: int = 1
    """The number of pixels that height and width must be multiples of."""
    halo: int | None = 0
    """The pixels around a tile that make its result equal to the same part of the full image.

    It is a multiple of `multiple`, as the edges of tiles are. None if the method needs the full image.
    """
    bytes_per_pixel: int = 200
    """The memory that `run` takes for each pixel, roughly; it decides the size of the tiles."""
    device: torch.device = CPU_DEVICE
    """The device that computes."""
    parameters: int = 0
    """The number of trained parameters; 0 for a classical method."""
    noise: str = ""
    """The text form of the noise that the method was trained for."""
    conditioned: bool = False
    """Whether the method takes the noise level as an input."""
    precision: str = "float32"
    """The precision of most of the computation: float32 or int8."""
    network: Network | None = None
    """The network as it was trained; None for a classical method or an ONNX file."""
    channels: int = 3
    """C, the channels of the pictures."""
    note: str = ""
    """How the halo of a user's own module was found, and how certain it is."""
    run_inside: InferenceFunction | None = None
    """A faster `run` for the inside of a window, which skips what only the margins need; None if there is none."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        assert self.multiple >= 1
        assert self.bytes_per_pixel >= 1
        assert self.halo is None or (self.halo >= 0 and self.halo % self.multiple == 0)

    def denoise_inside(self, x: Tensor, margins: Margins) -> Tensor:
        """Denoise pictures of which only the inside is wanted.

        Args:
            x: The pictures (N, C, H, W), as `run` takes them.
            margins: The pixels at the edges that are not wanted.

        Returns:
            The denoised pictures without the margins.
        """
        if self.run_inside is None:
            return crop_margins(self.run(x), margins)
        return self.run_inside(x, margins)

    @property
    def largest_sigma(self) -> float:
        """The largest noise level that a conditioned method was trained for, in 8-bit steps."""
        trained = parse_noise(self.noise).options() if self.noise else ()
        sigmas = [noise.sigma for noise in trained if isinstance(noise, Awgn)]
        return max((sigma.high if isinstance(sigma, LevelRange) else sigma for sigma in sigmas), default=255.0)


def make_network_backend(
    network: Network, card: ModelMetadata, device: torch.device | str | None = None, precision: str = "float32"
) -> Backend:
    """Make the backend of a trained network, with the norms folded into the convolutions.

    Args:
        network: The network.
        card: The model's metadata.
        device: The device to compute on. Default: the GPU if there is one.
        precision: One of `PRECISIONS`.

    Raises:
        ValueError: The precision is unknown, or int8 is not possible.
    """
    device = choose_device(device)
    ranges = choose_ranges(precision, card.ranges, device, card.name)
    run = prepare_inference(network, device, ranges=ranges)
    backend = make_backend(replace(card, spec=network.spec), run, device)
    return replace(backend, network=network, precision="int8" if ranges else "float32", run_inside=run)


def make_module_backend(
    module: nn.Module | Callable[[Tensor], Tensor],
    *,
    multiple: int | None = None,
    halo: Halo = "measured",
    channels: int | None = None,
) -> Backend:
    """Make the backend of a user's own module or function, on the module's device.

    Args:
        module: A module or a function of (N, C, H, W) float32 in [0, 1] to the same shape.
        multiple: The number of pixels that height and width must be multiples of. Default: it is measured.
        halo: The pixels around a tile, `measured`, or None for whole pictures.
        channels: C, the channels of the pictures. Default: the module's attribute `channels`, or else 3.
    """
    network, tiling = wrap_module(module, multiple=multiple, halo=halo, channels=channels)
    device = next((parameter.device for parameter in network.parameters()), CPU_DEVICE)
    name = getattr(module, "__name__", type(module).__name__)
    return replace(make_network_backend(network, ModelMetadata(network.spec, name), device), note=tiling.note)


def make_onnx_backend(path: Path) -> Backend:
    """Make the backend of an ONNX file of `daelab export`, which onnxruntime runs on the CPU.

    Args:
        path: The ONNX file.
    """
    model = OnnxModel(path)
    return make_backend(model.metadata, model)


def make_backend(card: ModelMetadata, run: Callable[[Tensor], Tensor], device: torch.device = CPU_DEVICE) -> Backend:
    """Make a backend of a model's metadata and the function that runs the model.

    Args:
        card: The model's metadata.
        run: The function of (N, `spec.inputs`, H, W) to (N, `spec.channels`, H, W).
        device: The device that `run` computes on.
    """
    spec = card.spec
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
        channels=spec.channels,
    )


def estimate_memory_per_pixel(spec: Architecture) -> int:
    """Estimate the bytes that a network takes for each pixel of an image.

    They are what the largest layer reads and writes in float32, twice, since kernels reorder what they read, plus a
    few copies of the image.

    Args:
        spec: The architecture.
    """
    if isinstance(spec, ExternalArchitecture):
        # The layers of other code are not known. This is what a network of 64 features takes.
        return 2 * 4 * 2 * 64
    side = spec.multiple * 64
    largest, area = 0.0, 1 / spec.unshuffle**2
    # The layers are counted by their areas relative to the picture, since the memory grows in proportion to its pixels.
    for layer in spec.layers():
        if layer.pooled:
            continue
        after = area * (layer.size(side) / side) ** 2
        largest = max(largest, layer.inputs * area + layer.outputs * after)
        area = after
    return round(2 * 4 * largest + 5 * 4 * spec.inputs)
