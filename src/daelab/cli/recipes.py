"""The command `daelab recipes`."""

from __future__ import annotations

from typing import Annotated

import typer

from daelab.cli.console import print_document, print_json, print_table
from daelab.cli.help import complete_recipes
from daelab.cli.options import Json


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A shipped recipe or a TOML file. All its fields are shown. Default: list the shipped recipes.",
            autocompletion=complete_recipes,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the shipped recipes, or show all fields of one.

    The fields are printed as TOML. Save them to a file and change what you like.

    Example: daelab recipes paper/38 > mine.toml
    """
    from daelab.experiments.reports.table import Table
    from daelab.training.recipe import list_recipes, load_recipe

    if name is not None:
        recipe = load_recipe(name)
        print_json(recipe.to_dict()) if as_json else print_document(recipe.to_toml().rstrip())
        return
    shipped = {key: load_recipe(key) for key in list_recipes()}
    if as_json:
        print_json([{"name": key, **recipe.to_dict()} for key, recipe in shipped.items()])
        return
    print_table(Table("recipes", ["recipe", "note"], [[key, recipe.note] for key, recipe in shipped.items()]))
