"""The command `daelab compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daelab.cli.console import print_json, print_note, print_result, print_table
from daelab.cli.explore import Storage
from daelab.cli.options import Json, MaxPixels


def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN...|CLEAN NOISY...", help="Runs; or pictures, the clean one first. A picture can be photo:NAME."
        ),
    ] = None,
    study: Annotated[str | None, typer.Option(help="Study of `daelab explore` whose runs are all compared.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write a page with figures of the runs to this folder.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Baseline run. Each other run is shown as a difference from it."),
    ] = None,
    storage: Storage = None,
    max_pixels: MaxPixels = 300_000_000,
    as_json: Json = False,
) -> None:
    """Compare runs, or compare pictures with a clean one.

    For runs: which settings differ, how they scored, and which differences are within the range of the seeds.
    For pictures: PSNR, SSIM and scale-invariant PSNR of each channel.

    Example: daelab compare clean.png noisy.png noisy_clean.png
    """
    names = names or []
    if study is not None and names:
        raise ValueError("give either runs or --study STUDY, not both")
    if any(_is_image(name) for name in names):
        if plot is not None or against is not None or storage is not None:
            raise ValueError("--plot, --against and --storage are for runs, and a picture was named; leave them out")
        if len(names) < 2:
            raise ValueError(f"give at least one picture to compare with {names[0]}: daelab compare CLEAN NOISY...")
        _compare_images(names[0], names[1:], max_pixels, as_json)
        return
    for name in names:
        if Path(name).is_dir():
            _check_folder_of_run(name)
    _compare_runs(names, study, plot, against, storage, as_json)


def _check_folder_of_run(name: str) -> None:
    from daelab.runs.folder import get_runs_root

    if not (get_runs_root() / name / "recipe.toml").is_file():
        raise ValueError(f"{name} is a folder; name runs, or pictures such as {Path(name) / 'PICTURE.png'}")


def _is_image(name: str) -> bool:
    from daelab.image_io.formats import find_format

    return name.startswith("photo:") or find_format(Path(name).suffix) is not None or Path(name).is_file()


def _compare_runs(
    names: list[str], study: str | None, plot: Path | None, against: str | None, storage: str | None, as_json: bool
) -> None:
    from daelab.experiments import explore
    from daelab.experiments.comparison_page import write_comparison_page
    from daelab.experiments.reports.page import check_report_folder

    if plot is not None:
        check_report_folder("--plot", plot, "a comparison", "compare.json")
    comparison = explore.compare(names, study=study, storage=storage)
    differences = comparison.against(against) if against else None
    if plot is not None:
        compared = f"--study {study}" if study else " ".join(names)
        title = f"Study {study}" if study else "Comparison of runs"
        command = f"daelab compare {compared} {f'--against {against} ' if against else ''}--plot {plot.name}"
        for text in write_comparison_page(comparison, plot, title, command, against):
            print_note(text)
    if as_json:
        points = [dict(zip(differences.columns, row, strict=True)) for row in differences.rows] if differences else []
        baseline = {"against": {"run": against, "points": points}} if differences else {}
        print_json(comparison.to_dict() | baseline | ({"page": str(plot / "compare.html")} if plot else {}))
        return
    print_table(comparison.run_table())
    print_result()
    if len(comparison.ranked) > 1:
        print_table(differences or comparison.point_table())
        print_result()
    print_result(comparison.outcome(against) if against else comparison.verdict)
    if plot is not None:
        print_result()
        print_result(f"page   {plot / 'compare.html'}")


def _compare_images(clean: str, noisy: list[str], max_pixels: int, as_json: bool) -> None:
    from daelab.denoising.image_comparison import compare_images
    from daelab.experiments.reports.evaluation import make_image_comparison_table
    from daelab.image_io.read import read_picture

    target = read_picture(clean, max_pixels=max_pixels)
    scores = {name: compare_images(target, read_picture(name, max_pixels=max_pixels), clean, name) for name in noisy}
    if as_json:
        pictures = [{"picture": name, "channels": channels} for name, channels in scores.items()]
        print_json({"clean": clean, "pictures": pictures})
        return
    print_table(make_image_comparison_table(clean, scores))
