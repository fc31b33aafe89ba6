"""The architecture: allowed imports, no cycles, no hidden imports, and limits of size."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import daelab

PACKAGE = Path(daelab.__file__).parent
REPOSITORY = Path(__file__).parents[1]

# Every package may import `_util` and `errors`, and beyond these the packages named here.
LOW = ("noise", "image_io", "runs", "datasets", "models", "evaluation", "denoising")
ALLOWED = {
    "errors": (),
    "_util": (),
    "noise": (),
    "image_io": (),
    "runs": (),
    "datasets": ("image_io",),
    "models": ("noise",),
    "evaluation": ("noise", "datasets", "models"),
    "denoising": ("noise", "image_io", "runs", "datasets", "models", "evaluation"),
    "training": LOW,
    "experiments": (*LOW, "training"),
    "web": (*LOW, "experiments"),
    "cli": (*LOW, "training", "experiments", "web"),
}
# `__init__` loads the public names lazily, `__main__` calls `cli`.
OUTSIDE = ("__init__.py", "__main__.py")
FOLDERS_OF_DATA = ("recipes", "weights")
TORCH_FREE = ("errors", "_util.files", "_util.config", "_util.distributed", "models.architectures.presets")
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
# A command is imported to print its help, so the functions of `cli` import what they run. Elsewhere a function imports
# only optional or heavy libraries.
LAZY_PACKAGES = ("cli",)

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name not in OUTSIDE)


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def list_imports(tree: ast.AST) -> Iterator[tuple[int, str, bool]]:
    """Yield every import of daelab: its line, its dotted name, and whether it is inside a function."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                node.inside = True  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        else:
            continue
        hidden = getattr(node, "inside", False)
        yield from ((node.lineno, name, hidden) for name in names if name.split(".")[0] == "daelab")


def find_faults(source: str, package: str) -> list[str]:
    faults = []
    for line, name, hidden in list_imports(ast.parse(source)):
        target = name.partition(".")[2].partition(".")[0]
        if target == "__version__":
            continue
        if target not in ALLOWED:
            faults.append(f"line {line}: {name}: import from the module that defines it")
        elif target not in (package, "_util", "errors", *ALLOWED[package]):
            faults.append(f"line {line}: {package} may not import {name}")
        elif hidden and package not in LAZY_PACKAGES:
            faults.append(f"line {line}: {name} is imported inside a function")
    return faults


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    assert find_faults(path.read_text(encoding="utf-8"), package_of(path)) == []


FAULTS = {
    "import daelab.runs": "line 1: models may not import daelab.runs",
    "from daelab import runs": "line 1: models may not import daelab.runs",
    "from daelab.training.engine import x": "line 1: models may not import daelab.training.engine.x",
    "def f():\n    from daelab import errors": "line 2: daelab.errors is imported inside a function",
    "import importlib\nimportlib.import_module('daelab.cli')": "line 2: models may not import daelab.cli",
    "import daelab": "line 1: daelab: import from the module that defines it",
    "from daelab import load_model": "line 1: daelab.load_model: import from the module that defines it",
}


@pytest.mark.parametrize("source", FAULTS)
def test_a_forbidden_import_is_found(source: str) -> None:
    assert find_faults(source, "models") == [FAULTS[source]]
    assert find_faults("from daelab.errors import make_unknown_name_error\nimport torch", "models") == []


def test_every_package_is_in_the_table() -> None:
    there = {
        path.name.removesuffix(".py")
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" and path.name not in OUTSIDE) or any(path.glob("*.py"))
    }
    assert there == set(ALLOWED)


def test_no_cycle_inside_a_package() -> None:
    """Follow every import from module to module. A module that reaches itself is in a cycle."""
    modules = {module_of(path): path for path in FILES}
    graph = {}
    for module, path in modules.items():
        names = {name for _, name, _ in list_imports(ast.parse(path.read_text(encoding="utf-8")))}
        targets = {name if name in modules else name.rpartition(".")[0] for name in names}
        graph[module] = targets & set(modules)
    finished: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if module not in finished:
            for target in sorted(graph[module]):
                visit(target, (*trail, module))
            finished.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_the_map_names_every_package() -> None:
    text = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    for name in set(ALLOWED) - {"errors"}:
        assert f"    {name}/ " in text


# What is imported when


def loaded(code: str) -> set[str]:
    """Return the heavy libraries that are imported once `code` has run."""
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
        "import daelab\nassert 'load_model' in daelab.__all__",
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
            docstring = ast.get_docstring(node, clean=False) or ""
            assert node.end_lineno - node.lineno - docstring.count("\n") < 60, node.name
