"""The parts that all networks share: layers that run by name, and batch norms that fold into convolutions.

In training the transposed layers do not run as PyTorch's own, whose gradients are slow on a CPU. The
2x2 ones of stride 2 run as one matrix product that gives the patches. The 3x3 ones run as the equal
plain convolutions, except for a thin last layer (docs/performance.md). Weights keep PyTorch's layout.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daelab.models.architectures.base import Architecture, Layer
from daelab.models.normalization import NORM_LAYERS

INFERENCE_BATCH = 32
"""The number of images that inference takes at once. The data of more would not fit the processor's cache."""
MIN_WIDE_OUTPUTS = 8
"""The number of outputs below which a transposed 3x3 convolution is faster as PyTorch's own."""


class PatchConvTranspose2d(nn.ConvTranspose2d):
    """A transposed 2x2 convolution of stride 2. In training it is one matrix product that gives 2x2 patches."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Apply the convolution.

        Args:
            x: The input (N, C, H, W).
            output_size: (2H, 2W), or None; see `torch.nn.ConvTranspose2d`.

        Returns:
            The output (N, K, 2H, 2W).
        """
        if not self.training:
            return super().forward(x, output_size)
        n, c, h, w = x.shape
        weight = self.weight.permute(2, 3, 1, 0).reshape(-1, c)  # (4K, C)
        bias = None if self.bias is None else self.bias.repeat(4)  # (4K,)
        patches = F.linear(x.permute(0, 2, 3, 1), weight, bias).reshape(n, h, w, 2, 2, -1)  # (N, H, W, 2, 2, K)
        return patches.transpose(2, 3).reshape(n, 2 * h, 2 * w, -1).permute(0, 3, 1, 2)


class SameConvTranspose2d(nn.ConvTranspose2d):
    """A transposed 3x3 convolution of stride 1 and padding 1. In training it is the equal plain convolution."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Apply the convolution.

        Args:
            x: The input (N, C, H, W).
            output_size: (H, W), or None; see `torch.nn.ConvTranspose2d`.

        Returns:
            The output (N, K, H, W).
        """
        if not self.training:
            return super().forward(x, output_size)
        # With stride 1, a transposed convolution equals a plain one whose kernel is mirrored and whose channels are
        # exchanged.
        return F.conv2d(x, self.weight.flip(2, 3).transpose(0, 1), self.bias, padding=1)


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


class Network(nn.Module):
    """The base of all networks: (N, `spec.inputs`, H, W) in [0, 1] -> (N, C, H, W).

    H and W are multiples of `spec.multiple`. A subclass says in `forward` how the layers of the layer table are
    connected, and runs each by its name.
    """

    def __init__(self, spec: Architecture) -> None:
        """Create the layers of an architecture."""
        super().__init__()
        self.spec = spec
        for layer in spec.layers():
            self.add_module(layer.name, _make_convolution(layer))
            if layer.norm != "none":
                # The tensors' names contain the kind of norm, by which `infer_architecture` recognizes it.
                self.add_module(f"{layer.norm}_{layer.name}", NORM_LAYERS[layer.norm](layer.outputs))
        # the norm and the activation after each layer, by its name, so that a folded layer can drop its norm
        self.after = {layer.name: (layer.norm, layer.activation) for layer in spec.layers()}

    def run(self, name: str, x: Tensor) -> Tensor:
        """Run one layer: convolution, norm and activation.

        Args:
            name: The layer's name in the layer table.
            x: The input (N, C, H, W).

        Returns:
            The output.
        """
        norm, activation = self.after[name]
        x = self.get_submodule(name)(x)
        if norm != "none":
            x = self.get_submodule(f"{norm}_{name}")(x)
        if activation == "relu":
            return F.relu_(x)
        # in float32, since bf16 has steps of 1/256 just below one
        return torch.sigmoid(widen_to_float32(x)) if activation == "sigmoid" else x


class AnySizeNetwork(nn.Module):
    """A network between padding by reflection to its size multiple and cropping, which can be traced and exported."""

    def __init__(self, network: Network) -> None:
        """Wrap a network, which is not copied."""
        super().__init__()
        self.network = network
        self.multiple = network.spec.multiple

    def forward(self, x: Tensor) -> Tensor:
        """Denoise images.

        Args:
            x: The images (N, C, H, W) in [0, 1], of any height and width.

        Returns:
            The denoised images, of the same shape.
        """
        height, width = x.shape[2], x.shape[3]
        padded = x.index_select(2, self._mirror_places(x, height)).index_select(3, self._mirror_places(x, width))
        denoised: Tensor = self.network(padded)
        return denoised[:, :, :height, :width]

    def _mirror_places(self, x: Tensor, side: int) -> Tensor:
        """Return, for each pixel of a padded side, the pixel that it mirrors: back and forth, without repeating edges.

        The tracer would store a Python number as a constant of this image, so everything is a tensor operation.
        """
        place = torch.arange(side + (-side) % self.multiple, device=x.device)
        if torch.compiler.is_exporting():
            # Of the two exporters, this one would store the tensor as a constant.
            place = torch.remainder(place, torch.sym_max(2 * side - 2, 1))  # type: ignore[no-untyped-call]
            return torch.minimum(place, 2 * side - 2 - place)
        last = torch.as_tensor(side - 1, device=x.device)
        # A side of one pixel would otherwise divide by zero.
        place = torch.remainder(place, (2 * last).clamp_min(1))
        return torch.minimum(place, 2 * last - place)


def append_noise_level(x: Tensor, level: Tensor) -> Tensor:
    """Append the noise level to images as a further channel, which conditioned networks expect.

    Args:
        x: Images (N, C, H, W).
        level: (N,), the root mean square of the noise in units of white.

    Returns:
        (N, C + 1, H, W).
    """
    return torch.cat([x, level.to(x).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])], 1)


def widen_to_float32(x: Tensor) -> Tensor:
    """Convert a tensor to float32 if its type has fewer bits.

    Args:
        x: The tensor. float64 stays float64.

    Returns:
        The same numbers.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


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


def prepare_inference(
    network: Network, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Callable[[Tensor], Tensor]:
    """Prepare a network for inference: fold its norms, use the layout channels-last, and move it to a device.

    Args:
        network: The network.
        device: The device that computes.
        dtype: The precision of the computation.

    Returns:
        A function from (N, `spec.inputs`, H, W) float32 in [0, 1] to (N, C, H, W) float32. H and W are multiples of
        `spec.multiple`.
    """
    module: Network = fold_batch_norms(network)
    # The split convolutions are made to fill the vectors of a CPU.
    if torch.device(device).type == "cpu":
        _replace_thin_convolutions(module)
    module.to(device, dtype)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def run(x: Tensor) -> Tensor:
        if len(x) > INFERENCE_BATCH:
            return torch.cat([run(part) for part in x.split(INFERENCE_BATCH)])  # type: ignore[no-untyped-call]
        return module(x.to(dtype, memory_format=torch.channels_last)).float()  # type: ignore[no-any-return]

    return run


def _replace_thin_convolutions(network: Network) -> None:
    for name in network.after:
        layer = network.get_submodule(name)
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


def _make_convolution(layer: Layer) -> nn.Conv2d | nn.ConvTranspose2d:
    if layer.transposed:
        same = nn.ConvTranspose2d if layer.outputs < MIN_WIDE_OUTPUTS else SameConvTranspose2d
        kind = PatchConvTranspose2d if layer.stride == 2 else same
        return kind(layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.padding, bias=layer.bias)
    return nn.Conv2d(
        layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.padding, groups=layer.groups, bias=layer.bias
    )
