"""Fields of recipes as dotted names and table cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from daelab.models.architectures.autoencoder import Stage


def flatten_fields(fields: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Tables within tables as dotted names.

    >>> flatten_fields({"a": {"b": 1, "c": [2]}})
    {'a.b': 1, 'a.c': [2]}
    """
    found: dict[str, Any] = {}
    for key, value in fields.items():
        found |= flatten_fields(value, f"{above}{key}.") if isinstance(value, Mapping) else {above + key: value}
    return found


def shorten_field_names(fields: Iterable[str]) -> dict[str, str]:
    """Each field's last part, where no other has the same.

    >>> shorten_field_names(["training.lr", "data.name", "judge.name"])
    {'training.lr': 'lr', 'data.name': 'data.name', 'judge.name': 'judge.name'}
    """
    fields = list(fields)
    lasts = [field.rpartition(".")[2] for field in fields]
    return {field: last if lasts.count(last) == 1 else field for field, last in zip(fields, lasts, strict=True)}


def format_field_value(value: Any) -> Any:
    """A field's value in a table.

    >>> format_field_value([{"width": 8, "down": True}, {"width": 16, "down": False}])
    '8, 16 (no down)'
    """
    if isinstance(value, list):
        return ", ".join(str(Stage(**one) if isinstance(one, dict) else one) for one in value) or "–"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    return f"{value:.4g}" if isinstance(value, float) else value
