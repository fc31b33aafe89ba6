"""Measure the structure of the package: packages, imports, sizes, documentation and public names.

    python tools/structure.py          print every figure beside its limit
    python tools/structure.py --json   print one JSON document

`tests/tools/test_structure.py` holds the limits that must not be exceeded.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import statistics
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1] / "src" / "daelab"
LIMITS: dict[str, float] = {
    "packages": 13,
    "edges": 65,
    "mutual_imports": 0,
    "cycles": 0,
    "code_lines": 13_500,
    "file_median": 139,
    "file_max": 400,
    "function_median": 8,
    "function_p90": 22,
    "function_max": 60,
    "duplicate_names": 15,
    "engines": 1,
}
"""The largest value that each figure may have."""
GOALS: dict[str, float] = {"args_share": 1.0, "comments_per_100": 3.0}
"""The smallest value that each figure should have."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A module of the package."""

    name: str
    """The dotted name below the package, such as `noise.base`; "" for the package itself."""
    text: str
    package: bool = False
    """Whether the file is the `__init__.py` of a package."""

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text)

    @property
    def top(self) -> str:
        """The package or module directly below the root that it belongs to."""
        return self.name.partition(".")[0]

    @cached_property
    def docstring_lines(self) -> set[int]:
        """The numbers of the lines that hold docstrings, those of attributes too."""
        bodies = [node.body for node in ast.walk(self.tree) if isinstance(getattr(node, "body", None), list)]
        texts = [
            node
            for body in bodies
            for node in body
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        ]
        return {line for node in texts for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}

    @cached_property
    def comment_count(self) -> int:
        """The number of comments, without those that instruct a tool."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
        return sum(not comment.startswith(("# noqa", "# type:", "#!")) for comment in comments)

    @cached_property
    def code_lines(self) -> int:
        """The number of lines that are no docstring, no comment and not blank."""
        numbered = enumerate(self.text.splitlines(), 1)
        code = [line for number, line in numbered if number not in self.docstring_lines and line.strip()]
        return sum(not line.lstrip().startswith("#") for line in code)

    @property
    def functions(self) -> list[Function]:
        """Every function and method, nested ones too."""
        return [node for node in ast.walk(self.tree) if isinstance(node, Function)]


def read_modules(root: Path = PACKAGE) -> list[Module]:
    """Read every module of the package.

    Args:
        root: the folder of the package.
    """
    modules = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if package else parts)
        modules.append(Module(name, path.read_text(encoding="utf-8"), package))
    return modules


def list_imported_names(module: Module, root: str = "daelab") -> Iterator[str]:
    """Yield the dotted names below the package that a module imports.

    Args:
        module: the module.
        root: the name of the package.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.partition(".")[2] for name in names if name.partition(".")[0] == root)


def build_import_graph(modules: Iterable[Module]) -> dict[str, set[str]]:
    """Return which modules each module imports.

    Args:
        modules: the modules of the package.
    """
    modules = list(modules)
    known = {module.name for module in modules}
    graph = {}
    for module in modules:
        names = set(list_imported_names(module))
        graph[module.name] = {name if name in known else name.rpartition(".")[0] for name in names} & known
        graph[module.name].discard(module.name)
    return graph


def build_package_graph(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return which packages and modules directly below the root import which.

    Args:
        graph: the imports of each module. The root itself, which only hands on names, is left out.
    """
    tops: dict[str, set[str]] = {}
    for name, targets in graph.items():
        top = name.partition(".")[0]
        if top not in {"", "__main__"}:
            found = {target.partition(".")[0] for target in targets}
            tops.setdefault(top, set()).update(found - {top, ""})
    return tops


def find_mutual_imports(graph: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Return the pairs of nodes that import each other.

    Args:
        graph: the imports of each node.
    """
    return sorted((one, two) for one in graph for two in graph[one] if one < two and one in graph.get(two, ()))


def find_cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of two or more nodes that reach each other, each sorted.

    Args:
        graph: the imports of each node.
    """
    reached = {}
    for start in graph:
        seen: set[str] = set()
        queue = list(graph[start])
        while queue:
            node = queue.pop()
            if node not in seen:
                seen.add(node)
                queue += graph.get(node, ())
        reached[start] = seen
    groups = {tuple(sorted(n for n in reached[node] if node in reached.get(n, ()))) for node in graph}
    return [list(group) for group in sorted(groups) if group]


def count_body_lines(function: Function) -> int:
    """Return the number of lines of a function's body, without its docstring.

    Args:
        function: the function.
    """
    body = function.body
    if ast.get_docstring(function, clean=False) is not None:
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def list_public_names(module: Module) -> set[str]:
    """Return the public functions, classes and constants that a module defines.

    Args:
        module: the module.
    """
    names: set[str] = set()
    for node in module.tree.body:
        if isinstance(node, Function | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def find_duplicate_names(modules: Iterable[Module]) -> dict[str, list[str]]:
    """Return the public names that more than one module defines, with these modules.

    Args:
        modules: the modules of the package.
    """
    places: dict[str, list[str]] = {}
    for module in modules:
        for name in list_public_names(module):
            places.setdefault(name, []).append(module.name)
    return {name: places[name] for name in sorted(places) if len(places[name]) > 1}


def has_documented_arguments(function: Function) -> bool | None:
    """Return whether the docstring of a public function has a section `Args`, or None if it takes no argument.

    Args:
        function: the function or method.
    """
    arguments = function.args
    named = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    named += [argument.arg for argument in (arguments.vararg, arguments.kwarg) if argument]
    if not {name for name in named if not name.startswith("_")} - {"self", "cls"}:
        return None
    return "Args:" in (ast.get_docstring(function) or "")


def list_public_functions(module: Module) -> dict[str, Function]:
    """Return the public functions of a module and the public methods of its public classes, by `name` or `Class.name`.

    Args:
        module: the module.
    """
    classes = [node for node in module.tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    bodies = {"": module.tree.body} | {f"{node.name}.": node.body for node in classes}
    functions = {
        f"{prefix}{node.name}": node for prefix, body in bodies.items() for node in body if isinstance(node, Function)
    }
    return {name: function for name, function in functions.items() if not function.name.startswith("_")}


def find_missing_arguments(modules: Iterable[Module]) -> dict[str, bool]:
    """Return whether the documentation of its arguments is missing, for each public function that takes some.

    A method may name the one that it implements instead: "see `Noise.apply`". The functions of commands are left out,
    since `--help` documents their options.

    Args:
        modules: the modules of the package.
    """
    functions = {
        (module.name, name): node for module in modules for name, node in list_public_functions(module).items()
    }
    documented = {name for (_, name), node in functions.items() if has_documented_arguments(node)}
    missing = {}
    for (module, name), function in functions.items():
        decorators = " ".join(map(ast.unparse, function.decorator_list))
        is_command = "app.command" in decorators or module == f"cli.{name}"
        if not is_command and (has := has_documented_arguments(function)) is not None:
            links = re.findall(r"[Ss]ee `([\w.]+)`", ast.get_docstring(function) or "")
            missing[f"{module}.{name}"] = not (has or documented.intersection(links))
    return missing


def measure_structure(modules: Iterable[Module] | None = None) -> dict[str, Any]:
    """Measure the package.

    Args:
        modules: its modules; read from the repository if they are not given.

    Returns:
        Every figure by its name, and the lists behind some of them.
    """
    modules = read_modules() if modules is None else list(modules)
    graph = build_import_graph(modules)
    packages = build_package_graph(graph)
    files = [len(module.text.splitlines()) for module in modules]
    bodies = sorted(count_body_lines(function) for module in modules for function in module.functions)
    code = sum(module.code_lines for module in modules)
    missing = find_missing_arguments(modules)
    duplicates = find_duplicate_names(modules)
    engines = [module.name for module in modules if ".backward(" in module.text]
    return {
        "packages": len(packages),
        "edges": sum(map(len, packages.values())),
        "mutual_imports": len(find_mutual_imports(packages)) + len(find_mutual_imports(graph)),
        "cycles": len(find_cycles(packages)) + len(find_cycles(graph)),
        "code_lines": code,
        "file_median": statistics.median(files),
        "file_max": max(files),
        "function_median": statistics.median(bodies),
        "function_p90": bodies[int(0.9 * len(bodies))],
        "function_max": bodies[-1],
        "args_share": 1 - sum(missing.values()) / max(len(missing), 1),
        "comments_per_100": 100 * sum(module.comment_count for module in modules) / code,
        "duplicate_names": len(duplicates),
        "engines": len(engines),
        "lists": {
            "packages": {name: sorted(targets) for name, targets in sorted(packages.items())},
            "cycles": find_cycles(packages) + find_cycles(graph),
            "duplicate_names": duplicates,
            "engines": engines,
            "args_share": [name for name in missing if missing[name]],
        },
    }


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--json", action="store_true", help="print one JSON document")
    args = options.parse_args()
    figures = measure_structure()
    if args.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        if name == "lists":
            continue
        limit = f"at most {LIMITS[name]:g}" if name in LIMITS else f"at least {GOALS[name]:g}"
        within = value <= LIMITS[name] if name in LIMITS else value >= GOALS[name]
        print(f"{name:<20}{value:>10.4g}" if isinstance(value, float) else f"{name:<20}{value:>10,}", end="  ")
        print(limit if within else f"{limit}: exceeded")
    for name, places in figures["lists"]["duplicate_names"].items():
        print(f"  {name}: {', '.join(places)}")
    print(f"  engines: {', '.join(figures['lists']['engines'])}")
    print(f"  undocumented arguments: {', '.join(figures['lists']['args_share']) or 'none'}")


if __name__ == "__main__":
    main()
