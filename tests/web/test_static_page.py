"""The page as static files is written completely or not at all; tests/e2e/test_page.py opens it in a browser."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from daelab.cli import main
from daelab.image_io.formats import FORMATS
from daelab.models.onnx import ParityError
from daelab.web import static_page
from daelab.web.page_identification import write_identification
from daelab.web.static_page import RUNTIME_FILES, write_static_page

REFUSED = {
    "full folder": "page exists and is not an empty folder",
    "unknown model": "the page cannot use the model model-x; the models are: ",
    "another package": "runtime.tgz: not the package onnxruntime-web@",
    "no package": "the file .*absent.tgz does not exist; npm pack onnxruntime-web@",
    "no npm": "onnxruntime-web, is not installed; run npm pack",
    "npm fails": "npm could not download onnxruntime-web@.*: no error message",
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_static_page_is_refused_in_one_line(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, runtime = tmp_path / "page", tmp_path / "runtime.tgz"
    runtime.write_bytes(b"another")
    given: dict[str, Any] = {"runtime": runtime}
    if what == "full folder":
        folder.mkdir()
        (folder / "mine.txt").touch()
    elif what == "unknown model":
        given["models"] = ["model-x"]
    elif what == "no package":
        given["runtime"] = tmp_path / "absent.tgz"
    elif what in ("no npm", "npm fails"):
        given["runtime"] = None
        monkeypatch.setattr("shutil.which", lambda name: None if what == "no npm" else "false")
    with pytest.raises((ValueError, FileExistsError), match=REFUSED[what]):
        write_static_page(folder, **given)
    assert folder.exists() == (what == "full folder")


def test_the_page_says_what_to_do_with_each_format_that_it_may_not_read() -> None:
    text = (Path(static_page.__file__).with_name("static") / "words.js").read_text(encoding="utf-8")
    patterns = re.findall(r"^  \[/(.*)/i, \"", text, re.MULTILINE)
    suffixes = [suffix for row in FORMATS.values() if row.package for suffix in row.suffixes]
    assert [suffix for suffix in suffixes if not any(re.search(one, f"a{suffix}") for one in patterns)] == []


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a package with the file names of onnxruntime-web, as a stand-in."""
    path = tmp_path / "runtime.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name in RUNTIME_FILES:
            archive.addfile(tarfile.TarInfo(f"package/dist/{name}"))
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    monkeypatch.setattr("daelab.web.static_page.RUNTIME_SHA512", digest)
    return path


@pytest.mark.parametrize("existed", [False, True])
def test_a_static_page_is_whole(existed: bool, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    if existed:  # once is enough
        monkeypatch.setattr(
            "daelab.web.static_page.write_identification", lambda folder, models: {"models": list(models)}
        )
    folder = tmp_path / "a" / "page"
    if existed:
        folder.mkdir(parents=True)
    page = write_static_page(folder, ["model-b-35.published-code"], runtime=runtime)
    assert page.models == ("model-b-35",)
    assert sorted(path.name for path in folder.iterdir()) == [
        *([] if existed else ["identify"]),
        *("index.html", "models", "offline.js", "ort", "page.json", "samples", "static"),
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["page"]
    described = json.loads((folder / "page.json").read_text())
    assert [model["file"] for model in described["models"]] == ["models/model-b-35.onnx"]
    assert len(described["identification"]["models"]) == 1
    # The service worker keeps every file, and changes with each of them.
    version, files = (folder / "offline.js").read_text().splitlines()[:2]
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(json.loads(files.removeprefix("const FILES = ").rstrip(";"))) == names - {"offline.js"} | {"./"}
    assert len(version) == len('const VERSION = "";') + 20
    assert gzip.decompress((folder / "ort" / "ort-wasm-simd-threaded.wasm.packed").read_bytes()) == b""
    assert page.bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


FAILURES = [ParityError("differs"), OSError(28, "No space left on device"), KeyboardInterrupt()]


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_no_half_static_page_is_left(
    error: BaseException, existed: bool, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "page"
    if existed:
        folder.mkdir()

    def fail(model: str, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise error

    monkeypatch.setattr("daelab.web.static_page.export_model", fail)
    with pytest.raises(type(error)):
        write_static_page(folder, runtime=runtime)
    assert sorted(tmp_path.rglob("*")) == sorted([runtime, *([folder] if existed else [])])


def test_a_static_page_of_other_pictures_is_one_line(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("daelab.models.onnx.PARITY_TOLERANCE", 1e-12)
    words = ["export", "model-c", "--page", str(tmp_path / "page"), "--runtime", str(runtime)]
    monkeypatch.setattr("sys.argv", ["daelab", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr()
    assert (ended.value.code, output.out, output.err.count("\n")) == (1, "", 1)
    assert "model-c.onnx was not written" in output.err
    assert list(tmp_path.iterdir()) == [runtime]


def test_an_identification_that_differs_from_pytorch_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("daelab.web.page_identification._TOLERANCE", -1)
    with pytest.raises(ParityError, match=r"^families.onnx was not written: onnxruntime's output differs"):
        write_identification(tmp_path / "identify", [])
