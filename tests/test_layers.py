"""The house: rooms in the order of imports; heavy libraries wait; files and functions stay small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import daelab

PACKAGE = Path(daelab.__file__).parent
REPOSITORY = Path(__file__).parents[1]

# A room imports only from itself and from those above it. A package is one room.
ROOMS = [
    *("errors", "files", "tensorfile", "settings", "machine", "processes", "data", "noise", "spec", "model"),
    *("metrics", "judge", "losses", "evaluation", "recipe", "modelfile", "export", "runs", "training", "trackers"),
    *("method", "baselines", "tiles", "denoiser", "imagefiles", "report", "inspector", "cleaning", "explore"),
    *("api", "leaderboard", "reproduce", "serving", "cli"),
]
# The door and the bell: `__init__` re-exports lazily, `__main__` calls `cli`.
OUTSIDE = ("__init__.py", "__main__.py")
FOLDERS_OF_DATA = ("recipes", "weights")
TORCH_FREE = ("errors", "files", "settings", "processes", "spec")
HEAVY = (
    "torch",
    "matplotlib",
    "optuna",
    "skimage",
    "sklearn",
    "torchmetrics",
    "fastapi",
    "uvicorn",
    "mlflow",
    "tensorboard",
)

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name not in OUTSIDE)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import of daelab, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "daelab")


def faults(source: str, here: str, package: str) -> list[str]:
    found = []
    for line, name in imports(ast.parse(source), package):
        there = name.partition(".")[2].partition(".")[0]
        if there == "__version__":
            continue
        if there not in ROOMS:
            found.append(f"line {line}: {name}: import from the room that has it")
        elif ROOMS.index(there) > ROOMS.index(here):
            found.append(f"line {line}: {here} imports {name}, which stands below it")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_file_imports_only_from_rooms_above(path: Path) -> None:
    package = ".".join(["daelab", *path.relative_to(PACKAGE).parent.parts])
    assert faults(path.read_text(encoding="utf-8"), room(path), package) == []


UPWARD = {
    "import daelab.runs": "line 1: spec imports daelab.runs, which stands below it",
    "from daelab import runs": "line 1: spec imports daelab.runs, which stands below it",
    "from daelab.training.loop import fit": "line 1: spec imports daelab.training.loop.fit, which stands below it",
    "def f():\n    from daelab import errors, model": "line 2: spec imports daelab.model, which stands below it",
    "from . import model": "line 1: spec imports daelab.model, which stands below it",
    "from .model import build": "line 1: spec imports daelab.model.build, which stands below it",
    "import importlib\nimportlib.import_module('daelab.cli')": "line 2: spec imports daelab.cli, which stands below it",
    "import daelab": "line 1: daelab: import from the room that has it",
    "from daelab import load": "line 1: daelab.load: import from the room that has it",
}


@pytest.mark.parametrize("source", UPWARD)
def test_an_import_of_a_room_below_is_found(source: str) -> None:
    assert faults(source, "spec", "daelab") == [UPWARD[source]]
    assert faults("from daelab.errors import unknown\nimport torch", "spec", "daelab") == []


def test_every_file_is_in_a_room() -> None:
    there = {
        path.name.removesuffix(".py")
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" and path.name not in OUTSIDE) or any(path.glob("*.py"))
    }
    assert there == set(ROOMS)


@pytest.mark.parametrize("where", ["README.md", "src/daelab/__init__.py"])
def test_the_map_names_the_rooms_in_this_order(where: str) -> None:
    text = (REPOSITORY / where).read_text(encoding="utf-8")
    mapped = re.findall(r"^    (\w+)(\.py|/) {2,}\S", text, flags=re.MULTILINE)
    assert [name for name, _ in mapped if name not in FOLDERS_OF_DATA] == ROOMS
    for name, ending in mapped:
        assert (PACKAGE / f"{name}{ending}").exists()


# What is imported when


def loaded(code: str) -> set[str]:
    """Of the heavy libraries, those that are imported once `code` has run."""
    code = f"import sys\n{code}\nprint('\\n', *(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def command(*arguments: str) -> str:
    return f"""
import contextlib, io, runpy
sys.argv = ["daelab", *{arguments!r}]
with contextlib.redirect_stdout(io.StringIO()) as out:
    try:
        runpy.run_module("daelab", run_name="__main__")
    except SystemExit as end:
        assert not end.code, end.code
assert "Usage" in out.getvalue()
"""


@pytest.mark.parametrize(
    "code",
    [
        "import daelab\nassert 'load' in daelab.__all__",
        command("--help"),
        *(f"import daelab.{name}" for name in TORCH_FREE),
    ],
    ids=["import", "--help", *TORCH_FREE],
)
def test_what_need_not_import_torch_does_not(code: str) -> None:
    assert loaded(code) == set()


def test_the_whole_package_imports_without_the_optional_libraries() -> None:
    modules = sorted({".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in FILES})
    code = "\n".join(f"import {name.removesuffix('.__init__')}" for name in modules)
    assert loaded(code) == {"torch"}


def test_the_public_names_are_there() -> None:
    for name in daelab.__all__:
        assert getattr(daelab, name) is not None
    with pytest.raises(AttributeError, match="module 'daelab' has no attribute 'nonesuch'"):
        daelab.nonesuch  # noqa: B018


# Budgets


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_file_passes_400_lines_and_no_function_60(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, node.name
