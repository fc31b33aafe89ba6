"""The command `daelab reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daelab.cli.console import ConsoleProgress, print_document, print_note, print_result, print_table, show_progress
from daelab.cli.options import DataRoot, Device, Json, JudgePath, Seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from daelab.experiments.paper.measurements import Measurements


class _Progress:
    """The progress of a reproduction: a line for each step, and a bar of the images."""

    def __init__(self, count: Callable[[int, int], None]) -> None:
        """Count images with `count`, which takes the measured images and their total."""
        self.count = count

    def say(self, text: str) -> None:
        """Print which step begins.

        Args:
            text: The step.
        """
        print_note(text)

    def training(self) -> ConsoleProgress:
        """Return the progress of a training."""
        return ConsoleProgress()


def reproduce(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write the report to.")] = Path("report"),
    data_root: DataRoot = None,
    device: Device = None,  # noqa: ARG001
    paper_checkpoints: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the paper's 35.pt, 37.pt, 38.pt and tests_fully.csv. Default: only our weights are scored.",
        ),
    ] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train our weights again first. This takes hours.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Use 1,000 images for everything. This takes a minute.")
    ] = False,
    judge: Annotated[
        str, typer.Option(help="Classifier of Table 2: builtin, vit, a file, module:factory, or none.")
    ] = "builtin",
    judge_path: JudgePath = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Reproduce the tables and figures of the paper.

    The report shows each number of the paper beside our own. If a stated tolerance is missed, the exit code is 1.

    Example: daelab reproduce --out report --quick
    """
    from daelab.experiments.paper.measurements import ReproductionRequest
    from daelab.experiments.paper.reproduce import reproduce_paper

    request = ReproductionRequest(
        out,
        data_root,
        paper_checkpoints,
        judge=None if judge == "none" else judge,
        judge_path=judge_path,
        retrain=retrain,
        quick=quick,
        seed=seed,
    )
    with show_progress("images") as count:
        measurements = reproduce_paper(request, _Progress(count))
    if as_json:
        print_document((out / "report.json").read_text(encoding="utf-8").rstrip())
    else:
        _print_measurements(measurements)
    if measurements.missed:
        raise typer.Exit(1)


def _print_measurements(measurements: Measurements) -> None:
    from daelab.experiments.paper.tables import make_check_table, make_weights_table

    print_table(make_check_table(measurements.checks))
    print_result()
    print_table(make_weights_table(measurements.ours))
    print_result()
    out = measurements.request.out
    print_result(f"report   {out / 'report.html'}")
    print_result(f"         {out / 'report.md'}, {out / 'report.json'}, {out / 'tables'}, {out / 'figures'}")
    for check in measurements.missed:
        print_note(f"tolerance missed: {check.what}: expected {check.wanted}, measured {check.found}")
