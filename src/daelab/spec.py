"""An auto-encoder as data: stages, and one rule that turns them into a layer table. No torch here.

The layer table is the only place that knows a network's shape. The module builder, the
summary printer, the padding rule and the reader of the paper's checkpoints all read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from daelab.errors import unknown

NORMS = ("batch", "none")


@dataclass(frozen=True)
class Stage:
    """A 3x3 convolution to `width` features, then, if `down`, a 2x2 one of stride 2."""

    width: int
    down: bool = True

    def __post_init__(self) -> None:
        if not (type(self.width) is int and 1 <= self.width <= 4096):
            raise ValueError(f"spec: a stage's width must be a whole number from 1 to 4096, not {self.width!r}")


@dataclass(frozen=True)
class Layer:
    """One convolution with what follows it; kernel 3 keeps the size, kernel 2 has stride 2."""

    name: str
    """As in the paper's checkpoints: enc1, enc2, ..., dec1, dec2, ..."""
    transposed: bool
    inputs: int
    outputs: int
    kernel: int
    norm: bool
    """Whether batch norm stands between the convolution and the activation."""
    activation: str
    """"relu" or "sigmoid"."""

    @property
    def stride(self) -> int:
        return 2 if self.kernel == 2 else 1

    @property
    def padding(self) -> int:
        return self.kernel // 2 if self.stride == 1 else 0

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """As PyTorch stores it: a transposed convolution has its inputs first."""
        ends = (self.inputs, self.outputs) if self.transposed else (self.outputs, self.inputs)
        return (*ends, self.kernel, self.kernel)

    @property
    def parameters(self) -> int:
        """Of the convolution with its bias, without the batch norm."""
        return self.inputs * self.outputs * self.kernel**2 + self.outputs

    def size(self, side: int) -> int:
        """The height or width that comes out for `side` going in."""
        if self.stride == 1:
            return side
        return side * 2 if self.transposed else side // 2

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes in a state dict, in order."""
        shapes: dict[str, tuple[int, ...]] = {
            f"{self.name}.weight": self.weight_shape,
            f"{self.name}.bias": (self.outputs,),
        }
        if self.norm:
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"batch_{self.name}.{part}"] = (self.outputs,)
            shapes[f"batch_{self.name}.num_batches_tracked"] = ()
        return shapes


@dataclass(frozen=True)
class Row:
    """A line of the paper's layer tables (Figures 3, 5, 6)."""

    layer: str
    shape: tuple[int, int, int]
    """Channels, height, width."""
    parameters: int


@dataclass(frozen=True)
class Autoencoder:
    """A convolutional auto-encoder as the paper builds them (section 3.3).

    The encoder is the stages in order; the decoder is the stages backwards: a transposed
    2x2 convolution of stride 2 where the stage went down, then a transposed 3x3 one to the
    width before it. ReLU inside, sigmoid at the end, norm before every activation but the last.
    """

    stages: tuple[Stage, ...]
    norm: str = "batch"
    channels: int = 3

    def __post_init__(self) -> None:
        if not 1 <= len(self.stages) <= 32:
            raise ValueError(f"spec: an auto-encoder has 1 to 32 stages, not {len(self.stages)}")
        if self.norm not in NORMS:
            raise unknown("norm", str(self.norm), NORMS)
        if not (type(self.channels) is int and 1 <= self.channels <= 64):
            raise ValueError(f"spec: channels must be a whole number from 1 to 64, not {self.channels!r}")
        if self.downs > 10:
            raise ValueError(f"spec: {self.downs} stages go down; at most 10 do")

    @property
    def downs(self) -> int:
        """How many times the encoder halves height and width."""
        return sum(stage.down for stage in self.stages)

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this; the denoiser pads to it."""
        return int(2**self.downs)

    def layers(self) -> tuple[Layer, ...]:
        """The layer table, in the order in which data flows."""
        encoder: list[tuple[int, int, int]] = []  # inputs, outputs, kernel
        width = self.channels
        for stage in self.stages:
            encoder.append((width, stage.width, 3))
            if stage.down:
                encoder.append((stage.width, stage.width, 2))
            width = stage.width
        decoder = [(outputs, inputs, kernel) for inputs, outputs, kernel in reversed(encoder)]
        norm = self.norm == "batch"
        last = len(decoder)
        return (
            *(Layer(f"enc{i}", False, *row, norm, "relu") for i, row in enumerate(encoder, 1)),
            *(
                Layer(f"dec{i}", True, *row, norm and i < last, "sigmoid" if i == last else "relu")
                for i, row in enumerate(decoder, 1)
            ),
        )

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return sum(layer.parameters + 2 * layer.outputs * layer.norm for layer in self.layers())

    def macs(self, height: int = 32, width: int = 32) -> int:
        """Multiply-accumulates of the convolutions for one image; 2 FLOP each."""
        total = 0
        for layer in self.layers():
            area = height * width
            height, width = layer.size(height), layer.size(width)
            # each output pixel of a convolution, each input pixel of a transposed one, meets the kernel once
            area = area if layer.transposed else height * width
            total += layer.inputs * layer.outputs * layer.kernel**2 * area
        return total

    def table(self, height: int = 32, width: int = 32) -> tuple[Row, ...]:
        """The rows of the paper's figures for an image of `height` x `width` pixels."""
        rows: list[Row] = []
        for layer in self.layers():
            height, width = layer.size(height), layer.size(width)
            shape = (layer.outputs, height, width)
            kind = "ConvTranspose2d" if layer.transposed else "Conv2d"
            rows.append(Row(f"{kind}-{len(rows) + 1}", shape, layer.parameters))
            if layer.norm:
                rows.append(Row(f"BatchNorm2d-{len(rows) + 1}", shape, 2 * layer.outputs))
        return tuple(rows)

    def reach(self, start: int, stop: int) -> tuple[int, int]:
        """The input pixels, first and one past the last, that the output pixels start..stop depend on."""
        first, last = start, stop - 1
        for layer in reversed(self.layers()):
            if layer.stride == 1:
                first, last = first - layer.padding, last + layer.padding
            elif layer.transposed:
                first, last = first // 2, last // 2
            else:
                first, last = 2 * first, 2 * last + 1
        return first, last + 1

    @property
    def radius(self) -> int:
        """How far from an output pixel the farthest input pixel lies that it depends on."""
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and TOML; `from_dict` reads them back."""
        return {
            "stages": [asdict(stage) for stage in self.stages],
            "norm": self.norm,
            "channels": self.channels,
        }


def _stages(*widths: int) -> tuple[Stage, ...]:
    return tuple(Stage(width) for width in widths)


PRESETS: dict[str, Autoencoder] = {
    # Figure 3
    "model-a": Autoencoder((*_stages(64, 32, 16), Stage(8, down=False)), norm="none"),
    # Figure 5
    "model-b": Autoencoder(_stages(8, 16, 32, 64)),
    # the weights published as test 35
    "model-b-35": Autoencoder(_stages(8, 16)),
    # Figure 6
    "model-c": Autoencoder(_stages(32, 64)),
}


def from_dict(data: object) -> Autoencoder:
    """Read a spec: a preset's name, or a table of fields.

    In a table, a stage is a width, or a table with `width` and `down`.

    Raises:
        ValueError: an unknown name or field, or a value that makes no network.

    >>> from_dict({"stages": [32, 64]}) == PRESETS["model-c"]
    True
    """
    if isinstance(data, str):
        if data not in PRESETS:
            raise unknown("architecture", data, PRESETS)
        return PRESETS[data]
    fields = _table(data, "spec", ("stages", "norm", "channels"))
    stages = fields.pop("stages", None)
    if not isinstance(stages, list | tuple):
        raise ValueError("spec: `stages` must be a list of widths or of tables with `width` and `down`")
    return Autoencoder(tuple(_stage(stage) for stage in stages), **fields)


def _stage(data: object) -> Stage:
    if isinstance(data, int) and not isinstance(data, bool):
        return Stage(data)
    fields = _table(data, "stage", ("width", "down"))
    if "width" not in fields:
        raise ValueError("spec: a stage needs a `width`")
    if not isinstance(fields.get("down", True), bool):
        raise ValueError(f"spec: a stage's `down` must be true or false, not {fields['down']!r}")
    return Stage(**fields)


def _table(data: object, what: str, keys: Iterable[str]) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise ValueError(f"spec: expected a table of fields for the {what}, found {data!r}")
    for key in data:
        if key not in keys:
            raise unknown(f"{what} key", str(key), keys)
    return dict(data)


def infer(shapes: Mapping[str, tuple[int, ...]]) -> Autoencoder:
    """The spec whose state dict has exactly these tensor names and shapes.

    Reads the paper's published checkpoints, whose names the layer table uses.

    Raises:
        ValueError: the tensors are not those of such an auto-encoder; names the first that differs.
    """
    convolutions: list[tuple[int, ...]] = []
    while (shape := shapes.get(f"enc{len(convolutions) + 1}.weight")) is not None:
        if len(shape) != 4 or len(convolutions) >= 64:
            raise ValueError(f"tensor enc{len(convolutions) + 1}.weight of shape {shape} is no convolution")
        convolutions.append(shape)
    if not convolutions:
        raise ValueError("these tensors are no auto-encoder: there is no enc1.weight")
    stages: list[Stage] = []
    for outputs, _, kernel, _ in convolutions:
        if kernel == 2 and stages:
            stages[-1] = Stage(stages[-1].width)
        else:
            stages.append(Stage(outputs, down=False))
    norm = "batch" if "batch_enc1.weight" in shapes else "none"
    spec = Autoencoder(tuple(stages), norm, channels=convolutions[0][1])
    check_shapes(spec, shapes)
    return spec


def check_shapes(spec: Autoencoder, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise a ValueError that names the first tensor that is missing, too many or of another shape."""
    wanted = spec.tensors()
    for name in [*wanted, *shapes]:
        found = shapes.get(name)
        if found is None or name not in wanted or tuple(found) != wanted[name]:
            state = "is missing" if found is None else f"has shape {tuple(found)}"
            due = f"expected {wanted[name]}" if name in wanted else "the architecture has no such tensor"
            raise ValueError(f"tensor {name} {state}; {due}")
