"""What varies in a space: a choice among values, or a range of numbers, and where they stand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.trial import Trial

FieldValue = str | int | float | bool | None
"""What a sampler knows: plain values; a list or a table is the text of its JSON."""
FieldPath = tuple[str | int, ...]
"""Keys and indices from the top of a space."""

MOST = 2_000
"""Points of a grid."""
_RANGE = {"low", "high", "log", "step"}


@dataclass(frozen=True)
class ChoiceDimension:
    """One of several values."""

    values: tuple[str, ...]
    """Each as JSON."""

    def extremes(self) -> list[FieldValue]:
        """Values that must each make a recipe."""
        return [_known(value) for value in self.values]

    def grid(self, where: str) -> list[FieldValue]:
        """Every value."""
        return self.extremes()

    def plain(self, value: FieldValue) -> Any:
        """What stands in the recipe for a value of the sampler's."""
        return next(json.loads(one) for one in self.values if _known(one) == value)

    def suggest(self, trial: Trial, name: str) -> FieldValue:
        """Let a sampler choose."""
        return trial.suggest_categorical(name, self.extremes())


@dataclass(frozen=True)
class RangeDimension:
    """A number from `low` to `high`; whole where both, and the step, are."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def extremes(self) -> list[FieldValue]:
        """The ends."""
        return [self.low, self.high]

    def grid(self, where: str) -> list[FieldValue]:
        """Every value, step by step.

        Raises:
            ValueError: there is no step, and the numbers are not whole.
        """
        step = self.step or (1 if self.whole and not self.log else None)
        if step is None:
            raise ValueError(f"{where}: a range without step has no grid; give a step or a list, or another sampler")
        count = int((self.high - self.low) / step + 1e-9) + 1
        if count > MOST:
            raise ValueError(f"{where}: over {MOST:,} values are no grid; take another sampler, or a larger step")
        found = [self.low + number * step for number in range(count)]
        # not 0.30000000000000004
        return list(found) if self.whole else [float(f"{value:.12g}") for value in found]

    def plain(self, value: FieldValue) -> Any:
        """Itself."""
        return value

    def suggest(self, trial: Trial, name: str) -> FieldValue:
        """Let a sampler choose."""
        if self.whole:
            low, high = int(self.low), int(self.high)
            return trial.suggest_int(name, low, high, step=int(self.step or 1), log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


Dimension = ChoiceDimension | RangeDimension


def find_dimensions(
    tree: Mapping[str, Any], lists: Set[str], at: FieldPath = ()
) -> Iterator[tuple[FieldPath, Dimension]]:
    """Where something varies in a space's plain values.

    A list is a choice; where a field is itself a list (`lists`), a list of lists is.

    Raises:
        ValueError: a choice of nothing, or a wrong range; names the field.

    >>> dict(find_dimensions({"seed": [1, 2], "spec": {"stages": [8, 16]}}, {"stages"}))
    {('seed',): Choice(values=('1', '2'))}
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
    """Whether a table is a range."""
    return isinstance(value, Mapping) and {"low", "high"} <= set(value)


def _choice(values: list[Any], where: str) -> ChoiceDimension:
    try:
        texts = tuple(json.dumps(value, allow_nan=False) for value in values)
    except ValueError:
        raise ValueError(f"{where}: inf and nan are no values") from None
    if not texts:
        raise ValueError(f"{where}: a choice of nothing; write one value or several")
    if len(set(texts)) < len(texts):
        raise ValueError(f"{where}: a value stands twice in {', '.join(texts)}")
    return ChoiceDimension(texts)


def _range(table: Mapping[str, Any], where: str) -> RangeDimension:
    shown = ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items())
    if not set(table) <= _RANGE:
        raise ValueError(f"{where}: {{{shown}}}: a range has low, high, and log or step")
    numbers = [table[key] for key in ("low", "high", "step") if table.get(key) is not None]
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
        raise ValueError(f"{where}: {{{shown}}}: low, high and step are numbers")
    if not all(abs(number) < 2**53 for number in numbers):
        raise ValueError(f"{where}: {{{shown}}}: beyond what a number can be told from its neighbour")
    made = RangeDimension(**table)
    if not isinstance(made.log, bool):
        raise ValueError(f"{where}: {{{shown}}}: log is true or false")
    if not made.low < made.high:
        raise ValueError(f"{where}: {{{shown}}}: low must lie below high")
    if made.log and (made.low <= 0 or made.step is not None):
        raise ValueError(f"{where}: {{{shown}}}: log needs low above 0, and no step")
    if made.step is not None and (made.step <= 0 or (made.whole and not isinstance(made.step, int))):
        raise ValueError(f"{where}: {{{shown}}}: step must be above 0, and whole between whole numbers")
    return made


def merge_tables(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the fields of `over` in place of its own; tables are merged, ranges are not.

    >>> merge_tables({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'b': 3, 'c': 2}}
    """
    found = dict(base)
    for key, value in over.items():
        there = found.get(key)
        if isinstance(value, Mapping) and isinstance(there, Mapping) and not (parse_range(value) or parse_range(there)):
            value = merge_tables(there, value)
        found[key] = value
    return deepcopy(found)


def _known(value: str) -> FieldValue:
    """A value as samplers know it."""
    plain = json.loads(value)
    return value if isinstance(plain, list | dict) else plain
