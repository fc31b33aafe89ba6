"""The wheel: what is in it, how large it is, and that it runs without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LARGEST = 25_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place, ROOT]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return next(place.glob("*.whl"))


def test_holds_what_ships_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    page = ("serving/static/index.html", "serving/static/page.css", "serving/static/main.js", "serving/static/icon.svg")
    text = ("py.typed", "recipes/quick.toml", "recipes/paper/38.toml", "report/page.html", "cli/__init__.py")
    for needed in (*page, *text):
        assert f"daelab/{needed}" in names
    assert all(name.startswith(("daelab/", "daelab-")) for name in names)
    kinds = {".py", ".typed", ".toml", ".html", ".css", ".js", ".svg", ".safetensors", ".txt", ""}
    assert {Path(name).suffix for name in names} <= kinds
    assert wheel.stat().st_size < LARGEST


def test_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path)
    code = "import daelab, sys; from daelab.cli import main; assert daelab.__file__.startswith(sys.argv.pop(1)); main()"
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), "--help"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert ran.returncode == 0, ran.stderr
    assert "denoising auto-encoders" in ran.stdout
    assert "evaluate" in ran.stdout
