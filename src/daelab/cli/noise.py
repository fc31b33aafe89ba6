"""The command `daelab noise`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daelab.cli.console import print_result
from daelab.cli.options import Seed
from daelab.cli.pictures import FILES, Format, JsonOutput, Out, OverwriteFiles, Recursive, read_out, run_pictures

if TYPE_CHECKING:
    from daelab.denoising.pipeline import DenoiseResult
    from daelab.noise.base import Noise

_Pictures = Annotated[
    list[str],
    typer.Argument(
        metavar="PICTURE|FOLDER|GLOB...", help="Pictures, folders of them, or photo:NAME for a bundled photograph."
    ),
]
NoiseText = Annotated[
    list[str] | None,
    typer.Option(
        "--noise",
        help="Noise to add: the name of a preset, or a text such as gaussian(0.3, 0.05). With --figure it can be "
        "repeated. Default: all that the figure of the paper shows.",
    ),
]
Figure = Annotated[
    Path | None,
    typer.Option(
        help="Draw one picture under each noise, with histograms, as Figure 1 of the paper: a .png or .svg file.",
        rich_help_panel=FILES,
    ),
]
_Suffix = Annotated[
    str | None,
    typer.Option(
        help="Suffix of output file names. Default: _noisy, or none with a folder as --out.", rich_help_panel=FILES
    ),
]


def noise(
    pictures: _Pictures,
    noise: NoiseText = None,
    seed: Seed = 0,
    out: Out = None,
    figure: Figure = None,
    recursive: Recursive = False,
    suffix: _Suffix = None,
    form: Format = None,
    overwrite: OverwriteFiles = False,
    as_json: JsonOutput = False,
) -> None:
    """Add noise to pictures, or show one with several noises.

    Pictures whose output file exists are skipped. The exit code is 1 if some of several pictures failed.

    The noises are {noises}. The presets are {presets}.

    Example: daelab noise photo:cat --noise "gaussian(0.3, 0.05)" --seed 1 --out noisy.png
    """
    from daelab.noise.grammar import parse_noise

    noises = [parse_noise(text) for text in noise or ["table-1"]]
    if figure is not None:
        _draw_figure(pictures, noises if noise else list(noises[0].options()), seed, figure, overwrite)
        if out is None:
            return
    if len(noise or []) != 1:
        raise ValueError("name one --noise, such as --noise type-1; or --figure FILE draws several")
    from daelab.denoising.batch import BatchRequest
    from daelab.denoising.noisy_images import write_noisy_file

    folder, is_folder = read_out(out)
    request = BatchRequest(
        pictures=pictures,
        out=folder,
        out_is_folder=is_folder,
        recursive=recursive,
        suffix=suffix,
        default_suffix="_noisy",
        form=form,
        overwrite=overwrite,
    )

    def work(source: str, target: Path, _: object) -> DenoiseResult:
        return write_noisy_file(source, target, noises[0], seed, overwrite=overwrite)

    run_pictures(request, work, 1, as_json, {"noise": str(noises[0]), "seed": seed})


def _draw_figure(pictures: list[str], noises: list[Noise], seed: int, figure: Path, overwrite: bool) -> None:
    from daelab.denoising.noisy_images import make_noisy_versions
    from daelab.experiments.reports.images import noise_figure

    if len(pictures) != 1:
        raise ValueError(f"--figure draws one picture, not {len(pictures)}")
    if figure.exists() and not overwrite:
        raise FileExistsError(f"{figure} exists; --overwrite replaces it")
    noise_figure(*make_noisy_versions(pictures[0], noises, seed), figure)
    print_result(f"{pictures[0]} -> {figure}")
