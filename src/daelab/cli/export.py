"""The command `daelab export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daelab.cli.console import print_json, print_note, print_result
from daelab.cli.help import complete_models
from daelab.cli.options import Json, Overwrite


def export(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A shipped model, a run, or a model file. Default with --page: all shipped models.",
            autocompletion=complete_models,
        ),
    ] = None,
    onnx: Annotated[Path | None, typer.Option(metavar="FILE.onnx", help="ONNX file to write.")] = None,
    page: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to write the web page to. It denoises inside the browser."),
    ] = None,
    runtime: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.tgz", help="With --page, the npm package of onnxruntime-web. Default: npm downloads it."
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Export a model as ONNX, or the web page as static files.

    The ONNX model takes any batch size, height and width. It is run with onnxruntime and compared with PyTorch. If a
    pixel differs by more than 1e-5, no file is written and the exit code is 1.

    Example: daelab export model-c --onnx model-c.onnx
    """
    if (onnx is None) == (page is None):
        raise ValueError("choose what to write: --onnx FILE.onnx, or --page DIR")
    if page is not None:
        _export_page(page, model, runtime, as_json)
        return
    if model is None or onnx is None:
        raise ValueError("name the model to export: daelab export MODEL --onnx FILE.onnx")
    _export_onnx(model, onnx, overwrite, as_json)


def _export_page(page: Path, model: str | None, runtime: Path | None, as_json: bool) -> None:
    from daelab.web.static_page import write_static_page

    written = write_static_page(page, [model] if model else [], runtime=runtime)
    if as_json:
        print_json({"page": str(written.path), "models": list(written.models), "bytes": written.bytes})
        return
    print_result(f"page with {', '.join(written.models)} -> {page}: {written.bytes:,} bytes")
    print_result(f"to see it: python -m http.server --directory {page} --bind 127.0.0.1")


def _export_onnx(model: str, onnx: Path, overwrite: bool, as_json: bool) -> None:
    from daelab.experiments.export_model import export_model
    from daelab.experiments.reports.table import Table
    from daelab.models.onnx import ParityError

    try:
        exported = export_model(model, onnx, overwrite=overwrite)
    except ParityError as error:
        print_note(f"daelab: {error}")
        raise typer.Exit(1) from None
    if as_json:
        print_json(exported.to_dict())
        return
    rows = [[images, f"{h}x{w}", f"{difference:.1e}"] for (images, h, w), difference in exported.parity.differences]
    print_result(Table("parity", ["images", "size", "largest difference"], rows).to_text())
    print_result()
    print_result(f"{model} -> {onnx}: {exported.path.stat().st_size:,} bytes")
    print_result(f"largest difference from PyTorch {exported.parity.largest:.1e}")
