"""Architectures of networks that daelab did not write. They need no torch.

A package derives from `ExternalArchitecture` and adds it to the table by an entry point of `daelab.architectures`. A
user's own module that was only handed over, or named as `package.module:factory`, is a `ModuleArchitecture`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, ClassVar, Self

from daelab._util.plugins import is_object_name
from daelab.errors import make_unknown_name_error
from daelab.models.architectures.base import Architecture, Layer, check_whole_number

_LARGEST = 1 << 20


class ExternalArchitecture(Architecture):
    """The base class of architectures whose network is built by other code. Subclasses are frozen dataclasses."""

    kind: ClassVar[str]
    """The name of the entry point, which is `kind` in a recipe's `spec`."""
    channels = 3
    multiple: int = 1
    """The number of pixels of which height and width must be multiples."""
    halo: int | None = None  # type: ignore[assignment]
    """The pixels around a tile that make it equal to the same part of the whole image: a multiple of `multiple`.

    None if a pixel depends on the whole image, which is then computed in one piece."""
    macs_per_pixel: int = 0
    """The multiply-accumulates for each pixel; 0 if they are not known."""

    def build(self) -> Any:
        """Return the network, an nn.Module from (N, 3, H, W) in [0, 1] to the same shape, with initial weights."""
        raise NotImplementedError

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Read the architecture from a table of fields.

        Args:
            data: The fields by name, without `kind`.

        Raises:
            ValueError: A field is unknown or missing.
        """
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        for key in data:
            if key not in names:
                raise make_unknown_name_error("architecture key", str(key), names)
        try:
            return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in data.items()})
        except TypeError as error:
            raise ValueError(f"spec: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Convert the architecture to plain values, which `parse_architecture` reads back."""
        values = asdict(self)  # type: ignore[call-overload]
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        return {"kind": self.kind} | {key: value for key, value in plain.items() if value is not None}

    def layers(self) -> tuple[Layer, ...]:
        """Return no layers, since only the network's code knows them."""
        return ()

    @property
    def summary(self) -> str:
        """The fields of the architecture, for people."""
        return ", ".join(f"{key} {value}" for key, value in self.to_dict().items())

    @property
    def radius(self) -> int:
        """The halo; 0 where a pixel depends on the whole image."""
        return self.halo or 0

    @property
    def parameters(self) -> int:
        """The number of trainable parameters."""
        return _measure(self)[0]

    def macs(self, height: int = 32, width: int = 32) -> int:
        """Return the multiply-accumulates of one image; 0 if they are not known.

        Args:
            height: The image's height, in pixels.
            width: The image's width, in pixels.
        """
        return self.macs_per_pixel * height * width

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the tensors of the state dict by name, in order."""
        return _measure(self)[1]


def build_module(architecture: ExternalArchitecture) -> Any:
    """Return the network of an architecture, an nn.Module with initial weights.

    Args:
        architecture: The architecture.

    Raises:
        ValueError: Its code returned something else.
    """
    network = architecture.build()
    if not callable(getattr(network, "state_dict", None)):
        raise ValueError(f"architecture {architecture.kind}: build returned {type(network).__name__}, not an nn.Module")
    return network


@cache
def _measure(architecture: ExternalArchitecture) -> tuple[int, dict[str, tuple[int, ...]]]:
    """Return the number of parameters and the shapes of the tensors, of a network that is built for it."""
    network = build_module(architecture)
    shapes = {f"module.{name}": tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return sum(parameter.numel() for parameter in network.parameters()), shapes


@dataclass(frozen=True)
class ModuleArchitecture(ExternalArchitecture):
    """The name and the sizes of a module of the user. Its code is never imported because a file names it."""

    kind = "module"
    factory: str
    """The function or class that makes the module: `package.module:name`."""
    multiple: int = 1
    halo: int | None = None
    macs_per_pixel: int = 0
    parameters: int = 0
    channels: int = 3

    def __post_init__(self) -> None:
        """Raise a ValueError if a field is wrong."""
        if not isinstance(self.factory, str) or not is_object_name(self.factory):
            raise ValueError(f"spec: factory must have the form package.module:name, not {str(self.factory)[:80]!r}")
        check_whole_number(self.multiple, "multiple", 1, 4096)
        check_whole_number(self.channels, "channels", 1, 64)
        if self.halo is not None:
            check_whole_number(self.halo, "halo", 0, _LARGEST)
            if self.halo % self.multiple:
                raise ValueError(f"spec: halo is {self.halo}, which is no multiple of {self.multiple}")
        for name in ("macs_per_pixel", "parameters"):
            check_whole_number(getattr(self, name), name, 0, 1 << 53)

    def to_dict(self) -> dict[str, Any]:
        """Convert the architecture to plain values; three channels are not named, as in earlier files."""
        return {key: value for key, value in super().to_dict().items() if (key, value) != ("channels", 3)}

    def build(self) -> Any:
        """Refuse, since the name comes from a file; see `load_factory` for names that the user gives."""
        raise ValueError(f"the network is made by your code {self.factory}, which must be named again")

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return nothing, since only the module knows its tensors."""
        return {}
