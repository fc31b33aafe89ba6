"""The seed range: the largest difference between runs that differ only in their seed.

A difference between other runs is meaningful only if it is larger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def compute_seed_range(groups: Iterable[Sequence[float]]) -> float | None:
    """Return the largest difference between two values of a group; None if no group has two values.

    Args:
        groups: The groups; each holds the values of runs that differ by their seed alone.

    >>> compute_seed_range([[25.0, 25.3, 25.1], [24.0], []])
    0.3000000000000007
    """
    return max((max(values) - min(values) for values in groups if len(values) > 1), default=None)


def is_within_seed_range(difference: float, allowed: float | None) -> bool:
    """Return whether a difference is at most the seed range; False if the range is unknown.

    Args:
        difference: The difference between two results.
        allowed: The seed range, or None.
    """
    return allowed is not None and abs(difference) <= allowed
