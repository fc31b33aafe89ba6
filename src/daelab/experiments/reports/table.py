"""A table, which can be shown on a page, on a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from daelab._util.text import format_html_table

_NUMBER = re.compile(r"[-+−]?[\d∞][\d\s.,%±×/()\[\]–+−-]*(dB|s|ms|MB)?")
_NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """A table with a title. Pages and Markdown show rounded numbers; CSV has them in full."""

    title: str
    """The title, which also gives the name of the CSV file."""
    columns: Sequence[str]
    """The headings of the columns, with units."""
    rows: Sequence[Sequence[Any]]
    """The rows of cells: text, int, float, bool or None, one for each column."""
    note: str = ""
    """A text below the table: what it shows, or how it was measured."""

    def __post_init__(self) -> None:
        """Make the columns and rows tuples, and check the number of cells."""
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "rows", tuple(tuple(row) for row in self.rows))
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r}: {len(row)} cells for {len(self.columns)} columns in {row}")

    @property
    def numeric(self) -> tuple[bool, ...]:
        """For each column, whether it holds numbers, which are aligned to the right."""
        return tuple(_is_numeric([row[c] for row in self.rows]) for c in range(len(self.columns)))

    @property
    def shown(self) -> tuple[tuple[str, ...], ...]:
        """The cells as text; the floats of a column have the same number of decimals."""
        columns = [_texts([row[c] for row in self.rows]) for c in range(len(self.columns))]
        return tuple(zip(*columns, strict=True)) if columns else ()

    def to_csv(self) -> str:
        r"""Return the table as CSV, with every number in full; None is an empty cell.

        >>> Table("losses", ["run", "loss"], [["a", 0.1], ["b", None]]).to_csv()
        'run,loss\na,0.1\nb,\n'
        """
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.columns, *self.rows])
        return out.getvalue()

    def to_dataframe(self) -> Any:
        """Return the table as a DataFrame of pandas, with every number in full.

        Raises:
            ValueError: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError:
            raise ValueError("to_dataframe needs pandas: pip install pandas") from None
        return DataFrame([list(row) for row in self.rows], columns=list(self.columns))

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        return format_html_table(self.title, self.columns, self.shown, self.note)

    def to_text(self) -> str:
        """Return the table for a terminal, with columns separated by two spaces and numbers aligned to the right.

        >>> print(Table("losses", ["run", "loss"], [["a", 0.125], ["bcd", 2.5]]).to_text())
        run    loss
        a    0.1250
        bcd  2.5000
        """
        rows = [tuple(self.columns), *self.shown]
        widths = [max(len(row[c]) for row in rows) for c in range(len(self.columns))]
        lines = [
            "  ".join(
                cell.rjust(width) if numeric else cell.ljust(width)
                for cell, width, numeric in zip(row, widths, self.numeric, strict=True)
            ).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])

    def to_markdown(self) -> str:
        """Return the table as GitHub-flavored Markdown, with its title above and its note below.

        >>> print(Table("losses", ["run", "loss"], [["a", 0.125], ["b", 2.5]]).to_markdown())
        **losses**
        <BLANKLINE>
        | run | loss |
        | :-- | ---: |
        | a | 0.1250 |
        | b | 2.5000 |
        <BLANKLINE>
        """
        rule = ["---:" if numeric else ":--" for numeric in self.numeric]
        escaped = [[_markdown(cell) for cell in row] for row in (self.columns, *self.shown)]
        lines = [f"| {' | '.join(cells)} |" for cells in (escaped[0], rule, *escaped[1:])]
        note = ["", _markdown(self.note)] if self.note else []
        return "\n".join([f"**{_markdown(self.title)}**", "", *lines, *note, ""])


def format_cell(value: Any) -> str:
    """Format any value for a reader.

    Args:
        value: The value.

    >>> [format_cell(v) for v in (45_000, 26.9234, 0.00204, True, None, ["a", 1], {"lr": 0.1})]
    ['45,000', '26.92', '0.00204', 'yes', '–', 'a, 1', 'lr 0.1']
    """
    if value is None or value == "":
        return _NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value):,}" if abs(int(value)) >= 10_000 else str(value)
    if isinstance(value, Real):
        return f"{value:,.0f}" if 10_000 <= abs(float(value)) < math.inf else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_cell(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(format_cell, value))
    return str(value)


def list_fields(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """List the fields of nested mappings for a table, without lists of mappings or of more than a few numbers.

    Args:
        fields: The values by name.
        prefix: The start of each name.

    Yields:
        The name, with dots between its parts, and the formatted value.

    >>> list(list_fields({"seed": 1, "data": {"name": "photos", "curve": [0.1] * 50}}))
    [('seed', '1'), ('data.name', 'photos')]
    """
    for key, value in fields.items():
        if isinstance(value, Mapping):
            yield from list_fields(value, f"{prefix}{key}.")
        elif not isinstance(value, list) or (
            len(value) <= _MOST_LISTED and not any(isinstance(item, Mapping) for item in value)
        ):
            yield f"{prefix}{key}", format_cell(value)


_MOST_LISTED = 8
"""The number of values of a list that a table shows."""


def _texts(cells: list[Any]) -> list[str]:
    """Format a column; four digits of its smallest number determine the decimals of all."""
    numbers = [abs(float(cell)) for cell in cells if _is_float(cell) and cell != 0]
    decimals = 3 - math.floor(math.log10(min(numbers))) if numbers else 0
    if all(number.is_integer() for number in numbers):
        return _wholes([int(cell) if _is_float(cell) else cell for cell in cells])
    if decimals > 7:
        return [format_cell(cell) for cell in cells]
    return [f"{cell:,.{max(0, decimals)}f}" if _is_float(cell) else format_cell(cell) for cell in cells]


def _wholes(cells: list[Any]) -> list[str]:
    """Format whole numbers and text; if one number needs a thousands separator, all get one."""
    separated = any(isinstance(cell, Integral) and abs(int(cell)) >= 10_000 for cell in cells)
    return [f"{int(cell):,}" if separated and isinstance(cell, Integral) else format_cell(cell) for cell in cells]


def _is_float(cell: Any) -> bool:
    """Return whether a cell is a finite number that is not of an integer type."""
    return isinstance(cell, Real) and not isinstance(cell, Integral) and math.isfinite(cell)


def _is_numeric(cells: list[Any]) -> bool:
    known = [cell for cell in cells if cell is not None and cell not in ("", "-", _NOTHING)]
    return bool(known) and all(
        not isinstance(cell, bool) and (isinstance(cell, Real) or _NUMBER.fullmatch(str(cell).strip()) is not None)
        for cell in known
    )


def _markdown(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    for special in "\\`*_[]|":
        text = text.replace(special, f"\\{special}")
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
