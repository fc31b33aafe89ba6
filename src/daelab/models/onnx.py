"""A trained model as one ONNX file, and back: any batch, height and width; the card in its metadata.

The graph pads by reflection to the network's size multiple and crops, so it takes pictures of any
size from 1x1 up: (N, 3, H, W) float32 in [0, 1], `noisy` -> `clean`. Batch norms are folded in.
Reading and writing need the extra `export`; a file runs through onnxruntime on the CPU.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daelab._util.files import replace_file
from daelab._util.hardware import collect_versions, open_onnx_session, shorten_error
from daelab.models.layers import PART, Network, fold_batch_norms
from daelab.models.model_file import ModelMetadata, parse_model_metadata

OPSET = 17
TOLERANCE = 1e-5
"""The largest difference from PyTorch that a written file may show; pixels are in [0, 1]."""
SHAPES = ((1, 1, 1), (2, 3, 5), (5, 32, 32), (1, 31, 33), (3, 64, 48), (1, 257, 129))
"""(N, H, W) that a file is compared at; most are no multiples of anything."""
_KEY = "daelab"
_AXES = {0: "images", 2: "height", 3: "width"}

NetworkFunction = Callable[[Tensor], Tensor]
"""(N, 3, H, W) float32 in [0, 1] -> the same shape, for any height and width."""


class ParityError(Exception):
    """An ONNX file gives other pictures than the model it was made of."""


class AnySizeNetwork(nn.Module):
    """A network between padding by reflection to its multiple and cropping, made to be traced."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = fold_batch_norms(network)
        self.multiple = network.spec.multiple

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2], x.shape[3]
        padded = x.index_select(2, self._places(height)).index_select(3, self._places(width))
        cleaned: Tensor = self.network(padded)
        return cleaned[:, :, :height, :width]

    def _places(self, side: int) -> Tensor:
        """For each pixel of a padded side, the pixel it mirrors: back and forth, edges not repeated.

        As tensor operations, since the tracer would keep a Python number as this picture's constant.
        """
        place = torch.arange(side + (-side) % self.multiple)
        last = torch.as_tensor(side - 1)
        place = torch.remainder(place, (2 * last).clamp_min(1))
        return torch.minimum(place, 2 * last - place)


def write_onnx(path: str | Path, network: Network, card: ModelMetadata) -> None:
    """Write a network and its card as an ONNX file, whole or not at all.

    Raises:
        ValueError: the package onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise ValueError("writing ONNX needs the package onnx: pip install 'daelab[export]'") from None
    with replace_file(Path(path)) as part:
        _trace(network, part)
        model = onnx.load(part)
        model.producer_name, model.producer_version = "daelab", collect_versions()["daelab"]
        onnx.helper.set_model_props(model, {_KEY: json.dumps(card.to_dict(), sort_keys=True, allow_nan=False)})
        onnx.checker.check_model(model, full_check=True)
        part.write_bytes(model.SerializeToString(deterministic=True))


def _trace(network: Network, path: Path) -> None:
    """Write the graph as PyTorch's tracing exporter makes it.

    Of the two, the tracing one: it keeps the sizes open and needs no further package. The newer one
    (`dynamo=True`) took sizes that become tensors for constants, silently, and ten times as long.
    """
    multiple = network.spec.multiple
    example = torch.rand(2, network.spec.inputs, 2 * multiple + 1, multiple + 2)
    with warnings.catch_warnings(action="ignore"):  # it is deprecated, and remarks on each size it keeps open
        torch.onnx.export(
            AnySizeNetwork(network).eval(),
            (example,),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=["noisy"],
            output_names=["clean"],
            dynamic_axes={"noisy": _AXES, "clean": _AXES},
        )


class OnnxModel:
    """An ONNX file that `write` wrote, run by onnxruntime.

    Raises:
        ValueError: not such a file, or onnxruntime is not installed; one line.
        FileNotFoundError: there is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no model file {path}")
        self._session = open_onnx_session(path)
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError:
            raise ValueError(f"{path}: its metadata is no text in UTF-8") from None
        self.card = _card(path, metadata)
        self._check(path)

    def __call__(self, x: Tensor) -> Tensor:
        """Clean (N, 3, H, W) float32 in [0, 1], any height and width; on the CPU."""
        parts = [part.contiguous().numpy() for part in torch.split(x.cpu().float(), PART)]
        made = [torch.from_numpy(self._session.run(None, {self._entry: part})[0]) for part in parts]
        return made[0] if len(made) == 1 else torch.cat(made)

    def _check(self, path: Path) -> None:
        """Raise unless the graph takes and gives pictures, tried on one of 1x1."""
        entries, channels = self._session.get_inputs(), self.card.spec.inputs
        self._entry = entries[0].name
        x = torch.zeros(1, channels, 1, 1)
        try:
            made = self(x)
        except Exception as error:  # onnxruntime's own kinds
            raise ValueError(f"{path}: does not run: {shorten_error(error)}") from None
        if made.shape != x.shape or made.dtype != x.dtype:
            raise ValueError(f"{path}: gives {made.dtype} {tuple(made.shape)} for a picture of {tuple(x.shape)}")


def _card(path: Path, metadata: Mapping[str, str]) -> ModelMetadata:
    if _KEY not in metadata:
        raise ValueError(f"{path}: an ONNX file, but not one of daelab's (no '{_KEY}' in its metadata)")
    try:
        header = json.loads(metadata[_KEY])
    except (ValueError, RecursionError):
        header = None
    return parse_model_metadata(path, header)


@dataclass(frozen=True)
class OnnxParity:
    """How far two ways to run one model are apart."""

    differences: tuple[tuple[tuple[int, int, int], float], ...]
    """For each (N, H, W) the largest difference of a pixel's value, in [0, 1]."""

    @property
    def largest(self) -> float:
        """Over all shapes; not a number where one of them is not."""
        return float(torch.tensor([value for _, value in self.differences]).max())

    @property
    def holds(self) -> bool:
        """Whether it is within `TOLERANCE`."""
        return self.largest <= TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        sizes = [{"images": n, "height": h, "width": w, "difference": d} for (n, h, w), d in self.differences]
        return {"largest_difference": self.largest, "tolerance": TOLERANCE, "sizes": sizes}


def compare_runs(
    one: NetworkFunction, other: NetworkFunction, shapes: Sequence[tuple[int, int, int]] = SHAPES, channels: int = 3
) -> OnnxParity:
    """Run both on the same random pictures, of several sizes."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for images, height, width in shapes:
        x = torch.rand(images, channels, height, width, generator=generator)
        found.append(((images, height, width), float((one(x) - other(x)).abs().max())))
    return OnnxParity(tuple(found))
