"""The layout of `daelab COMMAND --help`, and the names that the shell completes."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from daelab._util.files import list_shipped_configs
from daelab._util.text import shorten_reason
from daelab.errors import make_unknown_name_error

_TABLES = {
    "architectures": ("daelab.models.architectures.presets", "ARCHITECTURE_PRESETS"),
    "baselines": ("daelab.denoising.classical", "CLASSICAL_METHODS"),
    "boards": ("daelab.experiments.leaderboard.boards", "BOARDS"),
    "classifiers": ("daelab.evaluation.classifiers.registry", "CLASSIFIERS"),
    "datasets": ("daelab.datasets.registry", "DATASETS"),
    "losses": ("daelab.training.losses", "LOSSES"),
    "metrics": ("daelab.evaluation.metrics", "list_standard_metrics"),
    "requested_metrics": ("daelab.evaluation.metrics", "list_requested_metrics"),
    "noises": ("daelab.noise.grammar", "list_terms"),
    "presets": ("daelab.noise.grammar", "PRESETS"),
}
"""The tables whose names a help text lists: a placeholder such as `{datasets}` -> the module and the name."""


def fill_names(text: str) -> str:
    """Replace the placeholders of a help text by the names in the tables, so that a new row shows in the help.

    Args:
        text: A help text, with placeholders such as `{datasets}`.

    >>> fill_names("A data set: {boards}.")
    'A data set: cifar10, cbsd68, photos, paired:PATH.'
    """
    return re.sub(r"\{(" + "|".join(_TABLES) + r")\}", lambda match: ", ".join(_read_table(match[1])), text)


def _read_table(placeholder: str) -> list[str]:
    # The tables import torch, so they are read only for a help text that lists them.
    module, name = _TABLES[placeholder]
    table = getattr(importlib.import_module(module), name)
    return list(table() if callable(table) else table)


def describe_usage_error(error: Any) -> str:
    """Describe a mistake in the arguments of a command in one line.

    Args:
        error: An error of typer, which has the context in which it occurred.
    """
    context = error.ctx
    if hasattr(error, "possibilities"):
        options = [name for parameter in context.command.get_params(context) for name in parameter.opts]
        return str(make_unknown_name_error("option", error.option_name, [name for name in options if name[0] == "-"]))
    message = shorten_reason(error.format_message().rstrip("."))
    command = "daelab COMMAND" if context is None else context.command_path
    return f"{message[:1].lower()}{message[1:]}; `{command} --help` shows what it takes"


_MAY_BE_EMPTY = ("suffix",)
"""The options for which an empty text means something."""


def _check_not_empty(command: TyperCommand, ctx: Any, args: list[str]) -> None:
    """Refuse empty texts, which are left where a variable of the shell was not set.

    As a path, an empty text would mean the current folder.
    """
    values, _, parameters = command.make_parser(ctx).parse_args(list(args))
    parameter: Any  # typer hides the class of its parameters
    for parameter in parameters:
        value = values.get(parameter.name)
        texts = value if isinstance(value, list | tuple) else [value]
        if parameter.name not in _MAY_BE_EMPTY and "" in texts:
            raise typer.BadParameter("it is empty", ctx, parameter)


class HelpfulCommand(TyperCommand):
    """A command whose help groups its options under headings and ends with an example.

    The heading of an option is its `rich_help_panel`. The example is the last paragraph of the docstring. The text is
    plain, since Rich's markup would swallow words in brackets such as [RECIPE.toml].
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, and refuse empty ones.

        Args:
            ctx: Click's context.
            args: The words after the command.
        """
        if not ctx.resilient_parsing:  # the shell completes an empty word
            _check_not_empty(self, ctx, args)
        return super().parse_args(ctx, args)

    def _split_help(self) -> tuple[str, str]:
        """Split the docstring into the description and the example."""
        text, _, example = fill_names(inspect.cleandoc(self.help or "")).partition("\nExample: ")
        return text.strip(), example.strip()

    @property
    def example(self) -> str:
        """The example: a whole command line."""
        return self._split_help()[1]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write the description.

        Args:
            ctx: Click's context.
            formatter: Click's formatter, which collects the text.
        """
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(self._split_help()[0])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options, each under its heading.

        Args:
            ctx: Click's context.
            formatter: Click's formatter, which collects the text.
        """
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            heading = "Arguments" if parameter.param_type_name == "argument" else "Options"
            if parameter.name == "help" and len(sections) > 1:
                # `--help` joins another section, because it would be alone in a section of its own.
                heading = heading if heading in sections else list(sections)[-1]
            if record is not None:
                filled = record[0], fill_names(record[1])
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or heading, []).append(filled)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the example on one line, however long, so that it can be copied.

        Args:
            ctx: Click's context.
            formatter: Click's formatter, which collects the text.
        """
        if self.example:
            with formatter.section("Example"):
                formatter.write(f"  {self.example}\n")


class HelpfulGroup(TyperGroup):
    """A group whose help lists its commands under the headings of their `rich_help_panel`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words, or print the help if there are none.

        Args:
            ctx: Click's context.
            args: The words after the name of the group.
        """
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help(), err=True)
            raise typer.Exit(2)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first word names.

        Args:
            ctx: Click's context.
            args: The words after the name of the group.

        Raises:
            ValueError: There is no such command.
        """
        if args[0] not in self.commands and not ctx.resilient_parsing:
            raise make_unknown_name_error("command", args[0], self.commands)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command with the first sentence of its help.

        Args:
            ctx: Click's context.
            formatter: Click's formatter, which collects the text.
        """
        longest = max(map(len, self.commands))
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            heading = getattr(command, "rich_help_panel", None)
            record = (name.ljust(longest), command.get_short_help_str(formatter.width - 6 - longest))
            sections.setdefault(heading if isinstance(heading, str) else "Commands", []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


EPILOG = """\b
Environment:
  DAELAB_DATA    Folder of CIFAR-10 and cbsd68. --data-root takes precedence.
  DAELAB_RUNS    Folder of the runs. Default: runs.
  DAELAB_LEDGER  Database URL of the ledger. --ledger takes precedence.
  DAELAB_DEVICE  Device that computes, such as cpu or cuda:1. --device takes precedence.
  DAELAB_TOKEN   Token that visitors of `daelab serve` must give.
  DAELAB_DEBUG   If set to anything, errors show their traceback.

\b
Exit codes:
  0  Success.
  1  Some of the files failed, or a tolerance was missed.
  2  Wrong usage or bad input, explained in one line.
  70 A fault of daelab itself. Please report it.
"""
"""The last part of `daelab --help`."""


# The names are read from file names, because completion must not wait for torch.


def _make_completer(names: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def _list_runs() -> list[str]:
    folder = Path(os.environ.get("DAELAB_RUNS", "runs"))
    return sorted(path.parent.name for path in folder.glob("*/recipe.toml"))


def _list_models() -> list[str]:
    weights = Path(str(resources.files("daelab"))) / "models" / "weights"
    return [*sorted(path.stem for path in weights.glob("*.safetensors")), *_list_runs()]


def _list_recipes() -> list[str]:
    return [name for name in list_shipped_configs() if not name.startswith(("judge/", "explore/"))]


complete_models = _make_completer(_list_models)
"""The names of the shipped models and of the runs."""
complete_runs = _make_completer(_list_runs)
"""The names of the runs."""
complete_recipes = _make_completer(_list_recipes)
"""The names of the shipped recipes, without those of classifiers and search spaces, which have their own commands."""
complete_classifiers = _make_completer(lambda: list(list_shipped_configs("judge")))
"""The names of the shipped recipes of classifiers."""
complete_spaces = _make_completer(lambda: list(list_shipped_configs("explore")))
"""The names of the shipped search spaces."""
