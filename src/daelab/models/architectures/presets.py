"""The architectures by name, and the reader of their table form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from daelab._util.plugins import PluginTable, is_object_name
from daelab.errors import make_unknown_name_error
from daelab.models.architectures.autoencoder import Autoencoder, Stage
from daelab.models.architectures.base import Architecture
from daelab.models.architectures.external import ExternalArchitecture, ModuleArchitecture
from daelab.models.architectures.unet import UNet


def _make_stages(*widths: int) -> tuple[Stage, ...]:
    return tuple(Stage(width) for width in widths)


ARCHITECTURE_PRESETS: dict[str, Architecture] = {
    # Figure 3
    "model-a": Autoencoder((*_make_stages(64, 32, 16), Stage(8, down=False)), norm="none"),
    # Figure 5
    "model-b": Autoencoder(_make_stages(8, 16, 32, 64)),
    # the architecture of the weights that were published as test 35
    "model-b-35": Autoencoder(_make_stages(8, 16)),
    # Figure 6
    "model-c": Autoencoder(_make_stages(32, 64)),
    # daelab's own: at most the parameters and multiplications of Model-C
    "dae-s": UNet((32, 32), (1, 1), (1,), context=16, saturated=True),
    # at most eight times the multiplications of Model-C
    "dae-m": UNet((64, 96), (2, 2), (2,), context=32, saturated=True),
    # like dae-m but deeper: a file of at most 10 MB
    "dae-l": UNet((64, 96), (4, 6), (4,), context=32, saturated=True),
    # daelab's own for photographs: a file of at most 1 MB, one of at most 5 MB, and one of at most 10 MB
    "photo-s": UNet((40, 52), (2, 2), (2,), context=16),
    "photo-m": UNet((64, 96), (3, 3), (3,), context=32),
    "photo-l": UNet((96, 160, 224), (3, 4, 8), (3, 4), block="gated", norm="layer", context=32),
}
"""The architectures that have names."""


def parse_architecture(data: object) -> Architecture:
    """Read an architecture from a preset's name or a table of fields.

    In an auto-encoder's table, a stage is a width, or a table with `width` and `down`.

    Args:
        data: The name of a preset or of an installed plugin, `package.module:factory`, or a table whose `kind` is
            `autoencoder` (the default), `unet` or the name of a plugin. No code of a factory is imported here.

    Returns:
        The architecture.

    Raises:
        ValueError: A name or a field is unknown, or a value is out of range.

    >>> parse_architecture({"stages": [32, 64]}) == ARCHITECTURE_PRESETS["model-c"]
    True
    >>> parse_architecture({"kind": "unet", "widths": [32], "blocks": [4]}).parameters
    81196
    """
    if isinstance(data, str) and data in ARCHITECTURES.plugins:
        data = {"kind": data}
    if isinstance(data, str):
        if is_object_name(data):
            return ModuleArchitecture(data)
        if data not in ARCHITECTURE_PRESETS:
            raise make_unknown_name_error("architecture", data, [*ARCHITECTURE_PRESETS, *ARCHITECTURES.plugins])
        return ARCHITECTURE_PRESETS[data]
    if not isinstance(data, Mapping):
        raise ValueError(f"spec: expected a table of fields for the architecture, found {data!r}")
    kind = data.get("kind", "autoencoder")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        unknown = make_unknown_name_error("architecture kind", str(kind), ARCHITECTURES)
        raise ValueError(f"{unknown}; others need the package that adds them (daelab plugins)")
    # The row of a plugin is the class of its architecture.
    read: Callable[..., Architecture] = getattr(ARCHITECTURES[kind], "parse", ARCHITECTURES[kind])
    architecture: Architecture = read({key: value for key, value in data.items() if key != "kind"})
    return architecture


def _parse_autoencoder(data: Mapping[str, Any]) -> Architecture:
    values = _check_table(data, "architecture", [field.name for field in fields(Autoencoder)])
    stages = values.pop("stages", None)
    if not isinstance(stages, list | tuple):
        raise ValueError("spec: `stages` must be a list of widths or of tables with `width` and `down`")
    return Autoencoder(tuple(_parse_stage(stage) for stage in stages), **values)


def _parse_unet(data: Mapping[str, Any]) -> Architecture:
    values = _check_table(data, "architecture", [field.name for field in fields(UNet)])
    for field in fields(UNet):
        value = values.get(field.name)
        if field.type.startswith("tuple") and (value is not None or field.default is MISSING):
            if not isinstance(value, list | tuple):
                raise ValueError(f"spec: `{field.name}` must be a list of whole numbers, one for each level")
            values[field.name] = tuple(value)
        elif field.type == "bool" and value is not None and not isinstance(value, bool):
            raise ValueError(f"spec: `{field.name}` must be true or false, not {value!r}")
    return UNet(**values)


ARCHITECTURES: PluginTable[type[ExternalArchitecture] | Callable[[Mapping[str, Any]], Architecture]] = PluginTable(
    "architectures", {"autoencoder": _parse_autoencoder, "unet": _parse_unet, "module": ModuleArchitecture}
)
"""The functions that read an architecture from a table of fields, by the value of `kind`; of plugins, the classes."""


def _parse_stage(data: object) -> Stage:
    if isinstance(data, int) and not isinstance(data, bool):
        return Stage(data)
    values = _check_table(data, "stage", ("width", "down"))
    if "width" not in values:
        raise ValueError("spec: a stage needs a `width`")
    if not isinstance(values.get("down", True), bool):
        raise ValueError(f"spec: a stage's `down` must be true or false, not {values['down']!r}")
    return Stage(**values)


def _check_table(data: object, what: str, keys: Iterable[str]) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise ValueError(f"spec: expected a table of fields for the {what}, found {data!r}")
    for key in data:
        if key not in keys:
            raise make_unknown_name_error(f"{what} key", str(key), keys)
    return dict(data)
