"""The command `daelab inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from daelab.cli.console import format_command, print_error, print_json, print_result
from daelab.cli.options import Device, Json
from daelab.errors import describe_error

if TYPE_CHECKING:
    from daelab.denoising.noise_identification.identify import IdentifiedNoise


def inspect(
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURE...", help="Picture files, or photo:NAME.")],
    device: Device = None,  # noqa: ARG001
    as_json: Json = False,
) -> None:
    """Identify the noise in a picture and suggest a model.

    Prints the family of the noise, its level, gain and offset, scikit-image's estimate of the level, and the shipped
    models that were trained for such noise. It is computed on the CPU in any case, so that each computer gives the
    same answer.

    Example: daelab inspect noisy.png
    """
    from daelab.denoising.noisy_images import identify_file_noise

    noises: dict[str, IdentifiedNoise] = {}
    errors: dict[str, str] = {}
    for name in pictures:
        try:
            noises[name] = identify_file_noise(name)
        except (ValueError, OSError) as error:
            if len(pictures) == 1:
                raise
            errors[name] = describe_error(error)
    if as_json:
        records = [{"picture": name, **noise.to_dict()} for name, noise in noises.items()]
        print_json(records + [{"picture": name, "error": reason} for name, reason in errors.items()])
    else:
        for name, noise in noises.items():
            _print_noise(name, noise)
    for reason in errors.values():
        print_error(reason)
    if errors:
        raise typer.Exit(1)


def _print_noise(name: str, noise: IdentifiedNoise) -> None:
    print_result(f"{name}: {noise}")
    print_result(f"  {noise.details}")
    if noise.sigma is not None:
        print_result(f"  estimate of scikit-image, assuming zero-mean Gaussian noise: sigma {noise.sigma:.3f}")
    print_result(f"  {noise.advice}")
    if noise.choice:
        print_result(f"  {format_command('denoise', name)}")
