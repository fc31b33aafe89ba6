"""Modules and functions that the user hands over as networks, and what tiling must know of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from daelab._util.plugins import import_object, is_object_name, name_object
from daelab._util.text import summarize_error
from daelab.models.architectures.base import check_whole_number
from daelab.models.architectures.external import ExternalArchitecture, ModuleArchitecture, build_module
from daelab.models.layers import Network

Halo = int | Literal["measured"] | None
"""The pixels around a tile, or how to find them; None if a network needs the whole picture."""
LARGEST_MULTIPLE = 64
"""The largest multiple that is tried for a network that does not take pictures of every size."""
_SIDE, _TOLERANCE = 192, 1e-4


class ExternalNetwork(Network):
    """A network that daelab did not write, with the interface of daelab's own."""

    spec: ExternalArchitecture

    def __init__(self, spec: ExternalArchitecture, module: nn.Module | None = None) -> None:
        """Wrap a module. Default: a new one of the architecture."""
        super().__init__(spec)
        self.module = build_module(spec) if module is None else module

    def forward(self, x: Tensor) -> Tensor:
        """Denoise images.

        Args:
            x: The images (N, 3, H, W) in [0, 1].

        Returns:
            The output of the module, of the same shape.

        Raises:
            ValueError: The module returned something else.
        """
        out = self.module(x)
        if not isinstance(out, Tensor) or out.shape != x.shape:
            got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise ValueError(f"{name_object(_unwrap(self.module))} returned {got} for images of {tuple(x.shape)}")
        return out


class FunctionModule(nn.Module):
    """A module without weights that calls a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        """Keep the function."""
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Call the function.

        Args:
            x: The images (N, 3, H, W).
        """
        return self.function(x)


@dataclass(frozen=True)
class Tiling:
    """What tiling must know of a network."""

    multiple: int
    """The number of pixels of which height and width must be multiples."""
    halo: int | None
    """The pixels around a tile; None if the network needs the whole picture."""
    note: str = ""
    """How they were found, and how certain they are."""


def split_model_name(name: object) -> tuple[str | None, str]:
    """Split the name of a model into the code that makes it and the file with its weights.

    Args:
        name: `package.module:factory`, `package.module:factory@MODEL`, or any other name of a model.

    Returns:
        The factory, or None for other names; and the model after the `@`, or the other name.

    >>> split_model_name("nets:make@runs/first/best.safetensors"), split_model_name("model-c")
    (('nets:make', 'runs/first/best.safetensors'), (None, 'model-c'))
    """
    text = str(name)
    factory, _, model = text.partition("@")
    # A file comes first, since its name may hold a colon.
    return (factory, model) if is_object_name(factory) and not Path(text).exists() else (None, text)


def load_factory(text: str) -> nn.Module:
    """Make a module by a Python function or class that the user names. This runs the user's code.

    Args:
        text: The name, as `package.module:factory`.

    Raises:
        ValueError: The code failed, or it returned neither a module nor a function.
    """
    factory = import_object(text, "model")
    try:
        made = factory()
    except Exception as error:  # the user's code may raise anything
        raise ValueError(f"model {text}: {summarize_error(error)}") from None
    if not callable(made):
        raise ValueError(f"model {text}: it returned {type(made).__name__}, not an nn.Module or a function of images")
    return _as_module(made)


def wrap_module(
    module: nn.Module | Callable[[Tensor], Tensor],
    factory: str | None = None,
    *,
    multiple: int | None = None,
    halo: Halo = "measured",
    channels: int | None = None,
) -> tuple[ExternalNetwork, Tiling]:
    """Give a module the interface of daelab's networks.

    Args:
        module: A module or a function of (N, C, H, W) float32 in [0, 1] to the same shape. It is not copied.
        factory: The name of the function or class that makes the module. Default: that of its class.
        multiple: The number of pixels of which height and width must be multiples. Default: the module's attribute
            `multiple`, or else it is measured.
        halo: The pixels around a tile, `measured`, or None. Default: the module's attribute `halo`, or else measured.
        channels: C, the channels of the images. Default: the module's attribute `channels`, or else 3.

    Raises:
        ValueError: A number is out of range, or the module does not map images to images of the same shape.
    """
    inner = _as_module(module)
    multiple = getattr(module, "multiple", None) if multiple is None else multiple
    halo = getattr(module, "halo", halo) if halo == "measured" else halo
    channels = getattr(module, "channels", 3) if channels is None else channels
    check_tiling(multiple, halo)
    check_whole_number(channels, "channels", 1, 64)
    training = inner.training
    inner.eval()
    try:
        tiling = Tiling(multiple or 1, halo, "given") if multiple and halo != "measured" else None
        tiling = tiling or measure_tiling(inner, multiple, channels)
        if halo != "measured":
            tiling = Tiling(tiling.multiple, halo and -(-halo // tiling.multiple) * tiling.multiple, "given")
        macs = _count_macs(inner, tiling.multiple, channels)
    finally:
        inner.train(training)
    spec = ModuleArchitecture(
        factory or name_object(module),
        tiling.multiple,
        tiling.halo,
        macs,
        sum(parameter.numel() for parameter in inner.parameters()),
        channels,
    )
    return ExternalNetwork(spec, inner), tiling


def check_tiling(multiple: Any, halo: Any) -> None:
    """Check the numbers that a user gives for a module.

    Args:
        multiple: A whole number of at least 1, or None.
        halo: A whole number of at least 0, `measured` or None.

    Raises:
        ValueError: They are something else.
    """
    if multiple is not None and (type(multiple) is not int or multiple < 1):
        raise ValueError(f"multiple must be a whole number of at least 1, not {multiple!r}")
    if halo is not None and halo != "measured" and (type(halo) is not int or halo < 0):
        raise ValueError(f"halo must be a number of pixels, 'measured' or None for whole pictures, not {halo!r}")


def measure_tiling(module: nn.Module, multiple: int | None = None, channels: int = 3) -> Tiling:
    """Measure which sizes a network takes, and how far an output pixel depends on the input.

    The reach is that of the gradient on random pictures. It is then checked: a tile with this halo must equal the same
    part of the whole picture. A dependence that never shows on random pictures is not found, so a known halo is better.

    Args:
        module: The network, in evaluation mode.
        multiple: The multiple of the sides, if it is known.
        channels: The channels of the images.

    Raises:
        ValueError: The network takes no picture of about 192 x 192 pixels.
    """
    fitting, error = 0, "images of another shape"
    for step in [multiple] if multiple else [2**power for power in range(LARGEST_MULTIPLE.bit_length())]:
        side = step * (max(_SIDE // step, 3) | 1)
        x = _make_random_picture(module, channels, side)
        try:
            with torch.no_grad():
                out = module(x)
        except Exception as problem:  # a network may raise anything for a size that it does not take
            error = summarize_error(problem)
            continue
        if not isinstance(out, Tensor) or out.shape != x.shape:
            continue
        fitting = fitting or step
        reach = _measure_reach(module, x, step)
        if reach is None:
            break
        halo = -(-reach // step) * step
        difference = _compare_tile(module, x, out, step, halo)
        if difference <= _TOLERANCE:
            note = f"measured on random pictures, where a tile differs from the whole by at most {difference:.0e}"
            return Tiling(step, halo, note)
    if not fitting:
        name = name_object(_unwrap(module))
        raise ValueError(
            f"{name} does not map a picture (1, {channels}, {_SIDE}, {_SIDE}) to one of the same shape ({error}); "
            "if it needs other channels or sides of another multiple, give channels=C or multiple=N"
        )
    return Tiling(fitting, None, "on a random picture, a pixel depends on all of it")


def _measure_reach(module: nn.Module, x: Tensor, step: int) -> int | None:
    """Return how far the gradient of a few output pixels in the middle reaches; None if it reaches the edges."""
    side = x.shape[-1]
    first = side // 2 // step * step
    reach = 0
    for seed in range(2):
        x = _make_random_picture(module, x.shape[1], side, seed).requires_grad_()
        try:
            with torch.enable_grad():
                cell = module(x)[..., first : first + step, first : first + step]
                (gradient,) = torch.autograd.grad((cell * torch.rand_like(cell)).sum(), x)
        except Exception:  # a function may have no gradient, and then the whole picture is safe
            return None
        for axis in (2, 3):
            touched = gradient.abs().amax([other for other in range(4) if other != axis]).nonzero().flatten()
            if not len(touched):
                continue
            low, high = int(touched[0]), int(touched[-1])
            if low == 0 or high == side - 1:
                return None
            reach = max(reach, first - low, high - (first + step - 1))
    return reach


@torch.no_grad()
def _compare_tile(module: nn.Module, x: Tensor, out: Tensor, step: int, halo: int) -> float:
    """Return the largest difference between a tile and the same part of the whole picture."""
    side, differences = x.shape[-1], []
    # At two neighboring places, of which at most one fits a network that works on coarser squares than it says.
    for first in (side // 2 // step * step, (side // 2 // step - 1) * step):
        window = slice(max(0, first - halo), min(side, first + step + halo))
        try:
            tile = module(x[..., window, window])
        except Exception:  # such as a network of one fixed size
            return float("inf")
        inner = slice(first - window.start, first - window.start + step)
        if tile.shape[-1] != window.stop - window.start:
            return float("inf")
        difference = tile[..., inner, inner] - out[..., first : first + step, first : first + step]
        differences.append(float(difference.abs().max()))
    return max(differences)


def _count_macs(module: nn.Module, multiple: int, channels: int) -> int:
    """Return the multiply-accumulates for each pixel; 0 if they cannot be counted."""
    side = max(64 // multiple, 1) * multiple
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            module(_make_random_picture(module, channels, side))
    except Exception:  # a network may take no picture of this size
        return 0
    return round(counter.get_total_flops() / 2 / side**2)


def _make_random_picture(module: nn.Module, channels: int, side: int, seed: int = 0) -> Tensor:
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    return torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(seed)).to(device)


def _as_module(value: Any) -> nn.Module:
    return value if isinstance(value, nn.Module) else FunctionModule(value)


def _unwrap(module: nn.Module) -> Any:
    return module.function if isinstance(module, FunctionModule) else module
