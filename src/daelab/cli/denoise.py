"""The command `daelab denoise`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daelab._util.distributed import count_processes, join_group
from daelab.cli.console import name_standard_output, print_error, print_json, print_result, show_progress
from daelab.cli.help import complete_models
from daelab.cli.options import PERFORMANCE, Device
from daelab.cli.pictures import FILES, OTHER, Format, JsonOutput, Out, OverwriteFiles, Recursive, read_out, run_pictures
from daelab.image_io.formats import describe_formats

if TYPE_CHECKING:
    from daelab.denoising.automatic import AnyDenoiser
    from daelab.denoising.batch import BatchRequest
    from daelab.denoising.pipeline import DenoiseOptions, DenoiseResult
    from daelab.denoising.tiling import ProgressCallback

ZARR = ".zarr"
MODEL, QUALITY = "Model", "Quality"
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
        help="Noise level in 8-bit steps, for a model that takes it: photo-s.level, or one of yours with "
        "spec.conditioned. Default: estimated from each picture.",
        rich_help_panel=MODEL,
    ),
]
Strength = Annotated[
    float,
    typer.Option(
        help="Strength of the denoising, from 0 (none) to 1 (full), or up to 2 for a model that takes --sigma.",
        rich_help_panel=QUALITY,
    ),
]
_Chroma = Annotated[
    float | None,
    typer.Option(
        help="Strength for the colors alone, from 0 to 1. Default: that of --strength.", rich_help_panel=QUALITY
    ),
]
Detail = Annotated[
    float,
    typer.Option(
        help="Part of the fine detail to recover from the source, from 0 (none) to 1.", rich_help_panel=QUALITY
    ),
]
Neighbors = Annotated[
    int,
    typer.Option(
        min=0,
        help="Slices on each side of a stack that the model sees as further channels: 1 for a color model. "
        "0 denoises each slice alone.",
        rich_help_panel=QUALITY,
    ),
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
        help="Largest side of a tile in pixels. Default: 768, or less if memory is short.", rich_help_panel=PERFORMANCE
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
Precision = Annotated[
    str,
    typer.Option(
        help="Precision of the computation: auto, float32 or int8. auto is int8, which is faster, where the CPU and "
        "the model allow it. Without --model, int8 is for the models that allow it, and the others use float32. "
        "Results differ by far less than the noise.",
        rich_help_panel=PERFORMANCE,
    ),
]
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
    chroma: _Chroma = None,
    detail: Detail = 0.0,
    neighbors: Neighbors = 0,
    self_ensemble: SelfEnsembleOption = False,
    tile: Tile = None,
    memory: Memory = None,
    precision: Precision = "auto",
    workers: _Workers = 1,
    shard: Shard = "1/1",
    device: Device = None,  # noqa: ARG001
    max_pixels: _MaxPixels = 300_000_000,
    as_json: JsonOutput = False,
) -> None:
    """Denoise pictures. Mode, bit depth, alpha and metadata are kept.

    Multi-page files and arrays (Z, H, W) are denoised slice by slice; the folder of a zarr array needs --out.
    Pictures whose output file exists are skipped. Files of other formats in a folder are counted and named. The exit
    code is 1 if some of several pictures failed.

    Example: daelab denoise holiday --recursive --out holiday-clean
    """
    from daelab.denoising.automatic import load_denoiser
    from daelab.denoising.batch import BatchRequest, parse_shard
    from daelab.denoising.pipeline import DenoiseOptions

    options = DenoiseOptions(
        strength, self_ensemble, overwrite, strip, compare, uncertainty, max_pixels, chroma, detail, neighbors
    )
    load = partial(load_denoiser, model, tile=tile, memory=memory, sigma=sigma, force=force, precision=precision)
    if "-" in pictures:
        _check_stream(len(pictures) == 1 and not (in_place or compare or uncertainty or (as_json and out is None)))
        _denoise_stream(load(blend=options.blend), options, out, form, as_json)
        return
    if any(Path(text).suffix == ZARR for text in pictures):
        if len(pictures) > 1 or out is None or strip or compare or uncertainty or in_place or suffix or form:
            raise ValueError("a zarr array is denoised alone, into a new folder (--out), without picture options")
        _denoise_zarr(load(), options, pictures[0], out, as_json)
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
    _denoise_files(load(workers=workers, blend=options.blend), options, request, workers, as_json, model)


def _denoise_files(
    denoiser: AnyDenoiser, options: DenoiseOptions, request: BatchRequest, workers: int, as_json: bool, model: str
) -> None:
    """Denoise the pictures of a request, and print what became of each."""
    from daelab._util.hardware import keep_freed_memory
    from daelab.denoising.pipeline import run_file

    def work(source: str, target: Path, progress: ProgressCallback) -> DenoiseResult:
        return run_file(denoiser, source, target, options, progress)

    keep_freed_memory()
    run_pictures(request, work, workers, as_json, {"model": model})


def _check_stream(alone: bool) -> None:
    if count_processes() > 1:
        raise ValueError("standard input (-) is one picture; start daelab without torchrun")
    if not alone:
        raise ValueError(
            "standard input (-) takes no other pictures and no --in-place, --compare or --uncertainty, "
            "and --json only with --out"
        )


def _denoise_zarr(denoiser: AnyDenoiser, options: DenoiseOptions, source: str, out: str, as_json: bool) -> None:
    """Denoise an array of zarr."""
    from daelab.denoising.denoiser import Denoiser
    from daelab.denoising.stacks import denoise_zarr

    if not isinstance(denoiser, Denoiser):
        raise ValueError("a zarr array needs a model that is named, such as --model photo-s")
    with show_progress("denoising", "slices") as progress:
        shape = denoise_zarr(
            denoiser,
            source,
            out,
            neighbors=options.neighbors,
            blend=options.blend,
            self_ensemble=options.self_ensemble,
            progress=progress,
        )
    if as_json:
        head = {"model": denoiser.name, "precision": denoiser.precision}
        print_json(head | {"source": source, "result": out, "shape": list(shape)})
    else:
        print_result(f"{source} -> {out}: {' x '.join(map(str, shape))}")


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
        with name_standard_output():
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
