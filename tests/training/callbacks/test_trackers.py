"""Each tracker's records are read back by its own reader. If a tracker fails, the training continues."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from daelab.experiments.train import train
from daelab.runs.folder import get_run_folder
from daelab.training.callbacks import trackers
from daelab.training.callbacks.progress import SilentProgress
from daelab.training.callbacks.record import TrainingInterrupted
from daelab.training.callbacks.trackers import TRACKERS, TrackerKind
from daelab.training.checkpoint import BestEpoch
from daelab.training.recipe import Recipe, parse_recipe

COLUMNS = {"learning_rate", "train_loss", "val_loss", "val_psnr", "val_psnr_batch", "seconds", "images_per_second"}


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daelab.experiments.reports.style.find_spec", lambda name: None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def tiny(pictures_file: Path) -> Recipe:
    data = {"name": f"npz:{pictures_file}"}
    training = {"epochs": 3, "batch": 32, "precision": "float32"}
    return parse_recipe({"data": data, "spec": {"stages": [4]}, "training": training})


class Stop(SilentProgress):
    """An observer that ends a training after its second epoch, as a signal would."""

    def epoch(self, row: Mapping[str, float], best: BestEpoch) -> None:
        if row["epoch"] == 2:
            raise TrainingInterrupted("a", 15)


def interrupted(wanted: Recipe, track: str) -> None:
    """Return a training that was interrupted once and resumed."""
    with pytest.raises(TrainingInterrupted):
        train(wanted, "a", track=[track], progress=Stop())
    train(wanted, "a", track=[track], resume=True)


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_scalars_images_graph_and_hparams(tiny: Recipe) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    interrupted(tiny, "tensorboard")
    run = get_run_folder("a")
    found = accumulator.EventAccumulator(str(run.path / "tensorboard"))
    found.Reload()
    tags = found.Tags()
    rows = run.read_metrics()
    told = {tag.rpartition("/")[2]: tag for tag in tags["scalars"]}
    assert told.keys() >= COLUMNS
    assert [event.step for event in found.Scalars("loss/val_loss")] == [1, 2, 3]
    losses = [event.value for event in found.Scalars("loss/val_loss")]
    assert losses == pytest.approx([row["val_loss"] for row in rows])
    image = found.Images("clean, noisy, denoised")[-1]
    assert (image.height, image.width) == (3 * 16, 5 * 16)
    assert b"dec1" in found.Graph().SerializeToString()
    assert found.Scalars("hparam/val_psnr")[-1].value == pytest.approx(
        min(rows, key=lambda row: row["val_loss"])["val_psnr"]
    )
    assert "_hparams_/session_start_info" in found.summary_metadata


@pytest.mark.filterwarnings("ignore")  # what others deprecate within it
def test_mlflow_gets_parameters_metrics_and_files(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.chdir(tmp_path)  # where MLflow puts the files of a database's runs
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    interrupted(tiny, f"mlflow={uri}")
    client = tracking.MlflowClient(uri)
    experiment = client.get_experiment_by_name("daelab")
    (kept,) = client.search_runs([experiment.experiment_id])
    assert (kept.info.status, kept.info.run_name) == ("FINISHED", "a")
    assert kept.data.params["training.batch"] == "32"
    assert kept.data.params["noise"] == str(tiny.noise)
    rows = get_run_folder("a").read_metrics()
    history = {metric.step: metric.value for metric in client.get_metric_history(kept.info.run_id, "val_loss")}
    assert history == pytest.approx({int(row["epoch"]): row["val_loss"] for row in rows})
    files = {file.path for file in client.list_artifacts(kept.info.run_id)}
    assert files == {"recipe.toml", "best.safetensors", "metrics.csv"}
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


class Broken:
    """A tracker that fails at one of its calls."""

    def __init__(self, moment: str) -> None:
        self.moment = moment

    def __call__(self, *_: Any) -> Broken:
        self.told("made")
        return self

    def epoch(self, *_: Any) -> None:
        self.told("epoch")

    def end(self, *_: Any) -> None:
        self.told("end")

    def told(self, moment: str) -> None:
        if moment == self.moment:
            raise RuntimeError(f"no answer\nat {moment}")


@pytest.mark.parametrize("moment", ["made", "epoch", "end"])
def test_a_tracker_that_fails_is_one_line(moment: str, tiny: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRACKERS, "broken", TrackerKind(Broken(moment), "torch", "track"))
    said: list[str] = []
    trained = train(tiny, "a", track=["broken"], warn=said.append)
    assert said == ["broken is not reported to any more, because it failed: no answer"]
    assert len(trained.rows) == 3


@pytest.mark.parametrize(
    "text, message",
    [
        ("tensorbord", "unknown tracker 'tensorbord'; did you mean 'tensorboard'"),
        ("mlflow", r"give its address as mlflow=URI or in \$MLFLOW_TRACKING_URI"),
        ("absent", r"--track absent needs nonesuch: pip install 'daelab\[track\]'"),
    ],
)
def test_a_tracker_that_cannot_be_is_a_mistake(
    text: str, message: str, tiny: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRACKERS, "absent", TrackerKind(Broken(""), "nonesuch", "track"))
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None if name == "nonesuch" else name)
    with pytest.raises(ValueError, match=message):
        train(tiny, "a", track=[text])
    assert not get_run_folder("a").path.exists()


class Service:
    """A stub of wandb and of trackio that records its calls."""

    def __init__(self) -> None:
        self.opened: list[dict[str, Any]] = []
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.summary: dict[str, float] = {}
        self.ends: list[dict[str, Any]] = []
        self.settings: dict[str, Any] = {}

    def Settings(self, **settings: Any) -> str:  # noqa: N802
        self.settings = settings
        return "settings"

    def init(self, project: str, **options: Any) -> Service:
        sys.stdout.write("a service that greets")
        self.opened.append({"project": project, **options})
        return self

    def log(self, row: dict[str, float], step: int) -> None:
        self.rows.append((step, row))

    def finish(self, **how: Any) -> None:
        self.ends.append(how)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_service_gets_parameters_and_metrics_and_nothing_else(
    name: str, tiny: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    service = Service()
    monkeypatch.setitem(sys.modules, name, service)  # type: ignore[arg-type]
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda package: package)
    interrupted(tiny, f"{name}=mine")
    rows = get_run_folder("a").read_metrics()
    assert [(step, row["val_loss"]) for step, row in service.rows] == [
        (int(row["epoch"]), pytest.approx(row["val_loss"])) for row in rows
    ]
    first, second = service.opened
    assert first["project"] == second["project"] == "mine"
    assert first["name"] == "a"
    assert first["config"]["training.batch"] == 32
    assert second["resume"] == "allow"
    assert first["resume"] in (None, "never")
    assert len(service.ends) == 2
    if name == "wandb":
        assert first["id"] == second["id"]
        assert (service.settings["mode"], os.environ["WANDB_ERROR_REPORTING"]) == ("offline", "false")
        assert service.ends == [{"exit_code": 1}, {"exit_code": 0}]
        assert service.summary["best_val_loss"] == pytest.approx(min(row["val_loss"] for row in rows))
    else:
        assert capsys.readouterr().out == ""
