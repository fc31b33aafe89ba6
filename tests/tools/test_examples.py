"""The notebooks under examples/ run from the first cell to the last."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run the cells in one namespace, and ask the last value of each for what a notebook shows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("daelab.experiments.train.write_run_report", lambda run: None)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["nbformat"] == 4
    names: dict[str, Any] = {"__name__": "notebook"}
    cells = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, 1):
        assert cell["outputs"] == [], "a notebook is stored without its outputs"
        tree = ast.parse("".join(cell["source"]), f"{path.name}, cell {number}")
        last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"{path.name}, cell {number}", "exec"), names)
        if last is not None:
            value = eval(compile(last, f"{path.name}, cell {number}", "eval"), names)
            assert getattr(value, "_repr_html_", value.__repr__)()


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["paper", "your_network", "your_pictures"]
