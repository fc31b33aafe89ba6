"""The structure of the package: packages, imports and sizes stay within limits, and public names are unique."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import structure

SCRIPT = Path(__file__).parents[2] / "tools" / "structure.py"

COMMAND = "a command is named as the function of the public API that it calls"
# public name -> why more than one module defines it
SAME_NAMES = {
    "adapt": COMMAND,
    "app": "Typer's name for a group of commands",
    "compare": COMMAND,
    "denoise": COMMAND,
    "evaluate": COMMAND,
    "log": "the logger `daelab.web`, as the standard library names it",
    "main": "the entry point of a program: the command line, and a worker process of the server",
    "export": "the commands `daelab export` and `daelab ledger export`",
    "serve": COMMAND,
    "train": COMMAND,
}


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    measured: dict[str, Any] = structure.measure_structure()
    return measured


@pytest.mark.parametrize(
    "name", ["packages", "edges", "mutual_imports", "cycles", "file_max", "function_max", "duplicate_names"]
)
def test_a_figure_is_within_its_limit(name: str, figures: dict[str, Any]) -> None:
    assert figures[name] <= structure.LIMITS[name], figures["lists"].get(name)


def test_a_public_name_has_one_meaning(figures: dict[str, Any]) -> None:
    duplicates = figures["lists"]["duplicate_names"]
    assert {name: places for name, places in duplicates.items() if name not in SAME_NAMES} == {}
    assert set(SAME_NAMES) <= set(duplicates), "take names off the list that are unique now"


# The measurement itself, on a package of three modules


ONE = '''"""Docstring
of two lines."""

from daelab import two  # a comment
import daelab.high.three

LIMIT = 3
"""The docstring of an attribute."""


def double(value, *, _hidden=0):
    """Return twice a value.

    Args:
        value: the value.
    """

    # why
    def inner():
        return 2 * value

    return inner()


class Thing:
    def method(self):
        return (
            1
        )
'''
TWO = "from daelab.one import double\nLIMIT, OTHER = 1, 2\n\n\ndef half(value):\n    return value / 2  # noqa: X1\n"
THREE = "import torch\n\n\ndef step(loss):\n    loss.backward()\n"


@pytest.fixture
def modules() -> list[Any]:
    names = {"": "", "one": ONE, "two": TWO, "high.three": THREE, "high": ""}
    return [structure.Module(name, text) for name, text in names.items()]


def test_imports_are_found(modules: list[Any]) -> None:
    graph = structure.build_import_graph(modules)
    assert graph == {"": set(), "one": {"two", "high.three"}, "two": {"one"}, "high.three": set(), "high": set()}
    packages = structure.build_package_graph(graph)
    assert packages == {"one": {"two", "high"}, "two": {"one"}, "high": set()}
    assert structure.find_mutual_imports(packages) == [("one", "two")]
    assert structure.find_cycles(packages) == [["one", "two"]]
    assert structure.find_cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_lines_are_counted(modules: list[Any]) -> None:
    one, two = modules[1], modules[2]
    assert (one.code_lines, two.code_lines) == (12, 4)
    assert (one.comment_count, two.comment_count) == (2, 0)
    bodies = {function.name: structure.count_body_lines(function) for function in one.functions}
    assert bodies == {"double": 4, "inner": 1, "method": 3}


def test_names_and_docstrings_are_found(modules: list[Any]) -> None:
    one, two = modules[1], modules[2]
    assert structure.list_public_names(two) == {"LIMIT", "OTHER", "half"}
    assert structure.find_duplicate_names(modules) == {"LIMIT": ["one", "two"]}
    documented = {
        name: structure.has_documented_arguments(function)
        for module in (one, two)
        for name, function in structure.list_public_functions(module).items()
    }
    assert documented == {"double": True, "Thing.method": None, "half": False}


def test_arguments_are_documented_by_a_section_a_link_or_the_help_of_a_command() -> None:
    texts = {
        "one": ONE,
        "high.three": 'def linked(value):\n    """Return twice a value; see `double`."""\n\n\n'
        'def lost(value):\n    """Return a value; see `half`."""\n',
        "cli.four": 'def four(value):\n    """Run."""\n\n\n@app.command("six")\ndef five(value):\n    """Run."""\n',
    }
    missing = structure.find_missing_arguments([structure.Module(name, text) for name, text in texts.items()])
    assert missing == {"one.double": False, "high.three.linked": False, "high.three.lost": True}


def test_every_public_function_documents_its_arguments(figures: dict[str, Any]) -> None:
    assert figures["lists"]["args_share"] == []


def test_the_whole_is_measured(modules: list[Any]) -> None:
    measured = structure.measure_structure(modules)
    assert set(measured) == {*structure.LIMITS, *structure.GOALS, "lists"}
    assert (measured["packages"], measured["edges"], measured["cycles"]) == (3, 3, 2)
    assert measured["lists"]["engines"] == ["high.three"]
    assert measured["args_share"] == pytest.approx(1 / 3)
