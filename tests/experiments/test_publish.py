"""Models are published as folders and loaded from the hub by name, tested with a server on this computer."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import yaml
from torch import nn

import daelab
from daelab.cli import main
from daelab.experiments.publish import make_model_card, publish_model
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.models.build import build_network
from daelab.models.hub import HUB_MODEL_FILE
from daelab.models.model_file import ModelMetadata, read_model_metadata, save_model
from daelab.training.recipe import load_recipe
from daelab.training.tasks.denoising import fit_denoiser

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)


def front_matter(text: str) -> dict[str, object]:
    _, front, _ = text.split("---\n", 2)
    return yaml.safe_load(front)


def save_own(path: Path, **fields: object) -> Path:
    """Write a small model whose header has these fields."""
    network = build_network(ARCHITECTURE_PRESETS["model-b-35"])
    save_model(path, network, ModelMetadata(network.spec, **fields))  # type: ignore[arg-type]
    return path


def test_a_published_folder_loads_and_says_what_the_header_says(tmp_path: Path) -> None:
    published = publish_model("photo-s", tmp_path / "out")
    assert published.files == ("README.md", "config.json", "model.safetensors")
    assert published.local_paths == ()
    whole, folder = daelab.load_model("photo-s"), daelab.load_model(tmp_path / "out")
    np.testing.assert_array_equal(folder(PICTURE), whole(PICTURE))
    card = read_model_metadata(tmp_path / "out" / HUB_MODEL_FILE)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["spec"] == json.loads(json.dumps(card.spec.to_dict()))
    assert (config["library_name"], config["model_type"]) == ("daelab", "unet")
    front = front_matter((tmp_path / "out" / "README.md").read_text())
    assert front["license"] == "apache-2.0"
    assert front["datasets"] == [card.data["name"]]
    results = front["model-index"][0]["results"][0]  # type: ignore[index]
    assert {score["type"]: score["value"] for score in results["metrics"]} == {
        key: card.metrics["test"][key]["denoised"] for key in ("psnr", "ssim")
    }


def test_the_card_is_valid_at_the_hub(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    publish_model("photo-s", tmp_path)
    data = hub.ModelCard.load(tmp_path / "README.md").data
    assert {result.metric_type for result in data.eval_results} == {"psnr", "ssim"}


def test_no_text_of_a_header_breaks_the_card() -> None:
    evil = 'x\n---\nlicense: "mit" <script> | `a` [b](c)'
    card = ModelMetadata(
        ARCHITECTURE_PRESETS["model-b-35"],
        name=evil,
        noise=evil,
        data={"name": evil, "terms": evil},
        metrics={"test": {"data": evil, "noise": evil, "images": 1, "psnr": {"noisy": 1.0, "denoised": 2.0}}},
    )
    text = make_model_card(card)
    front = front_matter(text)
    assert "license" not in front
    assert front["model-index"][0]["name"] == evil  # type: ignore[index]
    body = text.split("---\n", 2)[2]
    assert "\n---" not in body
    assert "<script" not in body.replace("\\<", "")


def test_paths_of_this_computer_are_told(tmp_path: Path) -> None:
    model = save_own(tmp_path / "own.safetensors", data={"name": "folder:/home/me/x"}, recipe={"note": "of a/b"})
    published = publish_model(model, tmp_path / "out")
    assert published.local_paths == ("folder:/home/me/x",)
    assert "license" not in front_matter((tmp_path / "out" / "README.md").read_text())


class Own(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 3, 3, padding=1))


def test_a_mistake_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "a").write_text("a")
    cases = [
        (("photo-s", full), FileExistsError, "not an empty folder"),
        (("baseline:median,size=3,raw", tmp_path / "out"), ValueError, "has no model file"),
        (("mynets:Own", tmp_path / "out"), ValueError, "has no model file"),
        (("nonesuch", tmp_path / "out"), FileNotFoundError, "unknown model"),
    ]
    for arguments, kind, message in cases:
        with pytest.raises(kind, match=message):
            publish_model(*arguments)
    with pytest.raises(ValueError, match="lower case, such as apache-2.0"):
        publish_model("photo-s", tmp_path / "out", license_name="My own!")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


# The hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """Serve these files by path as a hub on this computer, with an empty cache."""
    constants = pytest.importorskip("huggingface_hub.constants")
    files: dict[str, bytes] = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.command)
            data = files.get(self.path)
            self.send_response(200 if data is not None else 404)
            if data is None:
                known = any(path.startswith(self.path.partition("/resolve")[0]) for path in files)
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("ETag", f'"{hashlib.sha1(data or b"").hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data or b"")

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    yield files
    server.shutdown()
    server.server_close()


def test_a_model_of_the_hub_is_downloaded_checked_and_cached(
    hub: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_own(tmp_path / "own.safetensors", name="own", noise="awgn(25)")
    place = f"/me/own/resolve/main/{HUB_MODEL_FILE}"
    hub[place] = model.read_bytes()
    denoiser = daelab.load_model("hf://me/own")
    np.testing.assert_array_equal(denoiser(PICTURE), daelab.load_model(model)(PICTURE))
    # Without the hub, the cache is used.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert daelab.load_model("hf://me/own").name == "own"


def test_what_is_wrong_at_the_hub_is_one_line(
    hub: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub[f"/me/other/resolve/main/{HUB_MODEL_FILE}"] = b"\x10" + bytes(7) + b"{}" + b" " * 14
    hub["/me/empty/resolve/main/README.md"] = b""
    cases = {
        "hf://me/other": "daelab did not write it",
        "hf://me/none": "the hub has no model me/none",
        "hf://me/empty": "holds no model.safetensors",
        "hf://me": "hf://OWNER/NAME",
        "hf://me/a/b": "hf://OWNER/NAME",
        "hf://me/a@../x": "hf://OWNER/NAME",
        "hf://me/..": "hf://me/..: ",
    }
    for name, message in cases.items():
        monkeypatch.setattr(sys, "argv", ["daelab", "models", name])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        line = capsys.readouterr().err
        assert message in line
        assert line.count("\n") == 1
        assert len(line) < 400
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="the hub cannot be reached, and the cache does not hold it: ConnectError"):
        daelab.load_model("hf://me/never")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install 'daelab\[hub\]'"):
        daelab.load_model("hf://me/own")


def test_a_file_cannot_start_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of the hub in a recipe never reaches the network."""
    monkeypatch.setattr("huggingface_hub.hf_hub_download", None)
    recipe = tmp_path / "own.toml"
    recipe.write_text('spec = "model-b-35"\nnoise = "awgn(25)"\ntraining = { start = "hf://me/own", epochs = 1 }\n')
    with pytest.raises((ValueError, FileNotFoundError), match="hf://me/own"):
        fit_denoiser(load_recipe(recipe), dataset=daelab.load_dataset("photos"))
