"""Texts of foreign origin, made fit for messages: without passwords, without control characters, and short."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from html import escape
from typing import Any

LONGEST_LINE = 390
"""The number of characters of a message."""
CONTROL_CHARACTERS = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)
"""C0 and C1 controls, line separators, controls of the writing direction, and the bytes of a name that is not UTF-8."""
_PASSWORD = r"\w*(?:password|passwd|passphrase|pass|pwd|secret)"
_QUOTED = r"'.*?(?<!\\)'(?=[\s,;&)}\]]|$)|\".*?(?<!\\)\"(?=[\s,;&)}\]]|$)"
"""A quoted value. A quotation mark inside it is followed by more than the end of a value."""
_PARAMETER = re.compile(
    rf"(?is)(\b{_PASSWORD}(?:\s*=|['\"]\s*:)\s*)(?:{_QUOTED}|['\"]?.*?(?=[\s&;,)]+[\w.-]+\s*=|['\"]|$))"
    rf"|(\b\w*(?:token|key)(?:\s*=|['\"]\s*:)\s*|\bbearer\s+|\bauthorization\W+basic\s+)(?:{_QUOTED}|['\"]?[^\s&;,'\"]*)"
)
"""A secret: a parameter in the query of a URL, in a driver's list or in JSON, or a token in a header.

A password may contain spaces: without quotation marks it ends at the next parameter or at the end of the text."""
_LOGIN = re.compile(r"^((?:[a-z][\w+.-]*:(?://?|(?=[^@:]*:)))?+[^:]*):.*@", re.IGNORECASE | re.DOTALL)
"""User and password at the start of a URL, with or without its scheme. The password ends at the last `@`."""
_CREDENTIALS = re.compile(r"(?is)(\b[a-z][\w+.-]*:(?:/{1,2}[^:]*|[^\s:/@'\"]*)):.*@")
"""User and password of a URL in a text. The password may contain anything, so it ends at the last `@` of the text."""


def escape_control_characters(text: str) -> str:
    r"""Replace control characters by their escapes, which are those of JSON and TOML.

    Args:
        text: A text of any origin.

    >>> escape_control_characters("\x1b[31mred\n")
    '\\u001b[31mred\\n'
    """
    return CONTROL_CHARACTERS.sub(lambda match: json.dumps(match[0])[1:-1], text)


def fit_line(text: str, longest: int = LONGEST_LINE) -> str:
    """Make one line of a text of any origin: its control characters are escaped, and its middle is left out if long.

    Args:
        text: The text.
        longest: The number of characters of the line.

    >>> fit_line("start, " + 100 * "x" + " end", 30)
    'start, xxxxxxxxxxxxx ... x end'
    """
    # A text of megabytes is cut before its characters are replaced, each of which becomes at most six.
    text = text if len(text) <= 2 * longest else f"{text[:longest]} ... {text[-longest:]}"
    line = escape_control_characters(re.sub(r"\s*[\r\n]\s*", " ", text.strip("\r\n")))
    if len(line) <= longest:
        return line
    # The start tells where the fault is, and the end what to do.
    return f"{line[: longest * 2 // 3]} ... {line[5 - longest // 3 :]}"


def shorten_error(error: BaseException) -> str:
    r"""Return the first line of another library's error, without the passwords of URLs that it may repeat.

    Args:
        error: The error.

    Returns:
        Its first line, or the name of its class if it has no message.

    >>> shorten_error(OSError("cannot reach http://me:my secret@host\nmore"))
    'cannot reach http://me:***@host'
    """
    return hide_passwords((str(error).strip() or type(error).__name__).splitlines()[0])


def summarize_error(error: BaseException) -> str:
    """Return the class of another library's error and the first line of its message, in at most 200 characters.

    Args:
        error: The error.

    >>> summarize_error(KeyError("name"))
    "KeyError: 'name'"
    """
    kind, line = type(error).__name__, shorten_error(error)
    return kind if line == kind else f"{kind}: {line}"[:200]


def replace_non_finite(value: Any) -> Any:
    """Replace infinities and NaN in plain values by None, since JSON has neither.

    Args:
        value: A number, a text, or nested lists and dictionaries of them.

    >>> replace_non_finite({"psnr": [float("inf"), 30.5]})
    {'psnr': [None, 30.5]}
    """
    if isinstance(value, dict):
        return {key: replace_non_finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [replace_non_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def hide_password(url: str) -> str:
    """Hide the passwords in the URL of a database.

    Args:
        url: The URL, which may be malformed.

    Returns:
        The URL with `***` for each password.

    >>> hide_password("postgresql://me:p@ss word@host/db?sslpassword=x&connect_timeout=3")
    'postgresql://me:***@host/db?sslpassword=***&connect_timeout=3'
    >>> hide_password("postgres//:secret@host"), hide_password("sqlite:////home/me@work/ledger.db")
    ('postgres//:***@host', 'sqlite:////home/me@work/ledger.db')
    """
    return _PARAMETER.sub(r"\1\2***", _LOGIN.sub(r"\1:***@", url))


def hide_passwords(text: str) -> str:
    """Hide the passwords of all URLs and parameters in a text.

    Args:
        text: A message, which may contain URLs.

    >>> hide_passwords("cannot reach mysql://:pw@host (password='x y')")
    'cannot reach mysql://:***@host (password=***)'
    """
    return _PARAMETER.sub(r"\1\2***", _CREDENTIALS.sub(r"\1:***@", text))


def shorten_reason(text: str) -> str:
    """Shorten pydantic's words for a wrong value, and name what must be there.

    Args:
        text: The message of a fault.

    >>> shorten_reason("Input should be a valid integer, unable to parse string as an integer")
    'must be a valid integer'
    >>> shorten_reason("Input should be a valid dictionary or instance of DataConfig")
    'must be a table of fields'
    >>> shorten_reason("String should have at least 1 character")
    'must have at least 1 character'
    """
    text = re.sub(r", unable to parse .*? as an? \w+", "", text.removeprefix("Value error, "))
    text = re.sub(r"a valid dictionary( or (instance|object) .*)?$", "a table of fields", text)
    text = "is missing" if text == "Field required" else text.replace(" after validation", "")
    return re.sub(r"\b(Input|List|Set|String|Tuple) should ", "must ", text)


def format_html_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]], note: str = "") -> str:
    """Return a table as HTML, which notebooks show.

    Args:
        title: The caption.
        columns: The headings of the columns.
        rows: The rows of cells.
        note: A text below the table.

    >>> format_html_table("a < b", ["x"], [[1]])
    '<table><caption>a &lt; b</caption><tr><th>x</th></tr><tr><td>1</td></tr></table>'
    """
    lines = [("th", columns), *(("td", row) for row in rows)]
    cells = ["".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in line) for tag, line in lines if line]
    body = "".join(f"<tr>{line}</tr>" for line in cells if line)
    return f"<table><caption>{escape(title)}</caption>{body}</table>" + (f"<p>{escape(note)}</p>" if note else "")
