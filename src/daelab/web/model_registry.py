"""The models that a visitor of the server may choose: the shipped ones and the best of each run, never a path."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from daelab._util.text import fit_line
from daelab.denoising.automatic import AUTOMATIC, AnyDenoiser, AutomaticDenoiser
from daelab.denoising.denoiser import Denoiser
from daelab.errors import make_unknown_name_error
from daelab.models.model_file import ModelMetadata, read_model_metadata
from daelab.models.registry import list_shipped_models, shorten_model_name
from daelab.runs.folder import get_runs_root

_CACHED = 4
"""The number of models that are kept in memory."""
_loading = threading.Lock()


def list_models() -> list[dict[str, Any]]:
    """Describe the models that can be chosen by their metadata: shipped ones first, each sorted by PSNR."""
    models = [_describe_model(name, metadata, origin) for name, _, metadata, origin in _list_files()]
    return sorted(models, key=lambda model: (model["origin"] != "ships", -(model["psnr"] or 0)))


def load_page_model(name: str) -> AnyDenoiser:
    """Load a denoiser, or return it if it is in memory.

    Args:
        name: A name of `list_models`, or `AUTOMATIC`.

    Raises:
        ValueError: No model has this name. The error lists the names.
    """
    if name == AUTOMATIC:
        return _load_automatic()
    paths = {key: path for key, path, _, _ in _list_files()}
    # Only listed names are accepted, so that a visitor cannot open files of the server by a path.
    if name not in paths:
        raise make_unknown_name_error("model", name, [AUTOMATIC, *paths])
    try:
        with _loading:
            # the time makes a run that is still training load its newest model
            return _load(paths[name], paths[name].stat().st_mtime_ns)
    except (ValueError, OSError):  # its message names the file
        raise ValueError(f"the model {name} cannot be loaded; daelab models {name} says why") from None


@cache
def _load_automatic() -> AutomaticDenoiser:
    return AutomaticDenoiser()


@lru_cache(_CACHED)
def _load(path: Path, _modified: int) -> Denoiser:
    return Denoiser.load(path)


def _list_files() -> Iterator[tuple[str, Path, ModelMetadata, str]]:
    """Yield the name, path, metadata and origin of each model. Damaged and unfinished files are skipped."""
    shipped = {shorten_model_name(name): path for name, path in list_shipped_models().items()}
    trained = {path.parent.name: path for path in sorted(get_runs_root().glob("*/best.safetensors"))}
    # on the command line too, a shipped model hides a run of the same name
    for origin, table in (("ships", shipped), ("run", {k: v for k, v in trained.items() if k not in shipped})):
        for name, path in table.items():
            try:
                metadata = read_model_metadata(path)
            # A run that is damaged, or is being written, must not take the whole list down.
            except (ValueError, OSError):
                continue
            if metadata.spec.channels == 3:
                yield name, path, metadata, origin


def _describe_model(name: str, metadata: ModelMetadata, origin: str) -> dict[str, Any]:
    test = metadata.metrics.get("test") or {}
    return {
        "name": name,
        "origin": origin,
        "parameters": metadata.spec.parameters,
        "macs_per_pixel": round(metadata.spec.macs() / 1024),
        "multiple": metadata.spec.multiple,
        "halo": metadata.spec.halo,
        "conditioned": metadata.spec.conditioned,
        "noise": fit_line(metadata.noise),
        # without the path of its files
        "data": fit_line(test.get("data") or metadata.data.get("name") or "").partition(":")[0],
        "images": test.get("images"),
        "psnr_noisy": (test.get("psnr") or {}).get("noisy"),
        "psnr": metadata.psnr,
        "ssim": (test.get("ssim") or {}).get("denoised"),
    }
