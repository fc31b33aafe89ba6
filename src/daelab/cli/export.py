"""export: a trained model as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daelab.cli.console import print_json, print_note, print_result
from daelab.cli.help import complete_models
from daelab.cli.options import Json, Overwrite


def export(
    model: Annotated[
        str | None, typer.Argument(help="A model file, a shipped model, or a run.", autocompletion=complete_models)
    ] = None,
    onnx: Annotated[Path | None, typer.Option(metavar="FILE.onnx", help="The file to write.")] = None,
    page: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the page that works in the browser alone.")
    ] = None,
    runtime: Annotated[
        Path | None, typer.Option(metavar="FILE.tgz", help="For --page: onnxruntime-web's npm package; else npm's.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a model as ONNX (any batch, height and width), and compare onnxruntime with PyTorch.

    Exit code 1, and no file, where a pixel differs by more than 1e-5. With --page DIR, the web page as
    static files that run one model, or all that ship, inside the browser; npm fetches onnxruntime-web.

    Example: daelab export model-c --onnx model-c.onnx
    """
    if (onnx is None) == (page is None):
        raise ValueError("say what to write: --onnx FILE.onnx, or --page DIR")
    if page is not None:
        _export_page(page, model, runtime, as_json)
        return
    if model is None or onnx is None:
        raise ValueError("name the model to write as ONNX: daelab export MODEL --onnx FILE.onnx")
    _export_onnx(model, onnx, overwrite, as_json)


def _export_page(page: Path, model: str | None, runtime: Path | None, as_json: bool) -> None:
    from daelab.web.static_page import write_static_page

    made = write_static_page(page, [model] if model else [], runtime=runtime)
    if as_json:
        print_json({"page": str(made.path), "models": list(made.models), "bytes": made.bytes})
        return
    print_result(f"the page with {', '.join(made.models)} -> {page}: {made.bytes:,} bytes")
    print_result(f"to see it: python -m http.server --directory {page} --bind 127.0.0.1")


def _export_onnx(model: str, onnx: Path, overwrite: bool, as_json: bool) -> None:
    from daelab.experiments.evaluate_model import export_model
    from daelab.experiments.reports.table import Table
    from daelab.models.onnx import ParityError

    try:
        made = export_model(model, onnx, overwrite=overwrite)
    except ParityError as error:
        print_note(f"daelab: {error}")
        raise typer.Exit(1) from None
    if as_json:
        print_json(made.to_dict())
        return
    sizes = [[n, f"{h}x{w}", f"{found:.1e}"] for (n, h, w), found in made.parity.differences]
    print_result(Table("parity", ["images", "size", "largest difference"], sizes).to_text())
    print_result()
    print_result(f"{model} -> {onnx}: {made.path.stat().st_size:,} bytes")
    print_result(f"largest difference from PyTorch {made.parity.largest:.1e}")
