"""One safe self-describing file per model, safetensors with a JSON header; also the paper's .pt files.

The claims of a file are checked against its architecture before a tensor is allocated. The only
pickles that are read are the paper's, through PyTorch's restricted loader.
"""

from __future__ import annotations

import math
import reprlib
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from types import UnionType
from typing import Any

import torch
from torch import Tensor, nn

from daelab._util.tensor_file import explain_misfit, read_tensor_header, read_tensors, to_half_precision, write_tensors
from daelab.errors import make_unknown_name_error
from daelab.models.architectures.autoencoder import infer_architecture
from daelab.models.architectures.base import Architecture, check_tensor_shapes
from daelab.models.architectures.external import ExternalArchitecture, ModuleArchitecture
from daelab.models.architectures.presets import parse_architecture
from daelab.models.build import build_network
from daelab.models.external import ExternalNetwork
from daelab.models.int8 import list_int8_layers
from daelab.models.layers import Network
from daelab.models.spandrel import load_spandrel_network

MODEL_FORMAT = 1
"""The version of the file format."""
STORAGE_TYPES = {"float32": "F32", "float16": "F16"}
"""The types in which a file may hold matrices and kernels, with their safetensors names.

The computation uses float32 in any case."""

_SHOWN_FIELDS: dict[tuple[str, ...], type | UnionType] = {
    ("metrics", "val_psnr"): float | int,
    ("metrics", "test"): dict,
    ("metrics", "test", "data"): str,
    ("metrics", "test", "images"): int,
    **{("metrics", "test", metric): dict for metric in ("psnr", "ssim")},
    **{("metrics", "test", metric, of): float | int for metric in ("psnr", "ssim") for of in ("noisy", "denoised")},
    ("data", "name"): str,
    ("data", "terms"): str,
}
"""The types of the nested fields that daelab reads, unless they are missing or null."""


_WRAPPERS = ("params_ema", "params", "state_dict")
"""The keys under which other projects store a state dict in a file."""


@dataclass(frozen=True)
class ModelMetadata:
    """The metadata of a model file."""

    spec: Architecture
    """The architecture."""
    name: str = ""
    """The model's name."""
    noise: str = ""
    """The text form of the noise that it was trained with."""
    data: dict[str, Any] = field(default_factory=dict)
    """The data set and its split."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """The scores, with the images and the seed they were measured on."""
    training: dict[str, Any] = field(default_factory=dict)
    """The circumstances of the training: epochs, seconds, precision."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """The recipe's fields."""
    recipe_sha256: str = ""
    """The hash of the recipe."""
    versions: dict[str, str] = field(default_factory=dict)
    """The versions of daelab and its libraries during the training."""
    stored: str = "float32"
    """The precision of matrices and kernels in the file: a key of `STORAGE_TYPES`."""
    ranges: dict[str, Any] = field(default_factory=dict)
    """The lowest and highest input of each layer that may compute in int8; empty if none may."""
    format: int = MODEL_FORMAT
    """The version of the file format."""

    @property
    def psnr(self) -> float | None:
        """The PSNR in dB on the test images, else on the validation images; None if neither was measured."""
        test = (self.metrics.get("test") or {}).get("psnr") or {}
        psnr = test.get("denoised") or self.metrics.get("val_psnr")
        return psnr if isinstance(psnr, float) else None

    def to_dict(self) -> dict[str, Any]:
        """Convert the metadata to plain values for JSON."""
        return asdict(self) | {"spec": self.spec.to_dict()}


def save_model(path: Path, network: Network, metadata: ModelMetadata) -> None:
    """Write a model file, in the precision that its metadata names.

    Args:
        path: The file.
        network: The network. Its architecture replaces that of the metadata.
        metadata: The metadata.
    """
    state = network.state_dict()
    tensors = to_half_precision(state) if metadata.stored == "float16" else state
    write_tensors(path, tensors, replace(metadata, spec=network.spec).to_dict())


@torch.no_grad()
def round_to_half(network: Network) -> None:
    """Round the weights of a network, in place, as a file in half precision would.

    Args:
        network: The network.
    """
    network.load_state_dict(to_half_precision(network.state_dict()))


def read_model_metadata(path: Path) -> ModelMetadata:
    """Read the metadata of a model file and check it against the tensors' shapes, without reading a tensor.

    Args:
        path: The file.

    Returns:
        The metadata.

    Raises:
        ValueError: The file is damaged or contradicts itself. The message names it and the fault.
    """
    header, entries = read_tensor_header(path)
    metadata = parse_model_metadata(path, header)
    if isinstance(metadata.spec, ModuleArchitecture):
        # Only the user's code knows which tensors it has. They are compared when it has made the network.
        return metadata
    try:
        check_tensor_shapes(metadata.spec, {name: entry.shape for name, entry in entries.items()})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for name, entry in entries.items():
        expected_type = STORAGE_TYPES[metadata.stored] if len(entry.shape) > 1 else "F32"
        # PyTorch counts the batches of a norm in int64, whatever the precision of the weights is.
        expected_type = "I64" if name.endswith(".num_batches_tracked") else expected_type
        if entry.dtype != expected_type and not isinstance(metadata.spec, ExternalArchitecture):
            raise ValueError(f"{path}: tensor {name} is of type {entry.dtype}; expected {expected_type}")
    return metadata


def parse_model_metadata(path: Path, header: object) -> ModelMetadata:
    """Read metadata from the JSON document of a file, and check each field.

    Args:
        path: The file, for the error message.
        header: The JSON document.

    Returns:
        The metadata.

    Raises:
        ValueError: A field is wrong. The message names the file and the fault.
    """
    if not isinstance(header, dict):
        raise ValueError(f"{path}: its header is damaged")
    if header.get("format") != MODEL_FORMAT:
        raise ValueError(f"{path}: format {header.get('format')!r}; this daelab reads format {MODEL_FORMAT}")
    known = {key: value for key, value in header.items() if key in ModelMetadata.__dataclass_fields__}
    try:
        architecture = parse_architecture(known.pop("spec", None))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    default = ModelMetadata(architecture)
    for key, value in known.items():
        kind = type(getattr(default, key))
        if not isinstance(value, kind):
            raise ValueError(
                f"{path}: `{key}` in its header must be of type {kind.__name__}, not {reprlib.repr(value)}"
            )
    _check_scores(path, known)
    _check_ranges(path, known.get("ranges", {}), architecture)
    if known.get("stored", default.stored) not in STORAGE_TYPES:
        raise ValueError(f"{path}: {make_unknown_name_error('storage precision', known['stored'], STORAGE_TYPES)}")
    return ModelMetadata(spec=architecture, **known)


def _check_scores(path: Path, fields: Mapping[str, Any]) -> None:
    """Check the types of what lists of models show, so that one file cannot make a whole list fail."""
    for keys, kind in _SHOWN_FIELDS.items():
        value: Any = fields
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if value is None or (isinstance(value, kind) and not isinstance(value, bool) and _is_finite(value)):
            continue
        raise ValueError(f"{path}: `{'.'.join(keys)}` in its header is of a wrong type: {reprlib.repr(value)}")


def _check_ranges(path: Path, ranges: dict[str, Any], architecture: Architecture) -> None:
    """Check that each range is of a layer that can compute in int8."""
    layers = list_int8_layers(architecture) if ranges else []
    for name, limits in ranges.items():
        fits = isinstance(limits, list) and [type(value) for value in limits] == [float, float]
        if name not in layers or not fits or not all(map(math.isfinite, limits)) or limits[0] > limits[1]:
            raise ValueError(
                f"{path}: `ranges.{name[:80]}` in its header must be the lowest and the highest input of a layer that "
                f"can compute in int8, not {reprlib.repr(limits)}"
            )


def _is_finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def load_network(path: str | Path, module: nn.Module | None = None) -> tuple[Network, ModelMetadata]:
    """Load a network and its metadata from a model file or one of the paper's `.pt` files.

    Args:
        path: The file.
        module: The module to load the weights into, for the file of a user's own module.

    Returns:
        The network, in evaluation mode, and its metadata.

    Raises:
        ValueError: The file is damaged or contradicts itself. The message names it and the fault.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model file {path}")
    if path.suffix in (".pt", ".pth"):
        return _load_paper_checkpoint(path)
    # The header is checked first, so that a false claim about a shape allocates no memory.
    metadata = read_model_metadata(path)
    spec = metadata.spec
    if isinstance(spec, ModuleArchitecture) and module is None:
        raise ValueError(
            f"{path} holds the weights of a module that {spec.factory[:80]} made, but a file may not name code; "
            f"name it yourself: {spec.factory[:80]}@{path}"
        )
    if module is not None and not isinstance(spec, ModuleArchitecture):
        raise ValueError(f"{path} holds no weights of a module of yours; name the file alone")
    _, tensors = read_tensors(path)
    network = ExternalNetwork(spec, module) if isinstance(spec, ModuleArchitecture) else build_network(spec)
    # Weights in half precision are widened here, since the computation uses float32 in any case.
    with explain_misfit(path):
        network.load_state_dict(tensors, strict=True)
    _check_finite(path, network)
    return network.eval(), metadata


def _load_paper_checkpoint(path: Path) -> tuple[Network, ModelMetadata]:
    """Load a state dict as the paper published it, whose shapes identify the architecture."""
    _check_archive(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns about pickles that it did not write
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many classes
        reason = (
            "it contains objects other than tensors, which could run code" if "nsupported" in str(error) else "damaged"
        )
        raise ValueError(f"{path}: not loaded: {reason}") from None
    # Other projects often store the tensors under a key of their own.
    if isinstance(state, dict):
        state = next((state[key] for key in _WRAPPERS if isinstance(state.get(key), dict)), state)
    if not isinstance(state, dict) or not all(isinstance(item, Tensor) for item in state.values()):
        raise ValueError(f"{path}: not a state dict of tensors")
    # a view may repeat one number a billion times, while a network of its shape would need all the memory
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > path.stat().st_size:
        raise ValueError(f"{path}: its header describes more data than the file contains")
    try:
        architecture = infer_architecture({str(name): tuple(tensor.shape) for name, tensor in state.items()})
    except ValueError as error:
        if find_spec("spandrel") is None:
            hint = "pip install 'daelab[spandrel]' lets daelab read networks of other projects"
            raise ValueError(f"{path}: {error}; {hint}") from None
        foreign = load_spandrel_network(path, state)
        return foreign.eval(), ModelMetadata(spec=foreign.spec, name=path.stem)
    network = build_network(architecture)
    with explain_misfit(path):  # the tensors may be sparse, quantized, complex, or on no device
        network.load_state_dict(state, strict=True)
    _check_finite(path, network)
    # The paper's files have no metadata, so the noise is that of its published code.
    return network.eval(), ModelMetadata(spec=architecture, name=path.stem, noise="published-code")


def _check_finite(path: Path, network: Network) -> None:
    """Raise a ValueError if a tensor holds NaN or infinite values, of which a network makes a black picture."""
    for name, tensor in network.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: tensor {name} holds NaN or infinite values; train the model again")


def _check_archive(path: Path) -> None:
    """Raise a ValueError if a ZIP archive, the form that torch writes, is compressed and so could expand enormously."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return  # torch's older format, or a damaged file, which the loader reports
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError(f"{path}: not loaded: its entries are compressed, but torch writes them uncompressed")
