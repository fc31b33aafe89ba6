"""A U-Net of residual blocks, as data: what the field has learnt since plain auto-encoders, each as one field.

- Pixel-unshuffle (Shi et al., 2016): r x r pixels become channels of one; all layers work at a lower resolution.
- Skips from the encoder to the decoder (Ronneberger et al., 2015), added.
- Residual output (Zhang et al., 2017): the network gives what to add to its input.
- Blocks: two 3x3 convolutions (He et al., 2016; Lim et al., 2017), or gates without activation (Chen et al., 2022).
- A context: means of features over a wide window tell every block which noise this is (after Hu et al., 2018, with
  the local window of Chu et al., 2022, so that a tile equals the whole).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from daelab.errors import unknown_name
from daelab.models.architectures.base import NORMS, Architecture, Layer, check_whole_number

BLOCKS = ("conv", "gated")


@dataclass(frozen=True)
class UNet(Architecture):
    """(N, C, H, W) -> the same; see the module's text for what the fields mean.

    >>> UNet(widths=(16, 32), blocks=(1, 2)).multiple
    4
    """

    widths: tuple[int, ...]
    """Features at each level; each level has half the resolution of the one before."""
    blocks: tuple[int, ...]
    """Blocks at each level of the encoder; the last entry is the middle's."""
    decoder: tuple[int, ...] = ()
    """Blocks at each level of the decoder, the outermost first; as the encoder's where empty."""
    block: str = "conv"
    """`conv`: two 3x3 convolutions; `gated`: pointwise and depthwise ones whose halves are multiplied."""
    norm: str = "batch"
    """After the first convolution of a block, or of each half of a gated one."""
    unshuffle: int = 2
    context: int = 0
    """Features of the context; 0: none."""
    window: int = 63
    """Side of the context's window, in pixels of the picture."""
    saturated: bool = False
    """Whether the first layer also sees which values are clipped at 1."""
    conditioned: bool = False
    """Whether it is told the level of the noise: a further channel, the noise's root mean square in units of white."""
    skips: bool = True
    residual: bool = True
    """False: the output goes through a sigmoid instead."""
    bias: bool = True
    """False: no constants, so that a scaled picture gives a scaled output (Mohan et al., 2020); norm must be `none`."""
    channels: int = 3

    def __post_init__(self) -> None:
        if not self.decoder:
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
                raise unknown_name(what, str(value), valid)
        if not self.bias and self.norm != "none":
            raise ValueError("spec: bias = false needs norm = 'none'; a norm adds constants")

    def layers(self) -> tuple[Layer, ...]:
        """The layer table, in the order in which data flows."""
        inner = self.channels * self.unshuffle**2
        seen = inner * (1 + self.saturated) + self.conditioned * self.unshuffle**2
        found = [self._layer("stem", seen, self.widths[0], 3)]
        if self.context:
            found.append(self._layer("context1", self.widths[0], self.context, 1, activation="relu"))
            found.append(self._layer("context2", self.context, self.context, 1, activation="relu", pooled=True))
        last = len(self.widths) - 1
        for level, width in enumerate(self.widths):
            for number in range(self.blocks[level]):
                found += self._block(f"enc{level + 1}_{number + 1}", width)
            if level < last:
                found.append(self._layer(f"down{level + 1}", width, self.widths[level + 1], 2))
        for level in reversed(range(last)):
            width = self.widths[level]
            found.append(self._layer(f"up{level + 1}", self.widths[level + 1], width, 2, transposed=True))
            for number in range(self.decoder[level]):
                found += self._block(f"dec{level + 1}_{number + 1}", width)
        found.append(self._layer("out", self.widths[0], inner, 3, activation="none" if self.residual else "sigmoid"))
        return tuple(found)

    def _block(self, name: str, width: int) -> list[Layer]:
        if self.block == "conv":
            found = [
                self._layer(f"{name}a", width, width, 3, norm=self.norm, activation="relu"),
                self._layer(f"{name}b", width, width, 3),
            ]
        else:
            found = [
                self._layer(f"{name}a", width, 2 * width, 1, norm=self.norm),
                self._layer(f"{name}d", 2 * width, 2 * width, 3, groups=2 * width),
                self._layer(f"{name}b", width, width, 1),
                self._layer(f"{name}e", width, 2 * width, 1, norm=self.norm),
                self._layer(f"{name}f", width, width, 1),
            ]
        if self.context:
            found.insert(0, self._layer(f"{name}c", self.context, width, 1, pooled=True))
        return found

    def _layer(self, name: str, inputs: int, outputs: int, kernel: int, **how: Any) -> Layer:
        return Layer(name, inputs, outputs, kernel, bias=self.bias, **how)

    def grown_from(self, other: Architecture) -> bool:
        """Whether the other is the same but for fewer blocks: a new block begins as the identity."""
        if not isinstance(other, UNet) or len(other.widths) != len(self.widths):
            return False
        if replace(other, blocks=self.blocks, decoder=self.decoder) != self:
            return False
        pairs = zip(self.blocks + self.decoder, other.blocks + other.decoder, strict=True)
        return all(mine >= theirs for mine, theirs in pairs)

    @property
    def brief(self) -> str:
        """Widths, each with its blocks down and up: `U-Net 32 (1+1), 64 (2)`."""
        back = (*(f"+{count}" for count in self.decoder), "")
        levels = zip(self.widths, self.blocks, back, strict=True)
        return "U-Net " + ", ".join(f"{width} ({down}{up})" for width, down, up in levels)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and TOML; `from_dict` reads them back."""
        return {"kind": "unet"} | {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }
