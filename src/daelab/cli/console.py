"""Output that the commands share: results on stdout, progress on stderr, and one line per error.

Whatever the commands print passes through this module, which escapes control characters: names and texts from files
could otherwise move the cursor, recolor the terminal, or forge lines.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daelab._util.distributed import read_world
from daelab._util.text import escape_control_characters, fit_line, hide_password, replace_non_finite

if TYPE_CHECKING:
    from daelab.experiments.reports.table import Table
    from daelab.training.checkpoint import BestEpoch


def print_result(text: str = "") -> None:
    """Print a result to stdout, as one line.

    Args:
        text: The result.

    Raises:
        OSError: The disk behind a redirection is full. The message names standard output.
    """
    with name_standard_output():
        sys.stdout.write(escape_control_characters(text) + "\n")


@contextmanager
def name_standard_output() -> Iterator[None]:
    """Let an error of the operating system name standard output, to which the block writes."""
    try:
        yield
    except OSError as error:
        # OSError chooses its class by the number, so that a broken pipe stays one.
        raise OSError(error.errno, error.strerror, "standard output") from None


def print_document(text: str) -> None:
    """Print a text of several lines to stdout.

    Args:
        text: The text. Its line breaks are kept, so those of foreign texts in it must be escaped already.
    """
    for line in text.split("\n"):
        print_result(line)


def print_table(*tables: Table) -> None:
    """Print tables to stdout, with an empty line between them.

    Args:
        tables: The tables.
    """
    for number, table in enumerate(tables):
        if number:
            print_result()
        # Escaped before the columns are aligned, and so that a line break in a cell begins no new row.
        rows = [
            [escape_control_characters(cell) if isinstance(cell, str) else cell for cell in row] for row in table.rows
        ]
        print_document(replace(table, rows=rows).to_text())


def print_note(text: str) -> None:
    """Print a note to stderr, as one line of bounded length.

    Args:
        text: The note. If it is too long, its middle is left out.
    """
    sys.stderr.write(fit_line(text) + "\n")
    sys.stderr.flush()


_CARRIED = {
    "DAELAB_DATA": ("--data-root",),
    "DAELAB_RUNS": (),
    "DAELAB_LEDGER": ("--ledger", "--storage"),
    "DAELAB_DEVICE": ("--device",),
}
"""The environment variables that commands read, and the options that take their place."""


def format_command(*words: object) -> str:
    """Format a command that can be pasted into the user's shell as it is.

    It begins as the running command did: by the path of the program, and with the variables and options that say where
    data, runs and ledger are and which device computes.

    Args:
        words: The words after `daelab`.
    """
    if os.name == "nt":  # its shells do not take variables before a command
        return subprocess.list2cmdline([*_find_program(), *map(str, words)])
    return shlex.join([*_list_settings(), *_find_program(), *map(str, words)])


def _find_program() -> list[str]:
    """Return the words that started this program."""
    path = Path(sys.argv[0])
    if path.name == "__main__.py":
        return ["python" if shutil.which("python") == sys.executable else sys.executable, "-m", "daelab"]
    found = shutil.which("daelab")
    named = path.name == str(path) or path.stem != "daelab" or (found and path.exists() and path.samefile(found))
    return ["daelab"] if named else [str(path)]


def _list_settings() -> list[str]:
    """Return the variables that the next command needs too, as `env` and NAME=VALUE."""
    settings = []
    for variable, options in _CARRIED.items():
        given = [word.partition("=")[2] for word in sys.argv if word.startswith(tuple(f"{name}=" for name in options))]
        given += [value for name, value in itertools.pairwise(sys.argv) if name in options]
        value = given[-1] if given else os.environ.get(variable, "")
        # A password is not printed, so its user has to set the variable again.
        if value not in ("", "auto") and hide_password(value) == value:
            settings.append(f"{variable}={value}")
    return ["env", *settings] if settings else []


_ADVICE = re.compile(r"(?<=with: )daelab (?=[a-z])")
"""The start of a command in a message."""


def print_error(text: str) -> None:
    """Print a message about a mistake or a fault to stderr.

    Args:
        text: The message. Where it names an argument of Python, such as overwrite=True, the option is named instead.
    """
    spoken = re.sub(r"\b([a-z]+(?:_[a-z]+)*)=True\b", lambda match: f"--{match[1].replace('_', '-')}", text)
    print_note(f"daelab: {_ADVICE.sub(lambda _: f'{format_command()} ', spoken)}")


def print_json(value: Any) -> None:
    """Print one JSON document to stdout.

    Args:
        value: Plain values. Infinities and NaN, which JSON does not have, become null.
    """
    print_document(json.dumps(replace_non_finite(value), indent=2, allow_nan=False, ensure_ascii=False))


def format_count(count: int, noun: str) -> str:
    """Return a number with its noun in the singular or the plural.

    Args:
        count: The number.
        noun: The noun in the singular, whose plural ends in s.

    >>> format_count(1, "epoch"), format_count(2000, "epoch")
    ('1 epoch', '2,000 epochs')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


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
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.DownloadColumn() if unit == "bytes" else rich.MofNCompleteColumn(),
        rich.TimeRemainingColumn(),
    ]
    # Results on the same terminal are printed above the bar. Those that go to a file or a pipe must not be redirected.
    redirect = sys.stdout.isatty()
    with rich.Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=redirect) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)


_WIPE = "\r\x1b[2K"
"""What a terminal needs to write the current line anew."""


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
        print_note(f"run {run}: {format_count(epochs, 'epoch')} of {format_count(steps, 'step')}")
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
        sys.stderr.write(f"{_WIPE}{text}  left {self._left(done, now)}")
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
        if self.live:
            sys.stderr.write(_WIPE)
        print_note(
            f"epoch {number:>{len(str(self.epochs))}}/{self.epochs}"
            f"  {_format_scores(row)}  {row['images_per_second']:,.0f} images/s  left {left}{star}"
        )

    def test(self, done: int, images: int) -> None:
        """Print a line when all test images are scored.

        Args:
            done: Number of scored images.
            images: Number of test images.
        """
        if done == images:
            print_note(f"tested on {format_count(images, 'image')}")

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
