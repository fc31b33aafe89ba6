"""Output that the commands share: results on stdout, progress on stderr, and one line per error."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from daelab._util.distributed import LostProcessError, read_world, was_reported
from daelab.errors import describe_error

if TYPE_CHECKING:
    from daelab.training.checkpoint import BestEpoch


def print_result(text: str = "") -> None:
    """Print a result to stdout.

    Args:
        text: The result.
    """
    sys.stdout.write(text + "\n")


def print_note(text: str) -> None:
    """Print a note to stderr.

    Args:
        text: The note.
    """
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def print_json(value: Any) -> None:
    """Print one JSON document to stdout.

    Args:
        value: Plain values without infinities and NaN.
    """
    print_result(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False))


def run_guarded(run: Callable[[], object]) -> int:
    """Run a command, and print an error that its user can mend as one line on stderr.

    With $DAELAB_DEBUG set, the traceback is shown instead.

    Args:
        run: The command.

    Returns:
        The exit code: 0, 2 for wrong usage or bad input, 1 if another process was lost, and 128 plus the number of a
        signal that ended it.
    """
    try:
        run()
    except (ValueError, OSError) as error:
        if os.environ.get("DAELAB_DEBUG"):
            raise
        _print_error_once(describe_error(error))
        return 2
    except LostProcessError as error:
        if not was_reported(str(error), loss=True):
            print_note(f"daelab: {error}")
        return 1
    except KeyboardInterrupt:
        print_note("daelab: interrupted")
        return 130
    except Exception as error:
        if _is_out_of_memory(error) and not os.environ.get("DAELAB_DEBUG"):
            print_note("daelab: out of memory; use a smaller batch (training.batch), or close other programs")
            return 2
        signum = getattr(error, "signum", None)
        if signum is None:
            raise
        _print_error_once(str(error))
        return 128 + int(signum)
    return 0


def _print_error_once(message: str) -> None:
    """Print an error unless another process of the group has printed it."""
    if not was_reported(message):
        print_note(f"daelab: {message}")


def _is_out_of_memory(error: Exception) -> bool:
    # torch raises its own type for GPUs only; on a CPU it is a RuntimeError, which its text alone tells apart
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and re.search(r"out of memory|not enough memory|can't allocate memory|bad_alloc", str(error)) is not None
    )


def format_duration(seconds: float) -> str:
    """Return a duration as h:mm:ss.

    Args:
        seconds: The duration in seconds, at least 0.

    >>> format_duration(3725)
    '1:02:05'
    """
    rounded = round(seconds)
    return f"{rounded // 3600}:{rounded // 60 % 60:02}:{rounded % 60:02}"


@contextmanager
def show_progress(what: str, unit: str = "") -> Iterator[Callable[[float, int], None]]:
    """Show a progress bar with the remaining time on stderr, if it is the first process's terminal.

    Args:
        what: The text before the bar.
        unit: What is counted; "bytes" are shown as kB and MB.

    Yields:
        A function to call with the number that is done and the total; a total of 0 means unknown.
    """
    # One process alone draws, or several bars would overwrite each other.
    if not sys.stderr.isatty() or read_world()[0]:
        yield lambda done, total: None
        return
    # Imported only here, so that output without a terminal does not wait for it.
    from rich import progress as rich
    from rich.console import Console

    columns = [
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.DownloadColumn() if unit == "bytes" else rich.MofNCompleteColumn(),
        rich.TimeRemainingColumn(),
    ]
    # Results on the same terminal are printed above the bar. Those that go to a file or a pipe must not be redirected.
    redirect = sys.stdout.isatty()
    with rich.Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=redirect) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)


class ConsoleProgress:
    """The progress of a training on stderr: a line per epoch, and on a terminal a line that changes with each step."""

    def __init__(self) -> None:
        """Prepare for a training that begins now."""
        self.live = sys.stderr.isatty()
        self.shown = 0.0
        self.began = time.monotonic()
        self.first = 0
        self.epochs = self.steps = 0
        self.seconds = math.inf

    def start(self, run: str, epochs: int, steps: int, facts: dict[str, str], seconds: float = math.inf) -> None:
        """Print what is trained.

        Args:
            run: The name of the run.
            epochs: Number of epochs.
            steps: Number of steps per epoch.
            facts: Lines to print: name -> value.
            seconds: Time limit of the training.
        """
        self.epochs, self.steps, self.seconds = epochs, steps, seconds
        self.began = time.monotonic()
        print_note(f"run {run}: {epochs} epochs of {steps} steps")
        for key, value in facts.items():
            print_note(f"  {key:<10}{value}")

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        """Update the line of a terminal, at most ten times a second.

        Args:
            epoch: Number of the epoch, from 1.
            step: Number of the step in the epoch, from 1.
            images_per_second: The speed.
        """
        now = time.monotonic()
        done = (epoch - 1) * self.steps + step
        self.first = self.first or done
        # A fast training has many steps a second, and drawing each would slow it down.
        if not self.live or now - self.shown < 0.1:
            return
        self.shown = now
        text = f"epoch {epoch}/{self.epochs}  step {step}/{self.steps}  {images_per_second:,.0f} images/s"
        sys.stderr.write(f"\r\x1b[2K{text}  left {self._left(done, now)}")
        sys.stderr.flush()

    def epoch(self, row: dict[str, float], best: BestEpoch) -> None:
        """Print the line of an epoch.

        Args:
            row: The epoch's row of metrics.csv.
            best: The best epoch so far.
        """
        number = int(row["epoch"])
        star = "  best" if best.epoch == number else ""
        left = self._left(number * self.steps, time.monotonic())
        wipe = "\r\x1b[2K" if self.live else ""
        print_note(
            f"{wipe}epoch {number:>{len(str(self.epochs))}}/{self.epochs}"
            f"  {_format_scores(row)}  {row['images_per_second']:,.0f} images/s  left {left}{star}"
        )

    def test(self, done: int, images: int) -> None:
        """Print a line when all test images are scored.

        Args:
            done: Number of scored images.
            images: Number of test images.
        """
        if done == images:
            print_note(f"tested on {images:,} images")

    def _left(self, done: int, now: float) -> str:
        elapsed = now - self.began
        per_step = elapsed / max(1, done - self.first + 1)
        return format_duration(max(0.0, min(per_step * (self.epochs * self.steps - done), self.seconds - elapsed)))


_SCORES = {
    "train_loss": "train {:.5f}",
    "train_accuracy": "training accuracy {:.2%}",
    "val_loss": "val {:.5f}",
    "val_psnr": "PSNR {:.2f} dB",
    "val_f1": "F1 {:.2%}",
}
"""Column of metrics.csv -> how the line of an epoch shows it."""


def _format_scores(row: dict[str, float]) -> str:
    return "  ".join(text.format(row[key]) for key, text in _SCORES.items() if key in row)
