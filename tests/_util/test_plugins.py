"""An installed package adds rows to every table, and a broken package harms no other."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daelab._util.plugins import PLUGIN_GROUPS, PluginTable, list_plugins, name_object
from daelab.datasets.registry import DATASETS, load_dataset
from daelab.evaluation.classifiers.registry import CLASSIFIERS, load_classifier
from daelab.models.architectures.external import ExternalArchitecture
from daelab.models.build import build_network

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
FIELDS = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ROWS = {group.removeprefix("daelab."): rows for group, rows in FIELDS["entry-points"].items()}

Daelab = Callable[..., list[subprocess.CompletedProcess[str]]]
RUN = """
import contextlib, io, json, sys

sys.path.insert(0, sys.argv[1])
from daelab.cli import main

answers = []
for words in json.loads(sys.argv[2]):
    sys.argv = ["daelab", *words]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    answers.append((code, out.getvalue(), err.getvalue()))
json.dump(answers, sys.stdout)
"""


def write_metadata(place: Path, name: str, version: str, rows: dict[str, dict[str, str]]) -> None:
    """Write the metadata of a package as an installer does."""
    folder = place / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, kept in rows.items():
        lines += [f"[daelab.{group}]", *(f"{key} = {value}" for key, value in kept.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture
def daelab(tmp_path: Path) -> Daelab:
    """Run commands in a process that finds the example package, and one that is broken, on its path."""
    place = tmp_path / "installed"
    place.mkdir()
    (place / "daelab_example").symlink_to(EXAMPLE / "daelab_example")
    write_metadata(place, FIELDS["name"], FIELDS["version"], ROWS)
    write_metadata(
        place,
        "broken-thing",
        "0.3",
        {
            "losses": {"broken": "nonesuch_module:loss", "mse": "x:y"},
            "metrics": {
                "odd": "daelab_example:odd",
                "plain": "daelab_example:huber",
                "other": "daelab_example:LARGEST_ERROR",
            },
        },
    )

    def run(*commands: list[str]) -> list[subprocess.CompletedProcess[str]]:
        command = [sys.executable, "-c", RUN, str(place), json.dumps(commands)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [subprocess.CompletedProcess([], *answer) for answer in json.loads(done.stdout)]

    return run


def test_the_example_adds_a_row_to_each_table() -> None:
    assert sorted(ROWS) == sorted(PLUGIN_GROUPS)


def test_plugins_are_listed_with_their_packages(daelab: Daelab) -> None:
    (done,) = daelab(["plugins", "--json"])
    rows = {(row["table"], row["name"]): row for row in json.loads(done.stdout)}
    for group, kept in ROWS.items():
        for name in kept:
            assert rows[group, name] == {
                "table": group,
                "name": name,
                "package": "daelab-example 1.0",
                "state": "loads",
            }
    assert rows["losses", "broken"]["package"] == "broken-thing 0.3"
    assert "No module named 'nonesuch_module'" in rows["losses", "broken"]["state"]
    assert "hidden" in rows["losses", "mse"]["state"]
    assert "it is a function, not a Metric" in rows["metrics", "plain"]["state"]
    assert "it calls itself 'largest_error'" in rows["metrics", "other"]["state"]


def test_a_recipe_uses_the_rows_of_a_package(daelab: Daelab, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'noise = "ribbons(0.1) > gaussian(0, 0.05)"\nloss = "huber + mse"\nspec = { kind = "plain", width = 4 }\n'
        'data = { name = "ramps" }\ntraining = { epochs = 1, batch = 8 }\njudge = { name = "brightness" }\n'
    )
    trained, evaluated, shown = daelab(
        ["train", "mine.toml", "--name", "first", "--track", "textfile"],
        ["evaluate", "first", "--data", "ramps", "--judge", "brightness", "--json"],
        ["models", "first"],
    )
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "runs" / "first" / "epochs.txt").read_text() == "1\n"
    scores = json.loads(evaluated.stdout)
    assert (scores["parameters"], scores["noise"]) == (223, "ribbons(0.1) > gaussian(0, 0.05)")
    # The broken metric of the other package is left out, in one line.
    assert scores["largest_error"]["denoised"] > 0
    assert not {"odd", "plain", "other"} & set(scores)
    assert shown.returncode == 0


def test_a_broken_plugin_is_one_line(daelab: Daelab) -> None:
    done, misspelt = daelab(
        ["train", "--recipe", "quick", "--set", "loss=broken"], ["train", "--recipe", "quick", "--set", "loss=hubber"]
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "plugin broken (daelab.losses) of broken-thing 0.3 cannot be loaded: ModuleNotFoundError" in line
    assert "did you mean 'huber'" in misspelt.stderr


def test_a_table_without_plugins_is_its_own_rows() -> None:
    table = PluginTable("losses", {"a": 1})
    table["b"] = 2
    assert (dict(table.items()), "a" in table, "c" in table, len(table)) == ({"a": 1, "b": 2}, True, False, 2)
    with pytest.raises(KeyError):
        table["c"]
    del table["b"]
    assert list(table) == ["a"]
    assert list_plugins("nonesuch") == ()


def test_objects_have_names() -> None:
    assert name_object(Path) == "pathlib:Path"
    assert name_object(PluginTable("losses", {})) == "daelab._util.plugins:PluginTable"
    assert name_object(lambda x: x).endswith(":test_objects_have_names.locals.lambda")


@dataclass(frozen=True)
class Three(ExternalArchitecture):
    kind = "three"

    def build(self) -> Any:
        return 3


def test_a_row_that_returns_something_else_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "three", lambda source: 3)
    with pytest.raises(ValueError, match="data set three: its loader returned int, not a Dataset"):
        load_dataset("three")
    monkeypatch.setitem(CLASSIFIERS, "three", lambda path, device: 3)
    with pytest.raises(ValueError, match="classifier three: its loader returned int, not a Classifier"):
        load_classifier("three")
    for use in (lambda: Three().parameters, lambda: build_network(Three(), 0)):
        with pytest.raises(ValueError, match="architecture three: build returned int, not an nn.Module"):
            use()
