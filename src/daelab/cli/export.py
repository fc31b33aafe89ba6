"""export: a trained model as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daelab.cli.console import say, say_json, tell
from daelab.cli.options import Json, Overwrite


def export(
    model: Annotated[str, typer.Argument(help="A model file, a shipped model, or a run.")],
    onnx: Annotated[Path, typer.Option(metavar="FILE.onnx", help="The file to write.")],
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a model as ONNX (any batch, height and width), and compare onnxruntime with PyTorch.

    Exit code 1, and no file, where a pixel differs by more than 1e-5.

    Example: daelab export model-c --onnx model-c.onnx
    """
    from daelab import api
    from daelab.export import ParityError
    from daelab.report import Table

    try:
        made = api.export(model, onnx, overwrite=overwrite)
    except ParityError as error:
        tell(f"daelab: {error}")
        raise typer.Exit(1) from None
    if as_json:
        say_json(made.to_dict())
        return
    sizes = [[n, f"{h}x{w}", f"{found:.1e}"] for (n, h, w), found in made.parity.differences]
    say(Table("parity", ["images", "size", "largest difference"], sizes).to_text())
    say()
    say(f"{model} -> {onnx}: {made.path.stat().st_size:,} bytes")
    say(f"largest difference from PyTorch {made.parity.largest:.1e}")
