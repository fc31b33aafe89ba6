"""The command `daelab plugins`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daelab.cli.console import print_json, print_result, print_table
from daelab.cli.options import Json

if TYPE_CHECKING:
    from daelab._util.plugins import Plugin, PluginTable


def plugins(as_json: Json = False) -> None:
    """List what installed packages add.

    A package adds architectures, classifiers, data sets, losses, metrics, noises and trackers to those of daelab. The
    list names each package with its version, and says whether its code can be loaded.

    Example: daelab plugins
    """
    from daelab._util.plugins import list_plugins
    from daelab.datasets.registry import DATASETS
    from daelab.evaluation.classifiers.registry import CLASSIFIERS
    from daelab.evaluation.metrics import METRICS
    from daelab.experiments.reports.table import Table
    from daelab.models.architectures.presets import ARCHITECTURES
    from daelab.noise.base import list_terms
    from daelab.training.callbacks.trackers import TRACKERS
    from daelab.training.losses import LOSSES

    noises = list_terms()
    tables: list[PluginTable[Any]] = [ARCHITECTURES, CLASSIFIERS, DATASETS, LOSSES, METRICS, noises, TRACKERS]
    rows = [
        [table.group, plugin.point.name, plugin.package, _describe_state(table, plugin)]
        for table in tables
        for plugin in list_plugins(table.group)
    ]
    columns = ["table", "name", "package", "state"]
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif rows:
        print_table(Table("plugins", columns, rows))
    else:
        print_result("no installed package adds anything to daelab")


def _describe_state(table: PluginTable[Any], plugin: Plugin) -> str:
    row, state = None, "loads"
    try:
        row = plugin.load(table.kind)
    except ValueError as error:
        state = str(error)
    if table.plugins.get(plugin.point.name) != plugin and table[plugin.point.name] is not row:
        return "hidden: daelab or another package has a row of this name"
    return state
