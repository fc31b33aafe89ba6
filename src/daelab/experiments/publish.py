"""A model as a folder for the Hugging Face Hub: its weights, their metadata and a card for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daelab._util.files import check_new_folder, fill_new_folder, write_text
from daelab.denoising.named_models import load_storable_network
from daelab.evaluation.metrics import METRICS
from daelab.experiments.reports.table import Table
from daelab.models.architectures.external import ModuleArchitecture
from daelab.models.hub import HUB_MODEL_FILE
from daelab.models.model_file import ModelMetadata, save_model
from daelab.models.registry import find_shipped_model

_SHIPPED_LICENSE = "apache-2.0"
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,40}")
_LOCAL_PATH = re.compile(r"(?:^|[\s:])(?:[/~\\]|[A-Za-z]:[\\/])")
_SCORES = ("psnr", "ssim")


@dataclass(frozen=True)
class PublishedModel:
    """A folder that holds a model as the hub expects it."""

    model: str
    """The name of the model."""
    folder: Path
    """The folder."""
    files: tuple[str, ...]
    """The names of its files."""
    local_paths: tuple[str, ...]
    """The texts of the metadata that name files of this computer, which readers of the folder will see."""


def publish_model(model: str | Path, folder: str | Path, *, license_name: str | None = None) -> PublishedModel:
    """Write a model as a folder for the hub: `model.safetensors`, `config.json` and `README.md`.

    The README and the configuration are made from the metadata of the model. An error leaves the folder as it was.

    Args:
        model: A model file, the name of a shipped model or of a run, or `package.module:factory@MODEL`.
        folder: The folder to write, which is new or empty.
        license_name: The identifier of the licence at the hub, such as `mit`. Default: `apache-2.0` for a shipped
            model, and none for others.

    Raises:
        ValueError: The model is no network of daelab's format, or the licence has another form.
        FileExistsError: The folder is not empty.
        FileNotFoundError: There is no such model.
    """
    folder, name = Path(folder), str(model)
    check_new_folder(folder)
    if license_name is None and find_shipped_model(name):
        license_name = _SHIPPED_LICENSE
    if license_name is not None and not _LICENSE.fullmatch(license_name):
        raise ValueError(f"license {license_name[:60]!r}: give an identifier in lower case, such as apache-2.0 or mit")
    network, card = load_storable_network(model)
    config = card.to_dict() | {"library_name": "daelab", "model_type": card.spec.to_dict().get("kind", "autoencoder")}
    with fill_new_folder(folder) as part:
        save_model(part / HUB_MODEL_FILE, network, card)
        write_text(part / "config.json", json.dumps(config, indent=2, sort_keys=True, allow_nan=False) + "\n")
        write_text(part / "README.md", make_model_card(card, license_name))
    files = sorted(path.name for path in folder.iterdir())
    return PublishedModel(name, folder, tuple(files), tuple(dict.fromkeys(_find_local_paths(card.to_dict()))))


def make_model_card(card: ModelMetadata, license_name: str | None = None) -> str:
    """Return the README of a model as the hub reads it: metadata in YAML, then a text for people.

    Args:
        card: The metadata of the model.
        license_name: The identifier of the licence at the hub.
    """
    name = card.name or "denoiser"
    # Each value is written as JSON, which YAML contains, so no text of a file can break the syntax.
    front = [f"{key}: {json.dumps(value)}" for key, value in _make_front_matter(card, name, license_name).items()]
    facts = {
        "task": f"remove the noise {_quote(card.noise)} from pictures" if card.noise else "remove noise from pictures",
        "network": f"{card.spec.parameters:,} parameters; pictures of any size",
        "training data": _join(card.data.get("name"), card.data.get("terms")),
        "recipe": card.recipe_sha256 and f"sha256 {card.recipe_sha256}",
        "versions": ", ".join(f"{key} {value}" for key, value in card.versions.items()),
    }
    place = "hf://OWNER/NAME"
    if isinstance(card.spec, ModuleArchitecture):
        place = f"{card.spec.factory}@{place}"
    lines = [
        *(
            "---",
            *front,
            "---",
            "",
            f"# {_escape(name)}",
            "",
            "A denoiser of daelab, a workbench for denoising auto-encoders.",
        ),
        *("", *(f"- **{key}**: {_escape(str(value))}" for key, value in facts.items() if value), ""),
        *("```bash", "pip install 'daelab[hub]'", f"daelab denoise noisy.png --model {place}", "```", ""),
        *("```python", "import daelab", "", f'denoised = daelab.load_model("{place}")(noisy)', "```", ""),
        *_format_scores(card.metrics.get("test")),
        "A network replaces noise by a guess. Do not use its pictures as evidence or for medical decisions.",
    ]
    return "\n".join(lines) + "\n"


def _make_front_matter(card: ModelMetadata, name: str, license_name: str | None) -> dict[str, Any]:
    data, test = str(card.data.get("name", "")), card.metrics.get("test") or {}
    front: dict[str, Any] = {"library_name": "daelab", "pipeline_tag": "image-to-image"}
    front |= {"license": license_name} if license_name else {}
    front |= {"tags": ["image-denoising", "denoising-autoencoder"]}
    # A folder of the user is no data set of the hub.
    front |= {"datasets": [data]} if data and re.fullmatch(r"[\w.-]+", data) else {}
    scores = [
        {"type": key, "name": METRICS[key].heading, "value": test[key]["denoised"]}
        for key in _SCORES
        if isinstance((test.get(key) or {}).get("denoised"), float)
    ]
    if scores:
        dataset = {"type": str(test.get("data", "unknown")), "name": f"{test.get('data')} with {test.get('noise')}"}
        task = {"type": "image-to-image", "name": "image denoising"}
        results = [{"task": task, "dataset": dataset, "metrics": scores}]
        front |= {"metrics": [score["type"] for score in scores], "model-index": [{"name": name, "results": results}]}
    return front


def _format_scores(test: dict[str, Any] | None) -> list[str]:
    """Return the scores on test images as a table in Markdown; nothing if there are none."""
    rows = [
        [METRICS[key].heading, *(METRICS[key].format(test[key].get(side)) for side in ("noisy", "denoised"))]
        for key in _SCORES
        if test and isinstance(test.get(key), dict)
    ]
    if not test or not rows:
        return []
    note = f"{test.get('images')} test images of {test.get('data')} with the noise {test.get('noise')}."
    return [Table("Scores", ["metric", "noisy", "denoised"], rows, _escape(note)).to_markdown()]


def _find_local_paths(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _find_local_paths(item)
    elif isinstance(value, str) and _LOCAL_PATH.search(value):
        yield value


def _join(*parts: Any) -> str:
    return "; ".join(str(part) for part in parts if part)


def _quote(text: str) -> str:
    return text.replace("`", "'")


def _escape(text: str) -> str:
    """Return a text of a file as one line that Markdown and HTML show as it is."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
