"""The page as static files that run ONNX models inside the browser: for any host, or none but this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daelab._util.files import write_file, write_text
from daelab.experiments.evaluate_model import export_model
from daelab.web.about import describe_server, list_samples
from daelab.web.assets import list_assets
from daelab.web.limits import ServerLimits
from daelab.web.model_registry import list_models
from daelab.web.security import POLICY

RUNTIME = "onnxruntime-web@1.30.0"
RUNTIME_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Of its npm package, in base64, as npm's `dist.integrity` says it."""
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
PAGE_SAMPLES = ("astronaut", "cat", "coffee", "rocket", "galaxies")
"""Photographs that may be published: of the public domain, or CC0."""
SHOWN = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
"""Files that browsers decode."""


@dataclass(frozen=True)
class StaticPage:
    """A folder that holds the page."""

    path: Path
    models: tuple[str, ...]
    bytes: int


def write_static_page(folder: str | Path, models: Sequence[str] = (), *, runtime: Path | None = None) -> StaticPage:
    """Write the page, its models as ONNX and onnxruntime-web into a folder.

    Args:
        folder: is made, or is empty.
        models: names of `zoo.models`; all that ship where none is given.
        runtime: the npm package of onnxruntime-web as a file; npm fetches it where it is not given.

    Raises:
        FileExistsError: the folder holds something.
        ValueError: no such model, npm is missing or fails, or the package is not the one that is known here.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not an empty folder; take another")
    cards = _chosen(models)
    with tempfile.TemporaryDirectory() as place:
        package = Path(runtime) if runtime is not None else _fetched(Path(place))
        _checked(package)
        folder.mkdir(parents=True, exist_ok=True)
        _extract(package, folder / "ort")
    for card in cards:
        card["file"] = f"models/{card['name']}.onnx"
        (folder / "models").mkdir(exist_ok=True)
        export_model(card["name"], folder / card["file"])
    found = {name: path for name, path in list_samples().items() if name in PAGE_SAMPLES}
    for path in found.values():
        _write(folder / "samples" / path.name, path.read_bytes())
    write_text(folder / "page.json", json.dumps({"about": _about(found), "models": cards}, allow_nan=False, indent=1))
    for name, asset in list_assets().items():
        if name == "index.html":
            _write(folder / name, _still(asset.data.decode()).encode())
        else:
            _write(folder / "static" / name, asset.data)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return StaticPage(folder, tuple(card["name"] for card in cards), size)


def _chosen(models: Sequence[str]) -> list[dict[str, Any]]:
    # nobody estimates the noise's level there
    known = {card["name"]: card for card in list_models() if not card["conditioned"]}
    for name in models:
        if name not in known:
            raise ValueError(f"no model {name} for the page; there are: {', '.join(known)}")
    return [card for name, card in known.items() if name in models or (not models and card["origin"] == "ships")]


def _about(samples: dict[str, Path]) -> dict[str, Any]:
    """What the server would say, of what the browser can do."""
    found = describe_server(ServerLimits())
    simple = {name: text for name, text in found["noises"].items() if name != "real"}
    return found | {
        "suffixes": list(SHOWN),
        "noises": simple,
        "samples": [{"name": name, "file": path.name} for name, path in samples.items()],
    }


def _still(html: str) -> str:
    """The page's HTML for a host that sends no headers."""
    policy = {**POLICY, "script-src": "'self' 'wasm-unsafe-eval'"}
    del policy["frame-ancestors"]  # which only a header can say
    meta = "; ".join(f"{key} {value}" for key, value in policy.items())
    html = html.replace('data-backend="server"', 'data-backend="local"')
    html = html.replace("It is worked on by this server and kept nowhere.", "It does not leave this browser.")
    return html.replace("<title>", f'<meta http-equiv="Content-Security-Policy" content="{meta}">\n<title>', 1)


def _fetched(place: Path) -> Path:
    """The npm package, as npm fetches it."""
    npm = shutil.which("npm")
    how = f"npm pack {RUNTIME}, and then --runtime FILE.tgz"
    if npm is None:
        raise ValueError(f"onnxruntime-web comes from npm, which is not installed; elsewhere: {how}")
    command = [npm, "pack", RUNTIME, "--pack-destination", str(place), "--silent"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)
    found = next(place.glob("*.tgz"), None)
    if done.returncode != 0 or found is None:
        reason = (done.stderr.strip() or "it says nothing").splitlines()[-1]
        raise ValueError(f"npm did not fetch {RUNTIME}: {reason}; elsewhere: {how}")
    return found


def _checked(package: Path) -> None:
    """Raise unless it is the very package that is known here."""
    try:
        with package.open("rb") as file:
            digest = hashlib.file_digest(file, "sha512").digest()
    except FileNotFoundError:
        raise ValueError(f"no file {package}; npm pack {RUNTIME} makes it") from None
    if base64.b64encode(digest).decode() != RUNTIME_SHA512:
        raise ValueError(f"{package}: not the package {RUNTIME} (its sha512 differs); npm pack {RUNTIME} fetches it")


def _extract(package: Path, folder: Path) -> None:
    with tarfile.open(package) as archive:
        for name in RUNTIME_FILES:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None, name
            _write(folder / name, member.read())


def _write(path: Path, data: bytes) -> None:
    write_file(path, lambda part: part.write_bytes(data))
