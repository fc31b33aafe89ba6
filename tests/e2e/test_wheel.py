"""The wheel and the source distribution: their files, their sizes, and commands of the installed wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LARGEST, LARGEST_SOURCES = 30_000_000, 40_000_000
"""The largest sizes of the wheel, and of the sources with tests and handbook, in bytes."""
"""The largest size of each of the two, in bytes."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution, and the wheel from its files."""
    place = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", place, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    return next(built.glob("*.tar.gz"))


def test_holds_what_ships_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    files = (path.relative_to(ROOT / "src") for path in (ROOT / "src" / "daelab").rglob("*.*") if path.is_file())
    sources = {path.as_posix() for path in files if "__pycache__" not in path.parts}
    assert {name for name in names if name.startswith("daelab/")} == sources
    for needed in ("py.typed", "web/static/index.html", "recipes/quick.toml", "experiments/reports/page.html"):
        assert f"daelab/{needed}" in names
    assert all(name.startswith(("daelab/", "daelab-")) for name in names)
    kinds = {".py", ".typed", ".toml", ".html", ".css", ".js", ".svg", ".safetensors", ".txt", ""}
    assert {Path(name).suffix for name in names} <= kinds
    assert wheel.stat().st_size < LARGEST


def test_the_sdist_holds_the_sources_alone(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    folders = {"src", "tests", "benchmarks", "tools", "docs", "examples"}
    files = {"pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "LICENSE"}
    files |= {"Makefile", "Dockerfile", ".dockerignore", "zensical.toml", "PKG-INFO", ".gitignore"}
    files |= {"constraints.txt", "constraints-oldest.txt"}
    assert {name for name in names if "/" not in name} == files
    assert {name.partition("/")[0] for name in names if "/" in name} == folders
    assert not [name for name in names if "__pycache__" in name or (name.startswith("docs/") and name.endswith(".svg"))]
    assert sdist.stat().st_size < LARGEST_SOURCES


def test_both_are_fit_for_an_index(built: Path) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", *built.iterdir()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_the_metadata_say_what_it_is(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith(".dist-info/METADATA")]
        found = message_from_string(file.read(name).decode())
    assert (found["Name"], found["Version"]) == ("daelab", project["version"])
    assert found["License-Expression"] == "Apache-2.0"
    assert found["Summary"] == project["description"]
    assert set(found.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
    assert "# daelab" in found.get_payload()


def test_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path)
    version = wheel.name.split("-")[1]
    for words, wanted in ((["--version"], f"daelab {version}"), (["--help"], "denoising auto-encoders")):
        ran = subprocess.run(
            [sys.executable, "-m", "daelab", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
        )
        assert ran.returncode == 0, ran.stderr
        assert wanted in ran.stdout
