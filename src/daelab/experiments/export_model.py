"""Export of a model to ONNX, checked against PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from daelab._util.files import check_parent_folder, replace_file
from daelab.denoising.named_models import find_model, load_named_network
from daelab.denoising.tiling import reflect_indices
from daelab.models.external import split_model_name
from daelab.models.inference import prepare_inference
from daelab.models.layers import Network
from daelab.models.model_file import ModelMetadata
from daelab.models.onnx import (
    PARITY_TOLERANCE,
    NetworkFunction,
    OnnxModel,
    OnnxParity,
    ParityError,
    check_onnx_installed,
    compare_networks,
    write_onnx,
)


@dataclass(frozen=True)
class ExportedModel:
    """An exported model: an ONNX file, and its differences from PyTorch."""

    model: str
    """The name of the model."""
    path: Path
    """The ONNX file."""
    card: ModelMetadata
    """The metadata of the model."""
    parity: OnnxParity
    """The differences between onnxruntime and PyTorch."""

    def to_dict(self) -> dict[str, Any]:
        """Return the output of `daelab export --json`."""
        head = {"model": self.model, "file": str(self.path), "bytes": self.path.stat().st_size}
        return head | {"parameters": self.card.spec.parameters} | self.parity.to_dict()


def export_model(model: str | Path, path: str | Path, *, overwrite: bool = False) -> ExportedModel:
    """Write a model as an ONNX file, after a check that onnxruntime gives the same pictures as PyTorch.

    Full images of several sizes are compared in float32. `load_model` takes the file.

    Args:
        model: A model file, the name of a shipped model, the name of a run, or `package.module:factory`.
        path: The ONNX file to write; its name ends in .onnx.
        overwrite: Replace the file if it exists.

    Raises:
        ValueError: The suffix is another, the model is an ONNX file, or the extra `export` is not installed.
        FileExistsError: The file exists and `overwrite` is False.
        ParityError: The pictures differ by more than `PARITY_TOLERANCE`; nothing is written.
    """
    path, is_file = Path(path), split_model_name(model)[0] is None
    if path.suffix.lower() != ".onnx":
        raise ValueError(f"{path}: the name of an ONNX file must end in .onnx")
    if is_file and find_model(model).suffix.lower() == ".onnx":
        raise ValueError(f"{model} is already an ONNX file")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; overwrite=True replaces it")
    check_parent_folder(path)
    check_onnx_installed()
    network, card = load_named_network(model)
    with replace_file(path) as part:
        write_onnx(part, network, card)
        parity = compare_networks(OnnxModel(part), _whole(network), channels=card.spec.inputs)
        if not parity.holds:
            raise ParityError(
                f"{path} was not written: onnxruntime's pictures differ from PyTorch's by up to"
                f" {parity.largest:.1e}, more than {PARITY_TOLERANCE:.0e}"
            )
    return ExportedModel(str(model), path, card, parity)


def _whole(network: Network) -> NetworkFunction:
    """Return a function that runs a network in PyTorch, in float32, on full images of any size."""
    run, multiple = prepare_inference(network), network.spec.multiple

    def padded(x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        for axis, side in ((2, height), (3, width)):
            x = x.index_select(axis, torch.from_numpy(reflect_indices(0, side + -side % multiple, side)))
        return run(x)[..., :height, :width]

    return padded
