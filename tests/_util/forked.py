"""Processes of this Python as forks of the test's process: they do the same without seconds of imports."""

from __future__ import annotations

import gc
import os
import runpy
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

PYTHON = sys.executable


class ForkedPopen(subprocess.Popen[Any]):
    """`subprocess.Popen`, except that `python -m MODULE`, `python -c CODE` and `python FILE` are forks.

    They have their own arguments, variables, folder and streams, and end with the exit code of the program. Modules
    that were imported stay so, with what tests changed in them.
    """

    def __init__(self, args: Any, **options: Any) -> None:
        words = [os.fspath(word) for word in args] if isinstance(args, Sequence) and not isinstance(args, str) else []
        known = words[1:] and (words[1] in ("-c", "-m", "-P") or not words[1].startswith("-"))
        if sys.platform == "linux" and words[:1] == [PYTHON] and known:
            # What it calls after the fork never returns, so that no program replaces the fork.
            options["preexec_fn"] = partial(_become, words[1:], options.get("env"))
        with warnings.catch_warnings():
            # Newer Pythons warn of threads; those of the tests wait, and hold nothing that a fork needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            super().__init__(args, **options)


@contextmanager
def forking() -> Iterator[None]:
    """Let all that starts processes of this Python fork, here and in these forks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", ForkedPopen)
        yield


def _become(words: list[str], environment: Mapping[str, str] | None) -> NoReturn:
    """Run the program with these words and end."""
    code: object = 1
    try:
        gc.freeze()  # what the test's process made is that process's to finalize
        _let_go_of_files()
        if environment is not None:
            os.environ.clear()
            os.environ.update(environment)
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        warnings.simplefilter("ignore")
        sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        _run(words[words[0] == "-P" :])
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    if not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code & 0xFF)


def _run(words: list[str]) -> None:
    first, *rest = words
    if first == "-m":
        sys.argv, sys.path[:0] = rest, [str(Path.cwd())]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv, sys.path[:0] = ["-c", *rest[1:]], [str(Path.cwd())]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[:0] = words, [str(Path(first).resolve().parent)]
        runpy.run_path(first, run_name="__main__")


def _let_go_of_files() -> None:
    """Lead every open file but the three streams nowhere: a number that was free could be closed by its old owner."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in [int(path.name) for path in Path("/dev/fd").iterdir()]:
        if number > 2:
            with suppress(OSError):  # the listing itself was open
                os.fstat(number)
                os.dup2(nowhere, number, inheritable=False)
