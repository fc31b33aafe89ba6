"""denoise, noise: commands on pictures' files."""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daelab._util.distributed import count_processes, gather_values, get_rank, is_first_process, join_group
from daelab.cli.console import print_json, print_note, print_result, show_progress
from daelab.cli.help import complete_models
from daelab.cli.options import Json, Overwrite, Seed

if TYPE_CHECKING:
    from daelab.denoising.automatic import AnyDenoiser
    from daelab.denoising.batch import BatchRequest
    from daelab.denoising.pipeline import DenoiseOptions, DenoiseResult

Out = Annotated[Path | None, typer.Option(help="The result's file for one picture, else a folder; else beside each.")]
Model = Annotated[
    str, typer.Option(help="A model's file, name or run; else what inspect chooses.", autocompletion=complete_models)
]
MaxPixels = Annotated[int, typer.Option(min=1, help="Refuse larger pictures, by their header.")]


@join_group()
def denoise(
    pictures: Annotated[
        list[str],
        typer.Argument(metavar="PICTURE|FOLDER|GLOB|-...", help="PNG, JPEG, WebP, TIFF, BMP, GIF, .npy; - is stdin."),
    ],
    out: Out = None,
    model: Model = "automatic",
    recursive: Annotated[bool, typer.Option("--recursive", help="Folders within folders too.")] = False,
    suffix: Annotated[str | None, typer.Option(help="Of a result's name; _clean beside its source.")] = None,
    strength: Annotated[float, typer.Option(help="From 0, as it came, to 1, clean.")] = 1.0,
    self_ensemble: Annotated[
        bool, typer.Option("--self-ensemble", help="Average eight flips and rotations: eight times the work.")
    ] = False,
    sigma: Annotated[
        float | None, typer.Option(help="Of the noise, in 8-bit steps, for a model that is told it; else estimated.")
    ] = None,
    tile: Annotated[int | None, typer.Option(help="Side of a tile in pixels; up to 512.")] = None,
    memory: Annotated[str | None, typer.Option(help="For a tile, such as 512MB; a quarter of what is free.")] = None,
    workers: Annotated[int, typer.Option(help="Pictures to work on at once.")] = 1,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Only part I of N, for N machines.")] = "1/1",
    overwrite: Overwrite = False,
    in_place: Annotated[bool, typer.Option("--in-place", help="Replace sources; a second run cleans again.")] = False,
    form: Annotated[str | None, typer.Option("--format", help="Of the results; else each its source's.")] = None,
    strip: Annotated[bool, typer.Option("--strip", help="Leave out EXIF, profiles, comments and all else.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Also write source and result side by side.")] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Also write where the eight results of --self-ensemble differ.")
    ] = False,
    max_pixels: MaxPixels = 300_000_000,
    as_json: Json = False,
) -> None:
    """Clean pictures by the model that fits each one's noise, if any does: mode, depth, alpha, metadata stay.

    Exit code 1 where some of several pictures failed; what is done already is passed over.

    Example: daelab denoise holiday --recursive --out holiday-clean
    """
    from daelab.denoising.batch import BatchRequest
    from daelab.denoising.pipeline import DenoiseOptions

    options = DenoiseOptions(strength, self_ensemble, overwrite, strip, compare, uncertainty, max_pixels)
    if "-" in pictures:
        if count_processes() > 1:
            raise ValueError("- is one picture, the work of one process")
        if len(pictures) > 1 or in_place or compare or uncertainty or (as_json and out is None):
            raise ValueError("- stands alone, without --in-place, --compare, --uncertainty, and --json only with --out")
        _denoise_stream(_cleaner(model, tile, memory, sigma), options, out, form, as_json)
        return
    request = BatchRequest(
        pictures=pictures,
        out=out,
        recursive=recursive,
        suffix=suffix,
        form=form,
        in_place=in_place,
        overwrite=overwrite,
        shard=_shard(shard),
    )
    # at once, so that a mistake in it is not told once per picture
    cleaner = _cleaner(model, tile, memory, sigma, max(1, workers))
    _run(request, _work(cleaner, options), workers, as_json, {"model": model})


def _cleaner(
    model: str, tile: int | None, memory: str | None, sigma: float | None = None, workers: int = 1
) -> AnyDenoiser:
    from daelab._util.hardware import parse_memory_size
    from daelab.denoising.automatic import load_denoiser

    share = None if memory is None else max(1, parse_memory_size(memory) // workers)
    return load_denoiser(model, tile=tile, memory=share, sigma=sigma)


def _work(cleaner: AnyDenoiser, options: DenoiseOptions) -> Any:
    """What does one picture."""
    from daelab.denoising.pipeline import run_file

    return lambda source, target, progress: run_file(cleaner, source, target, options, progress)


def _denoise_stream(
    cleaner: AnyDenoiser, options: DenoiseOptions, out: Path | None, form: str | None, as_json: bool
) -> None:
    """One picture from standard input, to a file or to standard output."""
    from io import BytesIO

    from daelab._util.files import write_file
    from daelab.denoising.pipeline import denoise_picture, is_unchanged, parse_format
    from daelab.image_io.read import read_picture
    from daelab.image_io.write import check_target, encode_picture, write_picture

    if out is None and sys.stdout.isatty():
        raise ValueError("standard output is a terminal; --out FILE, or send it on")
    wanted = check_target(out, overwrite=options.overwrite) if out else form and parse_format(form)
    data = sys.stdin.buffer.read()
    picture = read_picture(data, max_pixels=options.max_pixels)
    kind = wanted or picture.form
    with show_progress("denoising", "tiles") as progress:
        said, result, _ = denoise_picture(picture, cleaner, options, kind, progress)
    as_it_came = is_unchanged(said, picture, kind, options)
    if out is None:
        stream = BytesIO(data if as_it_came else b"")
        if not as_it_came:
            encode_picture(stream, result, kind)
        sys.stdout.buffer.write(stream.getbuffer())
    else:
        if as_it_came:
            write_file(out, lambda part: part.write_bytes(data))
        else:
            write_picture(out, result, overwrite=options.overwrite)
        print_json({"model": cleaner.name, **said.to_dict(), "result": str(out)}) if as_json else print_result(
            f"- -> {out}"
        )
    for word in ("" if as_json else said.why, said.note):
        if word:
            print_note(f"daelab: -: {word}")


def _shard(text: str) -> tuple[int, int]:
    """(I, N); several processes share a part as if there were so many times as many."""
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal()):
        raise ValueError(f"--shard is I/N, such as 2/8, not {text!r}")
    return int(part) + int(parts) * get_rank(), int(parts) * count_processes()


def _run(request: BatchRequest, work: Any, workers: int, as_json: bool, head: dict[str, Any]) -> None:
    """Do all pictures, say what became of each, and end with exit code 1 where some of several failed."""
    from daelab.denoising.batch import run_batch

    results: list[DenoiseResult] = []
    with show_progress("pictures") as report:
        for result in run_batch(request, work, workers, report):
            results.append(result)
            if not as_json:
                _say_result(result)
    if count_processes() > 1:  # a process that ended before the others would end them
        results = sorted(chain.from_iterable(gather_values(results)), key=lambda result: result.source)
    before, failed = (sum(result.status == status for result in results) for status in ("done before", "failed"))
    now = len(results) - before - failed
    if not is_first_process():
        pass
    elif as_json:
        counts = {"done": now, "done_before": before, "failed": failed}
        print_json({**head, **counts, "pictures": [result.to_dict() for result in results]})
    elif not request.single:
        print_result(f"{now:,} done, {before:,} done before, {failed:,} failed")
    if failed:
        raise typer.Exit(1)


def _say_result(result: DenoiseResult) -> None:
    if result.status == "failed":
        print_note(f"daelab: {result.reason}")
        return
    if result.status == "done before":
        print_result(f"{result.source}: {result.result} is there; --overwrite does it again")
        return
    print_result(f"{result.source} -> {result.result}{f' ({result.why})' if result.why else ''}")
    for more in (result.compare, result.uncertainty):
        if more:
            print_result(f"{result.source} -> {more}")
    if result.note:
        print_note(f"daelab: {result.source}: {result.note}")


def noise(
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURE|FOLDER|GLOB...", help="Or photo:NAME, bundled.")],
    out: Out = None,
    noise: Annotated[
        list[str] | None,
        typer.Option("--noise", help="A preset or a noise's text; for a figure, repeat for more, or none for all."),
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw it under noise, with histograms: .png, .svg.")] = None,
    seed: Seed = 0,
    recursive: Annotated[bool, typer.Option("--recursive", help="Folders within folders too.")] = False,
    suffix: Annotated[str | None, typer.Option(help="Of a result's name; _noisy beside its source.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="Of the results; else each its source's.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write pictures under noise, or draw the paper's Figure 1: one under noise, with histograms.

    Example: daelab noise photo:cat --noise "gaussian(0.3, 0.05)" --seed 1 --out noisy.png
    """
    from daelab.noise.grammar import parse_noise

    values = [parse_noise(text) for text in noise or ["table-1"]]
    if figure is not None:
        _draw_noise(pictures, values if noise else list(values[0].options()), seed, figure, overwrite)
        if out is None:
            return
    if len(noise or []) != 1:
        raise ValueError("name one --noise, such as --noise type-1; or --figure FILE draws several")
    from daelab.denoising.batch import BatchRequest
    from daelab.denoising.noisy_images import write_noisy_file

    request = BatchRequest(
        pictures=pictures,
        out=out,
        recursive=recursive,
        suffix=suffix,
        default_suffix="_noisy",
        form=form,
        overwrite=overwrite,
    )

    def work(source: str, target: Path, _: object) -> DenoiseResult:
        return write_noisy_file(source, target, values[0], seed, overwrite=overwrite)

    _run(request, work, 1, as_json, {"noise": str(values[0]), "seed": seed})


def _draw_noise(pictures: list[str], shown: list[Any], seed: int, figure: Path, overwrite: bool) -> None:
    from daelab.denoising.noisy_images import derive_image_index, make_noisy
    from daelab.experiments.reports.images import noise_figure
    from daelab.image_io.read import read_picture

    if len(pictures) != 1:
        raise ValueError(f"--figure draws one picture, not {len(pictures)}")
    if figure.exists() and not overwrite:
        raise FileExistsError(f"{figure} exists; --overwrite replaces it")
    found = read_picture(pictures[0]).colour().pixels
    index = derive_image_index(pictures[0])
    noise_figure(found, {str(value): make_noisy(found, value, seed, index) for value in shown}, figure)
    print_result(f"{pictures[0]} -> {figure}")
