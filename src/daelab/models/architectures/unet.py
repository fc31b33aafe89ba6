"""A U-Net of residual blocks, as data. Each improvement over plain auto-encoders is one of its fields.

- Pixel-unshuffle (Shi et al., 2016): r x r pixels become channels of one, so all layers work at a lower resolution.
- Skip connections from the encoder to the decoder (Ronneberger et al., 2015), which are added.
- Residual output (Zhang et al., 2017): the network computes what to add to its input.
- Blocks: two 3x3 convolutions (He et al., 2016; Lim et al., 2017), or gates without activation (Chen et al., 2022).
- A context: means of features over a wide window tell every block which noise the image has (after Hu et al., 2018,
  with the local window of Chu et al., 2022, so that a tile equals the same part of the whole image).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from daelab.errors import make_unknown_name_error
from daelab.models.architectures.base import NORMS, Architecture, Layer, check_whole_number

BLOCKS = ("conv", "gated")
"""The names of the kinds of blocks."""


@dataclass(frozen=True)
class UNet(Architecture):
    """A U-Net from (N, C, H, W) to the same shape. The module's docstring explains its parts.

    >>> UNet(widths=(16, 32), blocks=(1, 2)).multiple
    4
    """

    widths: tuple[int, ...]
    """The features at each level. Each level has half the resolution of the one before."""
    blocks: tuple[int, ...]
    """The number of blocks at each level of the encoder. The last entry is the middle's."""
    decoder: tuple[int, ...] = ()
    """The number of blocks at each level of the decoder, the outermost first. By default it equals the encoder's."""
    block: str = "conv"
    """The kind of block. `conv` has two 3x3 convolutions, `gated` multiplies the halves of depthwise ones."""
    norm: str = "batch"
    """The norm after the first convolution of a block, or of each half of a gated one."""
    unshuffle: int = 2
    """The side of the squares of pixels that become the channels of one pixel."""
    context: int = 0
    """The number of features of the context; 0 means no context."""
    window: int = 63
    """The side of the context's window, in pixels of the image."""
    saturated: bool = False
    """Whether the first layer also receives which values are clipped at 1."""
    conditioned: bool = False
    """Whether a further input channel holds the noise level: the noise's root mean square in units of white."""
    skips: bool = True
    """Whether skip connections join the encoder to the decoder."""
    residual: bool = True
    """Whether the output is added to the input. If not, it goes through a sigmoid."""
    bias: bool = True
    """Whether layers add constants.

    Without them a scaled image gives a scaled output (Mohan et al., 2020), and norm must be `none`."""
    channels: int = 3
    """The channels of the images."""

    def __post_init__(self) -> None:
        """Fill in the decoder, and raise a ValueError if a field is out of range."""
        if not self.decoder:
            # A frozen dataclass allows no plain assignment.
            object.__setattr__(self, "decoder", self.blocks[:-1])
        if not self.context:
            object.__setattr__(self, "window", 0)
        if not 1 <= len(self.widths) <= 6:
            raise ValueError(f"spec: a U-Net has 1 to 6 levels, not {len(self.widths)}")
        if len(self.blocks) != len(self.widths) or len(self.decoder) != len(self.widths) - 1:
            levels = len(self.widths)
            raise ValueError(f"spec: {levels} widths need {levels} entries of blocks and {levels - 1} of decoder")
        for width in self.widths:
            check_whole_number(width, "a width", 1, 4096)
        for count in (*self.blocks, *self.decoder):
            check_whole_number(count, "a number of blocks", 0, 64)
        check_whole_number(self.unshuffle, "unshuffle", 1, 8)
        check_whole_number(self.context, "context", 0, 1024)
        check_whole_number(self.window, "window", 0, 1024)
        check_whole_number(self.channels, "channels", 1, 64)
        for value, what, valid in ((self.block, "block", BLOCKS), (self.norm, "norm", NORMS)):
            if value not in valid:
                raise make_unknown_name_error(what, str(value), valid)
        if not self.bias and self.norm != "none":
            raise ValueError("spec: bias = false needs norm = 'none'; a norm adds constants")

    def layers(self) -> tuple[Layer, ...]:
        """Return the layer table, in the order in which data flows."""
        inner = self.channels * self.unshuffle**2
        inputs = inner * (1 + self.saturated) + self.conditioned * self.unshuffle**2
        layers = [self._layer("stem", inputs, self.widths[0], 3)]
        if self.context:
            layers.append(self._layer("context1", self.widths[0], self.context, 1, activation="relu"))
            layers.append(self._layer("context2", self.context, self.context, 1, activation="relu", pooled=True))
        last = len(self.widths) - 1
        for level, width in enumerate(self.widths):
            for number in range(self.blocks[level]):
                layers += self._block(f"enc{level + 1}_{number + 1}", width)
            if level < last:
                layers.append(self._layer(f"down{level + 1}", width, self.widths[level + 1], 2))
        for level in reversed(range(last)):
            width = self.widths[level]
            layers.append(self._layer(f"up{level + 1}", self.widths[level + 1], width, 2, transposed=True))
            for number in range(self.decoder[level]):
                layers += self._block(f"dec{level + 1}_{number + 1}", width)
        layers.append(self._layer("out", self.widths[0], inner, 3, activation="none" if self.residual else "sigmoid"))
        return tuple(layers)

    def _block(self, name: str, width: int) -> list[Layer]:
        if self.block == "conv":
            layers = [
                self._layer(f"{name}a", width, width, 3, norm=self.norm, activation="relu"),
                self._layer(f"{name}b", width, width, 3),
            ]
        else:
            layers = [
                self._layer(f"{name}a", width, 2 * width, 1, norm=self.norm),
                self._layer(f"{name}d", 2 * width, 2 * width, 3, groups=2 * width),
                self._layer(f"{name}b", width, width, 1),
                self._layer(f"{name}e", width, 2 * width, 1, norm=self.norm),
                self._layer(f"{name}f", width, width, 1),
            ]
        if self.context:
            layers.insert(0, self._layer(f"{name}c", self.context, width, 1, pooled=True))
        return layers

    def _layer(self, name: str, inputs: int, outputs: int, kernel: int, **options: Any) -> Layer:
        return Layer(name, inputs, outputs, kernel, bias=self.bias, **options)

    def can_start_from(self, other: Architecture) -> bool:
        """Return whether the other U-Net differs only in fewer blocks, no noise level as an input, or batch norms.

        A new block begins as the identity, and the weights of a new input begin at zero. Batch norms are folded into
        the convolutions.

        Args:
            other: The architecture whose weights the network would start from.

        Returns:
            Whether the network can start from those weights.
        """
        if not isinstance(other, UNet) or len(other.widths) != len(self.widths):
            return False
        # The clipped values are the last inputs, so a new level would take their place.
        conditioned = other.conditioned or (self.conditioned and not self.saturated)
        norm = "none" if (self.norm, other.norm) == ("none", "batch") else other.norm
        if replace(other, blocks=self.blocks, decoder=self.decoder, conditioned=conditioned, norm=norm) != self:
            return False
        pairs = zip(self.blocks + self.decoder, other.blocks + other.decoder, strict=True)
        return all(mine >= theirs for mine, theirs in pairs)

    @property
    def summary(self) -> str:
        """The widths, each with its blocks in the encoder and the decoder: `U-Net 32 (1+1), 64 (2)`."""
        decoder = (*(f"+{count}" for count in self.decoder), "")
        levels = zip(self.widths, self.blocks, decoder, strict=True)
        return "U-Net " + ", ".join(f"{width} ({down}{up})" for width, down, up in levels)

    def to_dict(self) -> dict[str, Any]:
        """Convert the architecture to plain values, which `parse_architecture` reads back."""
        return {"kind": "unet"} | {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }
