"""Convolutions of 8-bit whole numbers, which some CPUs compute several times as fast as those of float32.

Weights have a scale for each output, and inputs one scale and one zero point (Jacob et al., 2018). The ranges of the
inputs are measured once, on training pictures, and kept in the model file. The first and the last layer of a network,
and those with few features, stay in float32: they cost little, and their rounding errors would be seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daelab.errors import make_unknown_name_error
from daelab.models.architectures.base import Architecture
from daelab.models.layers import Network

Ranges = Mapping[str, tuple[float, float]]
"""The lowest and highest input of each layer that computes in int8, by the layer's name."""

MIN_FEATURES = 24
"""The inputs and outputs that a layer must have at least to compute in int8."""
LARGEST = 255
"""The largest input as a whole number."""


class Int8Conv2d(nn.Module):
    """A 3x3 convolution of stride 1 that computes in int8, with float32 inputs and outputs. Its weights are fixed.

    Args:
        conv: The convolution in float32.
        low: The lowest input; lower ones are clipped.
        high: The highest input; higher ones are clipped.
        relu: Whether ReLU is applied to the output.
    """

    def __init__(self, conv: nn.Conv2d, low: float, high: float, *, relu: bool) -> None:
        """Round the weights; see the class."""
        super().__init__()
        low, high = min(low, 0.0), max(high, 1e-6)
        self.scale = (high - low) / LARGEST
        self.zero = round(-low / self.scale)
        weight = conv.weight.detach()
        scales = _sum_pairs(weight).amax((1, 2, 3)).clamp_min(1e-12) / 127
        rounded = (weight / scales.view(-1, 1, 1, 1)).round().to(torch.int8)
        # These are plain attributes, not buffers: the packed weights have a type that `module.to` cannot convert.
        self.packed = torch.ops.onednn.qconv_prepack(
            rounded, scales, self.scale, self.zero, [1, 1], [1, 1], [1, 1], 1, None
        )
        self.scales = scales
        self.zeros = torch.zeros(len(scales), dtype=torch.int32)
        self.bias = torch.zeros(len(scales)) if conv.bias is None else conv.bias.detach().clone()
        self.activation = "relu" if relu else "none"

    def forward(self, x: Tensor) -> Tensor:
        """Apply the convolution.

        Args:
            x: The input (N, C, H, W), channels last.

        Returns:
            The output (N, K, H, W).
        """
        rounded = torch.quantize_per_tensor(x, self.scale, self.zero, torch.quint8)
        # The same memory read as whole numbers, since `int_repr` would copy it.
        whole = torch.empty(0, dtype=torch.uint8).set_(rounded.untyped_storage(), 0, rounded.shape, rounded.stride())
        out: Tensor = torch.ops.onednn.qconv2d_pointwise(
            *(whole, self.scale, self.zero, self.packed, self.scales, self.zeros, self.bias),
            *([1, 1], [1, 1], [1, 1], 1, 1.0, 0, torch.float32, self.activation, [], ""),
        )
        return out


def _sum_pairs(weight: Tensor) -> Tensor:
    """Return the largest magnitude that the sum of each two neighboring weights can have, if each input is 0 or 1.

    CPUs without VNNI add the products of two neighboring inputs in 16 bits. If two neighboring weights of the same sign
    are at most 127 together, they are at most 128 after rounding, and with inputs of at most 255 their sum cannot
    overflow. So the sums are exact on every CPU.

    Args:
        weight: The weight (K, C, H, W).

    Returns:
        (K, C / 2, H, W), with C / 2 rounded up.
    """
    pairs = F.pad(weight, (0, 0, 0, 0, 0, weight.shape[1] % 2)).unflatten(1, (-1, 2))  # type: ignore[no-untyped-call]
    return torch.maximum(pairs.clamp_min(0).sum(2), -pairs.clamp_max(0).sum(2))


PRECISIONS = ("auto", "float32", "int8")
"""The precisions of inference. `auto` is int8 where the hardware and the model allow it, else float32."""


def choose_ranges(precision: str, ranges: Ranges, device: torch.device, name: str) -> Ranges | None:
    """Choose the ranges of the layers that will compute in int8, for a precision that was asked for.

    Args:
        precision: One of `PRECISIONS`.
        ranges: The ranges of the model; empty if it cannot compute in int8.
        device: The device that computes.
        name: The name of the model, for the error message.

    Returns:
        The ranges, or None for float32.

    Raises:
        ValueError: The precision is unknown; or it is int8, and the model, the device or the CPU lacks it.
    """
    # What no computer could do is said first.
    if precision == "int8" and not ranges:
        raise ValueError(f"{name} cannot compute in int8: the model has no ranges for it; {_OTHERS}")
    check_precision(precision, device, name)
    return ranges if precision != "float32" and ranges and _can_compute_on(device) else None


def check_precision(precision: str, device: torch.device, name: str) -> None:
    """Raise a ValueError if a precision is unknown, or the device cannot compute in it.

    Args:
        precision: One of `PRECISIONS`.
        device: The device that computes.
        name: The name of the model, for the error message.
    """
    if precision not in PRECISIONS:
        raise make_unknown_name_error("precision", precision, PRECISIONS)
    if precision == "int8" and not _can_compute_on(device):
        raise ValueError(f"{name} cannot compute in int8: it needs an x86 CPU with AVX2 instructions; {_OTHERS}")


_OTHERS = "use the precision auto or float32"


def _can_compute_on(device: torch.device) -> bool:
    return device.type == "cpu" and can_compute_int8()


@cache
def can_compute_int8() -> bool:
    """Return whether this CPU and this PyTorch compute convolutions in int8 exactly and in hardware.

    The instructions are those of AVX2. VNNI and AMX, where a CPU has them, are faster still.
    """
    # Older versions of PyTorch cannot tell.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if not capabilities.get("avx2"):
        return False
    # Without initial weights, which would draw from PyTorch's random numbers.
    conv = nn.Conv2d(32, 32, 3, padding=1, bias=False, device="meta").to_empty(device="cpu")
    # Whole numbers that need no rounding, the largest there can be. If a CPU added the products of other pairs than
    # neighbors in 16 bits, two of 127 would overflow. Half of the outputs have them at the odd inputs.
    signs = torch.where(torch.arange(9) % 3 > 0, 1.0, -1.0).view(3, 3)
    large = (torch.arange(32).view(32, 1) + torch.arange(32)) % 2 * 127.0  # (outputs, inputs)
    conv.weight.data.copy_(large.view(32, 32, 1, 1) * signs)
    x = torch.full((1, 32, 8, 8), 1.0).to(memory_format=torch.channels_last)
    try:
        # PyTorch warns once in each process that it will rename the function.
        with torch.inference_mode(), warnings.catch_warnings(action="ignore"):
            return torch.allclose(Int8Conv2d(conv, 0, 1, relu=False)(x), conv(x), atol=1e-2)
    except (AttributeError, RuntimeError):
        return False


def use_int8(network: Network, ranges: Ranges) -> None:
    """Let the layers of a folded network compute in int8, in place.

    Args:
        network: The network, without batch norms (`fold_batch_norms`).
        ranges: The ranges of the layers' inputs. Layers without one stay in float32.
    """
    for name, (low, high) in ranges.items():
        conv = network.get_submodule(name)
        norm, activation = network.after[name]
        assert isinstance(conv, nn.Conv2d)
        assert norm == "none"
        setattr(network, name, Int8Conv2d(conv, low, high, relu=activation == "relu"))
        network.after[name] = ("none", "none" if activation == "relu" else activation)


def list_int8_layers(spec: Architecture) -> list[str]:
    """List the layers of an architecture that can compute in int8: wide 3x3 convolutions inside the network.

    Args:
        spec: The architecture.
    """
    return [
        layer.name
        for layer in spec.layers()[1:-1]
        if (layer.kernel, layer.stride, layer.groups, layer.transposed) == (3, 1, 1, False)
        and min(layer.inputs, layer.outputs) >= MIN_FEATURES
        and layer.norm in ("none", "batch")
    ]
