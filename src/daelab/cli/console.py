"""What the commands share: one line per mistake, results on stdout, progress on stderr."""

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
    """A result, to stdout."""
    sys.stdout.write(text + "\n")


def print_note(text: str) -> None:
    """A remark, to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def print_json(value: Any) -> None:
    """One JSON document, to stdout."""
    print_result(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False))


def run_guarded(run: Callable[[], object]) -> int:
    """Run a command; a user's mistake becomes one line on stderr and exit code 2.

    With $DAELAB_DEBUG set, the traceback is shown.
    """
    try:
        run()
    except (ValueError, OSError) as error:
        if os.environ.get("DAELAB_DEBUG"):
            raise
        _tell_once(describe_error(error))
        return 2
    except LostProcessError as error:
        if not was_reported(str(error), loss=True):
            print_note(f"daelab: {error}")
        return 1
    except KeyboardInterrupt:
        print_note("daelab: interrupted")
        return 130
    except Exception as error:
        if _out_of_memory(error) and not os.environ.get("DAELAB_DEBUG"):
            print_note("daelab: out of memory; take a smaller batch (training.batch), or close other programs")
            return 2
        signum = getattr(error, "signum", None)
        if signum is None:
            raise
        _tell_once(str(error))
        return 128 + int(signum)
    return 0


def _tell_once(why: str) -> None:
    """A mistake; of several processes the first to meet it says it."""
    if not was_reported(why):
        print_note(f"daelab: {why}")


def _out_of_memory(error: Exception) -> bool:
    # torch has a kind of its own for GPUs only; a CPU's is a RuntimeError like any other
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and re.search(r"out of memory|not enough memory|can't allocate memory|bad_alloc", str(error)) is not None
    )


def format_duration(seconds: float) -> str:
    """h:mm:ss.

    >>> format_duration(3725)
    '1:02:05'
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


@contextmanager
def show_progress(what: str, unit: str = "") -> Iterator[Callable[[float, int], None]]:
    """A progress bar with an ETA on stderr; nothing where stderr is no terminal, or another process's.

    Yields:
        a function to call with (done, in all); 0 in all means unknown.
    """
    if not sys.stderr.isatty() or read_world()[0]:
        yield lambda done, total: None
        return
    from rich import progress as rich
    from rich.console import Console

    columns = [
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.DownloadColumn() if unit == "bytes" else rich.MofNCompleteColumn(),
        rich.TimeRemainingColumn(),
    ]
    # lines on the same terminal go above the bar; those for a file or a pipe are not its business
    above = sys.stdout.isatty()
    with rich.Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=above) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)


class ConsoleProgress:
    """A line per epoch on stderr, and on a terminal a line that lives in between."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.shown = 0.0
        self.began = time.monotonic()
        self.first = 0
        self.epochs = self.steps = 0
        self.seconds = math.inf

    def start(self, run: str, epochs: int, steps: int, facts: dict[str, str], seconds: float = math.inf) -> None:
        """Say what is trained."""
        self.epochs, self.steps, self.seconds = epochs, steps, seconds
        self.began = time.monotonic()
        print_note(f"run {run}: {epochs} epochs of {steps} steps")
        for key, value in facts.items():
            print_note(f"  {key:<10}{value}")

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        """Ten times a second at most, on a terminal: where it is, how fast, how long still."""
        now = time.monotonic()
        done = (epoch - 1) * self.steps + step
        self.first = self.first or done
        if not self.live or now - self.shown < 0.1:
            return
        self.shown = now
        text = f"epoch {epoch}/{self.epochs}  step {step}/{self.steps}  {images_per_second:,.0f} images/s"
        sys.stderr.write(f"\r\x1b[2K{text}  left {self._left(done, now)}")
        sys.stderr.flush()

    def epoch(self, row: dict[str, float], best: BestEpoch) -> None:
        """One line for the epoch."""
        number = int(row["epoch"])
        star = "  best" if best.epoch == number else ""
        left = self._left(number * self.steps, time.monotonic())
        wipe = "\r\x1b[2K" if self.live else ""
        print_note(
            f"{wipe}epoch {number:>{len(str(self.epochs))}}/{self.epochs}"
            f"  train {row['train_loss']:.5f}  val {row['val_loss']:.5f}  PSNR {row['val_psnr']:.2f} dB"
            f"{'  F1 {:.2%}'.format(row['val_f1']) if 'val_f1' in row else ''}"
            f"  {row['images_per_second']:,.0f} images/s  left {left}{star}"
        )

    def _left(self, done: int, now: float) -> str:
        took = now - self.began
        per_step = took / max(1, done - self.first + 1)
        return format_duration(max(0.0, min(per_step * (self.epochs * self.steps - done), self.seconds - took)))
