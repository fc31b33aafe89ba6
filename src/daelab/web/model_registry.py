"""The models that a visitor may choose: those that ship, and the best of each run; never a path."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from daelab.denoising.automatic import AUTOMATIC, AnyDenoiser, AutomaticDenoiser
from daelab.denoising.denoiser import Denoiser
from daelab.errors import unknown_name
from daelab.models.model_file import ModelMetadata, read_model_metadata
from daelab.models.registry import list_shipped_models, shorten_model_name
from daelab.runs.folder import get_runs_root

_KEPT = 4
_loading = threading.Lock()


def list_models() -> list[dict[str, Any]]:
    """What the header of each model says, for people to choose by; those that ship first, the best first."""
    found = [_said(name, card, origin) for name, _, card, origin in _all()]
    return sorted(found, key=lambda model: (model["origin"] != "ships", -(model["psnr"] or 0)))


def load_page_model(name: str) -> AnyDenoiser:
    """What cleans, by a name of `models`, or by `AUTOMATIC`.

    Raises:
        ValueError: no such name; lists those there are.
    """
    if name == AUTOMATIC:
        return _automatic()
    paths = {key: path for key, path, _, _ in _all()}
    if name not in paths:
        raise unknown_name("model", name, [AUTOMATIC, *paths])
    with _loading:
        return _loaded(paths[name], paths[name].stat().st_mtime_ns)  # of a run that trains, anew


@cache
def _automatic() -> AutomaticDenoiser:
    return AutomaticDenoiser()


@lru_cache(_KEPT)
def _loaded(path: Path, _written: int) -> Denoiser:
    return Denoiser.load(path)


def _all() -> Iterator[tuple[str, Path, ModelMetadata, str]]:
    """(name, file, card, origin) of each; a damaged or half-made one is passed over."""
    shipped = {shorten_model_name(name): path for name, path in list_shipped_models().items()}
    trained = {path.parent.name: path for path in sorted(get_runs_root().glob("*/best.safetensors"))}
    # a run of the same name cannot be asked for by it, here as on the command line
    for origin, table in (("ships", shipped), ("run", {k: v for k, v in trained.items() if k not in shipped})):
        for name, path in table.items():
            try:
                card = read_model_metadata(path)
            except (ValueError, OSError):
                continue
            if card.spec.channels == 3:
                yield name, path, card, origin


def _said(name: str, card: ModelMetadata, origin: str) -> dict[str, Any]:
    test = card.metrics.get("test") or {}
    return {
        "name": name,
        "origin": origin,
        "parameters": card.spec.parameters,
        "macs_per_pixel": round(card.spec.macs() / 1024),
        "multiple": card.spec.multiple,
        "halo": card.spec.halo,
        "conditioned": card.spec.conditioned,
        "noise": card.noise,
        "data": _kind_of(test.get("data") or card.data.get("name") or ""),
        "images": test.get("images"),
        "psnr_noisy": (test.get("psnr") or {}).get("noisy"),
        "psnr": card.psnr,
        "ssim": (test.get("ssim") or {}).get("denoised"),
    }


def _kind_of(data: str) -> str:
    """A data set's name without the place of its files."""
    return data.partition(":")[0]
