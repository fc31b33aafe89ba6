"""The process of a command: its exit code, one line for each error, and silence of the libraries."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO, cast

from daelab._util.distributed import LostProcessError, was_reported
from daelab._util.plugins import find_foreign_code
from daelab._util.text import summarize_error
from daelab.cli.console import name_standard_output, print_error
from daelab.cli.help import describe_usage_error
from daelab.errors import describe_error, is_out_of_memory

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells give it: 128 plus the number of the signal."""
INTERNAL_ERROR = 70
"""The exit code for a fault of daelab itself: EX_SOFTWARE of sysexits.h."""


def limit_spinning() -> None:
    """Let the threads of PyTorch sleep soon when they wait for each other, unless the user has chosen otherwise.

    By default they spin for milliseconds, and thereby take the cores from each other if other programs run.
    """
    # libgomp reads it once, when PyTorch is imported.
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "1000"


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Keep libraries from printing lines of their own, such as warnings of numpy and error messages of libtiff.

    Libraries in C write to file descriptor 2, so that descriptor leads nowhere meanwhile, and `sys.stderr` has another.
    With $DAELAB_DEBUG set, nothing is silenced.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # the shell closed it
            setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for an encoding that lacks a character
    if os.environ.get("DAELAB_DEBUG"):
        yield
        return
    # Some loggers have handlers of their own, and Python itself prints the warnings of those that have none.
    logging.disable(logging.CRITICAL)
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings(action="ignore"), _hide_descriptor():
            yield
    finally:
        sys.unraisablehook = hook
        logging.disable(logging.NOTSET)


@contextmanager
def _hide_descriptor() -> Iterator[None]:
    """Lead file descriptor 2 nowhere, and `sys.stderr` to where it led before."""
    if sys.stderr is not sys.__stderr__:  # something else reads it
        yield
        return
    shown = cast(TextIO, sys.stderr)
    shown.flush()
    with (
        os.fdopen(os.dup(2), "w", buffering=1, encoding=shown.encoding, errors="backslashreplace") as kept,
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
    ):
        os.dup2(nowhere.fileno(), 2)
        sys.stderr = kept
        try:
            yield
        finally:
            kept.flush()
            os.dup2(kept.fileno(), 2)
            sys.stderr = shown


def run_guarded(run: Callable[[], object]) -> int:
    """Run a command, and print an error that its user can mend as one line on stderr.

    With $DAELAB_DEBUG set, the traceback is shown instead.

    Args:
        run: The command. It may return an exit code.

    Returns:
        The exit code: 0, 2 for wrong usage or bad input, 1 if another process was lost, 70 for a fault of daelab
        itself, and 128 plus the number of a signal that ended it.
    """
    try:
        code = run()
        _flush_results()
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has read enough
        return 1
    except (ValueError, OSError) as error:
        if os.environ.get("DAELAB_DEBUG"):
            raise
        _print_error_once(describe_error(error))
        return 2
    except LostProcessError as error:
        if not was_reported(str(error), loss=True):
            print_error(str(error))
        return 1
    except KeyboardInterrupt:
        return _report_interruption()
    except Exception as error:
        return _handle_other_error(error)
    # Typer turns the interruption of a command into its exit code.
    return _report_interruption() if code == INTERRUPTED else code if isinstance(code, int) else 0


def _report_interruption() -> int:
    print_error("interrupted; what is finished is kept")
    return INTERRUPTED


def _flush_results() -> None:
    """Write what stdout has buffered, so that a full disk is reported, and reported once."""
    try:
        with name_standard_output():
            sys.stdout.flush()
    except OSError:
        # Python would try again at its exit, and print a traceback.
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        raise


def _handle_other_error(error: Exception) -> int:
    """Print an error that is neither a ValueError nor an OSError, and return the exit code."""
    signum = getattr(error, "signum", None)
    if signum is not None:
        _print_error_once(str(error))
        return 128 + int(signum)
    if hasattr(error, "format_message"):  # a mistake in the arguments, which typer found
        _print_error_once(describe_usage_error(error))
        return 2
    if os.environ.get("DAELAB_DEBUG"):
        raise error
    if is_out_of_memory(error):
        print_error("out of memory; use a smaller batch (training.batch), or close other programs")
        return 2
    if place := find_foreign_code(error):
        _print_error_once(f"{place}: {summarize_error(error)}; this is not daelab's code; DAELAB_DEBUG=1 shows more")
        return 2
    print_error(
        f"a fault of daelab itself: {type(error).__name__}: {error}; DAELAB_DEBUG=1 shows where. Please report it."
    )
    return INTERNAL_ERROR


def _print_error_once(message: str) -> None:
    """Print an error unless another process of the group has printed it."""
    if not was_reported(message):
        print_error(message)
