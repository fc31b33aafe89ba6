"""The training campaign for a GPU, rehearsed on the CPU."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import campaign
import pytest

from daelab.models.model_file import load_network
from daelab.training.recipe import load_recipe

SCRIPT = Path(__file__).parents[2] / "tools" / "gpu" / "campaign.py"
pytestmark = pytest.mark.usefixtures("forked")
if sys.platform == "win32":
    pytest.skip("the campaign forks processes", allow_module_level=True)


def rehearse(out: Path, *options: str, limit: int = 600) -> str:
    folders = ["--out", str(out), "--data-root", str(out)]
    command = [sys.executable, str(SCRIPT), "--rehearse", "--limit", str(limit), *folders, *options]
    # One thread each, since the tests themselves run in two processes.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True, env=environment)
    return done.stdout


def read_names(out: Path) -> list[str]:
    with (out / "summary.csv").open(encoding="utf-8", newline="") as file:
        return [row["name"] for row in csv.DictReader(file)]


def test_the_whole_plan_is_rehearsed(tmp_path: Path) -> None:
    plan = campaign.read_plan(SCRIPT.with_name("plan.toml"))
    rehearse(tmp_path)
    assert read_names(tmp_path) == [run.name for run in plan]
    for run in plan:
        with tarfile.open(tmp_path / f"{run.name}.tar") as archive:
            assert archive.getnames() == [f"{run.name}/{file}" for file in campaign.FILES]
            archive.extractall(tmp_path / "back", filter="data")
        # What comes back must fit the limits of such a machine, and load.
        assert (tmp_path / f"{run.name}.tar").stat().st_size < 10e6
        network, metadata = load_network(tmp_path / "back" / run.name / "model.safetensors")
        assert metadata.stored == "float16"
        assert network.spec == load_recipe(run.recipe).spec
    # Everything is there, so that a second campaign has nothing to do.
    assert rehearse(tmp_path) == ""


def test_a_run_that_was_cut_off_is_resumed(tmp_path: Path) -> None:
    rehearse(tmp_path, "--only", "model-b-35")
    (tmp_path / "model-b-35.tar").unlink()
    metrics = tmp_path / "runs" / "model-b-35" / "metrics.csv"
    before = metrics.read_bytes()
    rehearse(tmp_path, "--only", "model-b-35")
    assert (tmp_path / "model-b-35.tar").is_file()
    # The seconds of each epoch are in it, so that a second training would differ.
    assert metrics.read_bytes() == before
    assert read_names(tmp_path) == ["model-b-35", "model-b-35"]


def test_nothing_starts_when_the_time_is_over(tmp_path: Path) -> None:
    out = rehearse(tmp_path, "--only", "dae-s", "dae-s.task", limit=10)
    assert out.count("left out") == 2
    assert not list(tmp_path.glob("*.tar"))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('[[run]]\nname = "a"\nrecipe = "quick"\nminutes = 1\nwrong = 2\n', "wrong"),
        ('[[run]]\nname = "a"\nrecipe = "quick"\nminutes = 1\nstart = "b"\n', "run a"),
        ('[[run]]\nname = "a"\nrecipe = "quick"\nminutes = 1\n' * 2, "run a"),
    ],
)
def test_a_mistake_in_the_plan_is_named(text: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=hint):
        campaign.read_plan(path)


def test_a_second_run_starts_only_beside_one_that_leaves_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = campaign.Campaign([], tmp_path, 100.0, tmp_path, False)
    assert one.has_room()
    planned = campaign.PlannedRun("a", "quick", 1.0)
    one.running = [campaign.RunningRun(planned, None, 0.0, began=-1e9)]
    for use, room in ((10, True), (90, False)):
        monkeypatch.setattr(campaign, "measure_gpu_use", lambda use=use: use)
        assert one.has_room() is room
    assert not one.is_ready(campaign.PlannedRun("b", "quick", 1.0, start="a"))
    one.running *= 2
    monkeypatch.setattr(campaign, "measure_gpu_use", lambda: 0)
    assert not one.has_room()
