"""models, recipes, data: commands that look and show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from daelab.cli.console import print_json, print_result, show_progress
from daelab.cli.help import complete_models, complete_recipes
from daelab.cli.options import DataRoot, Json


def models(
    name: Annotated[
        str | None,
        typer.Argument(help="An architecture, a shipped model, a model file or a run.", autocompletion=complete_models),
    ] = None,
    as_json: Json = False,
) -> None:
    """The zoo: architectures and trained models; with a NAME, its layers as in the paper's figures.

    Example: daelab models model-c
    """
    from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
    from daelab.models.model_file import read_model_metadata
    from daelab.models.registry import list_shipped_models

    if name is None:
        cards = {key: read_model_metadata(path) for key, path in list_shipped_models().items()}
        if as_json:
            zoo = [{"name": key, **_size(preset)} for key, preset in ARCHITECTURE_PRESETS.items()]
            trained = [{"name": key, **card.to_dict()} for key, card in cards.items()]
            print_json({"architectures": zoo, "trained": trained})
        else:
            _say_zoo(cards)
        return
    preset, card = _find(name)
    if as_json:
        layers = [vars(row) for row in preset.table()]
        print_json({"name": name, **_size(preset), "layers": layers, "card": card and card.to_dict()})
    else:
        _say_layers(name, preset, card)


def _find(name: str) -> tuple[Any, Any]:
    """The spec of a name, and the card where it is a trained model."""
    from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
    from daelab.models.model_file import load_network, read_model_metadata
    from daelab.models.registry import find_shipped_model

    if name in ARCHITECTURE_PRESETS and not Path(name).is_file():
        path = find_shipped_model(name)
        return ARCHITECTURE_PRESETS[name], read_model_metadata(path) if path else None
    from daelab.denoising.denoiser import find_model
    from daelab.models.onnx import OnnxModel

    path = find_model(name)
    card = OnnxModel(path).card if path.suffix.lower() == ".onnx" else load_network(path)[1]
    return card.spec, card


def _size(preset: Any) -> dict[str, Any]:
    return {
        "parameters": preset.parameters,
        "macs": preset.macs(),
        "size_multiple": preset.multiple,
        "radius": preset.radius,
        "spec": preset.to_dict(),
    }


def _say_zoo(cards: dict[str, Any]) -> None:
    from daelab.experiments.reports.table import Table
    from daelab.models.architectures.presets import ARCHITECTURE_PRESETS

    rows = [
        [key, preset.brief, f"{preset.parameters:,}", f"{preset.macs() / 1e6:.2f} M", preset.multiple]
        for key, preset in ARCHITECTURE_PRESETS.items()
    ]
    columns = ["architecture", "features at each level", "parameters", "MACs at 32x32", "size multiple"]
    print_result(Table("architectures", columns, rows).to_text())
    print_result()
    if not cards:
        print_result("no trained model ships yet; daelab train --recipe model-c makes one")
        return
    trained = [
        [key, f"{card.spec.parameters:,}", card.noise, f"{card.metrics.get('val_psnr', float('nan')):.2f}"]
        for key, card in cards.items()
    ]
    print_result(Table("trained", ["trained model", "parameters", "noise", "validation PSNR, dB"], trained).to_text())


def _say_layers(name: str, preset: Any, card: Any) -> None:
    from daelab.experiments.reports.table import Table

    rows = [[row.layer, str([-1, *row.shape]), f"{row.parameters:,}"] for row in preset.table()]
    print_result(Table(name, ["Layer (type)", "Output Shape", "Param #"], rows).to_text())
    print_result()
    print_result(
        f"parameters {preset.parameters:,}   MACs at 32x32 {preset.macs():,}   size multiple {preset.multiple}"
    )
    if card:
        print_result(f"trained    {card.noise} on {card.data.get('name', 'unknown data')}")
        if "terms" in card.data:
            print_result(f"its data   {card.data['terms']}")
        for key, value in card.metrics.items():
            print_result(f"           {key} {value}")


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(help="A shipped recipe or a file; shows every field.", autocompletion=complete_recipes),
    ] = None,
    as_json: Json = False,
) -> None:
    """The recipes that ship; with a NAME, all its fields as TOML, ready to be changed.

    Example: daelab recipes paper/38 > mine.toml
    """
    from daelab.training.recipe import list_recipes, load_recipe

    if name is not None:
        found = load_recipe(name)
        print_json(found.to_dict()) if as_json else print_result(found.to_toml().rstrip())
        return
    rows = {key: load_recipe(key) for key in list_recipes()}
    if as_json:
        print_json([{"name": key, **row.to_dict()} for key, row in rows.items()])
        return
    for key, row in rows.items():
        print_result(f"{key:<14}{row.note}")


def data(
    dataset: Annotated[str, typer.Argument(help="cifar10, photos, cbsd68, cbsd432, folder:PATH or npz:PATH.")],
    train: Annotated[int | None, typer.Option(help="Images of the training part.")] = None,
    val: Annotated[int | None, typer.Option(help="Images of the validation part.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the split.")] = 0,
    data_root: DataRoot = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the class balance: .png or .svg.")] = None,
    as_json: Json = False,
) -> None:
    """Sizes and class balance of a data set's parts (the paper's Figure 2).

    Example: daelab data cifar10 --train 40000 --val 10000 --plot balance.svg
    """
    from daelab.datasets.full_images import FullImageSet
    from daelab.datasets.registry import load_dataset
    from daelab.datasets.splits import split_dataset
    from daelab.experiments.reports.charts import class_balance_figure
    from daelab.experiments.reports.table import Table

    with show_progress("downloading", "bytes") as download:
        found = load_dataset(dataset, data_root, progress=download)
    parts = {"test": found.test}
    if len(found.train) or train or val:  # else it is a test set
        parts = dict(zip(("train", "validation"), split_dataset(found, train, val, seed), strict=True)) | parts
    counts = {part: images.class_counts() for part, images in parts.items()}
    if plot is not None:
        class_balance_figure(counts, plot)
    if as_json:
        sizes = {part: {"images": len(images), "size": list(images.size)} for part, images in parts.items()}
        whole = {"name": found.name, "note": found.note, "parts": sizes, "classes": counts}
        print_json(whole | ({"plot": str(plot)} if plot else {}))
        return
    height, width = found.test.size
    largest = "up to " if isinstance(found.test, FullImageSet) else ""
    print_result(f"{found.name}: {largest}{height}x{width} pixels, {len(found.classes)} classes. {found.note}")
    print_result()
    rows = [[name, *(counts[part][name] for part in parts)] for name in found.classes]
    total = ["all", *(len(images) for images in parts.values())]
    print_result(Table(found.name, ["class", *parts], [*rows, total]).to_text())
    if plot is not None:
        print_result(f"\nclass balance -> {plot}")
