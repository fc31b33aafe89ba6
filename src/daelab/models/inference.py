"""Inference: a network whose norms are folded into its convolutions, some of which compute in int8."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from copy import deepcopy
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daelab.errors import make_unknown_name_error
from daelab.models.int8 import Int8Conv2d, Ranges, list_int8_layers, use_int8
from daelab.models.layers import MIN_WIDE_OUTPUTS, NO_MARGINS, Margins, Network

INFERENCE_BATCH = 32
"""The number of images that inference takes at once. The data of more would not fit the processor's cache."""


class InferenceFunction(Protocol):
    """A network prepared for inference."""

    def __call__(self, x: Tensor, margins: Margins = NO_MARGINS, /) -> Tensor:
        """Denoise images.

        Args:
            x: The images (N, `spec.inputs`, H, W) float32 in [0, 1]. H and W are multiples of `spec.multiple`.
            margins: The pixels at the edges that are not wanted.

        Returns:
            The denoised images (N, C, H - top - bottom, W - left - right) float32.
        """


class ThinConv2d(nn.Module):
    """A 3x3 convolution to few outputs, for inference on a CPU.

    One convolution over columns gives each output's share of all three columns, and the shares are added after a
    shift. Three times as many outputs fill the processor's vectors better.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take over the weight (K, C, 3, 3) and the bias (K,) of a plain convolution."""
        super().__init__()
        outputs, inputs = weight.shape[:2]
        # The bias is added to the sum of the three shares, since in the convolution it would count three times.
        self.columns = nn.Conv2d(inputs, 3 * outputs, (3, 1), padding=(1, 0), bias=False)
        self.columns.weight = nn.Parameter(weight.permute(3, 0, 1, 2).reshape(3 * outputs, inputs, 3, 1))
        self.bias = nn.Parameter(torch.zeros(outputs) if bias is None else bias.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Apply the convolution.

        Args:
            x: The input (N, C, H, W).

        Returns:
            The output (N, K, H, W).
        """
        left, middle, right = self.columns(x).chunk(3, 1)  # each (N, K, H, W)
        out = middle + self.bias.view(-1, 1, 1)
        out[..., 1:] += left[..., :-1]
        out[..., :-1] += right[..., 1:]
        return out  # type: ignore[no-any-return]


@torch.no_grad()
def fold_batch_norms(network: Network) -> Network:
    """Copy a network for inference, with each batch norm folded into the convolution before it.

    Args:
        network: The network.

    Returns:
        The copy, in evaluation mode.
    """
    folded = deepcopy(network).eval()
    for name, (norm, activation) in folded.after.items():
        if norm != "batch":
            continue
        conv, batch_norm = folded.get_submodule(name), folded.get_submodule(f"batch_{name}")
        assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
        assert isinstance(batch_norm, nn.BatchNorm2d)
        _fold_into(conv, batch_norm)
        delattr(folded, f"batch_{name}")
        folded.after[name] = ("none", activation)
    return folded


@torch.no_grad()
def copy_weights(source: Network, target: Network, renewed: Collection[str] = ()) -> None:
    """Begin a network with the weights of another, which may lack blocks and inputs, and have batch norms in addition.

    Args:
        source: The network with the weights; the architecture of `target` can start from its own.
        target: The network that is changed. Blocks that the source lacks keep their weights.
        renewed: The beginnings of the names of layers that keep their weights too.

    Raises:
        ValueError: No layer of the target has a name that begins so.
    """
    if getattr(source.spec, "norm", None) != getattr(target.spec, "norm", None):
        source = fold_batch_norms(source)
    weights = target.state_dict()
    if unknown := [prefix for prefix in renewed if not any(key.startswith(prefix) for key in weights)]:
        levels = {
            key.removeprefix("batch_").removeprefix("layer_").partition(".")[0].partition("_")[0] for key in weights
        }
        raise ValueError(f"training.renew: {make_unknown_name_error('layer', unknown[0], levels)}")
    for key, old in source.state_dict().items():
        if not key.removeprefix("batch_").startswith(tuple(renewed)):
            # Only the first layer can have more inputs than the source's: the noise level, which comes last.
            weights[key] = F.pad(old, (0, 0, 0, 0, 0, weights[key].shape[1] - old.shape[1])) if old.ndim == 4 else old
    target.load_state_dict(weights)


def prepare_inference(
    network: Network,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    ranges: Ranges | None = None,
) -> InferenceFunction:
    """Prepare a network for inference: fold its norms, use the layout channels-last, and move it to a device.

    Args:
        network: The network.
        device: The device that computes.
        dtype: The precision of the computation.
        ranges: The ranges of the layers that compute in int8. Default: no layer does.

    Returns:
        The prepared network.
    """
    module: Network = fold_batch_norms(network)
    if ranges:
        use_int8(module, ranges)
    # The split convolutions are made to fill the vectors of a CPU.
    if torch.device(device).type == "cpu":
        _replace_thin_convolutions(module)
    module.to(device, dtype)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def run(x: Tensor, margins: Margins = NO_MARGINS, /) -> Tensor:
        if len(x) > INFERENCE_BATCH:
            return torch.cat([run(part, margins) for part in x.split(INFERENCE_BATCH)])  # type: ignore[no-untyped-call]
        return module.denoise_inside(x.to(dtype, memory_format=torch.channels_last), margins).float()

    return run


@torch.inference_mode()
def measure_ranges(
    network: Network, batches: Iterable[Tensor], outside: float = 3e-4
) -> dict[str, tuple[float, float]]:
    """Measure the ranges of the inputs of the layers that can compute in int8.

    Args:
        network: The network.
        batches: Noisy images (N, `spec.inputs`, H, W), of the kinds that the network will denoise.
        outside: The share of the inputs that may lie below the range, and above it. They will be clipped.

    Returns:
        The ranges: the widest over the batches. A wider range would make all steps coarser for the sake of few inputs.
    """
    folded = fold_batch_norms(network)
    ranges: dict[str, tuple[float, float]] = {}

    def widen(name: str, x: Tensor) -> None:
        values = x.flatten()
        kept = max(1, round(outside * len(values)))
        low, high = (float(values.topk(kept, largest=largest, sorted=True).values[-1]) for largest in (False, True))
        before = ranges.get(name, (low, high))
        ranges[name] = min(before[0], low), max(before[1], high)

    hooks = [
        folded.get_submodule(name).register_forward_pre_hook(lambda _, inputs, name=name: widen(name, inputs[0]))
        for name in list_int8_layers(network.spec)
    ]
    for batch in batches:
        folded(batch)
    for hook in hooks:
        hook.remove()
    return ranges


def _replace_thin_convolutions(network: Network) -> None:
    for name in network.after:
        layer = network.get_submodule(name)
        if isinstance(layer, Int8Conv2d):
            continue
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        # The split holds only for 3x3 kernels of stride 1 without groups, and pays only for few outputs.
        if (
            layer.out_channels >= MIN_WIDE_OUTPUTS
            or layer.kernel_size != (3, 3)
            or layer.stride != (1, 1)
            or layer.groups != 1
        ):
            continue
        transposed = isinstance(layer, nn.ConvTranspose2d)
        weight = layer.weight.flip(2, 3).transpose(0, 1) if transposed else layer.weight
        setattr(network, name, ThinConv2d(weight.detach(), layer.bias))


def _fold_into(conv: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    assert conv.bias is not None
    # in float64, which saves two roundings
    scale = norm.weight.double() * torch.rsqrt(variance.double() + norm.eps)
    # The weight of a transposed convolution has its outputs on the second axis.
    shape = (1, -1, 1, 1) if isinstance(conv, nn.ConvTranspose2d) else (-1, 1, 1, 1)
    conv.bias.copy_((conv.bias.double() - mean.double()) * scale + norm.bias.double())
    conv.weight.copy_(conv.weight.double() * scale.view(shape))
