"""Rows that other packages add to daelab's tables, and Python objects that a user names as `package.module:name`.

A package adds rows by entry points of the groups `daelab.losses`, `daelab.noises` and so on (docs/extend.md). Only
their names are read at first. A plugin's code is imported when its row is used, so a broken plugin harms no other.
"""

from __future__ import annotations

import importlib
import re
import sys
import sysconfig
import traceback
import warnings
from collections.abc import ItemsView, Iterator, Mapping, MutableMapping, ValuesView
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from daelab._util.text import summarize_error

Value = TypeVar("Value")

PLUGIN_GROUPS = ("architectures", "classifiers", "datasets", "losses", "metrics", "noises", "trackers")
"""The tables that a package can add rows to; its entry points are of the group `daelab.GROUP`."""
_foreign_packages: set[str] = set()
"""The packages of plugins and of the user from which something was imported."""
_OBJECT_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@dataclass(frozen=True)
class Plugin:
    """A row that an installed package adds to a table."""

    group: str
    """The table: one of `PLUGIN_GROUPS`."""
    point: EntryPoint
    """The entry point, whose name is that of the row."""

    @property
    def package(self) -> str:
        """The name and the version of the package."""
        return f"{self.point.dist.name} {self.point.dist.version}" if self.point.dist else "an unknown package"

    def load(self, kind: type = object) -> Any:
        """Import the row.

        Args:
            kind: The type that the row must have; by default a function or a class.

        Raises:
            ValueError: The package's code failed, or the row is of another type or name. The message is one line.
        """
        name, fault = self.point.name, ""
        _foreign_packages.add(self.point.module.partition(".")[0])
        try:
            row = self.point.load()
            own = getattr(row, "kind", getattr(row, "name", name))
            if not (callable(row) if kind is object else isinstance(row, kind)):
                fault = f"it is a {type(row).__name__}, not a {'function' if kind is object else kind.__name__}"
            elif isinstance(own, str) and own != name:
                fault = f"it calls itself {own!r}"
        except Exception as error:  # the package's code may raise anything
            fault = summarize_error(error)
        if fault:
            raise ValueError(
                f"plugin {name} (daelab.{self.group}) of {self.package} cannot be loaded: {fault}; "
                "update or uninstall the package"
            )
        return row


class PluginTable(MutableMapping[str, Value]):
    """A table of daelab's own rows by name, to which installed packages add theirs.

    A row of daelab hides a plugin of the same name. Iterating over the names imports no plugin.

    Args:
        group: The group: one of `PLUGIN_GROUPS`.
        rows: daelab's own rows.
        kind: The type of a row. Default: functions and classes.
    """

    def __init__(self, group: str, rows: Mapping[str, Value], kind: type = object) -> None:
        """Keep the rows; plugins are looked up when the table is first read."""
        self.group, self.kind, self._rows = group, kind, dict(rows)

    @cached_property
    def plugins(self) -> dict[str, Plugin]:
        """The installed plugins that no row of daelab hides, by name."""
        # With two of the same name, the first package in the order of the alphabet is taken.
        found = {plugin.point.name: plugin for plugin in reversed(list_plugins(self.group))}
        return {name: found[name] for name in sorted(found) if name not in self._rows}

    def __getitem__(self, name: str) -> Value:
        """Return a row; a plugin is imported when it is first asked for."""
        if name not in self._rows and name in self.plugins:
            self._rows[name] = self.plugins[name].load(self.kind)
        return self._rows[name]

    def __setitem__(self, name: str, row: Value) -> None:
        """Set a row."""
        self._rows[name] = row

    def __delitem__(self, name: str) -> None:
        """Remove a row."""
        del self._rows[name]

    def __contains__(self, name: object) -> bool:
        """Return whether there is such a row, without importing it."""
        return name in self._rows or name in self.plugins

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names: daelab's own, then those of plugins."""
        return iter({**self._rows, **dict.fromkeys(self.plugins)})

    def __len__(self) -> int:
        """Count the rows."""
        return len(list(iter(self)))

    def items(self) -> ItemsView[str, Value]:
        """Return the names and the rows. A plugin that cannot be loaded is left out, with a warning."""
        return self._load_all().items()

    def values(self) -> ValuesView[Value]:
        """Return the rows. A plugin that cannot be loaded is left out, with a warning."""
        return self._load_all().values()

    def _load_all(self) -> dict[str, Value]:
        rows: dict[str, Value] = {}
        for name in self:
            try:
                rows[name] = self[name]
            except ValueError as error:
                warnings.warn(str(error), stacklevel=3)
        return rows


@cache
def list_plugins(group: str) -> tuple[Plugin, ...]:
    """List the rows that installed packages add to a table, without importing them.

    Args:
        group: The table: one of `PLUGIN_GROUPS`.
    """
    plugins = [Plugin(group, point) for point in entry_points(group=f"daelab.{group}")]
    return tuple(sorted(plugins, key=lambda plugin: (plugin.point.name, plugin.package)))


def is_object_name(text: str) -> bool:
    """Return whether a text has the form `package.module:name` of a Python object.

    Args:
        text: The text.

    >>> [is_object_name(text) for text in ("my.nets:make", "model-c", "baseline:median,size=3")]
    [True, False, False]
    """
    return _OBJECT_NAME.fullmatch(text) is not None and not text.startswith("baseline:")


def name_object(value: Any) -> str:
    """Return the name of a function or a class in the form `package.module:name`; for other objects that of the class.

    Args:
        value: The object.
    """
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}:{named.__qualname__}".replace("<", "").replace(">", "")


def import_object(text: str, what: str) -> Any:
    """Import a Python object of an installed module or of one in the current folder. This runs the module's code.

    Args:
        text: The name, as `package.module:name`.
        what: What the object is for, such as `classifier`, for the error message.

    Raises:
        ValueError: The module or the name does not exist, or the module's code failed.
    """
    module, _, path = text.partition(":")
    _foreign_packages.add(module.partition(".")[0])
    # The installed command does not search the current folder for modules, as `python` does.
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # the user's code may raise anything
        raise ValueError(f"{what} {text}: {summarize_error(error)}") from None
    finally:
        sys.path.remove(here)
    return found


def find_foreign_code(error: BaseException) -> str:
    """Return the place in the code of a plugin or of the user that failed, or nothing if daelab's own code failed.

    Args:
        error: The error. It is that of the last of them that the calls went through.

    >>> find_foreign_code(KeyError("gain"))
    ''
    """
    files = [getattr(sys.modules.get(package), "__file__", None) for package in _foreign_packages]
    # What they import from their own folder is theirs too.
    folders = {Path(file).parent for file in files if file} - {Path(sysconfig.get_path("purelib"))}
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        package, file = str(frame.f_globals.get("__name__")).partition(".")[0], Path(frame.f_code.co_filename)
        if package == "daelab":
            place = ""
        elif package in _foreign_packages or folders.intersection(file.parents):
            place = f"{file.name}, line {line}, in {frame.f_code.co_name}"
    return place
