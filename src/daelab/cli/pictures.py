"""Options and output that the commands on picture files share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daelab._util.distributed import is_first_process
from daelab.cli.console import print_error, print_json, print_result, show_progress

if TYPE_CHECKING:
    from daelab.denoising.batch import BatchRequest, BatchWork
    from daelab.denoising.pipeline import DenoiseResult

FILES, OTHER = "Input and output", "Other"
"""Headings of the help."""

Out = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|FOLDER/",
        help="File to write for one picture, or a folder. Default: a new file beside each source.",
        rich_help_panel=FILES,
    ),
]
Recursive = Annotated[
    bool,
    typer.Option("--recursive", help="Include folders inside folders, and links to folders.", rich_help_panel=FILES),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Format of the output files, such as png. Default: the format of each source.",
        rich_help_panel=FILES,
    ),
]
OverwriteFiles = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.", rich_help_panel=FILES)]
JsonOutput = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of text.", rich_help_panel=OTHER)
]


def read_out(text: str | None) -> tuple[Path | None, bool]:
    """Read where the results go.

    Args:
        text: The value of --out.

    Returns:
        The path, and whether it must be a folder since it ends with a slash, which a path does not keep.
    """
    return (None, False) if text is None else (Path(text), text.endswith(("/", os.sep)))


def run_pictures(request: BatchRequest, work: BatchWork, workers: int, as_json: bool, head: dict[str, Any]) -> None:
    """Process the pictures of a request, and print what became of each. Exit with code 1 if some of several failed.

    Args:
        request: The pictures, and where their results go.
        work: Makes the result of a picture.
        workers: The number of pictures to process at once.
        as_json: Whether to print one JSON document instead of lines.
        head: The first fields of that document.
    """
    from daelab.denoising.batch import describe_unread, find_unread, run_batch, summarize_results

    results: list[DenoiseResult] = []
    with show_progress("pictures") as report:
        for result in run_batch(request, work, workers, report):
            results.append(result)
            if not as_json:
                _print_picture(result)
    summary = summarize_results(results)
    unread = find_unread(request)
    for note in describe_unread(unread) if is_first_process() else ():
        print_error(note)
    if is_first_process() and as_json:
        counts = {"done": summary.done, "done_before": summary.done_before, "failed": summary.failed}
        pictures = [result.to_dict() for result in summary.results]
        print_json({**head, **counts, "pictures": pictures, "unread": [str(file) for file in unread.unread]})
    elif is_first_process() and not request.single:
        print_result(str(summary))
    if summary.failed:
        raise typer.Exit(1)


def _print_picture(result: DenoiseResult) -> None:
    if result.status == "failed":
        print_error(result.reason)
        return
    if result.status == "done before":
        print_result(f"{result.source}: {result.result} exists; --overwrite replaces it")
        return
    print_result(f"{result.source} -> {result.result}{f': {result.why}' if result.why else ''}")
    for side_file in (result.compare, result.uncertainty):
        if side_file:
            print_result(f"{result.source} -> {side_file}")
    if result.note:
        print_error(f"{result.source}: {result.note}")
