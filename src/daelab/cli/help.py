"""How `daelab COMMAND --help` reads, and what the shell completes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from daelab._util.config import list_shipped_configs


class HelpfulCommand(TyperCommand):
    """A command whose help ends, as a manual's page does, with its example: the last paragraph of its docstring."""

    def _parts(self) -> tuple[str, str]:
        """What it does, and the example."""
        text, _, example = inspect.cleandoc(self.help or "").partition("\nExample: ")
        return text.strip(), example.strip()

    @property
    def example(self) -> str:
        """A whole line, as it is typed."""
        return self._parts()[1]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """What it does."""
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(self._parts()[0])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The example, on one line however long, so that it can be copied."""
        if self.example:
            with formatter.section("Example"):
                formatter.write(f"  {self.example}\n")


EPILOG = """\b
Environment:
  DAELAB_DATA    folder of CIFAR-10 and cbsd68; --data-root goes before it
  DAELAB_RUNS    folder of the runs; else runs
  DAELAB_LEDGER  database URL of the ledger; --ledger goes before it
  DAELAB_TOKEN   what visitors of `daelab serve` must know
  DAELAB_DEBUG   set to anything: a mistake shows its traceback

\b
Exit codes:
  0  done
  1  done but for a part, or a tolerance that was missed
  2  a mistake, said in one line
"""
"""Of `daelab --help`."""


# names are read from files' names: completion must not wait for torch


def _completer(names: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def _runs() -> list[str]:
    folder = Path(os.environ.get("DAELAB_RUNS", "runs"))
    return sorted(path.parent.name for path in folder.glob("*/recipe.toml"))


def _models() -> list[str]:
    weights = Path(str(resources.files("daelab"))) / "models" / "weights"
    return [*sorted(path.stem for path in weights.glob("*.safetensors")), *_runs()]


def _recipes() -> list[str]:
    return [name for name in list_shipped_configs() if not name.startswith(("judge/", "explore/"))]


complete_models = _completer(_models)
"""Models that ship, and runs."""
complete_runs = _completer(_runs)
complete_recipes = _completer(_recipes)
"""Recipes of runs; those of judges and the spaces have commands of their own."""
complete_classifiers = _completer(lambda: list(list_shipped_configs("judge")))
complete_spaces = _completer(lambda: list(list_shipped_configs("explore")))
