"""The wording of errors: one line each, and for an unknown name the valid names and the nearest match."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

_LONGEST_NAME = 60
"""The number of characters of an unknown name that a message shows."""
_LONGEST_LIST = 250
"""The number of characters of a list of valid names, above which the nearest ones come first."""
_MOST_NAMES = 60
_REASONS = {
    errno.EEXIST: "it exists and is not a folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
}
"""Errors of the operating system whose own words do not say what is wrong."""


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
        reason = _REASONS.get(error.errno or 0, error.strerror)
        return f"{error.filename}: {reason}" if error.filename else reason
    return str(error) or type(error).__name__


def make_unknown_name_error(what: str, name: str, valid: Iterable[str], prefix: str = "") -> ValueError:
    """Make the error for a name that is not in a table.

    Args:
        what: The kind of thing, in the reader's words ("noise preset", "recipe key").
        name: The name that was given.
        valid: The names that would have been accepted.
        prefix: A text before each name, such as the table of a field. The list of valid names leaves it out.

    Returns:
        A ValueError that suggests the nearest valid name and lists all of them. A long list has the nearest ones first,
        since a terminal shows only its beginning, and ends after 60 names.

    >>> str(make_unknown_name_error("loss", "msee", ["mse", "l1"]))
    "unknown loss 'msee'; did you mean 'mse'? Valid: l1, mse"
    """
    names = sorted(set(valid))
    shown = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
    suggestions = difflib.get_close_matches(shown, names, n=1, cutoff=0.5)
    hint = f"; did you mean {prefix + suggestions[0]!r}?" if suggestions else "."
    if len(", ".join(names)) > _LONGEST_LIST:
        names = difflib.get_close_matches(shown, names, n=len(names), cutoff=0.0)
    more = [f"and {len(names) - _MOST_NAMES:,} more"] if len(names) > _MOST_NAMES else []
    listed = ", ".join(names[:_MOST_NAMES] + more) or "none"
    return ValueError(f"unknown {what} {prefix + shown!r}{hint} Valid: {listed}")


def is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out.

    Args:
        error: An error of Python, PyTorch or ONNX Runtime. The last two have no type of their own for a CPU.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")), is_out_of_memory(KeyError("a"))
    (True, False)
    """
    hints = ("allocate memory", "not enough memory", "out of memory", "bad_alloc")
    # PyTorch's type for GPUs is known by its name, since it is not imported here.
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or any(hint in str(error).lower() for hint in hints)
