"""The wording of errors: one line each, and for an unknown name the valid names and the nearest match."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def describe_error(error: BaseException) -> str:
    """Describe an error in one line.

    Args:
        error: The error. For an error of the operating system, the line names the file and the reason.

    Returns:
        The message, or the name of the error's class if it has none.

    >>> describe_error(OSError(28, "No space left on device", "a.png"))
    'a.png: No space left on device'
    """
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def make_unknown_name_error(what: str, name: str, valid: Iterable[str]) -> ValueError:
    """Make the error for a name that is not in a table.

    Args:
        what: The kind of thing, in the reader's words ("noise preset", "recipe key").
        name: The name that was given.
        valid: The names that would have been accepted.

    Returns:
        A ValueError that lists the valid names and suggests the nearest one.

    >>> str(make_unknown_name_error("loss", "msee", ["mse", "l1"]))
    "unknown loss 'msee'; did you mean 'mse'? Valid: l1, mse"
    """
    names = sorted(valid)
    suggestions = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {suggestions[0]!r}?" if suggestions else "."
    return ValueError(f"unknown {what} {name!r}{hint} Valid: {', '.join(names) or 'none'}")
