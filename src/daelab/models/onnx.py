"""A trained model as one ONNX file, with the model's metadata inside.

The graph pads by reflection to the network's size multiple and crops, so it takes images of any
size from 1x1 up: (N, 3, H, W) float32 in [0, 1], `noisy` -> `clean`. Batch norms are folded in.
Reading and writing need the extra `export`. onnxruntime runs a file on the CPU.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from daelab._util.files import replace_file
from daelab._util.hardware import collect_versions, open_onnx_session
from daelab._util.text import shorten_error
from daelab.models.inference import INFERENCE_BATCH, fold_batch_norms
from daelab.models.layers import AnySizeNetwork, Network
from daelab.models.model_file import ModelMetadata, parse_model_metadata

OPSET = 17
"""The version of ONNX's operators."""
PARITY_TOLERANCE = 2e-5
"""The largest difference of a pixel, in [0, 1], that a written file may have from PyTorch."""
PARITY_SHAPES = ((1, 1, 1), (2, 3, 5), (5, 32, 32), (1, 31, 33), (3, 64, 48), (1, 257, 129))
"""The shapes (N, H, W) at which a file is compared. Most are not multiples of the network's size multiple."""
_KEY = "daelab"
_AXES = {0: "images", 2: "height", 3: "width"}

NetworkFunction = Callable[[Tensor], Tensor]
"""A function from (N, 3, H, W) float32 in [0, 1] to the same shape, for any height and width."""


class ParityError(Exception):
    """A difference between an ONNX file's images and those of the model that it was made from."""


def check_onnx_installed() -> None:
    """Raise a ValueError unless the packages of the extra `export` are installed, which write and check ONNX files."""
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ValueError(f"ONNX needs the package {' and '.join(missing)}: pip install 'daelab[export]'")


def write_onnx(path: str | Path, network: Network, metadata: ModelMetadata) -> None:
    """Write a network and its metadata as an ONNX file, completely or not at all.

    Args:
        path: The file.
        network: The network.
        metadata: The metadata.

    Raises:
        ValueError: The extra `export` is not installed.
    """
    check_onnx_installed()
    import onnx

    with replace_file(Path(path)) as part:
        _trace(network, part)
        model = onnx.load(part)
        model.producer_name, model.producer_version = "daelab", collect_versions()["daelab"]
        onnx.helper.set_model_props(model, {_KEY: json.dumps(metadata.to_dict(), sort_keys=True, allow_nan=False)})
        onnx.checker.check_model(model, full_check=True)
        # Without the flag, protobuf may write the metadata's map in another order each time.
        part.write_bytes(model.SerializeToString(deterministic=True))


def _trace(network: Network, path: Path) -> None:
    multiple = network.spec.multiple
    example = torch.rand(2, network.spec.inputs, 2 * multiple + 1, multiple + 2)
    trace_graph(AnySizeNetwork(fold_batch_norms(network)), example, path, ("noisy", "clean"), (_AXES, _AXES))


def trace_graph(
    module: nn.Module, example: Tensor, path: Path, names: Sequence[str], axes: Sequence[dict[int, str]]
) -> None:
    """Write the graph of a module with PyTorch's tracing exporter.

    Of PyTorch's two exporters, the tracing one keeps the sizes variable and needs no further package. The newer
    one (`dynamo=True`) silently stored sizes as constants, and took ten times as long.

    Args:
        module: A module of one input.
        example: An input. Its sizes are kept only along axes without a name.
        path: The file to write.
        names: The names of the input and of the outputs.
        axes: The names of variable axes of the input, and of outputs that have some.
    """
    with warnings.catch_warnings(action="ignore"):  # the exporter is deprecated, and warns about each variable size
        torch.onnx.export(
            module.eval(),
            (example,),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(names[:1]),
            output_names=list(names[1:]),
            dynamic_axes=dict(zip(names, axes, strict=False)),
        )


class OnnxModel:
    """An ONNX file that `write_onnx` wrote, run by onnxruntime."""

    def __init__(self, path: str | Path) -> None:
        """Open a file, and try it on a tiny image.

        Args:
            path: The file.

        Raises:
            ValueError: The file was not written by daelab, or onnxruntime is not installed. The message is one line.
            FileNotFoundError: There is no such file.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no model file {path}")
        self._session = open_onnx_session(path)
        try:
            properties = self._session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError:
            raise ValueError(f"{path}: its metadata is not text in UTF-8") from None
        self.metadata = _read_metadata(path, properties)
        self._check(path)
        _check_finite(path)

    def __call__(self, x: Tensor) -> Tensor:
        """Denoise (N, 3, H, W) float32 in [0, 1] of any height and width, on the CPU."""
        parts = [part.contiguous().numpy() for part in torch.split(x.cpu().float(), INFERENCE_BATCH)]
        outputs = [torch.from_numpy(self._session.run(None, {self._input: part})[0]) for part in parts]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _check(self, path: Path) -> None:
        """Raise a ValueError unless the graph maps an image of 1x1 to an image."""
        inputs, channels = self._session.get_inputs(), self.metadata.spec.inputs
        self._input = inputs[0].name
        x = torch.zeros(1, channels, 1, 1)
        try:
            output = self(x)
        except Exception as error:  # onnxruntime raises errors of its own classes
            raise ValueError(f"{path}: the model does not run: {shorten_error(error)}") from None
        # A conditioned network has the noise level as a further channel of its input.
        if output.shape != (1, self.metadata.spec.channels, 1, 1) or output.dtype != x.dtype:
            raise ValueError(f"{path}: returns {output.dtype} {tuple(output.shape)} for a picture of {tuple(x.shape)}")


def _check_finite(path: Path) -> None:
    """Raise a ValueError if a constant of the graph holds NaN or infinite values."""
    check_onnx_installed()
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    constants = [attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t")]
    for tensor in (*graph.initializer, *constants):
        try:
            finite = np.isfinite(onnx.numpy_helper.to_array(tensor)).all()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: tensor {tensor.name} cannot be read: {shorten_error(error)}") from None
        if not finite:
            raise ValueError(f"{path}: tensor {tensor.name} holds NaN or infinite values; export the model again")


def _read_metadata(path: Path, properties: Mapping[str, str]) -> ModelMetadata:
    if _KEY not in properties:
        raise ValueError(f"{path}: an ONNX file, but daelab did not write it (no '{_KEY}' in its metadata)")
    try:
        header = json.loads(properties[_KEY])
    except (ValueError, RecursionError):
        header = None
    return parse_model_metadata(path, header)


@dataclass(frozen=True)
class OnnxParity:
    """The differences between two ways to run one model."""

    differences: tuple[tuple[tuple[int, int, int], float], ...]
    """The largest difference of a pixel's value, in [0, 1], for each (N, H, W)."""

    @property
    def largest(self) -> float:
        """The largest difference over all shapes; NaN if one of them is NaN."""
        # Python's `max` may lose a NaN, depending on the order of the values.
        return float(torch.tensor([value for _, value in self.differences]).max())

    @property
    def holds(self) -> bool:
        """Whether the largest difference is within `PARITY_TOLERANCE`."""
        return self.largest <= PARITY_TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Convert the differences to plain values for JSON."""
        sizes = [{"images": n, "height": h, "width": w, "difference": d} for (n, h, w), d in self.differences]
        return {"largest_difference": self.largest, "tolerance": PARITY_TOLERANCE, "sizes": sizes}


def compare_networks(
    one: NetworkFunction,
    other: NetworkFunction,
    shapes: Sequence[tuple[int, int, int]] = PARITY_SHAPES,
    channels: int = 3,
) -> OnnxParity:
    """Run two networks on the same random images of several sizes.

    Args:
        one: A network.
        other: Another network.
        shapes: The shapes (N, H, W) of the images.
        channels: The channels of the images.

    Returns:
        The largest difference at each shape; relative to the value, where that is above 1.
    """
    generator = torch.Generator().manual_seed(0)
    differences = []
    for images, height, width in shapes:
        x = torch.rand(images, channels, height, width, generator=generator)
        expected = other(x)
        # Values far above 1, as of a residual network on pure noise, are rounded in proportion to their size.
        difference = (one(x) - expected).abs() / expected.abs().clamp_min(1)
        differences.append(((images, height, width), float(difference.max())))
    return OnnxParity(tuple(differences))
