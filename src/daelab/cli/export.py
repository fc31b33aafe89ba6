"""The command `daelab export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daelab.cli.console import print_error, print_json, print_result, print_table
from daelab.cli.help import complete_models
from daelab.cli.options import Device, Json, Overwrite


def export(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A shipped model, a run, a model file, or package.module:factory. Default with --page: all "
            "shipped models without the `.task` ones.",
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
    device: Device = None,  # noqa: ARG001
    as_json: Json = False,
) -> None:
    """Export a model as ONNX, or the web page as static files.

    The ONNX model takes any batch size, height and width. It is run with onnxruntime and compared with PyTorch. If a
    pixel differs by more than 2e-5, no file is written and the exit code is 1.

    Example: daelab export model-c --onnx model-c.onnx
    """
    from daelab.models.onnx import ParityError

    if (onnx is None) == (page is None):
        raise ValueError("choose what to write: --onnx FILE.onnx, or --page DIR")
    if runtime is not None and page is None:
        raise ValueError("--runtime belongs to --page DIR; an ONNX file needs no runtime, so leave it out")
    if overwrite and onnx is None:
        raise ValueError("--overwrite belongs to --onnx FILE.onnx; --page writes to a new or empty folder")
    try:
        if page is not None:
            _export_page(page, model, runtime, as_json)
        elif model is not None and onnx is not None:
            _export_onnx(model, onnx, overwrite, as_json)
        else:
            raise ValueError("name the model to export: daelab export MODEL --onnx FILE.onnx")
    except ParityError as error:
        print_error(str(error))
        raise typer.Exit(1) from None


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

    exported = export_model(model, onnx, overwrite=overwrite)
    if as_json:
        print_json(exported.to_dict())
        return
    rows = [[images, f"{h}x{w}", f"{difference:.1e}"] for (images, h, w), difference in exported.parity.differences]
    print_table(Table("parity", ["images", "size", "largest difference"], rows))
    print_result()
    print_result(f"{model} -> {onnx}: {exported.path.stat().st_size:,} bytes")
    print_result(f"largest difference from PyTorch {exported.parity.largest:.1e}")
