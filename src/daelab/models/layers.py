"""The parts that all networks share: layers that run by name.

In training the transposed layers do not run as PyTorch's own, whose gradients are slow on a CPU. The
2x2 ones of stride 2 run as one matrix product that gives the patches. The 3x3 ones run as the equal
plain convolutions, except for a thin last layer (docs/performance.md). Weights keep PyTorch's layout.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daelab.models.architectures.base import Architecture, Layer
from daelab.models.normalization import NORM_LAYERS

Margins = tuple[int, int, int, int]
"""The rows above and below a part of a window, and the columns left and right of it: (top, bottom, left, right)."""
NO_MARGINS: Margins = (0, 0, 0, 0)
"""The margins if the part is the whole window."""
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

    def denoise_inside(self, x: Tensor, margins: Margins) -> Tensor:
        """Denoise images of which only the inside is wanted.

        Args:
            x: The images and noise maps (N, `spec.inputs`, H, W) in [0, 1].
            margins: The pixels at the edges that are not wanted.

        Returns:
            The denoised images (N, C, H - top - bottom, W - left - right).
        """
        denoised: Tensor = self(x)
        return crop_margins(denoised, margins)

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


def crop_margins(x: Tensor, margins: Margins, wanted: Margins = NO_MARGINS, scale: int = 1) -> Tensor:
    """Crop images or features to smaller margins.

    Args:
        x: The images or features (N, C, H, W).
        margins: The margins that they have, in pixels of the image.
        wanted: The margins to crop to, in pixels of the image.
        scale: The side of a feature in pixels of the image.

    Returns:
        A view of the inside.
    """
    if margins == wanted:
        return x
    top, bottom, left, right = ((have - keep) // scale for have, keep in zip(margins, wanted, strict=True))
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


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


def _make_convolution(layer: Layer) -> nn.Conv2d | nn.ConvTranspose2d:
    if layer.transposed:
        same = nn.ConvTranspose2d if layer.outputs < MIN_WIDE_OUTPUTS else SameConvTranspose2d
        kind = PatchConvTranspose2d if layer.stride == 2 else same
        return kind(layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.padding, bias=layer.bias)
    return nn.Conv2d(
        layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.padding, groups=layer.groups, bias=layer.bias
    )
