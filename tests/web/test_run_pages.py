"""The API of runs, studies and the leaderboard: increments, pages of runs, and who may stop a training."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from test_server import TOKEN, client_of, settings

from daelab.runs.folder import get_runs_root
from daelab.runs.ledger import Ledger
from daelab.web import run_store
from daelab.web.app import ServerSettings
from daelab.web.columns import CURVE_COLUMNS, RUN_COLUMNS, describe_board_columns
from daelab.web.run_store import RunStore

RECIPE = {"noise": "type-1", "data": {"name": "folder:/home/me/set", "train": 64}, "training": {"lr": 0.01}}


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Return the default ledger, with two runs."""
    monkeypatch.setattr(run_store, "_FRESH", 0.0)
    ledger = Ledger()
    for name, status in (("one", "finished"), ("two", "running")):
        ledger.record(name, status=status, val_loss=0.5, epochs_done=2, recipe=RECIPE, comments=f"note of {name}")
    return ledger


@pytest.fixture
def client(ledger: Ledger) -> TestClient:
    return client_of(settings())


def folder_of(name: str) -> Path:
    folder = get_runs_root() / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_an_answer_holds_only_what_has_changed(client: TestClient, ledger: Ledger) -> None:
    def ask(since: str) -> tuple[list[str], str, bool]:
        answer = client.get("/api/runs", params={"since": since}).json()
        return [row["name"] for row in answer["runs"]], answer["version"], answer["whole"]

    names, first, whole = ask("")
    assert (names, whole) == (["one", "two"], True)
    assert ask(first) == ([], first, False)
    ledger.record("two", epochs_done=3)
    ledger.record("three", status="running")
    names, second, whole = ask(first)
    assert (names, whole) == (["two", "three"], False)
    assert ask(second) == ([], second, False)
    assert ask(first)[0] == ["two", "three"]  # another client may be further behind
    for old in ("0.0", "x", f"{second}9", ".", "ffffffff.1"):
        assert ask(old)[2] or ask(old)[0] == []
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM runs WHERE name = 'one'")
    names, third, whole = ask(second)
    assert (names, whole) == (["two", "three"], True)
    assert ask(third) == ([], third, False)


def test_only_later_epochs_of_a_curve_are_sent(client: TestClient) -> None:
    (folder_of("one") / "metrics.csv").write_text("epoch,val_loss\n1,0.7\n2,0.5\n3,0.4\n")
    curve = client.get("/api/runs/one", params={"after": 2}).json()["curve"]
    assert curve == [{"epoch": 3, "val_loss": 0.4}]
    assert len(client.get("/api/runs/one").json()["curve"]) == 3


def test_a_page_of_a_run_has_everything_without_paths(client: TestClient) -> None:
    folder = folder_of("one")
    for name in ("recipe.toml", "checkpoint.safetensors", "best.safetensors"):
        (folder / name).touch()
    environment = {"versions": {"torch": "2.9"}, "processor": "/opt/cpu name", "group": "x", "gpu": None}
    (folder / "environment.json").write_text(json.dumps(environment))
    answer = client.get("/api/runs/one/details")
    details = answer.json()
    assert details["recipe"] == {
        "noise": "type-1",
        "data.name": "folder:…/set",
        "data.train": 64,
        "training.lr": 0.01,
    }
    assert details["environment"] == {"versions.torch": "2.9", "processor": "…/cpu name"}
    assert details["commands"] == {
        "Resume": "daelab train --resume one",
        "Evaluate": "daelab evaluate one --data folder:PATH",
        "Use": "daelab denoise PICTURE --model one",
        "Repeat": "daelab train runs/one/recipe.toml",
    }
    assert (details["samples"], details["report"], details["study"]) == ({}, False, None)
    assert "/home" not in answer.text
    assert client.get("/api/runs/two/details").json()["commands"] == {}
    for path in ("details", "report", "samples/clean"):
        assert client.get(f"/api/runs/three/{path}").status_code == 404


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("photos", " --data photos"),
        ("cbsd432", " --data cbsd68"),
        ("cifar10", ""),
        (["x"], ""),
        ("$(reboot)", ""),
        ("npz:/home/me/a.npz", " --data npz:PATH"),
        ("x; reboot", " --data x"),
        ("folder:x\n$(reboot)", " --data folder:PATH"),
    ],
)
def test_a_command_names_the_data_of_its_run_and_runs_nothing_else(
    name: Any, options: str, client: TestClient, ledger: Ledger
) -> None:
    """The ledger may be a stranger's, and a visitor copies the commands into a shell."""
    ledger.record("one", recipe={**RECIPE, "data": {"name": name}})
    (folder_of("one") / "best.safetensors").touch()
    assert client.get("/api/runs/one/details").json()["commands"]["Evaluate"] == f"daelab evaluate one{options}"


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000, "\xff"])
def test_a_damaged_environment_hides_nothing_else(text: str, client: TestClient) -> None:
    (folder_of("one") / "environment.json").write_text(text, encoding="latin-1")
    details = client.get("/api/runs/one/details").json()
    assert details["environment"] == {}
    assert details["recipe"]["training.lr"] == 0.01


def test_a_classifier_is_resumed_by_its_own_command(client: TestClient, ledger: Ledger) -> None:
    ledger.record("judge", status="interrupted", architecture="classifier 8, 16")
    for name in ("recipe.toml", "checkpoint.safetensors", "best.safetensors"):
        (folder_of("judge") / name).touch()
    assert client.get("/api/runs/judge/details").json()["commands"] == {
        "Resume": "daelab train-judge --resume judge",
        "Repeat": "daelab train-judge --recipe runs/judge/recipe.toml",
    }


def test_samples_are_strips_in_the_order_of_the_epochs(client: TestClient) -> None:
    images = np.arange(3 * 3 * 4 * 5, dtype=np.uint8).reshape(3, 3, 4, 5)
    parts: dict[str, Any] = dict.fromkeys(("denoised", "noisy", "epoch_10", "clean", "epoch_2"), images)
    np.savez(folder_of("one") / "samples.npz", **parts, other=images, epoch_x=images)
    samples = client.get("/api/runs/one/details").json()["samples"]
    assert list(samples.items()) == [("clean", 3), ("noisy", 3), ("epoch_2", 3), ("epoch_10", 3), ("denoised", 3)]
    answer = client.get("/api/runs/one/samples/epoch_2")
    strip = np.asarray(Image.open(io.BytesIO(answer.content)))
    np.testing.assert_array_equal(strip[:, 5:10], images[1].transpose(1, 2, 0))
    assert strip.shape == (4, 15, 3)
    for part in ("other", "epoch_x", "..%2Frecipe", "epoch_3"):
        assert client.get(f"/api/runs/one/samples/{part}").status_code == 404


def write_bomb(path: Path) -> None:
    np.savez_compressed(path, clean=np.zeros((1, 3, 5000, 5000), np.uint8))


DAMAGED: dict[str, Any] = {
    "no zip": lambda path: path.write_bytes(b"PK no archive"),
    "empty": lambda path: path.write_bytes(b""),
    "bomb": write_bomb,
    "floats": lambda path: np.savez(path, clean=np.zeros((1, 3, 4, 4))),
    "grey": lambda path: np.savez(path, clean=np.zeros((1, 1, 4, 4), np.uint8)),
    "pickle": lambda path: np.savez(path, clean=np.array([{}], dtype=object)),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_samples_are_no_samples(kind: str, client: TestClient) -> None:
    DAMAGED[kind](folder_of("one") / "samples.npz")
    assert client.get("/api/runs/one/details").status_code == 200
    assert client.get("/api/runs/one/samples/clean").status_code == 404


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_pipes_in_a_folder_hold_up_nothing(client: TestClient) -> None:
    for name in ("samples.npz", "environment.json", "report.html", "best.safetensors", "metrics.csv"):
        os.mkfifo(folder_of("one") / name)
    details = client.get("/api/runs/one/details").json()
    assert (details["environment"], details["samples"], details["report"]) == ({}, {}, False)
    assert client.get("/api/runs/one/samples/clean").status_code == 404
    assert client.get("/api/runs/one/report").status_code == 404
    assert client.get("/api/runs/one").json()["curve"] == []
    assert "one" not in {model["name"] for model in client.get("/api/models").json()}


def test_a_report_can_run_nothing_and_names_no_folder(client: TestClient) -> None:
    page = "<dl><dt>data</dt><dd>folder:/home/me/a &amp; b</dd></dl><p>/kept</p><script>1</script>"
    (folder_of("one") / "report.html").write_text(page)
    assert client.get("/api/runs/one/details").json()["report"]
    answer = client.get("/api/runs/one/report")
    assert "<dd>folder:…/a &amp; b</dd>" in answer.text
    assert "/kept" in answer.text
    policies = answer.headers.get_list("content-security-policy")
    assert len(policies) == 1
    assert policies[0].startswith("sandbox; default-src 'none'")
    assert "script-src" not in policies[0]


def test_columns_have_a_title_each() -> None:
    client = client_of(settings())
    columns = client.get("/api/columns").json()
    assert columns["can_stop"] is False
    assert [column["key"] for column in columns["runs"]] == [column["key"] for column in RUN_COLUMNS]
    assert {column["key"] for column in RUN_COLUMNS} >= set(run_store._TEXTS)
    titles = {column["key"]: column["title"] for column in columns["runs"]}
    assert (titles["val_psnr_image"], titles["val_psnr"]) == ("PSNR, dB", "Batch PSNR, dB")
    names = [name for column in RUN_COLUMNS for name in (column["key"], *column["also"])]
    assert len(names) == len(set(names))
    assert all(column["title"] for column in CURVE_COLUMNS)


def test_a_leaderboard_shows_no_hashes_and_names_every_column() -> None:
    names = ["model", "noise", "images", "noisy_sha256", "psnr", "psnr_low", "f1_holdout", "recovered_holdout", "seen"]
    shown = {column["key"]: column["title"] for column in describe_board_columns([*names, "mine"])}
    assert shown == {
        "model": "Model",
        "noise": "Noise",
        "psnr": "PSNR, dB",
        "f1_holdout": "Macro F1, holdout",
        "recovered_holdout": "Recovered F1, holdout",
        "mine": "Mine",
        "images": "Test images",
    }
    assert list(shown)[-1] == "images"  # the scores come first


def test_crops_of_the_leaderboard_are_listed_and_nothing_else_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    folder = tmp_path / "board" / "crops" / "flat-sky"
    folder.mkdir(parents=True)
    (folder / "model-c.png").write_bytes(b"picture")
    (folder / "notes.txt").touch()
    client = client_of(ServerSettings(runs=RunStore(leaderboard=tmp_path / "board" / "leaderboard.csv")))
    assert client.get("/api/leaderboard").json()["crops"] == {"flat-sky": ["model-c"]}
    assert client.get("/api/leaderboard/crops/flat-sky/model-c").content == b"picture"
    for place in ("flat-sky/notes", "..%2F../secret", "%2E%2E/secret", "flat-sky/..%2F..%2F..%2Fsecret"):
        assert client.get(f"/api/leaderboard/crops/{place}").status_code == 404


TRAINING = """
import signal, sys
from daelab.runs.folder import get_run_folder
from daelab.runs.ledger import Ledger
from daelab.runs.process_lock import describe_process, lock_run

with lock_run(get_run_folder("two").path):
    Ledger().record("two", **describe_process())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    print("ready", flush=True)
    signal.pause()
"""


@pytest.fixture
def owner() -> TestClient:
    """Return a client that has the token of a server."""
    client = client_of(ServerSettings(token=TOKEN))
    client.headers["authorization"] = f"Bearer {TOKEN}"
    return client


@pytest.mark.skipif(not hasattr(signal, "pause"), reason="Windows has no signals that a process can save at")
def test_who_has_the_token_stops_a_training(ledger: Ledger, owner: TestClient, client: TestClient) -> None:
    with subprocess.Popen([sys.executable, "-c", TRAINING], stdout=subprocess.PIPE, text=True) as training:
        try:
            assert training.stdout is not None
            assert training.stdout.readline() == "ready\n"
            assert owner.get("/api/columns").json()["can_stop"] is True
            refused = client.post("/api/runs/two/stop")
            assert (refused.status_code, training.poll()) == (403, None)
            assert "daelab serve --token TOKEN" in refused.json()["error"]
            # Without the token of this server, and from the page of another site.
            assert owner.post("/api/runs/two/stop", headers={"authorization": "Bearer no"}).status_code == 401
            assert owner.post("/api/runs/two/stop", headers={"origin": "http://evil.example"}).status_code == 403
            ledger.record("two", pid=1)  # the ledger names another process than the lock
            assert owner.post("/api/runs/two/stop").status_code == 422
            assert training.poll() is None
            ledger.record("two", pid=training.pid)
            assert owner.post("/api/runs/two/stop").json() == {"stopped": "two"}
            assert training.wait(30) == 7
        finally:
            training.kill()


def test_what_does_not_train_is_not_stopped(ledger: Ledger, owner: TestClient) -> None:
    # A run folder that was copied may hold a lock file, which nobody has locked.
    (folder_of("one") / ".lock").write_text(json.dumps({"host": "here", "pid": 1}))
    for name, status in (("one", 422), ("two", 422), ("three", 404)):
        answer = owner.post(f"/api/runs/{name}/stop")
        assert answer.status_code == status
        assert "\n" not in answer.json()["error"]


def test_there_is_no_study_without_tables_of_studies(client: TestClient, ledger: Ledger) -> None:
    assert client.get("/api/studies").json() == {"studies": []}
    assert client.get("/api/studies/depths").status_code == 404
    with ledger.engine.connect() as connection:
        tables = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
    assert sorted(tables) == ["daelab_schema", "runs"]  # a visitor has created none
