"""Fields of recipes as dotted names and table cells."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from daelab._util.plugins import is_object_name
from daelab.models.architectures.autoencoder import Stage

_LONGEST_ARCHITECTURE = 10_000
"""The length of a text from which on it is not read, since it may be a stranger's."""
_LONGEST_SHORT = 60


def name_model(run: str, fields: Mapping[str, Any]) -> str:
    """Return the name by which the model of a run is loaded. A network of the user is named with its code.

    Args:
        run: The name of the run.
        fields: The fields of its recipe.

    >>> name_model("small", {"spec": "mynets:Small"}), name_model("small", {"spec": "model-c"})
    ('mynets:Small@small', 'small')
    """
    spec = fields.get("spec")
    factory = spec.get("factory") if isinstance(spec, Mapping) else spec
    # No file may name code, so the command does.
    return f"{factory}@{run}" if isinstance(factory, str) and is_object_name(factory) else run


def name_evaluation(run: str, fields: Mapping[str, Any]) -> list[str]:
    """Return the arguments of `daelab evaluate` that evaluate a run on test images of its own data.

    Args:
        run: The name of the run.
        fields: The fields of its recipe.

    >>> name_evaluation("small", {"data": {"name": "cbsd432"}})
    ['small', '--data', 'cbsd68']
    """
    name = fields.get("data", {}).get("name", "cifar10")
    return [name_model(run, fields), *([] if name == "cifar10" else ["--data", {"cbsd432": "cbsd68"}.get(name, name)])]


def shorten_architecture(text: str) -> str:
    """Return the architecture of a run in a few words.

    Stages are the widths, with a minus where a stage does not shrink the image. A network of the user is the name of
    its code. Names of presets stay as they are.

    Args:
        text: The architecture as the ledger stores it.

    >>> shorten_architecture("{'stages': [{'width': 8, 'down': True}, {'width': 16, 'down': False}], 'norm': 'none'}")
    '8, 16-; norm none'
    >>> shorten_architecture("{'kind': 'module', 'factory': 'mynets:Small', 'multiple': 2}")
    'mynets:Small'
    >>> shorten_architecture("{'kind': 'plain', 'width': 4}"), shorten_architecture("model-c")
    ('plain, width 4', 'model-c')
    """
    if not text.startswith("{") or len(text) > _LONGEST_ARCHITECTURE:
        return text
    try:
        # Only literals are evaluated, so the text cannot run code.
        spec = ast.literal_eval(text)
        if "stages" in spec:
            stages = ", ".join(f"{stage['width']}{'' if stage['down'] else '-'}" for stage in spec["stages"])
            return stages + ("" if spec["norm"] == "batch" else f"; norm {spec['norm']}")
        settings = [f"{key} {value}" for key, value in spec.items() if key != "kind"]
        words = str(spec.get("factory") or ", ".join([str(spec["kind"]), *settings]))
        return words if len(words) <= _LONGEST_SHORT else f"{words[:_LONGEST_SHORT]}..."
    except (ValueError, SyntaxError, LookupError, TypeError, AttributeError, RecursionError, MemoryError):
        return text


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
