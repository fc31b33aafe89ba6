"""The layer table: the only place that knows a network's shape. No torch here.

The module builder, the summary printer, the padding rule and the reader of the paper's
checkpoints all read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NORMS = ("batch", "layer", "none")
_NORM_TENSORS = {"batch": ("weight", "bias", "running_mean", "running_var"), "layer": ("weight", "bias"), "none": ()}
_NORM_ROWS = {"batch": "BatchNorm2d", "layer": "LayerNorm"}


@dataclass(frozen=True)
class Layer:
    """One convolution with what follows it; kernel 2 has stride 2, the others keep the size."""

    name: str
    """Of its tensors. The auto-encoders': as in the paper's checkpoints, enc1, enc2, ..., dec1, dec2, ..."""
    inputs: int
    outputs: int
    kernel: int
    transposed: bool = False
    norm: str = "none"
    """What stands between the convolution and the activation: one of `NORMS`."""
    activation: str = "none"
    """"relu", "sigmoid" or "none"."""
    groups: int = 1
    bias: bool = True
    pooled: bool = False
    """Whether it works on means over a window, not on the picture's features."""

    @property
    def stride(self) -> int:
        return 2 if self.kernel == 2 else 1

    @property
    def padding(self) -> int:
        return self.kernel // 2 if self.stride == 1 else 0

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """As PyTorch stores it: a transposed convolution has its inputs first."""
        ends = (self.inputs, self.outputs) if self.transposed else (self.outputs, self.inputs // self.groups)
        return (*ends, self.kernel, self.kernel)

    @property
    def macs_per_pixel(self) -> int:
        """Multiply-accumulates for one output pixel (of a transposed one: input pixel)."""
        return self.inputs * self.outputs * self.kernel**2 // self.groups

    @property
    def parameters(self) -> int:
        """Of the convolution with its bias, without the norm."""
        return self.macs_per_pixel + self.outputs * self.bias

    @property
    def norm_parameters(self) -> int:
        """Trainable ones of the norm."""
        return 2 * self.outputs * (self.norm != "none")

    def size(self, side: int) -> int:
        """The height or width that comes out for `side` going in."""
        if self.stride == 1:
            return side
        return side * 2 if self.transposed else side // 2

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes in a state dict, in order."""
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
    """A line of a layer table, as the paper's Figures 3, 5 and 6 print them."""

    layer: str
    shape: tuple[int, int, int]
    """Channels, height, width."""
    parameters: int


class Architecture:
    """What every network's description answers, from its layer table."""

    channels: int
    unshuffle: int = 1
    """Pixels along each side that the first layer sees as channels of one; the last layer's give them back."""
    conditioned: bool = False
    """Whether the network is told the level of the noise, as one more channel behind the picture's."""
    window: int = 0
    """Side, in input pixels, of the window whose means the `pooled` layers work on; 0: there are none."""

    def layers(self) -> tuple[Layer, ...]:
        """The layer table, in the order in which data flows."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and TOML; `from_dict` reads them back."""
        raise NotImplementedError

    def grown_from(self, other: Architecture) -> bool:
        """Whether the other's weights have their place in this network, which begins as the same function with them."""
        return self == other

    @property
    def inputs(self) -> int:
        """Channels that go in."""
        return self.channels + self.conditioned

    @property
    def brief(self) -> str:
        """The features at each level, for people."""
        raise NotImplementedError

    @property
    def downs(self) -> int:
        """How many times a layer halves height and width."""
        return sum(layer.stride == 2 and not layer.transposed for layer in self.layers())

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this; the denoiser pads to it."""
        return self.unshuffle * int(2**self.downs)

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return sum(layer.parameters + layer.norm_parameters for layer in self.layers())

    @property
    def reach_of_window(self) -> int:
        """How far, in pixels after `unshuffle`, the window of the pooled layers reaches to each side."""
        return self.window // self.unshuffle // 2

    def macs(self, height: int = 32, width: int = 32) -> int:
        """Multiply-accumulates of the convolutions for one image; 2 FLOP each."""
        height, width = height // self.unshuffle, width // self.unshuffle
        # where the window covers the whole picture from everywhere, all pixels have the same means
        pooled = 1 if self.reach_of_window >= max(height, width) - 1 else height * width
        total = 0
        for layer in self.layers():
            if layer.pooled:
                total += layer.macs_per_pixel * pooled
                continue
            area = height * width
            height, width = layer.size(height), layer.size(width)
            # each output pixel of a convolution, each input pixel of a transposed one, meets the kernel once
            total += layer.macs_per_pixel * (area if layer.transposed else height * width)
        return total

    def table(self, height: int = 32, width: int = 32) -> tuple[LayerRow, ...]:
        """The rows of the paper's figures for an image of `height` x `width` pixels."""
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
        """The input pixels, first and one past the last, that the output pixels start..stop may depend on."""
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
        # the means reach on from the farthest pixel that they are needed for
        first, last = first - self.reach_of_window, last + self.reach_of_window
        return first * self.unshuffle, (last + 1) * self.unshuffle

    @property
    def radius(self) -> int:
        """How far from an output pixel the farthest input pixel lies that it may depend on."""
        reaches = (self.reach(at, at + 1) for at in range(self.multiple))
        return max(max(at - first, stop - 1 - at) for at, (first, stop) in enumerate(reaches))

    @property
    def halo(self) -> int:
        """Pixels to add around a tile, whose edges are multiples of `multiple`, to compute it exactly."""
        first, stop = self.reach(0, self.multiple)
        wanted = max(-first, stop - self.multiple)
        return -(-wanted // self.multiple) * self.multiple

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the state dict, in order."""
        return {name: shape for layer in self.layers() for name, shape in layer.tensors().items()}


def check_tensor_shapes(spec: Architecture, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise a ValueError that names the first tensor that is missing, too many or of another shape."""
    wanted = spec.tensors()
    for name in [*wanted, *shapes]:
        found = shapes.get(name)
        if found is None or name not in wanted or tuple(found) != wanted[name]:
            state = "is missing" if found is None else f"has shape {tuple(found)}"
            due = f"expected {wanted[name]}" if name in wanted else "the architecture has no such tensor"
            raise ValueError(f"tensor {name} {state}; {due}")


def check_whole_number(value: object, what: str, low: int, high: int) -> None:
    """Raise a ValueError unless a field is a whole number in [low, high]."""
    if not (type(value) is int and low <= value <= high):
        raise ValueError(f"spec: {what} must be a whole number from {low} to {high}, not {value!r}")
