"""How far runs lie apart that differ by their seed alone: what other differences must pass to mean anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def compute_seed_range(groups: Iterable[Sequence[float]]) -> float | None:
    """The furthest that two values of one group lie apart; None where no group has two.

    Args:
        groups: each the values of runs that differ by their seed alone.

    >>> compute_seed_range([[25.0, 25.3, 25.1], [24.0], []])
    0.3000000000000007
    """
    return max((max(values) - min(values) for values in groups if len(values) > 1), default=None)


def is_within_seed_range(difference: float, allowed: float | None) -> bool:
    """Whether a difference is no larger than the spread of seeds; not where that is unknown."""
    return allowed is not None and abs(difference) <= allowed
