"""compare: runs with each other, or pictures with a clean one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from daelab.cli.console import print_json, print_note, print_result
from daelab.cli.denoise import MaxPixels
from daelab.cli.explore import Storage
from daelab.cli.options import Json


def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN...|CLEAN NOISY...", help="Runs; or pictures, the clean one first, or photo:NAME."),
    ] = None,
    study: Annotated[str | None, typer.Option(help="All runs of a study of `daelab explore`.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="DIR", help="Also draw the runs, and write a page.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="RUN", help="Show what each differs in from this run, and by how much.")
    ] = None,
    storage: Storage = None,
    max_pixels: MaxPixels = 300_000_000,
    as_json: Json = False,
) -> None:
    """Compare runs: what differs, what came of it, and which differences are no larger than those between seeds.

    Pictures are measured against the first: PSNR, SSIM and scale-invariant PSNR, per channel.

    Example: daelab compare clean.png noisy.png noisy_clean.png
    """
    names = names or []
    if study is None and plot is None and against is None and any(_is_picture(name) for name in names):
        if len(names) < 2:
            raise ValueError(f"name pictures to measure against {names[0]}: daelab compare CLEAN NOISY...")
        _compare_pictures(names[0], names[1:], max_pixels, as_json)
        return
    if study is not None and names:
        raise ValueError("name runs, or --study STUDY, not both")
    _compare_runs(names, study, plot, against, storage, as_json)


def _is_picture(name: str) -> bool:
    from daelab.image_io.picture import SUFFIXES

    return name.startswith("photo:") or Path(name).suffix.lower() in SUFFIXES or Path(name).is_file()


def _compare_runs(
    names: list[str], study: str | None, plot: Path | None, against: str | None, storage: str | None, as_json: bool
) -> None:
    from daelab.experiments import explore
    from daelab.experiments.comparison_page import check_comparison_page, write_comparison_page

    check_comparison_page(plot)
    found = explore.compare(names, study=study, storage=storage)
    beside = found.against(against) if against else None
    if plot is not None:
        what = f"--study {study}" if study else " ".join(names)
        title = f"Study {study}" if study else "Runs compared"
        command = f"daelab compare {what} {f'--against {against} ' if against else ''}--plot {plot.name}"
        for text in write_comparison_page(found, plot, title, command, against):
            print_note(text)
    if as_json:
        rows = [dict(zip(beside.columns, row, strict=True)) for row in beside.rows] if beside else []
        more = {"against": {"run": against, "points": rows}} if beside else {}
        print_json(found.to_dict() | more | ({"page": str(plot / "compare.html")} if plot else {}))
        return
    print_result(found.run_table().to_text())
    print_result()
    if len(found.points) > 1:
        print_result((beside or found.point_table()).to_text())
        print_result()
    print_result(found.outcome(against) if against else found.verdict)
    if plot is not None:
        print_result(f"\npage   {plot / 'compare.html'}")


def _compare_pictures(clean: str, noisy: list[str], max_pixels: int, as_json: bool) -> None:
    from daelab.denoising.image_comparison import compare_images
    from daelab.image_io.read import read_picture

    truth = read_picture(clean, max_pixels=max_pixels)
    found = {name: compare_images(truth, read_picture(name, max_pixels=max_pixels), clean, name) for name in noisy}
    if as_json:
        print_json({"clean": clean, "pictures": [{"picture": name, "channels": rows} for name, rows in found.items()]})
        return
    from daelab.experiments.reports.table import Table

    rows = [
        [name, channel, *(_cell(scores[key], digits) for key, digits in (("psnr", 2), ("ssim", 4), ("si_psnr", 2)))]
        for name, channels in found.items()
        for channel, scores in channels.items()
    ]
    columns = ["picture", "channel", "PSNR, dB", "SSIM", "scale-invariant PSNR, dB"]
    print_result(Table(f"against {clean}", columns, rows).to_text())


def _cell(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
