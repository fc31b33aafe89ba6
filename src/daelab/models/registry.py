"""The trained models that ship, and the files that names of models stand for."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from daelab.errors import unknown_name

DEFAULT_TAG = "published-code"
"""Weights are named `architecture.recipe`; an architecture alone means those of this recipe."""


def list_shipped_models() -> dict[str, Path]:
    """The trained models that ship, by name: `architecture.recipe`."""
    folder = Path(str(resources.files("daelab"))) / "models" / "weights"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def shorten_model_name(name: str) -> str:
    """The name of weights without the default tag."""
    return name.removesuffix(f".{DEFAULT_TAG}")


def find_shipped_model(name: str) -> Path | None:
    """The file of a model that ships, by its name with or without the tag; None where there is none."""
    models = list_shipped_models()
    return models.get(name) or models.get(f"{name}.{DEFAULT_TAG}")


def find_model_file(name: str | Path) -> Path:
    """The file of a model: a path, or the name of one that ships, whose tag may be left out.

    Raises:
        FileNotFoundError: neither; lists the names and the nearest match.
    """
    found = Path(name) if Path(name).is_file() else find_shipped_model(str(name))
    if found is None:
        raise FileNotFoundError(str(unknown_name("model", str(name), list_shipped_models())))
    return found
