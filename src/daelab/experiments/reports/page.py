"""The HTML page and the Markdown file of a report."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from daelab._util.files import check_parent_folder, write_text
from daelab.errors import make_unknown_name_error
from daelab.experiments.reports.style import is_matplotlib_installed
from daelab.experiments.reports.table import Table, format_cell

_MEDIA = {".png": "image/png", ".svg": "image/svg+xml", ".jpg": "image/jpeg", ".webp": "image/webp"}


@dataclass(frozen=True)
class PictureGroup:
    """Versions of one picture, which a page shows next to each other, as many in a row as fit."""

    title: str
    """The title of the group."""
    pictures: Mapping[str, Path]
    """The files by their labels."""


@dataclass(frozen=True)
class ReportSection:
    """A section of a page: a text, then pictures, figures and tables."""

    title: str
    """The heading; empty for no heading."""
    text: str = ""
    """The paragraphs, separated by empty lines."""
    figures: Mapping[str, Path] = field(default_factory=dict)
    """The files of the figures (PNG, SVG, JPEG or WebP) by their captions."""
    tables: Sequence[Table] = ()
    """The tables; the page offers the data of each for download."""
    groups: Sequence[PictureGroup] = ()
    """The pictures to compare."""


def check_report_folder(option: str, out: Path, kind: str, marker: str = "") -> None:
    """Check that a report with figures can be written to a folder, before anything is measured.

    Args:
        option: The option that names the folder, such as `--out`.
        out: The folder.
        kind: The kind of report, such as "a comparison".
        marker: The file by which an earlier report of this kind is recognized. Other files in the folder are refused,
            unless this is empty.

    Raises:
        ValueError: matplotlib is not installed, or `out` is a file or holds other files.
        OSError: The folder cannot be created or written to.
    """
    if not is_matplotlib_installed():
        raise ValueError("figures need matplotlib: pip install 'daelab[report]'")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{option} {out} is a file; give the name of a folder")
    if marker and out.is_dir() and any(out.iterdir()) and not (out / marker).is_file():
        raise ValueError(f"{option} {out} contains files that are not part of {kind}; choose a new folder")
    check_parent_folder(out / "page.html")


def write_markdown(title: str, facts: Mapping[str, Any], sections: Sequence[ReportSection], path: Path) -> None:
    """Write a report as Markdown; the figures remain files, with paths relative to it.

    Args:
        title: The title of the report.
        facts: The facts by name.
        sections: The sections in order.
        path: The file to write.
    """
    parts = [f"# {_plain(title)}", ""]
    parts += [f"- {_plain(name)}: {_plain(format_cell(value))}" for name, value in facts.items()]
    for section in sections:
        parts += ["", f"## {_plain(section.title)}"] if section.title else []
        parts += [line for paragraph in _paragraphs(section.text) for line in ("", _plain(paragraph))]
        for group in section.groups:
            parts += ["", f"**{_plain(group.title)}**"]
            parts += [line for label, file in group.pictures.items() for line in _link(label, file, path)]
        for caption, figure in section.figures.items():
            parts += _link(caption, figure, path)
        parts += [line for table in section.tables for line in ("", table.to_markdown().rstrip())]
    write_text(Path(path), "\n".join(parts) + "\n")


def _link(caption: str, picture: Path, page: Path) -> list[str]:
    """Return the lines of a picture with its caption in a Markdown file."""
    place = Path(os.path.relpath(picture, Path(page).parent)).as_posix()
    return ["", f"![{_plain(caption)}]({place.replace(' ', '%20')})", "", f"*{_plain(caption)}*"]


def _plain(text: str) -> str:
    """Escape text for Markdown and put it on one line."""
    return re.sub(r"([\\`*_\[\]|<])", r"\\\1", " ".join(text.split()))


def write_page(
    title: str, facts: Mapping[str, Any], sections: Sequence[ReportSection], path: Path, *, numbered: bool = True
) -> None:
    """Write a self-contained HTML file that makes no request to the network.

    It follows the reader's light or dark setting, prints well, and fits a phone. All text is escaped.

    Args:
        title: The title of the page.
        facts: The facts by name, which come first; numbers, texts, lists and flat mappings are formatted.
        sections: The sections in order; if there are three or more, a table of contents comes first.
        path: The file to write.
        numbered: Number the figures and tables through the page.

    Raises:
        ValueError: A figure is of a format that browsers do not show.
        FileNotFoundError: The file of a figure does not exist.
    """
    html = _template().render(
        title=title,
        facts={name: format_cell(value) for name, value in facts.items()},
        sections=sections,
        numbered=numbered,
    )
    write_text(Path(path), html)


@cache
def _template() -> jinja2.Template:
    source = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["csv_uri"] = _csv_uri
    environment.filters["image_uri"] = _image_uri
    environment.filters["paragraphs"] = _paragraphs
    environment.filters["slug"] = make_slug
    return environment.from_string(source)


def _csv_uri(table: Table) -> str:
    return _data_uri("text/csv;charset=utf-8", table.to_csv().encode())


def _paragraphs(text: str) -> list[str]:
    return [part for part in re.split(r"\n\s*\n", text.strip()) if part]


def _image_uri(path: Path) -> str:
    path = Path(path)
    media = _MEDIA.get(path.suffix.lower().replace(".jpeg", ".jpg"))
    if media is None:
        raise make_unknown_name_error("picture format for a page", path.suffix or path.name, _MEDIA)
    return _data_uri(media, path.read_bytes())


def _data_uri(media: str, data: bytes) -> str:
    return f"data:{media};base64,{base64.b64encode(data).decode('ascii')}"


def make_slug(text: str) -> str:
    """Make the name of a file or an anchor from a title, of letters, digits and hyphens.

    Args:
        text: The title.
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "data"
