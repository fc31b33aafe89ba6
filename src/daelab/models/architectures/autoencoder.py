"""The paper's auto-encoders as data: stages, and a rule that turns them into a layer table. It needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from daelab.errors import make_unknown_name_error
from daelab.models.architectures.base import NORMS, Architecture, Layer, check_tensor_shapes, check_whole_number


@dataclass(frozen=True)
class Stage:
    """A 3x3 convolution to `width` features, followed by a 2x2 convolution of stride 2 if `down`."""

    width: int
    down: bool = True

    def __post_init__(self) -> None:
        """Raise a ValueError if the width is out of range."""
        check_whole_number(self.width, "a stage's width", 1, 4096)

    def __str__(self) -> str:
        """Return the width, and a note if the stage keeps the resolution."""
        return f"{self.width}{'' if self.down else ' (no down)'}"


@dataclass(frozen=True)
class Autoencoder(Architecture):
    """A convolutional auto-encoder as the paper builds them (section 3.3).

    The encoder has the stages in order. The decoder has the stages in reverse order: a transposed
    2x2 convolution of stride 2 if the stage went down, then a transposed 3x3 convolution to the
    width before it. ReLU inside, sigmoid at the end, a norm before every activation but the last.
    """

    stages: tuple[Stage, ...]
    norm: str = "batch"
    """The norm after each convolution but the last: one of `NORMS`."""
    channels: int = 3
    """The channels of the images."""

    def __post_init__(self) -> None:
        """Raise a ValueError if a field is out of range."""
        if not 1 <= len(self.stages) <= 32:
            raise ValueError(f"spec: an auto-encoder has 1 to 32 stages, not {len(self.stages)}")
        if self.norm not in NORMS:
            raise make_unknown_name_error("norm", str(self.norm), NORMS)
        check_whole_number(self.channels, "channels", 1, 64)
        if self.downs > 10:
            raise ValueError(f"spec: {self.downs} stages halve the image; at most 10 can")

    def layers(self) -> tuple[Layer, ...]:
        """Return the layer table, in the order in which data flows."""
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
    def summary(self) -> str:
        """The widths of the stages: `64, 32, 16, 8 (no down)`."""
        return ", ".join(map(str, self.stages))

    def to_dict(self) -> dict[str, Any]:
        """Convert the architecture to plain values, which `parse_architecture` reads back."""
        return {
            "stages": [asdict(stage) for stage in self.stages],
            "norm": self.norm,
            "channels": self.channels,
        }


def infer_architecture(shapes: Mapping[str, tuple[int, ...]]) -> Autoencoder:
    """Infer the auto-encoder whose state dict has exactly these tensor names and shapes.

    It identifies the paper's published checkpoints, whose names the layer table uses.

    Args:
        shapes: The shape of each tensor by name.

    Returns:
        The architecture.

    Raises:
        ValueError: The tensors are not those of an auto-encoder. The message names the first that differs.
    """
    convolutions: list[tuple[int, ...]] = []
    while (shape := shapes.get(f"enc{len(convolutions) + 1}.weight")) is not None:
        # A hostile file may name any number of layers, but 32 stages have at most 64 convolutions.
        if len(shape) != 4 or len(convolutions) >= 64:
            raise ValueError(f"tensor enc{len(convolutions) + 1}.weight of shape {shape} is not a convolution")
        convolutions.append(shape)
    if not convolutions:
        raise ValueError("these tensors are not an auto-encoder: there is no enc1.weight")
    stages: list[Stage] = []
    for outputs, _, kernel, _ in convolutions:
        # A kernel of 2 is the second half of a stage that goes down, after the stage's 3x3 convolution.
        if kernel == 2 and stages:
            stages[-1] = Stage(stages[-1].width)
        else:
            stages.append(Stage(outputs, down=False))
    norm = next((kind for kind in NORMS if f"{kind}_enc1.weight" in shapes), "none")
    architecture = Autoencoder(tuple(stages), norm, channels=convolutions[0][1])
    check_tensor_shapes(architecture, shapes)
    return architecture
