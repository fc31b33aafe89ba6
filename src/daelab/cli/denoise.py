"""The command `daelab denoise`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daelab._util.distributed import count_processes, join_group
from daelab.cli.console import print_error, print_json, print_result, show_progress
from daelab.cli.help import complete_models
from daelab.cli.options import Device
from daelab.cli.pictures import FILES, OTHER, Format, JsonOutput, Out, OverwriteFiles, Recursive, read_out, run_pictures
from daelab.image_io.formats import describe_formats

if TYPE_CHECKING:
    from daelab.denoising.automatic import AnyDenoiser
    from daelab.denoising.pipeline import DenoiseOptions, DenoiseResult
    from daelab.denoising.tiling import ProgressCallback

MODEL, QUALITY, PERFORMANCE = "Model", "Quality", "Performance"
"""Further headings of the help."""

_Pictures = Annotated[
    list[str],
    typer.Argument(
        metavar="PICTURE|FOLDER|GLOB|-...",
        help=f"Pictures to denoise: {describe_formats()} files, folders of them, or - for standard input.",
    ),
]
_Suffix = Annotated[
    str | None,
    typer.Option(
        help="Suffix of output file names. Default: _clean, or none with a folder as --out.", rich_help_panel=FILES
    ),
]
InPlace = Annotated[
    bool,
    typer.Option(
        "--in-place", help="Replace the source files. A second run denoises them again.", rich_help_panel=FILES
    ),
]
Strip = Annotated[
    bool,
    typer.Option("--strip", help="Leave out EXIF, color profiles, comments and other metadata.", rich_help_panel=FILES),
]
Compare = Annotated[
    bool, typer.Option("--compare", help="Also write source and result side by side.", rich_help_panel=FILES)
]
Uncertainty = Annotated[
    bool,
    typer.Option(
        "--uncertainty",
        help="Also write a map of where the eight results of --self-ensemble differ.",
        rich_help_panel=FILES,
    ),
]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        help="Name of a shipped model or of a run, a model file, or code of yours: package.module:factory or "
        "package.module:factory@MODEL. automatic chooses the model that fits the noise of "
        "each picture, and leaves clean pictures unchanged.",
        autocompletion=complete_models,
        rich_help_panel=MODEL,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Denoise every picture, even those that automatic would leave unchanged.",
        rich_help_panel=MODEL,
    ),
]
Sigma = Annotated[
    float | None,
    typer.Option(
        help="Noise level in 8-bit steps, for a model of yours that takes it (spec.conditioned). "
        "No shipped model does. Default: estimated from each picture.",
        rich_help_panel=MODEL,
    ),
]
Strength = Annotated[
    float,
    typer.Option(help="Strength of the denoising, from 0 (none) to 1 (full).", rich_help_panel=QUALITY),
]
SelfEnsembleOption = Annotated[
    bool,
    typer.Option(
        "--self-ensemble",
        help="Average the results of eight flips and rotations. It takes eight times as long.",
        rich_help_panel=QUALITY,
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        help="Side of a tile in pixels. Default: as large as memory allows, up to 512.", rich_help_panel=PERFORMANCE
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        help="Memory for computing a tile, such as 512MB. Default: a quarter of the free memory.",
        rich_help_panel=PERFORMANCE,
    ),
]
_Workers = Annotated[int, typer.Option(help="Number of pictures to denoise at once.", rich_help_panel=PERFORMANCE)]
Shard = Annotated[
    str,
    typer.Option(
        metavar="I/N",
        help="Denoise only part I of N, to divide the work among N computers.",
        rich_help_panel=PERFORMANCE,
    ),
]
_MaxPixels = Annotated[
    int,
    typer.Option(
        min=1,
        help="Largest picture to accept, in pixels. It is checked before the picture is decoded.",
        rich_help_panel=OTHER,
    ),
]


@join_group()
def denoise(
    pictures: _Pictures,
    out: Out = None,
    recursive: Recursive = False,
    suffix: _Suffix = None,
    form: Format = None,
    overwrite: OverwriteFiles = False,
    in_place: InPlace = False,
    strip: Strip = False,
    compare: Compare = False,
    uncertainty: Uncertainty = False,
    model: ModelName = "automatic",
    force: Force = False,
    sigma: Sigma = None,
    strength: Strength = 1.0,
    self_ensemble: SelfEnsembleOption = False,
    tile: Tile = None,
    memory: Memory = None,
    workers: _Workers = 1,
    shard: Shard = "1/1",
    device: Device = None,  # noqa: ARG001
    max_pixels: _MaxPixels = 300_000_000,
    as_json: JsonOutput = False,
) -> None:
    """Denoise pictures. Mode, bit depth, alpha and metadata are kept.

    Pictures whose output file exists are skipped. Files of other formats in a folder are counted and named. The exit
    code is 1 if some of several pictures failed.

    Example: daelab denoise holiday --recursive --out holiday-clean
    """
    from daelab.denoising.automatic import load_denoiser
    from daelab.denoising.batch import BatchRequest, parse_shard
    from daelab.denoising.pipeline import DenoiseOptions, run_file

    options = DenoiseOptions(strength, self_ensemble, overwrite, strip, compare, uncertainty, max_pixels)
    if "-" in pictures:
        if count_processes() > 1:
            raise ValueError("standard input (-) is one picture; start daelab without torchrun")
        if len(pictures) > 1 or in_place or compare or uncertainty or (as_json and out is None):
            raise ValueError(
                "standard input (-) takes no other pictures and no --in-place, --compare or --uncertainty, "
                "and --json only with --out"
            )
        denoiser = load_denoiser(model, tile=tile, memory=memory, sigma=sigma, force=force)
        _denoise_stream(denoiser, options, out, form, as_json)
        return
    folder, is_folder = read_out(out)
    request = BatchRequest(
        pictures=pictures,
        out=folder,
        out_is_folder=is_folder,
        recursive=recursive,
        suffix=suffix,
        form=form,
        in_place=in_place,
        overwrite=overwrite,
        shard=parse_shard(shard),
    )
    # loaded before the pictures, so that a wrong name is one error and not one for each picture
    denoiser = load_denoiser(model, tile=tile, memory=memory, sigma=sigma, workers=workers, force=force)

    def work(source: str, target: Path, progress: ProgressCallback) -> DenoiseResult:
        return run_file(denoiser, source, target, options, progress)

    run_pictures(request, work, workers, as_json, {"model": model})


def _denoise_stream(
    denoiser: AnyDenoiser, options: DenoiseOptions, place: str | None, form: str | None, as_json: bool
) -> None:
    """Denoise a picture from standard input into a file or to standard output."""
    from daelab._util.files import write_file
    from daelab.denoising.pipeline import run_bytes
    from daelab.image_io.formats import parse_format
    from daelab.image_io.write import check_target

    out, is_folder = read_out(place)
    if out is not None and (is_folder or out.is_dir()):
        raise ValueError(f"--out {out}: it is a folder; a picture from standard input needs the name of a file")
    if out is None and sys.stdout.isatty():
        raise ValueError("standard output is a terminal; name a file with --out FILE, or redirect the output")
    target_form = parse_format(form)[1].name if form else None
    target_form = check_target(out, overwrite=options.overwrite) if out else target_form
    data = sys.stdin.buffer.read()
    with show_progress("denoising", "tiles") as progress:
        denoised = run_bytes(denoiser, data, options, form=target_form, progress=progress)
    result = denoised.result
    if out is None:
        sys.stdout.buffer.write(denoised.data)
    else:
        write_file(out, lambda part: part.write_bytes(denoised.data))
        if as_json:
            print_json({"model": denoiser.name, **result.to_dict(), "result": str(out)})
        else:
            print_result(f"- -> {out}")
    for note in ("" if as_json else result.why, result.note):
        if note:
            print_error(f"-: {note}")
