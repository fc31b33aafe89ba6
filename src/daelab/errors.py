"""How a mistake is worded: an error in one line; for "no such name" the valid names and the nearest match."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def describe_error(error: BaseException) -> str:
    """What went wrong, in one line: of an error of the system the file and the system's word.

    >>> describe_error(OSError(28, "No space left on device", "a.png"))
    'a.png: No space left on device'
    """
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def unknown_name(what: str, name: str, valid: Iterable[str]) -> ValueError:
    """A ValueError for a name that is not in a table.

    Args:
        what: the kind of thing, as a reader knows it ("noise preset", "recipe key").
        name: the name that was given.
        valid: the names that would have been accepted.

    >>> str(unknown_name("loss", "msee", ["mse", "l1"]))
    "unknown loss 'msee'; did you mean 'mse'? Valid: l1, mse"
    """
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return ValueError(f"unknown {what} {name!r}{hint} Valid: {', '.join(names)}")
