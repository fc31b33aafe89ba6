"""The command `daelab models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from daelab.cli.console import format_command, print_json, print_result, print_table
from daelab.cli.help import complete_models
from daelab.cli.options import Json

if TYPE_CHECKING:
    from daelab.experiments.reports.table import Table
    from daelab.models.architectures.base import Architecture
    from daelab.models.model_file import ModelMetadata


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            help="An architecture, a shipped model, a run, or a model file. Its layers are shown. Default: list all.",
            autocompletion=complete_models,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the architectures and shipped models, or show one.

    One model is shown with its layers as in the paper's figures.

    Example: daelab models model-c
    """
    from daelab.experiments.model_summary import describe_architecture, find_architecture

    if name is None:
        _print_all(as_json)
        return
    architecture, metadata = find_architecture(name)
    if as_json:
        layers = [vars(row) for row in architecture.table()]
        card = metadata and metadata.to_dict()
        print_json({"name": name, **describe_architecture(architecture), "layers": layers, "card": card})
    else:
        _print_model(name, architecture, metadata)


def _print_all(as_json: bool) -> None:
    from daelab.experiments.model_summary import (
        describe_architecture,
        make_architecture_table,
        make_trained_model_table,
    )
    from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
    from daelab.models.model_file import read_model_metadata
    from daelab.models.registry import list_shipped_models

    shipped = {name: read_model_metadata(path) for name, path in list_shipped_models().items()}
    if as_json:
        architectures = [
            {"name": name, **describe_architecture(preset)} for name, preset in ARCHITECTURE_PRESETS.items()
        ]
        trained = [{"name": name, **metadata.to_dict()} for name, metadata in shipped.items()]
        print_json({"architectures": architectures, "trained": trained})
        return
    print_table(make_architecture_table())
    print_result()
    if shipped:
        print_table(make_trained_model_table(shipped))
    else:
        print_result(f"no trained models are shipped; train one with: {format_command('train', '--recipe', 'model-c')}")


def _print_model(name: str, architecture: Architecture, metadata: ModelMetadata | None) -> None:
    from daelab.experiments.model_summary import make_layer_table
    from daelab.experiments.reports.table import Table, list_fields

    if architecture.layers():
        print_table(make_layer_table(name, architecture))
    else:
        print_result(f"{name}: {architecture.summary}")
    print_result()
    print_result(
        f"parameters {architecture.parameters:,}   MACs at 32x32 {architecture.macs():,}"
        f"   size multiple {architecture.multiple}"
    )
    if metadata:
        print_result(f"trained    {metadata.noise} on {metadata.data.get('name', 'unknown data')}")
        if "terms" in metadata.data:
            print_result(f"its data   {metadata.data['terms']}")
        print_result()
        print_table(Table("scores", ["score", "value"], list(list_fields(metadata.metrics))))
        parts = (metadata.metrics.get("test") or {}).get("components") or []
        if len(parts) > 1:
            print_result()
            print_table(_make_noise_table(parts))


def _make_noise_table(parts: list[dict[str, Any]]) -> Table:
    """Return a table of the scores under each noise of a mixture."""
    from daelab.experiments.reports.table import Table

    metrics = [metric for metric in ("psnr", "ssim", "macro_f1") if metric in parts[0]]
    columns = [f"{metric} {kind}" for metric in metrics for kind in ("noisy", "denoised")]
    rows = [
        [part["noise"], part["images"], *(part[metric][kind] for metric in metrics for kind in ("noisy", "denoised"))]
        for part in parts
    ]
    return Table("test.components", ["test images by noise", "images", *columns], rows)
