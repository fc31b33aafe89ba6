"""The page as static files, which run ONNX models inside the browser and need no server of daelab."""

from __future__ import annotations

import base64
import gzip
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

from daelab._util.files import check_new_folder, fill_new_folder, write_file, write_text
from daelab.experiments.export_model import export_model
from daelab.image_io.formats import list_browser_suffixes
from daelab.models.onnx import check_onnx_installed
from daelab.models.registry import shorten_model_name
from daelab.web.about import describe_server, list_samples, make_thumbnail
from daelab.web.assets import list_assets
from daelab.web.limits import ServerLimits
from daelab.web.model_registry import list_models
from daelab.web.page_identification import write_identification
from daelab.web.security import POLICY

RUNTIME = "onnxruntime-web@1.30.0"
"""The npm package that runs ONNX models in a browser."""
RUNTIME_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""The SHA-512 of the npm package in base64, as in npm's `dist.integrity`."""
RUNTIME_FILES = {"ort.wasm.bundle.min.mjs": "", "ort-wasm-simd-threaded.wasm": ".packed"}
"""The files of the package that the page needs, with the suffix of those that are compressed with gzip.

Not `.gz`: some hosts send such a file as compressed, so that the browser unpacks it by itself."""
PAGE_SAMPLES = ("astronaut", "cat", "coffee", "rocket", "galaxies")
"""The photographs that may be published: they are in the public domain or under CC0."""
_OFFLINE = "offline.js"
"""The service worker, which must lie beside the page."""
_SERVER_PROMISE = "Your picture is processed on this server and not stored."
_BROWSER_PROMISE = (
    "Your picture does not leave this browser. This page writes upright pictures of 8 bits without metadata; "
    "the command daelab denoise keeps both depth and metadata."
)


@dataclass(frozen=True)
class StaticPage:
    """The page as written to a folder."""

    path: Path
    """The folder."""
    models: tuple[str, ...]
    """The names of the models."""
    bytes: int
    """The size of all files."""


def write_static_page(folder: str | Path, models: Sequence[str] = (), *, runtime: Path | None = None) -> StaticPage:
    """Write the page, its models as ONNX and onnxruntime-web into a folder. An error leaves the folder as it was.

    Args:
        folder: The folder to write to. It must be new or empty.
        models: Names of models, as `list_models` lists them. None stands for all shipped models but `.task`.
        runtime: File of the npm package of onnxruntime-web, or None to fetch it with npm.

    Returns:
        The folder, the models and the size of the page.

    Raises:
        FileExistsError: The folder is not empty.
        ValueError: There is no such model, npm is missing or fails, or the package is not the expected one.
        ParityError: A model's ONNX file gives other pictures than PyTorch.
    """
    folder = Path(folder)
    check_new_folder(folder)
    chosen = _choose_models(models)
    check_onnx_installed()
    with tempfile.TemporaryDirectory() as place:
        package = Path(runtime) if runtime is not None else _fetch_runtime(Path(place))
        _check_runtime(package)
        with fill_new_folder(folder) as part:
            _extract(package, part / "ort")
            _write_files(part, chosen)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return StaticPage(folder, tuple(model["name"] for model in chosen), size)


def _write_files(folder: Path, models: list[dict[str, Any]]) -> None:
    """Write the models, samples, description and assets of the page."""
    (folder / "models").mkdir()
    for model in models:
        model["file"] = f"models/{model['name']}.onnx"
        export_model(model["name"], folder / model["file"])
    samples = {name: path for name, path in list_samples().items() if name in PAGE_SAMPLES}
    for name, path in samples.items():
        _write(folder / "samples" / path.name, path.read_bytes())
        thumbnail = make_thumbnail(name)
        assert thumbnail is not None
        _write(folder / "samples" / thumbnail.name, thumbnail.data)
    identification = write_identification(folder / "identify", [model["name"] for model in models])
    document = {"about": _describe_page(samples), "models": models, "identification": identification}
    write_text(folder / "page.json", json.dumps(document, allow_nan=False, indent=1))
    for name, asset in list_assets().items():
        if name == "index.html":
            _write(folder / name, _adapt_html(asset.data.decode()).encode())
        elif name != _OFFLINE:
            _write(folder / "static" / name, asset.data)
    _write(folder / _OFFLINE, _list_for_offline(folder) + list_assets()[_OFFLINE].data)


def _list_for_offline(folder: Path) -> bytes:
    """Return what the service worker needs to know: the files, and a version that changes with any of them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    names = ["./", *(path.relative_to(folder).as_posix() for path in files)]
    return f"const VERSION = {json.dumps(digest.hexdigest()[:20])};\nconst FILES = {json.dumps(names)};\n".encode()


def _choose_models(models: Sequence[str]) -> list[dict[str, Any]]:
    # A conditioned model needs an estimate of the noise level, which the browser does not have.
    known = {model["name"]: model for model in list_models() if not model["conditioned"]}
    models = [shorten_model_name(name) for name in models]
    for name in models:
        if name not in known:
            raise ValueError(f"the page cannot use the model {name}; the models are: {', '.join(known)}")
    # The models that were trained to help a classifier are not for people who look at pictures.
    default = {name for name, model in known.items() if model["origin"] == "ships" and not name.endswith(".task")}
    return [model for name, model in known.items() if name in (models or default)]


def _describe_page(samples: dict[str, Path]) -> dict[str, Any]:
    """Return what the server would say at /api/about, limited to what the browser can do."""
    about = describe_server(ServerLimits())
    simple = {
        name: formula
        for name, formula in about["noises"].items()
        if name not in ("real", "camera-pipeline", "camera-file")
    }
    return about | {
        "suffixes": list_browser_suffixes(),
        "noises": simple,
        "samples": [{"name": name, "file": path.name} for name, path in samples.items()],
    }


def _adapt_html(html: str) -> str:
    """Return the HTML for a host that sends no security headers."""
    policy = {**POLICY, "script-src": "'self' 'wasm-unsafe-eval'"}
    del policy["frame-ancestors"]  # browsers accept this one only as a header
    meta = "; ".join(f"{key} {value}" for key, value in policy.items())
    html = html.replace('data-backend="server"', 'data-backend="local"')
    html = html.replace(_SERVER_PROMISE, _BROWSER_PROMISE)
    return html.replace("<title>", f'<meta http-equiv="Content-Security-Policy" content="{meta}">\n<title>', 1)


def _fetch_runtime(folder: Path) -> Path:
    """Fetch the npm package into a folder."""
    npm = shutil.which("npm")
    remedy = f"run npm pack {RUNTIME} on another machine, and give its file with --runtime FILE.tgz"
    if npm is None:
        raise ValueError(f"npm, which downloads onnxruntime-web, is not installed; {remedy}")
    # By default npm tries for minutes to reach a registry that does not answer.
    patience = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"]
    command = [npm, "pack", RUNTIME, "--pack-destination", str(folder), "--loglevel=error", *patience]
    process = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    package = next(folder.glob("*.tgz"), None)
    if process.returncode != 0 or package is None:
        reason = (process.stderr.strip() or "no error message").splitlines()[0].removeprefix("npm error ")
        raise ValueError(f"npm could not download {RUNTIME}: {reason}; {remedy}")
    return package


def _check_runtime(package: Path) -> None:
    """Raise unless the package has the expected checksum."""
    try:
        with package.open("rb") as file:
            digest = hashlib.file_digest(file, "sha512").digest()
    except FileNotFoundError:
        raise ValueError(f"the file {package} does not exist; npm pack {RUNTIME} writes it") from None
    if base64.b64encode(digest).decode() != RUNTIME_SHA512:
        raise ValueError(
            f"{package}: not the package {RUNTIME}, its SHA-512 differs; npm pack {RUNTIME} writes the right one"
        )


def _extract(package: Path, folder: Path) -> None:
    with tarfile.open(package) as archive:
        for name, suffix in RUNTIME_FILES.items():
            # Only the named files are read, so that paths inside the archive cannot lead out of the folder.
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None, name
            data = member.read()
            _write(folder / (name + suffix), gzip.compress(data, mtime=0) if suffix else data)


def _write(path: Path, data: bytes) -> None:
    write_file(path, lambda part: part.write_bytes(data))
