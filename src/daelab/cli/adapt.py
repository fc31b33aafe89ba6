"""The command `daelab adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daelab.cli.console import ConsoleProgress, format_command, print_json, print_note, print_result
from daelab.cli.help import complete_models
from daelab.cli.options import Device, Json, RunName


def adapt(
    folder: Annotated[Path, typer.Argument(help="Folder of noisy pictures.")],
    start: Annotated[
        str,
        typer.Option(
            help="Shipped model, model file or run to begin from, or code of yours: package.module:factory@MODEL.",
            autocompletion=complete_models,
        ),
    ] = "photo-s",
    minutes: Annotated[float, typer.Option(help="Time of the training, in minutes.")] = 10.0,
    loss: Annotated[
        str | None,
        typer.Option(
            help="Loss of noisy pictures alone: noise2void (blind spots), neighbor2neighbor (with its second term, "
            "which is slower) or sure (Gaussian noise). Default: the absolute error between pairs of neighbors."
        ),
    ] = None,
    name: RunName = None,
    device: Device = None,  # noqa: ARG001
    as_json: Json = False,
) -> None:
    """Adapt a model to noisy pictures, without clean ones.

    The model learns to predict pixels from their neighbors (Neighbor2Neighbor), or by another --loss. All assume noise
    that is independent from pixel to pixel, which raw camera noise is about, and noise in JPEG files is not. A warning
    says if the pictures contradict it. The noise must also make as many values too bright as too dark.

    Example: daelab adapt holiday --minutes 10 --name holiday
    """
    from daelab.experiments import adapt as experiment
    from daelab.experiments.fields import name_model
    from daelab.training.recipe import load_recipe

    if not minutes > 0:
        raise ValueError(f"--minutes must be above 0, not {minutes:g}")
    adapted = experiment.adapt(folder, start, minutes=minutes, loss=loss, name=name, progress=ConsoleProgress())
    run = adapted.training.run
    if adapted.warning:
        print_note(adapted.warning)
    if as_json:
        print_json({"run": run.name, "model": str(run.best), "correlation": adapted.correlation})
        return
    print_result(f"model  {run.best}")
    model = name_model(run.name, load_recipe(run.recipe, trusted=True).to_dict())
    print_result(f"next   {format_command('denoise', 'PICTURE', '--model', model)}")
