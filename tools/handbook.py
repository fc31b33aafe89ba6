"""docs/commands.md, the commands' help as a page; which `make docs` needs in addition to the handwritten pages.

python tools/handbook.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
import typer.main

from daelab._util.files import write_text
from daelab.cli import app

ROOT = Path(__file__).parents[1]
WIDTH = 84
"""Characters of a line that a page shows without scrolling."""
HEAD = """# Commands

This page shows the output of `daelab --help` and `daelab COMMAND --help`.
"""


def main() -> None:
    """Write the page."""
    group = typer.main.get_command(app)
    parts = [HEAD, block(group, "daelab"), *commands(group, "daelab")]
    write_text(ROOT / "docs" / "commands.md", "\n".join(parts))


def commands(group: Any, name: str) -> Iterator[str]:
    """Yield a section for each command, in the order of the help."""
    for word, command in group.commands.items():
        whole = f"{name} {word}"
        yield f"## {whole.removeprefix('daelab ')}\n"
        yield block(command, whole)
        if hasattr(command, "commands"):
            yield from commands(command, whole)


def block(command: Any, name: str) -> str:
    """Return a command's help as it is printed."""
    with typer.Context(command, info_name=name, max_content_width=WIDTH, terminal_width=WIDTH) as context:
        return f"```text\n{command.get_help(context).rstrip()}\n```\n"


if __name__ == "__main__":
    main()
