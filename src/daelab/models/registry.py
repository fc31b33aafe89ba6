"""The trained models that ship with daelab, and the files that model names stand for."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from daelab.errors import make_unknown_name_error

DEFAULT_TAG = "published-code"
"""The recipe of weights that are named by their architecture alone. The full name is `architecture.recipe`."""


def list_shipped_models() -> dict[str, Path]:
    """List the files of the trained models that ship, by their names `architecture.recipe`."""
    folder = Path(str(resources.files("daelab"))) / "models" / "weights"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def shorten_model_name(name: str) -> str:
    """Remove the default recipe from the name of weights.

    Args:
        name: The name, such as `model-b.published-code`.

    Returns:
        The short name, such as `model-b`.
    """
    return name.removesuffix(f".{DEFAULT_TAG}")


def find_shipped_model(name: str) -> Path | None:
    """Find a model that ships.

    Args:
        name: Its name, with or without the default recipe.

    Returns:
        The file, or None if there is no such model.
    """
    models = list_shipped_models()
    return models.get(name) or models.get(f"{name}.{DEFAULT_TAG}")


def find_model_file(name: str | Path) -> Path:
    """Find the file of a model.

    Args:
        name: A path, or the name of a model that ships, with or without the default recipe.

    Returns:
        The file.

    Raises:
        FileNotFoundError: Neither exists. The message lists the names and the nearest match.
    """
    # What ships comes first, since a recipe may name it, and a file of the current folder must not take its place.
    path = find_shipped_model(str(name)) or Path(name)
    if not path.is_file():
        raise FileNotFoundError(str(make_unknown_name_error("model", str(name), list_shipped_models())))
    return path
