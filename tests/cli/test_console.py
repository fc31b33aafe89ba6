"""The output on the terminal: foreign text is escaped, errors are one line, and libraries are silent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import typer
from PIL import Image

from daelab._util.plugins import import_object
from daelab.cli.console import (
    escape_control_characters,
    format_count,
    name_standard_output,
    print_document,
    print_error,
    print_json,
    print_note,
    print_result,
    print_table,
)
from daelab.cli.process import INTERNAL_ERROR, INTERRUPTED, run_guarded
from daelab.experiments.reports.table import Table

HOSTILE = ["\x1b[2J", "\x9b31m", "\x07", "\x7f", "a\rb", "\u202egnp.exe", "\u2066", "\u200f", "\u2028", "\udcff"]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("show", [print_result, print_note, print_error, print_document])
def test_control_characters_are_escaped(
    show: Callable[[str], None], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show(f"before {text} after")
    said = "".join(capsys.readouterr())
    assert said.endswith(" after\n")
    assert said[:-1].isprintable()


def test_a_full_disk_behind_standard_output_is_named() -> None:
    with pytest.raises(OSError, match="full") as caught, name_standard_output():
        raise OSError(28, "the disk is full")
    assert caught.value.filename == "standard output"
    with pytest.raises(BrokenPipeError), name_standard_output():
        raise BrokenPipeError(32, "nobody reads")


@pytest.mark.parametrize("text", [*HOSTILE, "tab\tand\nline", "\U0001f600 äöü 日本"])
def test_escapes_in_json_mean_the_same(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_json({text: [text]})
    said = capsys.readouterr().out
    assert json.loads(said) == {text: [text]}
    assert all(line.isprintable() for line in said.splitlines())


def test_text_of_all_languages_stays(capsys: pytest.CaptureFixture[str]) -> None:
    text = "Ω äöü 日本 עברית \U0001f468‍\U0001f469"
    assert escape_control_characters(text) == text


def test_a_line_break_in_a_cell_begins_no_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(Table("runs", ["run", "PSNR"], [["a\nb    99.9", 1.5], ["c", 2.5]]))
    assert capsys.readouterr().out.splitlines() == [
        "run            PSNR",
        "a\\nb    99.9  1.500",
        "c             2.500",
    ]


def test_several_tables_have_an_empty_line_between_them(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("t", ["a"], [["b"]])
    print_table(table, table)
    assert capsys.readouterr().out == "a\nb\n\na\nb\n"


@pytest.mark.parametrize("length", [10, 389, 390, 391, 3_000_000])
def test_a_message_is_one_line_of_bounded_length(length: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_note("start\n" + "x" * (length - 9) + "end")
    line = capsys.readouterr().err
    assert line.startswith("start x")
    assert line.endswith("xend\n")
    assert len(line) == min(length, 390) + 1
    assert line.count("\n") == 1


def test_a_message_names_the_option_for_an_argument_of_python(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("a.png exists; overwrite=True replaces it, in_place=True too")
    assert capsys.readouterr().err == "daelab: a.png exists; --overwrite replaces it, --in-place too\n"


@pytest.mark.parametrize("count, text", [(0, "0 runs"), (1, "1 run"), (1200, "1,200 runs")])
def test_a_count_has_its_noun_in_the_right_number(count: int, text: str) -> None:
    assert format_count(count, "run") == text


def fail(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


ERRORS: list[tuple[BaseException, int, str]] = [
    (ValueError("seed: 3\n  is wrong"), 2, "daelab: seed: 3 is wrong\n"),
    (FileNotFoundError(2, "No such file or directory", "a\x1b.png"), 2, "daelab: a\\u001b.png: No such file or"),
    (FileExistsError(17, "File exists", "notes"), 2, "daelab: notes: it exists and is not a folder\n"),
    (NotADirectoryError(20, "Not a directory", "a/b"), 2, "daelab: a/b: a part of this path is a file, not a folder\n"),
    (MemoryError(), 2, "daelab: out of memory; "),
    (RuntimeError("CUDA out of memory"), 2, "daelab: out of memory; "),
    (KeyError("gain"), INTERNAL_ERROR, "daelab: a fault of daelab itself: KeyError: 'gain'; DAELAB_DEBUG=1 shows"),
    (KeyboardInterrupt(), INTERRUPTED, "daelab: interrupted; what is finished is kept\n"),
    (BrokenPipeError(32, "Broken pipe"), 1, ""),
]


@pytest.mark.parametrize("error, code, said", ERRORS, ids=lambda part: repr(part)[:30])
def test_every_error_is_one_line(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_guarded(fail(error)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert err.count("\n") == bool(said)


def test_an_interrupted_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer()
    app.command()(fail(KeyboardInterrupt()))  # typer turns it into an exit code
    assert run_guarded(lambda: app([], standalone_mode=False)) == INTERRUPTED
    assert capsys.readouterr().err == "daelab: interrupted; what is finished is kept\n"


def test_a_failure_of_the_users_code_names_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foreign_net.py").write_text("import foreign_helper\n\ndef run(x):\n    return foreign_helper.run(x)\n")
    (tmp_path / "foreign_helper.py").write_text("def run(x):\n    return {}[x]\n")
    assert run_guarded(partial(import_object("foreign_net:run", "model"), "gain")) == 2
    place = "foreign_helper.py, line 2, in run: KeyError: 'gain'"
    assert capsys.readouterr().err == f"daelab: {place}; this is not daelab's code; DAELAB_DEBUG=1 shows more\n"
    # What daelab does with its results is not its failure.
    assert run_guarded(fail(KeyError("gain"))) == INTERNAL_ERROR


def test_the_traceback_is_shown_for_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAELAB_DEBUG", "1")
    for error in (ValueError("a"), KeyError("b")):
        with pytest.raises(type(error)):
            run_guarded(fail(error))


def run_main(code: str, redirection: str = "", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run `main` in a process of its own, with a function `show` in place of the commands."""
    start = f"import sys, daelab.cli\n{code}\ndaelab.cli.app = lambda **_: show()\ndaelab.cli.main()"
    command = ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable, start]
    return subprocess.run(command, capture_output=True, check=False, env=os.environ | variables)


LIBRARIES = """
import os, warnings, logging
def show():
    os.write(2, b"TIFFFillStrip: an error of a library in C\\n")
    warnings.warn("a warning of a library")
    logging.getLogger("library").warning("a warning of its logger")
    logging.getLogger("hub").addHandler(logging.StreamHandler(sys.stderr))
    logging.getLogger("hub").error("an error of its handler")
    class Leaky:
        def __del__(self):
            raise ValueError("ignored by Python")
    del [Leaky()][0]
    print("a word of ours", file=sys.stderr)
    raise ValueError("the mistake")
"""


def test_libraries_print_no_lines_of_their_own() -> None:
    done = run_main(LIBRARIES)
    assert (done.returncode, done.stderr) == (2, b"a word of ours\ndaelab: the mistake\n")


def test_libraries_speak_for_debugging() -> None:
    said = run_main(LIBRARIES, DAELAB_DEBUG="1").stderr
    for word in (
        b"TIFFFillStrip",
        b"a warning of a library",
        b"a warning of its logger",
        b"its handler",
        b"ignored by",
        b"Traceback",
    ):
        assert word in said


def test_a_damaged_tiff_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.effect_noise((64, 64), 50).save(path, compression="tiff_lzw")
    data = bytearray(path.read_bytes())
    data[2000:2400] = bytes(400)
    path.write_bytes(data)
    done = run_main(f"def show():\n    from PIL import Image\n    Image.open({str(path)!r}).load()")
    assert done.returncode == 2
    assert done.stderr.startswith(b"daelab: ")
    assert done.stderr.count(b"\n") == 1


SHOW = "from daelab.cli.console import print_result\ndef show():\n    print_result('Ω' * {count})"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("count", [1, 100_000])
def test_a_full_disk_behind_standard_output_is_one_line(count: int) -> None:
    done = run_main(SHOW.format(count=count), "> /dev/full")
    assert (done.returncode, done.stderr) == (2, b"daelab: standard output: No space left on device\n")


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_fault(redirection: str) -> None:
    done = run_main(SHOW.format(count=1), redirection)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_reader_that_has_read_enough_is_no_fault() -> None:
    code = SHOW.format(count=1_000_000)
    assert run_main(code, "| head -c 1; exit ${PIPESTATUS[0]}").stderr == b""


def test_a_terminal_without_unicode_shows_escapes() -> None:
    done = run_main(SHOW.format(count=1), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, b"\\u03a9\n")
