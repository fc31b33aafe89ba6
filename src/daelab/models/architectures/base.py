"""The layer table, the only description of a network's shape. It needs no torch.

The network builder, the printed summary, the padding rule and the reader of the paper's
checkpoints all use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NORMS = ("batch", "layer", "none")
"""The names of the norms."""
_NORM_TENSORS = {"batch": ("weight", "bias", "running_mean", "running_var"), "layer": ("weight", "bias"), "none": ()}
_NORM_ROWS = {"batch": "BatchNorm2d", "layer": "LayerNorm"}


@dataclass(frozen=True)
class Layer:
    """A convolution with what follows it. A kernel of 2 has stride 2; other kernels keep the size."""

    name: str
    """The name of its tensors. Auto-encoders use those of the paper's checkpoints: enc1, enc2, ..., dec1, dec2, ..."""
    inputs: int
    """The number of input channels."""
    outputs: int
    """The number of output channels."""
    kernel: int
    """The side of the kernel, in pixels."""
    transposed: bool = False
    norm: str = "none"
    """The norm between the convolution and the activation: one of `NORMS`."""
    activation: str = "none"
    """The activation: "relu", "sigmoid" or "none"."""
    groups: int = 1
    bias: bool = True
    pooled: bool = False
    """Whether it works on means over a window instead of the image's features."""

    @property
    def stride(self) -> int:
        """The stride, 1 or 2."""
        return 2 if self.kernel == 2 else 1

    @property
    def padding(self) -> int:
        """The padding on each side, in pixels."""
        return self.kernel // 2 if self.stride == 1 else 0

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """The shape of the weight in PyTorch, where a transposed convolution has its inputs first."""
        ends = (self.inputs, self.outputs) if self.transposed else (self.outputs, self.inputs // self.groups)
        return (*ends, self.kernel, self.kernel)

    @property
    def macs_per_pixel(self) -> int:
        """The multiply-accumulates for one output pixel, or one input pixel of a transposed convolution."""
        return self.inputs * self.outputs * self.kernel**2 // self.groups

    @property
    def parameters(self) -> int:
        """The number of parameters of the convolution with its bias, without the norm."""
        return self.macs_per_pixel + self.outputs * self.bias

    @property
    def norm_parameters(self) -> int:
        """The number of trainable parameters of the norm."""
        return 2 * self.outputs * (self.norm != "none")

    def size(self, side: int) -> int:
        """Return the height or width of the output.

        Args:
            side: The height or width of the input, in pixels.

        Returns:
            The output's side, in pixels.
        """
        if self.stride == 1:
            return side
        return side * 2 if self.transposed else side // 2

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the layer's tensors in a state dict by name, in order."""
        shapes: dict[str, tuple[int, ...]] = {f"{self.name}.weight": self.weight_shape}
        if self.bias:
            shapes[f"{self.name}.bias"] = (self.outputs,)
        for part in _NORM_TENSORS[self.norm]:
            shapes[f"{self.norm}_{self.name}.{part}"] = (self.outputs,)
        if self.norm == "batch":
            shapes[f"batch_{self.name}.num_batches_tracked"] = ()
        return shapes


@dataclass(frozen=True)
class LayerRow:
    """A row of a layer table, as the paper's Figures 3, 5 and 6 print them."""

    layer: str
    """The kind of the layer and its number, such as `Conv2d-1`."""
    shape: tuple[int, int, int]
    """The channels, height and width of the output."""
    parameters: int
    """The number of trainable parameters."""


class Architecture:
    """The base class of all architectures. It derives their properties from the layer table."""

    channels: int
    """The channels of the images."""
    unshuffle: int = 1
    """The side of the squares of pixels that become the channels of one pixel before the first layer."""
    conditioned: bool = False
    """Whether the network receives the noise level as one more channel after the image's."""
    window: int = 0
    """The side of the window whose means the `pooled` layers use, in input pixels; 0 if there are no such layers."""

    def layers(self) -> tuple[Layer, ...]:
        """Return the layer table, in the order in which data flows."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Convert the architecture to plain values, which `parse_architecture` reads back."""
        raise NotImplementedError

    def can_start_from(self, other: Architecture) -> bool:
        """Return whether the network can start from the weights of another and then computes the same function.

        Args:
            other: The architecture of the other network.

        Returns:
            Whether it can.
        """
        return self == other

    @property
    def inputs(self) -> int:
        """The number of input channels."""
        return self.channels + self.conditioned

    @property
    def summary(self) -> str:
        """The number of features at each level, for people."""
        raise NotImplementedError

    @property
    def downs(self) -> int:
        """The number of layers that halve height and width."""
        return sum(layer.stride == 2 and not layer.transposed for layer in self.layers())

    @property
    def multiple(self) -> int:
        """The number of pixels of which height and width must be multiples. The denoiser pads to it."""
        return self.unshuffle * int(2**self.downs)

    @property
    def parameters(self) -> int:
        """The number of trainable parameters."""
        return sum(layer.parameters + layer.norm_parameters for layer in self.layers())

    @property
    def reach_of_window(self) -> int:
        """The reach of the pooled layers' window to each side, in pixels after `unshuffle`."""
        return self.window // self.unshuffle // 2

    def macs(self, height: int = 32, width: int = 32) -> int:
        """Count the multiply-accumulates of the convolutions for one image; each is 2 FLOP.

        Args:
            height: The image's height, in pixels.
            width: The image's width, in pixels.

        Returns:
            The number of multiply-accumulates.
        """
        height, width = height // self.unshuffle, width // self.unshuffle
        # if the window covers the whole image from every pixel, all pixels have the same means
        pooled = 1 if self.reach_of_window >= max(height, width) - 1 else height * width
        total = 0
        for layer in self.layers():
            if layer.pooled:
                total += layer.macs_per_pixel * pooled
                continue
            area = height * width
            height, width = layer.size(height), layer.size(width)
            # the kernel is applied once per output pixel, or per input pixel of a transposed convolution
            total += layer.macs_per_pixel * (area if layer.transposed else height * width)
        return total

    def table(self, height: int = 32, width: int = 32) -> tuple[LayerRow, ...]:
        """Return the rows of the paper's figures.

        Args:
            height: The image's height, in pixels.
            width: The image's width, in pixels.

        Returns:
            The rows, in the order in which data flows.
        """
        rows: list[LayerRow] = []
        height, width = height // self.unshuffle, width // self.unshuffle
        for layer in self.layers():
            if not layer.pooled:
                height, width = layer.size(height), layer.size(width)
            shape = (layer.outputs, 1, 1) if layer.pooled else (layer.outputs, height, width)
            kind = "ConvTranspose2d" if layer.transposed else "Conv2d"
            rows.append(LayerRow(f"{kind}-{len(rows) + 1}", shape, layer.parameters))
            if layer.norm != "none":
                rows.append(LayerRow(f"{_NORM_ROWS[layer.norm]}-{len(rows) + 1}", shape, layer.norm_parameters))
        return tuple(rows)

    def reach(self, start: int, stop: int) -> tuple[int, int]:
        """Return the range of input pixels that a range of output pixels may depend on.

        Args:
            start: The first output pixel.
            stop: One past the last output pixel.

        Returns:
            The first input pixel, and one past the last. They may lie outside the image.
        """
        first, last = start // self.unshuffle, (stop - 1) // self.unshuffle
        for layer in reversed(self.layers()):
            if layer.pooled:
                continue
            if layer.stride == 1:
                first, last = first - layer.padding, last + layer.padding
            elif layer.transposed:
                first, last = first // 2, last // 2
            else:
                first, last = 2 * first, 2 * last + 1
        # the window reaches beyond the farthest pixel whose means are needed
        first, last = first - self.reach_of_window, last + self.reach_of_window
        return first * self.unshuffle, (last + 1) * self.unshuffle

    def list_reaches(self) -> dict[str, int]:
        """Return how far beyond a part of the network's output the output of each layer must reach.

        Returns:
            The distance in pixels by the layer's name, for a part whose edges are multiples of `multiple`. The reach of
            the window is not included.
        """
        reaches, reach, scale = {}, 0, self.unshuffle
        for layer in reversed(self.layers()):
            reaches[layer.name] = reach
            if layer.pooled:
                continue
            if layer.stride == 1:
                reach += layer.padding * scale
            elif layer.transposed:
                scale *= 2
                reach = -(-reach // scale) * scale
            else:
                scale //= 2
        return reaches

    @property
    def radius(self) -> int:
        """The distance from an output pixel to the farthest input pixel that it may depend on."""
        reaches = (self.reach(at, at + 1) for at in range(self.multiple))
        return max(max(at - first, stop - 1 - at) for at, (first, stop) in enumerate(reaches))

    @property
    def halo(self) -> int:
        """The pixels to add around a tile, whose edges are multiples of `multiple`, to compute it exactly."""
        first, stop = self.reach(0, self.multiple)
        margin = max(-first, stop - self.multiple)
        return -(-margin // self.multiple) * self.multiple

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the tensors of the state dict by name, in order."""
        return {name: shape for layer in self.layers() for name, shape in layer.tensors().items()}


def check_tensor_shapes(architecture: Architecture, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that tensors have the names and shapes of an architecture's weights.

    Args:
        architecture: The architecture.
        shapes: The shape of each tensor by name.

    Raises:
        ValueError: A tensor is missing, unknown or of another shape. The message names the first.
    """
    expected = architecture.tensors()
    for name in [*expected, *shapes]:
        shape = shapes.get(name)
        if shape is None or name not in expected or tuple(shape) != expected[name]:
            state = "is missing" if shape is None else f"has shape {tuple(shape)}"
            due = f"expected {expected[name]}" if name in expected else "the architecture has no such tensor"
            raise ValueError(f"tensor {name} {state}; {due}")


def check_whole_number(value: object, what: str, low: int, high: int) -> None:
    """Check that a field of an architecture is a whole number in a range.

    Args:
        value: The value.
        what: The name of the field, for the error message.
        low: The lowest valid number.
        high: The highest valid number.

    Raises:
        ValueError: The value is something else.
    """
    if not (type(value) is int and low <= value <= high):
        raise ValueError(f"spec: {what} must be a whole number from {low} to {high}, not {value!r}")
