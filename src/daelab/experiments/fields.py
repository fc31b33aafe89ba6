"""Fields of recipes as dotted names and table cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from daelab.models.architectures.autoencoder import Stage


def flatten_fields(fields: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten nested tables to dotted names.

    Args:
        fields: The nested tables.
        above: The dotted name of `fields`, with a dot at its end.

    >>> flatten_fields({"a": {"b": 1, "c": [2]}})
    {'a.b': 1, 'a.c': [2]}
    """
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        flat |= flatten_fields(value, f"{above}{key}.") if isinstance(value, Mapping) else {above + key: value}
    return flat


def shorten_field_names(fields: Iterable[str]) -> dict[str, str]:
    """Shorten each dotted name to its last part, unless another field has the same last part.

    Args:
        fields: The dotted names.

    >>> shorten_field_names(["training.lr", "data.name", "judge.name"])
    {'training.lr': 'lr', 'data.name': 'data.name', 'judge.name': 'judge.name'}
    """
    fields = list(fields)
    lasts = [field.rpartition(".")[2] for field in fields]
    return {field: last if lasts.count(last) == 1 else field for field, last in zip(fields, lasts, strict=True)}


def format_field_value(value: Any) -> Any:
    """Format the value of a field for a table.

    Args:
        value: The value, as the recipe's `to_dict` returns it.

    >>> format_field_value([{"width": 8, "down": True}, {"width": 16, "down": False}])
    '8, 16 (no down)'
    """
    if isinstance(value, list):
        return ", ".join(str(Stage(**one) if isinstance(one, dict) else one) for one in value) or "–"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    return f"{value:.4g}" if isinstance(value, float) else value
