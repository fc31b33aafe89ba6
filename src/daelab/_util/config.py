"""Settings as frozen tables that are read from TOML and validated. Every recipe is made of them."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self, get_args

import tomlkit
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from daelab._util.files import check_ordinary_file
from daelab._util.text import shorten_reason
from daelab.errors import make_unknown_name_error

_MAX_FILE_SIZE = 100_000
_MAX_DEPTH = 16
"""The deepest nesting of tables and lists."""
_MAX_SHOWN = 200
"""The number of characters of a wrong value that a message shows."""

PresetExpander = Callable[[str, Any], Any]
"""A function of (key, current value or None) that returns the table in which a field is set."""


class ConfigTable(BaseModel):
    """A frozen table of settings, for which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        # Pydantic would take true for 1, so that `epochs = true` trained one epoch.
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and {int, float} & {kind, *get_args(kind)}:
            raise ValueError(f"must be a number, not {str(value).lower()}")
        return value


class FileHeader(ConfigTable):
    """A JSON header in which a file describes itself."""

    @classmethod
    def parse(cls, path: Path, header: Mapping[str, Any]) -> Self:
        """Validate a header.

        Args:
            path: The file, for the error message.
            header: The plain values of the header.

        Returns:
            The validated header.

        Raises:
            ValueError: A value is wrong. The message names the file, the field and the reason in one line.
        """
        try:
            return cls.model_validate(header)
        except ValidationError as error:
            raise ValueError(f"{path}: its header: {describe_validation_error(error, cls)}") from None


class ConfigDocument(ConfigTable):
    """A whole recipe of any kind."""

    note: str = ""
    """A description of the recipe in a line or two."""

    def to_dict(self) -> dict[str, Any]:
        """Convert the recipe to plain values for JSON and TOML: the fields by name, without those that are None."""
        return self.model_dump(mode="json", exclude_none=True)

    def to_toml(self) -> str:
        """Write every field as TOML, so that a later change of a default changes no old run."""
        return tomlkit.dumps(self.to_dict())

    @property
    def sha256(self) -> str:
        """The hash of every field but the note."""
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
        """Validate plain values after applying `a.b=value` overrides.

        Args:
            fields: The plain values by name.
            overrides: Texts `a.b=value`. The value is TOML, or bare text.
            where: The start of error messages: the file or recipe that the values come from.
            expand: The function that turns the value at a key into a table if an override sets a field of it.

        Returns:
            The validated recipe.

        Raises:
            ValueError: A value is wrong. The message names the field and the reason, the valid names and the
                nearest match, in one line.
        """
        try:
            return cls.model_validate(apply_overrides(fields, overrides, where, expand))
        except ValidationError as error:
            raise ValueError(f"{where}: {describe_validation_error(error, cls)}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read the plain values of a TOML file.

    Args:
        path: The file.

    Returns:
        The values by name.

    Raises:
        ValueError: The file is too large or is not TOML. The message names the file.
    """
    check_ordinary_file(path)
    # Before reading, so that a huge file does not fill the memory.
    if path.stat().st_size > _MAX_FILE_SIZE:
        raise ValueError(f"{path}: the file has over {_MAX_FILE_SIZE} bytes; a recipe has a few lines")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file in UTF-8, so not TOML") from None
    except (ValueError, RecursionError) as error:  # ValueError: bad TOML, or a number of too many digits
        raise ValueError(f"{path}: not TOML: {error}") from None


def apply_overrides(
    fields: Mapping[str, Any],
    overrides: Iterable[str] = (),
    where: str = "recipe",
    expand: PresetExpander | None = None,
) -> dict[str, Any]:
    """Copy plain values and apply `a.b=value` overrides to the copy.

    Args:
        fields: The plain values by name.
        overrides: Texts `a.b=value`. The value is TOML, or bare text.
        where: The start of error messages.
        expand: As in `ConfigDocument.parse`.

    Returns:
        The copy, with the overrides applied.

    Raises:
        ValueError: An override is malformed, or the values are nested too deeply.
    """
    _check_depth(fields, where)
    plain: dict[str, Any] = json.loads(json.dumps(fields, default=str))
    for override in overrides:
        _apply_override(plain, override, expand or (lambda _, value: {} if value is None else value))
    _check_depth(plain, where)
    return plain


def _check_depth(fields: Mapping[str, Any], where: str) -> None:
    """Raise a ValueError if tables and lists are nested deeper than in any recipe."""
    # Level by level and not recursively, since a hostile file could exceed Python's recursion limit.
    level: list[Any] = [fields]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
            if isinstance(inner, Mapping | list | tuple)
        ]
    if level:
        raise ValueError(f"{where}: tables and lists are nested over {_MAX_DEPTH} deep; a recipe has three levels")


def _shorten(value: object) -> str:
    """Return a value as one line, cut if it is long."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _apply_override(fields: dict[str, Any], text: str, expand: PresetExpander) -> None:
    """Apply one `a.b=value` override to `fields`, in place."""
    key, equals, value = text.partition("=")
    shown = _shorten(text)
    if not equals or not key.strip():
        raise ValueError(f"--set {shown}: write field=value, for example training.lr=0.01")
    *path, last = key.strip().split(".")
    table = fields
    for part in path:
        inner = table[part] = expand(part, table.get(part))
        if not isinstance(inner, dict):
            raise ValueError(f"--set {shown}: {_shorten(part)} is {_shorten(repr(inner))}, which has no fields")
        table = inner
    table[last] = _parse_value(value.strip(), shown)


def _parse_value(text: str, shown: str) -> Any:
    """Read the value of an override: TOML, or bare text, which needs no quotes on the command line."""
    try:
        # In a table and in a list, so that a text which closes the one early, and hides what follows, breaks the other.
        parsed = tomllib.loads(f"table = {{ value = {text} }}\nlist = [{text}]")
    except (ValueError, RecursionError):
        parsed = {}
    if parsed.keys() == {"table", "list"} and parsed["table"].keys() == {"value"} and len(parsed["list"]) == 1:
        return parsed["table"]["value"]
    if len(text.splitlines()) > 1:
        raise ValueError(f"--set {shown}: a text of several lines; give each field a --set of its own")
    return text


def describe_validation_error(error: ValidationError, model: type[BaseModel]) -> str:
    """Describe the first fault of a validation, and count the others.

    Args:
        error: The error that pydantic raised.
        model: The table that was validated.

    Returns:
        The field, the reason and the number of other faults, in one line.
    """
    faults = error.errors()
    fault = faults[0]
    field = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        table = _find_nested_model(model, fault["loc"][:-1])
        prefix = "".join(f"{part}." for part in fault["loc"][:-1])
        reason = str(make_unknown_name_error("recipe key", str(fault["loc"][-1]), table.model_fields, prefix))
    elif fault["type"] == "literal_error":
        reason = str(
            make_unknown_name_error(field, str(fault["input"]), re.findall("'(.+?)'", fault["ctx"]["expected"]))
        )
    else:
        reason = shorten_reason(fault["msg"])
        if fault["type"] == "tuple_type":
            reason = f"must be a list{_show_example(model, fault['loc'])}"
        reason = reason if not field or reason.startswith(f"{field}: ") else f"{field}: {reason}"
        if fault["type"] != "value_error":
            reason += f" (found {_shorten(repr(fault['input']))})"
    more = f"; and {len(faults) - 1} more" if len(faults) > 1 else ""
    return reason + more


def _show_example(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """Return an example of a field that takes a list: the field's own, or its default."""
    field = _find_nested_model(model, place[:-1]).model_fields.get(str(place[-1]))
    example = field and (field.examples[0] if field.examples else field.default)
    return f", such as {json.dumps(example)}" if isinstance(example, list | tuple) else ""


def _find_nested_model(model: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the table class at a path of fields inside another table class."""
    for part in place:
        kind = model.model_fields[str(part)].annotation
        model = next(part for part in (kind, *get_args(kind)) if isinstance(part, type) and issubclass(part, BaseModel))
    return model
