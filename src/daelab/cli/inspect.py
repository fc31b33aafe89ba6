"""inspect, and train-inspector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daelab.cli.console import print_json, print_note, print_result, show_progress
from daelab.cli.options import DataRoot, Json
from daelab.errors import describe_error

if TYPE_CHECKING:
    from daelab.denoising.noise_identification.identify import IdentifiedNoise


def inspect(
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURE...", help="Files, or photo:NAME.")],
    as_json: Json = False,
) -> None:
    """Say which noise is in a picture: family, level, gain and offset; and which shipped model fits.

    Beside it scikit-image's estimate of zero-mean noise, where that is installed.

    Example: daelab inspect noisy.png
    """
    from daelab.denoising.noisy_images import identify_file_noise

    found, broken = {}, {}
    for name in pictures:
        try:
            found[name] = identify_file_noise(name)
        except (ValueError, OSError) as error:
            if len(pictures) == 1:
                raise
            broken[name] = describe_error(error)
    if as_json:
        seen_json = [{"picture": name, **seen.to_dict()} for name, seen in found.items()]
        print_json(seen_json + [{"picture": name, "error": why} for name, why in broken.items()])
    else:
        _say_found(found)
    for why in broken.values():
        print_note(f"daelab: {why}")
    if broken:
        raise typer.Exit(1)


def _say_found(found: dict[str, IdentifiedNoise]) -> None:
    for name, seen in found.items():
        print_result(f"{name}: {seen}")
        if seen.sigma is not None:
            print_result(f"  scikit-image's estimate, were it zero-mean Gaussian noise: sigma {seen.sigma:.3f}")
        print_result(f"  {seen.advice}")
        if seen.choice:
            print_result(f"  daelab denoise {name}")


def train_inspector(
    save: Annotated[Path, typer.Option(metavar="FILE.safetensors", help="The file to write.")],
    data: Annotated[
        list[str] | None, typer.Option(help="Clean pictures; repeat for more. Else the bundled photographs.")
    ] = None,
    examples: Annotated[int | None, typer.Option(min=1, help="Noisy pictures to learn from.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same inspector.")] = 0,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Train the inspector: noise of every family is put on clean pictures, which gives the labels.

    Example: daelab train-inspector --data photos --data folder:pictures --save inspector.safetensors
    """
    from daelab.experiments.reports.noise_identification import make_identification_tables
    from daelab.experiments.train import train_noise_identification

    with show_progress("noisy pictures") as progress:
        made = train_noise_identification(
            save, data or ("photos",), examples=examples, seed=seed, data_root=data_root, progress=progress
        )
    if as_json:
        print_json({"file": str(save), **made.card})
        return
    for table in make_identification_tables(made):
        print_result(table.to_text())
        print_result()
    print_result(f"inspector -> {save}: {save.stat().st_size:,} bytes")
