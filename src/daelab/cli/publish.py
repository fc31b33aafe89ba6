"""The command `daelab publish`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daelab.cli.console import print_json, print_note, print_result
from daelab.cli.help import complete_models
from daelab.cli.options import Json


def publish(
    model: Annotated[
        str,
        typer.Argument(
            help="A shipped model, a run, a model file, or package.module:factory@MODEL.",
            autocompletion=complete_models,
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write, which is new or empty.")],
    license_name: Annotated[
        str | None,
        typer.Option(
            "--license",
            metavar="ID",
            help="Licence of the weights, as the hub names it. Default: apache-2.0 for a shipped model, else none.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a model as a folder for the Hugging Face Hub.

    The folder holds the weights, their metadata and a model card. Nothing is uploaded. A model of the hub is named
    hf://OWNER/NAME wherever a model is named on the command line.

    Example: daelab publish photo-s published
    """
    from daelab.experiments.publish import publish_model

    published = publish_model(model, folder, license_name=license_name)
    if published.local_paths:
        shown = ", ".join(published.local_paths)[:200]
        print_note(f"the metadata names files of this computer, which readers will see: {shown}")
    if as_json:
        print_json({"model": model, "folder": str(folder), "files": list(published.files)})
        return
    print_result(f"{model} -> {folder}: {', '.join(published.files)}")
    print_result(f"next   hf upload OWNER/NAME {folder}")
