"""Settings as frozen tables, read from TOML and checked whole: what every recipe is made of."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Self, get_args

import tomlkit
from pydantic import BaseModel, ConfigDict, ValidationError

from daelab.errors import unknown_name

_LARGEST = 100_000
_DEEPEST = 16
"""Tables and lists within each other."""
_SHOWN = 200
"""Characters of a wrong value in a message."""

PresetExpander = Callable[[str, Any], Any]
"""(key, what stands there or None) -> the table to set a field of."""


class ConfigTable(BaseModel):
    """Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)


class FileHeader(ConfigTable):
    """What a file of ours says of itself in JSON."""

    @classmethod
    def parse(cls, path: Path, header: Mapping[str, Any]) -> Self:
        """From plain values, each checked.

        Raises:
            ValueError: one line: the file, the field and the reason.
        """
        try:
            return cls.model_validate(header)
        except ValidationError as error:
            raise ValueError(f"{path}: its header: {describe_validation_error(error, cls)}") from None


class ConfigDocument(ConfigTable):
    """A whole recipe, of whatever kind."""

    note: str = ""
    """What this recipe is, in a line or two."""

    def to_dict(self, *, whole: bool = True) -> dict[str, Any]:
        """Plain values for JSON and TOML; not `whole`: only what differs from the defaults."""
        return self.model_dump(mode="json", exclude_none=True, exclude_defaults=not whole)

    def to_toml(self) -> str:
        """Every field, so that a later change of a default changes no old run."""
        return tomlkit.dumps(self.to_dict())

    @property
    def sha256(self) -> str:
        """Hash of every field but the note."""
        fields = self.to_dict()
        del fields["note"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    @classmethod
    def parse(
        cls,
        fields: Mapping[str, Any],
        overrides: Iterable[str] = (),
        where: str = "recipe",
        expand: PresetExpander | None = None,
    ) -> Self:
        """From plain values, with `a.b=value` overrides applied; values are TOML, or bare text.

        Args:
            where: what a mistake's message begins with.
            expand: makes a table of what stands where an override sets a field.

        Raises:
            ValueError: one line: the field and the reason, the valid names and the nearest match.
        """
        try:
            return cls.model_validate(apply_overrides(fields, overrides, where, expand))
        except ValidationError as error:
            raise ValueError(f"{where}: {describe_validation_error(error, cls)}") from None


def list_shipped_configs(under: str = "") -> dict[str, Path]:
    """The recipes that ship in a folder of `recipes/`, by name: `paper/38`."""
    folder = Path(str(resources.files("daelab"))) / "recipes"
    files = {
        path.relative_to(folder).as_posix().removesuffix(".toml"): path for path in (folder / under).rglob("*.toml")
    }
    return dict(sorted(files.items(), key=lambda item: [(len(part), part) for part in item[0].split("/")]))


def read_toml(path: Path) -> dict[str, Any]:
    """The plain values of a TOML file.

    Raises:
        ValueError: names the file; it is too large or no TOML.
    """
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path}: over {_LARGEST} bytes; a recipe is a few lines")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError: no TOML, no UTF-8, a number of thousands of digits
        raise ValueError(f"{path}: not TOML: {error}") from None


def apply_overrides(
    fields: Mapping[str, Any],
    overrides: Iterable[str] = (),
    where: str = "recipe",
    expand: PresetExpander | None = None,
) -> dict[str, Any]:
    """A copy as plain values, with `a.b=value` overrides applied; see `Document.parse`."""
    _check_depth(fields, where)
    plain: dict[str, Any] = json.loads(json.dumps(fields, default=str))
    for override in overrides:
        _override(plain, override, expand or (lambda _, found: {} if found is None else found))
    _check_depth(plain, where)
    return plain


def _check_depth(fields: Mapping[str, Any], where: str) -> None:
    """Raise where tables and lists stand in each other deeper than any recipe's."""
    level: list[Any] = [fields]
    for _ in range(_DEEPEST):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, Mapping) else one)
            if isinstance(inner, Mapping | list | tuple)
        ]
    if level:
        raise ValueError(f"{where}: tables and lists more than {_DEEPEST} deep; a recipe has three levels")


def _shown(value: object) -> str:
    """A value in one line, cut where it is long."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _override(fields: dict[str, Any], text: str, expand: PresetExpander) -> None:
    key, equals, value = text.partition("=")
    shown = _shown(text)
    if not equals or not key.strip():
        raise ValueError(f"--set {shown}: write field=value, for example training.lr=0.01")
    *path, last = key.strip().split(".")
    table = fields
    for part in path:
        inner = table[part] = expand(part, table.get(part))
        if not isinstance(inner, dict):
            raise ValueError(f"--set {shown}: {_shown(part)} is {_shown(repr(inner))}, which has no fields")
        table = inner
    try:
        table[last] = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        table[last] = value.strip()


def describe_validation_error(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault, as field and reason, and how many more there are."""
    faults = error.errors()
    fault = faults[0]
    field = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        inner = "".join(f"{part}." for part in fault["loc"][:-1])
        table = _table(model, fault["loc"][:-1])
        reason = str(unknown_name("recipe key", field, [inner + key for key in table.model_fields]))
    elif fault["type"] == "literal_error":
        reason = str(unknown_name(field, str(fault["input"]), re.findall("'(.+?)'", fault["ctx"]["expected"])))
    else:
        reason = fault["msg"].removeprefix("Value error, ")
        reason = reason if not field or reason.startswith(f"{field}: ") else f"{field}: {reason}"
        if fault["type"] != "value_error":
            reason += f" (found {_shown(repr(fault['input']))})"
    more = f"; and {len(faults) - 1} more" if len(faults) > 1 else ""
    return reason + more


def _table(model: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel]:
    """The table at a place of another."""
    for part in place:
        kind = model.model_fields[str(part)].annotation
        model = next(one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, BaseModel))
    return model
