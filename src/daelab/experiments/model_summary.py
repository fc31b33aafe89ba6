"""Architectures and trained models as plain values and as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daelab.denoising.named_models import find_model, load_named_network
from daelab.experiments.reports.table import Table
from daelab.models.architectures.base import Architecture
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.models.external import split_model_name
from daelab.models.model_file import ModelMetadata, read_model_metadata
from daelab.models.onnx import OnnxModel
from daelab.models.registry import find_shipped_model


def find_architecture(name: str) -> tuple[Architecture, ModelMetadata | None]:
    """Return the architecture of a name, and the metadata if it is a trained model.

    Args:
        name: An architecture, a shipped model, a run, or a model file.

    Raises:
        FileNotFoundError: The name is none of these.
        ValueError: The file is not a model.
    """
    if name in ARCHITECTURE_PRESETS and not Path(name).is_file():
        path = find_shipped_model(name)
        metadata = read_model_metadata(path) if path else None
        # A shipped model may have no norms, although the preset of its name has some.
        return metadata.spec if metadata else ARCHITECTURE_PRESETS[name], metadata
    is_onnx = split_model_name(name)[0] is None and find_model(name).suffix.lower() == ".onnx"
    metadata = OnnxModel(find_model(name)).metadata if is_onnx else load_named_network(name)[1]
    return metadata.spec, metadata


def describe_architecture(architecture: Architecture) -> dict[str, Any]:
    """Return the size of an architecture and its fields, for JSON.

    Args:
        architecture: The architecture.
    """
    return {
        "parameters": architecture.parameters,
        "macs": architecture.macs(),
        "size_multiple": architecture.multiple,
        "radius": architecture.radius,
        "spec": architecture.to_dict(),
    }


def make_architecture_table() -> Table:
    """Return the named architectures and their sizes, one a row."""
    rows = [
        [name, preset.summary, f"{preset.parameters:,}", f"{preset.macs() / 1e6:.2f} M", preset.multiple]
        for name, preset in ARCHITECTURE_PRESETS.items()
    ]
    columns = ["architecture", "features at each level", "parameters", "MACs at 32x32", "size multiple"]
    return Table("architectures", columns, rows)


def make_trained_model_table(models: Mapping[str, ModelMetadata]) -> Table:
    """Return trained models with their noise and validation PSNR, one a row.

    Args:
        models: Name -> metadata.
    """
    rows = [
        [name, f"{model.spec.parameters:,}", model.noise, f"{model.metrics.get('val_psnr', math.nan):.2f}"]
        for name, model in models.items()
    ]
    return Table("trained models", ["trained model", "parameters", "noise", "validation PSNR, dB"], rows)


def make_layer_table(name: str, architecture: Architecture) -> Table:
    """Return the layers of an architecture as the paper's figures list them.

    Args:
        name: The title of the table.
        architecture: The architecture.
    """
    rows = [[row.layer, str([-1, *row.shape]), f"{row.parameters:,}"] for row in architecture.table()]
    return Table(name, ["Layer (type)", "Output Shape", "Param #"], rows)
