"""The architectures by name, and how a spec is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from daelab.errors import unknown_name
from daelab.models.architectures.autoencoder import Autoencoder, Stage
from daelab.models.architectures.base import Architecture
from daelab.models.architectures.unet import UNet


def _stages(*widths: int) -> tuple[Stage, ...]:
    return tuple(Stage(width) for width in widths)


ARCHITECTURE_PRESETS: dict[str, Architecture] = {
    # Figure 3
    "model-a": Autoencoder((*_stages(64, 32, 16), Stage(8, down=False)), norm="none"),
    # Figure 5
    "model-b": Autoencoder(_stages(8, 16, 32, 64)),
    # the weights published as test 35
    "model-b-35": Autoencoder(_stages(8, 16)),
    # Figure 6
    "model-c": Autoencoder(_stages(32, 64)),
    # ours: at most the parameters and multiplications of Model-C
    "dae-s": UNet((32, 32), (1, 1), (1,), context=16, saturated=True),
    # at most eight times its multiplications
    "dae-m": UNet((64, 96), (2, 2), (2,), context=32, saturated=True),
    # as dae-m, but for its depth: a file of at most 10 MB
    "dae-l": UNet((64, 96), (4, 6), (4,), context=32, saturated=True),
    # ours for photographs: a file of at most 1 MB, and one of at most 5 MB
    "photo-s": UNet((40, 52), (2, 2), (2,), context=16),
    "photo-m": UNet((64, 96), (3, 3), (3,), context=32),
}


def parse_architecture(data: object) -> Architecture:
    """Read a spec: a preset's name, or a table of fields, whose `kind` is `autoencoder` where it has none.

    In an auto-encoder's table, a stage is a width, or a table with `width` and `down`.

    Raises:
        ValueError: an unknown name or field, or a value that makes no network.

    >>> parse_architecture({"stages": [32, 64]}) == PRESETS["model-c"]
    True
    >>> parse_architecture({"kind": "unet", "widths": [32], "blocks": [4]}).parameters
    81196
    """
    if isinstance(data, str):
        if data not in ARCHITECTURE_PRESETS:
            raise unknown_name("architecture", data, ARCHITECTURE_PRESETS)
        return ARCHITECTURE_PRESETS[data]
    if not isinstance(data, Mapping):
        raise ValueError(f"spec: expected a table of fields for the spec, found {data!r}")
    kind = data.get("kind", "autoencoder")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise unknown_name("spec kind", str(kind), ARCHITECTURES)
    return ARCHITECTURES[kind]({key: value for key, value in data.items() if key != "kind"})


def _autoencoder(data: Mapping[str, Any]) -> Architecture:
    given = _table(data, "spec", [field.name for field in fields(Autoencoder)])
    stages = given.pop("stages", None)
    if not isinstance(stages, list | tuple):
        raise ValueError("spec: `stages` must be a list of widths or of tables with `width` and `down`")
    return Autoencoder(tuple(_stage(stage) for stage in stages), **given)


def _unet(data: Mapping[str, Any]) -> Architecture:
    given = _table(data, "spec", [field.name for field in fields(UNet)])
    for field in fields(UNet):
        value = given.get(field.name)
        if field.type.startswith("tuple") and (value is not None or field.default is MISSING):
            if not isinstance(value, list | tuple):
                raise ValueError(f"spec: `{field.name}` must be a list of whole numbers, one for each level")
            given[field.name] = tuple(value)
        elif field.type == "bool" and value is not None and not isinstance(value, bool):
            raise ValueError(f"spec: `{field.name}` must be true or false, not {value!r}")
    return UNet(**given)


ARCHITECTURES: dict[str, Callable[[Mapping[str, Any]], Architecture]] = {"autoencoder": _autoencoder, "unet": _unet}
"""Name -> function from a table of fields."""


def _stage(data: object) -> Stage:
    if isinstance(data, int) and not isinstance(data, bool):
        return Stage(data)
    given = _table(data, "stage", ("width", "down"))
    if "width" not in given:
        raise ValueError("spec: a stage needs a `width`")
    if not isinstance(given.get("down", True), bool):
        raise ValueError(f"spec: a stage's `down` must be true or false, not {given['down']!r}")
    return Stage(**given)


def _table(data: object, what: str, keys: Iterable[str]) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise ValueError(f"spec: expected a table of fields for the {what}, found {data!r}")
    for key in data:
        if key not in keys:
            raise unknown_name(f"{what} key", str(key), keys)
    return dict(data)
