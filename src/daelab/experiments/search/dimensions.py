"""The dimensions of a search space: choices among values and ranges of numbers, and the fields that they vary."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.trial import Trial

FieldValue = str | int | float | bool | None
"""A value that a sampler handles: a plain value; a list or a table is represented by its JSON text."""
FieldPath = tuple[str | int, ...]
"""The keys and indices that lead to a field of a search space."""

MOST = 2_000
"""The largest number of points of a grid."""
_RANGE = {"low", "high", "log", "step"}


@dataclass(frozen=True)
class ChoiceDimension:
    """A choice among several values."""

    values: tuple[str, ...]
    """The values as JSON texts."""

    def extremes(self) -> list[FieldValue]:
        """Return the values that must each give a valid recipe: all of them."""
        return [_known(value) for value in self.values]

    def grid(self, where: str) -> list[FieldValue]:
        """Return every value.

        Args:
            where: Not used; a range needs it for error messages.
        """
        return self.extremes()

    def plain(self, value: FieldValue) -> Any:
        """Return the recipe's value for a value of the sampler.

        Args:
            value: The value of the sampler.
        """
        return next(json.loads(one) for one in self.values if _known(one) == value)

    def suggest(self, trial: Trial, name: str) -> FieldValue:
        """Let Optuna's sampler choose a value.

        Args:
            trial: Optuna's trial.
            name: The name of the dimension.
        """
        return trial.suggest_categorical(name, self.extremes())


@dataclass(frozen=True)
class RangeDimension:
    """A range of numbers from `low` to `high`; the numbers are whole if both ends and the step are."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def extremes(self) -> list[FieldValue]:
        """Return the values that must each give a valid recipe: both ends."""
        return [self.low, self.high]

    def grid(self, where: str) -> list[FieldValue]:
        """Return every value, step by step.

        Args:
            where: The field, for error messages.

        Raises:
            ValueError: The range has no step and its numbers are not whole, or it has too many values.
        """
        step = self.step or (1 if self.whole and not self.log else None)
        if step is None:
            raise ValueError(
                f"{where}: a range without step has no grid; add a step, write a list, or use another sampler"
            )
        count = int((self.high - self.low) / step + 1e-9) + 1
        if count > MOST:
            raise ValueError(f"{where}: the range has more than {MOST:,} values; use another sampler, or a larger step")
        values = [self.low + number * step for number in range(count)]
        # 0.3 and not 0.30000000000000004
        return list(values) if self.whole else [float(f"{value:.12g}") for value in values]

    def plain(self, value: FieldValue) -> Any:
        """Return the recipe's value for a value of the sampler: the same number.

        Args:
            value: The value of the sampler.
        """
        return value

    def suggest(self, trial: Trial, name: str) -> FieldValue:
        """Let Optuna's sampler choose a value.

        Args:
            trial: Optuna's trial.
            name: The name of the dimension.
        """
        if self.whole:
            low, high = int(self.low), int(self.high)
            return trial.suggest_int(name, low, high, step=int(self.step or 1), log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


Dimension = ChoiceDimension | RangeDimension


def find_dimensions(
    tree: Mapping[str, Any], lists: Set[str], at: FieldPath = ()
) -> Iterator[tuple[FieldPath, Dimension]]:
    """Yield the path and the dimension of every field that varies.

    A list is a choice. For a field that is itself a list, only a list of lists is a choice.

    Args:
        tree: The plain values of a search space.
        lists: The names of the fields that are lists themselves.
        at: The path of `tree` in the search space.

    Raises:
        ValueError: A choice has no values, or a range is invalid.

    >>> dict(find_dimensions({"seed": [1, 2], "spec": {"stages": [8, 16]}}, {"stages"}))
    {('seed',): ChoiceDimension(values=('1', '2'))}
    """
    for key, value in tree.items():
        yield from _placed(value, lists, (*at, key))


def _placed(value: Any, lists: Set[str], place: FieldPath) -> Iterator[tuple[FieldPath, Dimension]]:
    if parse_range(value):
        yield place, _range(value, ".".join(map(str, place)))
    elif isinstance(value, Mapping):
        yield from find_dimensions(value, lists, place)
    elif isinstance(value, list):
        if place[-1] in lists and not (value and all(isinstance(one, list) for one in value)):
            for number, one in enumerate(value):
                yield from _placed(one, lists, (*place, number))
            return
        yield place, _choice(value, ".".join(map(str, place)))


def parse_range(value: Any) -> bool:
    """Return whether a value of a search space is a range.

    Args:
        value: The value, as it is in the TOML file.
    """
    return isinstance(value, Mapping) and {"low", "high"} <= set(value)


def _choice(values: list[Any], where: str) -> ChoiceDimension:
    try:
        texts = tuple(json.dumps(value, allow_nan=False) for value in values)
    except ValueError:
        raise ValueError(f"{where}: inf and nan are not allowed") from None
    if not texts:
        raise ValueError(f"{where}: the list is empty; write at least one value")
    if len(set(texts)) < len(texts):
        raise ValueError(f"{where}: a value occurs twice in {', '.join(texts)}")
    return ChoiceDimension(texts)


def _range(table: Mapping[str, Any], where: str) -> RangeDimension:
    shown = ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items())
    if not set(table) <= _RANGE:
        raise ValueError(f"{where}: {{{shown}}}: a range has low, high, and log or step")
    numbers = [table[key] for key in ("low", "high", "step") if table.get(key) is not None]
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        raise ValueError(f"{where}: {{{shown}}}: low, high and step are numbers")
    if not all(abs(number) < 2**53 for number in numbers):
        raise ValueError(f"{where}: {{{shown}}}: the numbers must be smaller than 2^53")
    dimension = RangeDimension(**table)
    if not isinstance(dimension.log, bool):
        raise ValueError(f"{where}: {{{shown}}}: log is true or false")
    if not dimension.low < dimension.high:
        raise ValueError(f"{where}: {{{shown}}}: low must lie below high")
    if dimension.log and (dimension.low <= 0 or dimension.step is not None):
        raise ValueError(f"{where}: {{{shown}}}: log needs low above 0, and no step")
    if dimension.step is not None and (
        dimension.step <= 0 or (dimension.whole and not isinstance(dimension.step, int))
    ):
        raise ValueError(f"{where}: {{{shown}}}: step must be above 0, and whole between whole numbers")
    return dimension


def merge_tables(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two tables; fields of the second replace those of the first, and ranges are replaced as a whole.

    Args:
        base: The first table.
        over: The second table.

    >>> merge_tables({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'b': 3, 'c': 2}}
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping) and not (parse_range(value) or parse_range(old)):
            value = merge_tables(old, value)
        merged[key] = value
    return deepcopy(merged)


def _known(value: str) -> FieldValue:
    """Convert a JSON text to a value that samplers handle."""
    plain = json.loads(value)
    return value if isinstance(plain, list | dict) else plain
