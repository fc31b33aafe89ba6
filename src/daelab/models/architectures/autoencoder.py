"""The paper's auto-encoders as data: stages, and one rule that turns them into a layer table. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from daelab.errors import unknown_name
from daelab.models.architectures.base import NORMS, Architecture, Layer, check_tensor_shapes, check_whole_number


@dataclass(frozen=True)
class Stage:
    """A 3x3 convolution to `width` features, then, if `down`, a 2x2 one of stride 2."""

    width: int
    down: bool = True

    def __post_init__(self) -> None:
        check_whole_number(self.width, "a stage's width", 1, 4096)

    def __str__(self) -> str:
        return f"{self.width}{'' if self.down else ' (no down)'}"


@dataclass(frozen=True)
class Autoencoder(Architecture):
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
            raise unknown_name("norm", str(self.norm), NORMS)
        check_whole_number(self.channels, "channels", 1, 64)
        if self.downs > 10:
            raise ValueError(f"spec: {self.downs} stages go down; at most 10 do")

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
        last = len(decoder)
        return (
            *(Layer(f"enc{i}", *row, norm=self.norm, activation="relu") for i, row in enumerate(encoder, 1)),
            *(
                Layer(f"dec{i}", *row, transposed=True, norm=self.norm, activation="relu")
                for i, row in enumerate(decoder[:-1], 1)
            ),
            Layer(f"dec{last}", *decoder[-1], transposed=True, activation="sigmoid"),
        )

    @property
    def brief(self) -> str:
        """Widths of the stages: `64, 32, 16, 8 (no down)`."""
        return ", ".join(map(str, self.stages))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and TOML; `from_dict` reads them back."""
        return {
            "stages": [asdict(stage) for stage in self.stages],
            "norm": self.norm,
            "channels": self.channels,
        }


def infer_architecture(shapes: Mapping[str, tuple[int, ...]]) -> Autoencoder:
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
    norm = next((kind for kind in NORMS if f"{kind}_enc1.weight" in shapes), "none")
    spec = Autoencoder(tuple(stages), norm, channels=convolutions[0][1])
    check_tensor_shapes(spec, shapes)
    return spec
