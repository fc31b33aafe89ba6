"""One safe self-describing file per model: safetensors with a JSON header; and the paper's .pt files.

What a file claims is checked against its spec before a tensor is allocated. The only
pickles that are read are the paper's, through PyTorch's restricted loader.
"""

from __future__ import annotations

import reprlib
import warnings
import zipfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daelab._util.tensor_file import explain_misfit, read_tensor_header, read_tensors, to_half_precision, write_tensors
from daelab.errors import unknown_name
from daelab.models.architectures.autoencoder import infer_architecture
from daelab.models.architectures.base import Architecture, check_tensor_shapes
from daelab.models.architectures.presets import parse_architecture
from daelab.models.build import build_network
from daelab.models.layers import Network

MODEL_FORMAT = 1
STORED = {"float32": "F32", "float16": "F16"}
"""How a file may hold what is not a vector, in the format's words; it is computed with in float32 all the same."""


@dataclass(frozen=True)
class ModelMetadata:
    """What a model file says of itself."""

    spec: Architecture
    name: str = ""
    noise: str = ""
    """Text of the noise it was trained under."""
    data: dict[str, Any] = field(default_factory=dict)
    """Data set and split."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """What was measured, on which images, under which seed."""
    training: dict[str, Any] = field(default_factory=dict)
    """Epochs, seconds, precision: how the weights came to be."""
    recipe: dict[str, Any] = field(default_factory=dict)
    recipe_sha256: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    stored: str = "float32"
    """How the file holds matrices and kernels: a row of `STORED`."""
    format: int = MODEL_FORMAT

    @property
    def psnr(self) -> float | None:
        """dB on the test images that it was scored on, else on the validation images; None where it was not."""
        test = (self.metrics.get("test") or {}).get("psnr") or {}
        found = test.get("denoised") or self.metrics.get("val_psnr")
        return found if isinstance(found, float) else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"spec": self.spec.to_dict()}


def save_model(path: Path, network: Network, card: ModelMetadata) -> None:
    """Write a model file, in the precision that its card says."""
    state = network.state_dict()
    tensors = to_half_precision(state) if card.stored == "float16" else state
    write_tensors(path, tensors, replace(card, spec=network.spec).to_dict())


@torch.no_grad()
def round_to_half(network: Network) -> None:
    """Make a network what a file in half precision would give back."""
    network.load_state_dict(to_half_precision(network.state_dict()))


def read_model_metadata(path: Path) -> ModelMetadata:
    """What a model file says of itself, checked against its tensors; no tensor is read.

    Raises:
        ValueError: names the file and what is wrong.
    """
    header, entries = read_tensor_header(path)
    card = parse_model_metadata(path, header)
    try:
        check_tensor_shapes(card.spec, {name: entry.shape for name, entry in entries.items()})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for name, entry in entries.items():
        due = STORED[card.stored] if len(entry.shape) > 1 else "F32"
        due = "I64" if name.endswith(".num_batches_tracked") else due
        if entry.dtype != due:
            raise ValueError(f"{path}: tensor {name} is of type {entry.dtype}; expected {due}")
    return card


def parse_model_metadata(path: Path, header: object) -> ModelMetadata:
    """A card from the JSON document of a file, each field checked.

    Raises:
        ValueError: names the file and what is wrong.
    """
    if not isinstance(header, dict):
        raise ValueError(f"{path}: its header is damaged")
    if header.get("format") != MODEL_FORMAT:
        raise ValueError(f"{path}: format {header.get('format')!r}; this daelab reads format {MODEL_FORMAT}")
    known = {key: value for key, value in header.items() if key in ModelMetadata.__dataclass_fields__}
    try:
        spec = parse_architecture(known.pop("spec", None))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    blank = ModelMetadata(spec)
    for key, value in known.items():
        wanted = type(getattr(blank, key))
        if not isinstance(value, wanted):
            raise ValueError(f"{path}: `{key}` of its header is no {wanted.__name__}: {reprlib.repr(value)}")
    if known.get("stored", blank.stored) not in STORED:
        raise ValueError(f"{path}: {unknown_name('way to store weights', known['stored'], STORED)}")
    return ModelMetadata(spec=spec, **known)


def load_network(path: str | Path) -> tuple[Network, ModelMetadata]:
    """A network in evaluation mode and its card, from a model file or one of the paper's `.pt` files.

    Raises:
        ValueError: names the file and what is wrong.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model file {path}")
    if path.suffix in (".pt", ".pth"):
        return _load_paper(path)
    card = read_model_metadata(path)
    _, tensors = read_tensors(path)
    network = build_network(card.spec)
    network.load_state_dict(tensors, strict=True)
    return network.eval(), card


def _load_paper(path: Path) -> tuple[Network, ModelMetadata]:
    """A state dict as the paper published them; the spec is inferred from the shapes."""
    _check_archive(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickles that torch did not write
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; none may reach the user raw
        reason = "it holds more than tensors, which could run code" if "nsupported" in str(error) else "damaged"
        raise ValueError(f"{path}: not loaded: {reason}") from None
    if not isinstance(state, dict) or not all(isinstance(item, Tensor) for item in state.values()):
        raise ValueError(f"{path}: not a state dict of tensors")
    # a view may repeat one number a billion times, and a network of its shape would not be a view
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > path.stat().st_size:
        raise ValueError(f"{path}: its tensors claim more than the file holds")
    try:
        spec = infer_architecture({str(name): tuple(tensor.shape) for name, tensor in state.items()})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    network = build_network(spec)
    with explain_misfit(path):  # they may be sparse, quantised, complex, on no device
        network.load_state_dict(state, strict=True)
    return network.eval(), ModelMetadata(spec=spec, name=path.stem, noise="published-code")


def _check_archive(path: Path) -> None:
    """Raise where a ZIP archive, the form that torch writes, is compressed: a little of it could become much."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return  # the older form, or damaged, which the loader says
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError(f"{path}: not loaded: it is compressed, as torch never writes it")
