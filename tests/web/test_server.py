"""The HTTP API returns the bytes of the command line, within limits, and reveals nothing that was not asked for."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import re
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from starlette.testclient import TestClient

from daelab import denoise_file
from daelab.cli import main
from daelab.denoising.noisy_images import write_noisy_file
from daelab.models.architectures.autoencoder import Autoencoder, Stage
from daelab.models.build import build_network
from daelab.models.model_file import ModelMetadata, save_model
from daelab.models.registry import list_shipped_models, shorten_model_name
from daelab.noise.grammar import parse_noise
from daelab.runs.ledger import Ledger
from daelab.web import run_store
from daelab.web.about import list_samples
from daelab.web.admission import AdmissionQueue, QueueFull
from daelab.web.app import ServerSettings, create_app
from daelab.web.assets import list_assets
from daelab.web.handlers import AnswerFile
from daelab.web.limits import ServerLimits
from daelab.web.run_store import RunStore, RunsUnavailable, make_public, shorten_paths
from daelab.web.security import SecurityMiddleware, is_loopback
from daelab.web.server import serve

ADDRESS = "http://127.0.0.1:8000"
TOKEN = "correct horse battery"
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def settings(**limits: Any) -> ServerSettings:
    return ServerSettings(ServerLimits(**{"body": 200_000, "pixels": 10_000, **limits}))


def client_of(given: ServerSettings, address: str = ADDRESS) -> TestClient:
    return TestClient(create_app(given), base_url=address, raise_server_exceptions=False)


@pytest.fixture
def client() -> Iterator[TestClient]:
    with client_of(settings()) as found:
        yield found


@pytest.fixture
def small(tmp_path: Path) -> str:
    """Return the name of a run whose model takes no time."""
    spec = Autoencoder((Stage(2),))
    path = tmp_path / "runs" / "small" / "best.safetensors"
    path.parent.mkdir(parents=True)
    save_model(path, build_network(spec, seed=0), ModelMetadata(spec=spec, name="small", noise="type-1"))
    return "small"


def encoded(form: str, pixels: np.ndarray = PIXELS, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


PICTURES: dict[str, Callable[[], bytes]] = {
    "a.png": lambda: encoded("PNG"),
    "a.jpg": lambda: encoded("JPEG", quality=80, comment=b"kept"),
    "a.tif": lambda: encoded("TIFF", compression="tiff_deflate"),
    "a.webp": lambda: encoded("WEBP"),
    "a.bmp": lambda: encoded("BMP"),
    "a.gif": lambda: encoded("GIF"),
    "deep.png": lambda: encoded("PNG", (PIXELS[..., 0].astype(np.uint16) * 257)),
    "alpha.png": lambda: encoded("PNG", np.dstack([PIXELS, PIXELS[..., 0]])),
}


@pytest.mark.parametrize("name", PICTURES)
def test_denoising_gives_the_bytes_of_the_command_line(
    client: TestClient, small: str, name: str, tmp_path: Path
) -> None:
    data = PICTURES[name]()
    (tmp_path / name).write_bytes(data)
    made = denoise_file(tmp_path / name, tmp_path / "out" / name, model=small, strength=0.75)
    query = {"model": small, "strength": 0.75}
    raw = client.post("/api/denoise", params={**query, "name": name}, content=data)
    form = client.post("/api/denoise", params=query, files={"picture": (name, data)})
    assert raw.status_code == form.status_code == 200
    assert raw.content == form.content == Path(made.result).read_bytes()
    stem, _, ending = name.partition(".")
    assert raw.headers["content-disposition"] == f"attachment; filename*=UTF-8''{stem}_clean.{ending}"


def test_a_result_has_the_format_and_quality_that_are_asked_for(client: TestClient, small: str, tmp_path: Path) -> None:
    data = PICTURES["a.png"]()
    (tmp_path / "a.png").write_bytes(data)
    query = {"model": small, "name": "a.png", "format": "JPEG"}
    answer = client.post("/api/denoise", params=query, content=data)
    made = denoise_file(tmp_path / "a.png", tmp_path / "a.jpg", model=small)
    assert answer.content == Path(made.result).read_bytes()
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-disposition"].endswith("''a_clean.jpg")
    sizes = [
        len(client.post("/api/denoise", params={**query, "quality": quality}, content=data).content)
        for quality in (20, 100)
    ]
    assert 2 * sizes[0] < sizes[1]
    unchanged = client.post("/api/denoise", params={**query, "format": "PNG", "quality": 20}, content=data)
    assert np.asarray(Image.open(io.BytesIO(unchanged.content))).shape == PIXELS.shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_preview_stands_upright(client: TestClient, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    answer = client.post("/api/preview", content=encoded("TIFF", exif=exif))
    stored = Image.fromarray(PIXELS)
    stored.getexif()[0x0112] = orientation
    shown = Image.open(io.BytesIO(answer.content))
    assert not shown.getexif()
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(ImageOps.exif_transpose(stored)))


@pytest.mark.skipif(not list_samples(), reason="the extra photos is not installed")
def test_a_thumbnail_is_a_small_jpeg_of_a_sample(client: TestClient) -> None:
    name, path = next(iter(list_samples().items()))
    answer = client.get(f"/api/samples/{name}", params={"thumbnail": True})
    with Image.open(io.BytesIO(answer.content)) as small, Image.open(path) as full:
        assert (small.format, max(small.size)) == ("JPEG", 320)
        assert small.width / small.height == pytest.approx(full.width / full.height, rel=0.02)
    assert client.get("/api/samples/none", params={"thumbnail": True}).status_code == 404


def test_noise_gives_the_bytes_of_the_command_line(client: TestClient, tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    source.write_bytes(PICTURES["a.png"]())
    write_noisy_file(str(source), tmp_path / "b.png", parse_noise("type-1 > poisson(30)"), 7)
    query = {"noise": "type-1 > poisson(30)", "seed": 7, "name": "a.png"}
    answer = client.post("/api/noise", params=query, content=source.read_bytes())
    assert answer.headers["content-type"] == "image/png"
    assert answer.content == (tmp_path / "b.png").read_bytes()


def test_events_tell_of_progress_and_end_with_the_file(client: TestClient, small: str) -> None:
    clean, noisy = encoded("PNG"), encoded("PNG", 255 - PIXELS)
    query = {"model": small, "answer": "events"}
    answer = client.post("/api/denoise", params=query, files={"picture": ("n.png", noisy), "clean": ("c.png", clean)})
    assert answer.headers["content-type"] == "application/x-ndjson"
    first, progress, report, *pieces, end = map(json.loads, answer.text.splitlines())
    assert first == {"event": "waiting"}
    assert progress == {"event": "progress", "done": 1, "total": 1}
    assert (report["width"], report["height"], report["format"], report["name"]) == (56, 40, "PNG", "n_clean.png")
    scores = report["scores"]
    assert list(scores["noisy"]) == ["all", "red", "green", "blue"]
    expected = -10 * np.log10(np.mean(((255 - 2.0 * PIXELS) / 255) ** 2))
    assert scores["noisy"]["all"]["psnr"] == pytest.approx(expected, abs=1e-4)
    data = b"".join(base64.b64decode(piece["base64"]) for piece in pieces)
    assert end == {"event": "end", "bytes": len(data)}
    document = client.post("/api/denoise", params={"model": small, "answer": "json"}, content=noisy).json()
    assert base64.b64decode(document["file"]) == data
    assert document["scores"] is None


def test_inspecting_and_previews(client: TestClient) -> None:
    found = client.post("/api/inspect?name=a.png", content=encoded("PNG")).json()
    names = ("looks clean", "zero-mean", "gaussian", "multiplicative", "salt", "poisson")
    assert found["text"].lower().startswith(names)
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    stream = io.BytesIO()
    np.save(stream, PIXELS[None] / 255)
    shown = client.post("/api/preview?name=a.npy", content=stream.getvalue())
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown.content))), PIXELS)


def test_what_there_is_to_choose(client: TestClient, small: str) -> None:
    models = client.get("/api/models").json()
    named = {model["name"]: model for model in models}
    assert set(named) == {*map(shorten_model_name, list_shipped_models()), "small"}
    assert named["model-c"]["parameters"] == 80515
    assert named["model-c"]["psnr"] > named["model-c"]["psnr_noisy"]
    assert models[-1] is named["small"]
    assert named["small"]["origin"] == "run"
    about = client.get("/api/about").json()
    assert about["noises"]["type-1"] == "gaussian(0.3, 0.05)"
    for sample in about["samples"][:1]:
        picture = client.get(f"/api/samples/{sample['name']}")
        Image.open(io.BytesIO(picture.content)).verify()


HOSTILE_METADATA: dict[str, dict[str, Any]] = {
    "test is a text": {"metrics": {"test": "x"}},
    "psnr is a list": {"metrics": {"test": {"psnr": [1]}}},
    "psnr is a text": {"metrics": {"test": {"psnr": {"denoised": "30"}}}},
    "psnr is a boolean": {"metrics": {"test": {"psnr": {"denoised": True}}}},
    "psnr is not finite": {"metrics": {"test": {"psnr": {"noisy": math.nan}}}},
    "ssim is a list": {"metrics": {"test": {"ssim": {"denoised": []}}}},
    "validation is a text": {"metrics": {"val_psnr": "30"}},
    "images is a text": {"metrics": {"test": {"images": "many"}}},
    "data is a number": {"data": {"name": 5}},
    "data of the test is a list": {"metrics": {"test": {"data": [1]}}},
    "a noise with escapes": {"noise": "\x1b[31m" + "x" * 1_000_000},
    "a noise that is no text": {"noise": "\ud800"},
    "an immense number": {"metrics": {"val_psnr": 10**400, "test": {"images": 10**30}}},
}


def write_metadata(path: Path, changes: dict[str, Any]) -> None:
    """Change the metadata of a model file as only another program would."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    metadata = json.loads(header["__metadata__"]["daelab"])
    header["__metadata__"]["daelab"] = json.dumps(metadata | changes)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def test_a_hostile_model_file_hides_no_other(client: TestClient, small: str, tmp_path: Path) -> None:
    good = tmp_path / "runs" / small / "best.safetensors"
    for number, changes in enumerate(HOSTILE_METADATA.values()):
        path = tmp_path / "runs" / f"hostile-{number}" / "best.safetensors"
        path.parent.mkdir()
        path.write_bytes(good.read_bytes())
        write_metadata(path, changes)
    (tmp_path / "runs" / "folder" / "best.safetensors").mkdir(parents=True)
    answer = client.get("/api/models")
    assert answer.status_code == 200
    runs = [model["name"] for model in answer.json() if model["origin"] == "run"]
    assert set(runs) == {small, *(f"hostile-{number}" for number in (10, 11, 12))}
    assert all(len(model["noise"]) <= 400 and model["noise"].isprintable() for model in answer.json())


def test_a_model_that_cannot_be_loaded_is_not_named_by_its_path(client: TestClient, small: str, tmp_path: Path) -> None:
    path = tmp_path / "runs" / small / "best.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    answer = client.post("/api/denoise", params={"model": small}, content=encoded("PNG"))
    assert (answer.status_code, answer.json()) == (
        422,
        {"error": "the model small cannot be loaded; daelab models small says why"},
    )


def test_samples_are_hidden_where_the_extra_is_missing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert client.get("/api/about").json()["samples"] == []
    assert client.get("/api/samples/cat").status_code == 404


WRONG = {
    "no picture": ({}, b"text", 422, "picture: not a picture, or its format is not supported"),
    "empty": ({"name": "x.png"}, b"", 422, "x.png: a broken picture: it is empty"),
    "half": ({"name": "../../etc/half.png"}, encoded("PNG")[:200], 422, "half.png: a broken picture"),
    "too many pixels": ({}, encoded("PNG", np.zeros((101, 100), np.uint8)), 422, "picture: it has 10,100 pixels"),
    "too large": ({}, b"x" * 200_001, 413, "the request is larger than this server accepts"),
    "unknown model": ({"model": "modelc"}, encoded("PNG"), 422, "unknown model 'modelc'; did you mean 'model-c'?"),
    "a path as model": ({"model": "/etc/passwd"}, encoded("PNG"), 422, "unknown model '…/passwd'. Valid: "),
    "strength": ({"strength": "1.5"}, encoded("PNG"), 422, "strength: Input should be less than or equal to 1"),
    "answer": ({"answer": "xml"}, encoded("PNG"), 422, "answer: Input should be 'picture', 'json' or 'events'"),
}


@pytest.mark.parametrize("what", WRONG)
def test_mistakes_are_json_with_one_reason(client: TestClient, what: str) -> None:
    query, body, status, reason = WRONG[what]
    answer = client.post("/api/denoise", params=query, content=body)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith(reason)


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_a_damaged_form_is_a_mistake(client: TestClient, kind: str) -> None:
    answer = client.post("/api/inspect", content=b"--y\r\nnonsense", headers={"content-type": kind})
    assert answer.status_code == 422
    assert "picture" in answer.json()["error"] or "damaged" in answer.json()["error"]


def test_a_body_without_a_length_is_bounded_too(client: TestClient) -> None:
    answer = client.post("/api/inspect", content=(b"x" * 50_000 for _ in range(10)))
    assert answer.status_code == 413


def test_a_failure_of_ours_tells_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("/srv/secret")

    monkeypatch.setattr("daelab.web.app.answer_preview", fails)
    answer = client.post("/api/preview", content=b"")
    assert (answer.status_code, answer.json()) == (
        500,
        {"error": "internal error; the log of the server has the details"},
    )
    assert answer.headers["content-security-policy"]
    monkeypatch.setattr("daelab.web.app.answer_denoise", fails)
    last = client.post("/api/denoise?answer=events", content=b"").text.splitlines()[-1]
    assert json.loads(last) == {
        "event": "error",
        "status": 500,
        "error": "internal error; the log of the server has the details",
    }


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/static/../routes.py", "/static/index.htm", "/api/nothing"])
def test_nothing_else_is_there(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert list(answer.json()) == ["error"]


def test_the_page_is_its_own_files_alone(client: TestClient) -> None:
    html = client.get("/").text
    for name, asset in list_assets().items():
        answer = client.get(f"/static/{name}")
        assert answer.content == asset.data
        again = client.get(f"/static/{name}", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert re.findall(r'(?:src|href)="(?!static/|#)([^"]*)"', html) == []
    assert " style=" not in html
    assert not re.search(r"<script(?! type=\"module\" src=)|\bon[a-z]+=", html)
    for name, asset in list_assets().items():
        for address in re.findall(r"https?://[^\s\"'`)]+", asset.data.decode()):
            assert address == "http://www.w3.org/2000/svg", name


HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.mark.parametrize("path", ["/", "/static/page.css", "/api/about", "/api/nothing"])
def test_every_answer_has_the_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert HEADERS.items() <= dict(headers).items()
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert headers["cache-control"] == ("no-store" if path.startswith("/api") else "no-cache")
    assert "server" not in headers


HOSTS = {
    "127.0.0.1:8000": True,
    "localhost": True,
    "LOCALHOST:8000": True,
    "[::1]:8000": True,
    "10.0.0.3": True,
    "lab.example": True,
    "evil.example": False,
    "127.0.0.1.evil.example": False,
    "localhost.evil.example:8000": False,
    "": False,
}


@pytest.mark.parametrize("host", HOSTS)
def test_a_page_that_rebinds_its_name_is_refused(host: str) -> None:
    client = client_of(ServerSettings(names=("lab.example",)))
    assert client.get("/api/about", headers={"host": host}).status_code == (200 if HOSTS[host] else 400)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (ADDRESS, 200),
        (ADDRESS.upper(), 200),
        ("http://127.0.0.1:9", 403),
        ("https://evil.example", 403),
        ("http://127.0.0.1:8000@evil.example", 403),
        ("null", 403),
        ("http://[", 403),
        ("", 403),
    ],
)
def test_other_sites_pages_are_refused(client: TestClient, origin: str, status: int) -> None:
    answer = client.post("/api/inspect", content=encoded("PNG"), headers={"origin": origin})
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("said", "status"),
    [(None, 401), ("Bearer wrong", 401), (f"Basic {TOKEN}", 401), ("Bearer ü", 401), (f"Bearer {TOKEN}", 200)],
)
def test_the_token_opens_the_api(said: str | None, status: int) -> None:
    client = client_of(ServerSettings(token=TOKEN))
    headers = {} if said is None else {"authorization": said.encode()}
    for path in ("/api/models", "/api/openapi.json"):
        assert client.get(path, headers=headers).status_code == status
    assert client.get("/").status_code == 200


def test_another_host_demands_a_token() -> None:
    with pytest.raises(ValueError, match="set a --token"):
        serve(ServerSettings(), "0.0.0.0", 0)
    with pytest.raises(ValueError, match="--token has 5 characters; use at least 12"):
        serve(ServerSettings(token="short"), "127.0.0.1", 0)
    assert [is_loopback(host) for host in ("localhost", "127.0.0.9", "::1", "0.0.0.0", "lab")] == [True] * 3 + [
        False
    ] * 2


@pytest.mark.parametrize("field", ["body", "pixels", "queue", "seconds", "workers"])
def test_limits_are_checked(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be at least"):
        ServerLimits(**{field: -1})


# The queue


class Slow:
    """Work that waits until it is released, and reports where it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go, self.stopped = threading.Event(), threading.Event(), threading.Event()
        monkeypatch.setattr("daelab.web.app.answer_denoise", self)

    def __call__(self, pictures: Any, progress: Any, **_: Any) -> AnswerFile:
        self.begun.set()
        try:
            while not self.go.wait(0.01):
                progress(1, 9)
        except BaseException:
            self.stopped.set()
            raise
        return AnswerFile(pictures["picture"].data, "a.png", "image/png", {})


def in_threads(count: int, call: Callable[[int], Any]) -> list[Any]:
    """Make calls in threads, and return what each returns."""
    found: list[Any] = [None] * count
    threads = [threading.Thread(target=lambda i=i: found.__setitem__(i, call(i))) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def test_a_full_queue_is_told_at_once_and_each_gets_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    with client_of(settings(queue=2)) as client:
        waiting = threading.Thread(target=lambda: (slow.begun.wait(10), time.sleep(0.3), slow.go.set()))
        waiting.start()
        found = in_threads(8, lambda i: client.post("/api/denoise", content=bytes([i]) * 1000))
        waiting.join()
        statuses = [answer.status_code for answer in found]
        assert sorted(statuses) == [200] * 3 + [429] * 5
        for i, answer in enumerate(found):
            if answer.status_code == 200:
                assert answer.content == bytes([i]) * 1000
            else:
                assert answer.headers["retry-after"]
                assert answer.json() == {"error": "the queue is full; try again in a moment"}
        assert client.post("/api/denoise", content=b"again").content == b"again"


def test_time_is_bounded_between_two_tiles_and_not_for_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tile takes less time than the limit, and all tiles together take more."""

    def work(pictures: Any, progress: Any, **_: Any) -> AnswerFile:
        for done in range(1, 5):
            threading.Event().wait(0.3)
            progress(done, 4)
        return AnswerFile(b"done", "a.png", "image/png")

    monkeypatch.setattr("daelab.web.app.answer_denoise", work)
    with client_of(settings(seconds=1.0)) as client:
        assert client.post("/api/denoise", content=b"x").content == b"done"


def test_time_is_bounded_and_the_work_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    with client_of(settings(seconds=0.2, queue=0)) as client:
        answer = client.post("/api/denoise", content=b"x")
        assert answer.status_code == 503
        assert answer.json()["error"].startswith("the request took longer than this server allows")
        assert slow.stopped.wait(5)
        slow.go.set()
        for _ in range(100):  # its place is free once its thread has ended
            if client.post("/api/denoise", content=b"x").status_code == 200:
                return
            time.sleep(0.02)
        pytest.fail("the place stayed taken")


def make_scope(query: bytes) -> dict[str, Any]:
    """Return the ASGI scope of a request to denoise."""
    return {
        "type": "http",
        "method": "POST",
        "path": "/api/denoise",
        "raw_path": b"/api/denoise",
        "query_string": query,
        "headers": [(b"host", b"localhost")],
        "http_version": "1.1",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "root_path": "",
    }


def test_a_client_that_goes_stops_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    app = create_app(settings(queue=0))
    scope = make_scope(b"answer=events")

    async def talk() -> None:
        said = iter([{"type": "http.request", "body": b"x"}])

        async def receive() -> Any:
            message = next(said, None)
            if message is not None:
                return message
            while not slow.begun.is_set():
                await asyncio.sleep(0.01)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            pass

        await asyncio.wait_for(app(scope, receive, send), 10)

    asyncio.run(talk())
    assert slow.stopped.wait(5)


def test_a_request_whose_place_was_taken_while_its_body_arrived_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    app = create_app(settings(queue=0))

    async def talk(both_wait: asyncio.Barrier, statuses: list[int]) -> None:
        bodies = iter([(b"x", True), (b"y", False)])

        async def receive() -> Any:
            if (body := next(bodies, None)) is None:
                await asyncio.Event().wait()
            if body[0] == b"y":
                await both_wait.wait()  # both have found a free place by now
            return {"type": "http.request", "body": body[0], "more_body": body[1]}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
                slow.go.set()  # the other one is answered by then

        await asyncio.wait_for(app(make_scope(b""), receive, send), 10)

    async def both() -> list[int]:
        barrier, statuses = asyncio.Barrier(2), list[int]()
        await asyncio.gather(*(talk(barrier, statuses) for _ in range(2)))
        return statuses

    assert sorted(asyncio.run(both())) == [200, 429]


def test_a_place_is_free_again_after_every_end() -> None:
    async def work(place: Any, job: Any) -> Any:
        try:
            return await place.run(job, lambda *_: None)
        finally:
            place.leave()

    async def check() -> None:
        queue = AdmissionQueue(ServerLimits(queue=0))
        place = queue.take_place(math.inf)
        with pytest.raises(QueueFull):
            queue.take_place(math.inf)
        place.leave()
        assert queue.taken == 0
        assert await work(queue.take_place(math.inf), lambda progress: 5) == 5
        with pytest.raises(ZeroDivisionError):
            await work(queue.take_place(math.inf), lambda progress: 1 // 0)
        assert queue.taken == 0
        queue.close()

    asyncio.run(check())


def test_the_start_of_a_process_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    started = threading.Event()

    class Starting:
        alive, is_ready = True, False

        def wait_until_ready(self) -> None:
            assert started.wait(10)

        def run(self, job: Any, report: Any, is_over: Callable[[], bool]) -> Any:
            return job(report), is_over()

        def close(self) -> None:
            pass

    monkeypatch.setattr("daelab.web.admission.WorkerProcess", Starting)

    async def check() -> None:
        queue = AdmissionQueue(ServerLimits())
        place = queue.take_place(time.monotonic() + 0.05)
        work = asyncio.create_task(place.run(lambda progress: 5, lambda *_: None))
        await asyncio.sleep(0.2)  # longer than the request may take
        started.set()
        assert await work == (5, False)
        place.leave()
        queue.close()

    asyncio.run(check())


def test_the_bytes_of_all_bodies_are_bounded_together() -> None:
    queue = AdmissionQueue(ServerLimits(body=100, queue=1))
    with queue.hold() as first, queue.hold() as second:
        first(100)
        second(60)
        with pytest.raises(QueueFull):
            second(41)
        second(40)
    assert queue.held == 0


def test_nothing_is_kept_on_disk(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a file was made")

    for name in ("mkstemp", "NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile.rollover"):
        monkeypatch.setattr(f"tempfile.{name}", refuse)
    # of more bytes than a form's part usually keeps in memory
    data = encoded("BMP", np.zeros((600, 700, 3), np.uint8))
    with client_of(settings(body=5_000_000, pixels=1_000_000)) as client:
        parts = {"picture": ("a.bmp", data), "clean": ("b.bmp", data)}
        answer = client.post("/api/denoise", params={"model": small}, files=parts)
    assert answer.status_code == 200
    assert len(answer.content) == len(data)


# Runs


def ledger_with(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'runs' / 'ledger.db'}"
    book = Ledger(url)
    book.record(
        "one",
        status="finished",
        epochs=2,
        epochs_done=2,
        val_loss=0.5,
        folder="/home/me/runs/one",
        host="box",
        reason="ValueError: /home/me/cat.png is broken",
        recipe={"data": {"name": "folder:/home/me/set"}},
        architecture="{'stages': [{'width': 8, 'down': True}], 'norm': 'batch', 'channels': 3}",
    )
    book.record("two", status="running", epochs=9)
    folder = tmp_path / "runs" / "one"
    folder.mkdir()
    (folder / "metrics.csv").write_text("epoch,val_loss,val_psnr\n1,0.7,20.5\n2,0.5,21\n")
    return url


def test_the_ledger_without_where_things_lie(client: TestClient, tmp_path: Path) -> None:
    assert client.get("/api/runs").json()["runs"] == []
    assert not (tmp_path / "runs" / "ledger.db").exists()
    ledger_with(tmp_path)
    answer = client.get("/api/runs")
    one, two = answer.json()["runs"]
    assert (one["name"], one["val_loss"], one["architecture"], two["status"]) == ("one", 0.5, "8", "running")
    assert one["reason"] == "ValueError: …/cat.png is broken"
    curve = client.get("/api/runs/one").json()["curve"]
    assert curve == [
        {"epoch": 1, "val_loss": 0.7, "val_psnr": 20.5},
        {"epoch": 2, "val_loss": 0.5, "val_psnr": 21},
    ]
    for hidden in ("/home", "box", "folder:", str(tmp_path)):
        assert hidden not in answer.text
    assert client.get("/api/runs/three").status_code == 404
    assert client.get("/api/runs/..").status_code == 404


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("3/4 done, 1/2", "3/4 done, 1/2"),
        ("C:\\Users\\me\\a.png", "…/a.png"),
        ("see 'file:/srv/a/b'", "see 'file:…/b'"),
        ("no path", "no path"),
        ("/home/me/my cats/cat one.png is broken", "…/cat one.png is broken"),
        ("runs/my run/best.safetensors: damaged", "…/best.safetensors: damaged"),
        ("../up/a.png and ~/b.png", "…/b.png"),
        ("\\\\server\\share\\x.png", "…/x.png"),
        (r"unexpected '\x1b' at 3", r"unexpected '\x1b' at 3"),
    ],
)
def test_paths_are_left_out(text: str, shown: str) -> None:
    assert shorten_paths(text) == shown


def test_a_public_text_is_short_and_has_no_passwords() -> None:
    text = "\x1b[31m" + "x" * 3000 + " postgresql://me:pass/w@rd@host/db " + "y" * 3000 + "\nend"
    shown = make_public(text)
    assert len(shown) <= 400
    assert shown.startswith("\\u001b[31mxxx")
    assert shown.endswith("y end")
    # A password is found before the text is shortened, wherever that cuts it.
    for length in range(300):
        assert "secret" not in make_public("x" * length + " postgresql://me:secret@host/" + "y" * 300)


HOSTILE_ROWS = (
    "val_loss = 'abc', epochs = x'00ff', recipe = '{bad'",
    "val_psnr = 9e999, amsgrad = 7, epochs_done = 'x'",
    "architecture = '{' || replace(hex(zeroblob(3000)), '00', '[')",
    "architecture = 5, pid = 'x', born = 3, status = x'ff'",
    "comments = CAST(x'ff41' AS TEXT), noise = hex(zeroblob(1000000))",
    "status = 'running', host = 3, pid = 'x', born = x'00'",
)


def test_a_hostile_row_hides_no_other(client: TestClient, tmp_path: Path) -> None:
    ledger_with(tmp_path)
    names = [f"hostile-{number}" for number in range(len(HOSTILE_ROWS))]
    ledger = Ledger(f"sqlite:///{tmp_path / 'runs' / 'ledger.db'}")
    with closing(sqlite3.connect(tmp_path / "runs" / "ledger.db")) as database:
        for name, change in zip(names, HOSTILE_ROWS, strict=True):
            ledger.record(name, status="finished", val_loss=0.25)
            database.execute(f"UPDATE runs SET {change} WHERE name = ?", [name])
            database.commit()
    answer = client.get("/api/runs")
    assert answer.status_code == 200
    rows = {row["name"]: row for row in answer.json()["runs"]}
    assert list(rows) == ["one", "two", *names]
    assert rows["one"]["val_loss"] == 0.5
    assert rows["hostile-0"]["val_loss"] is None
    assert rows["hostile-1"]["val_psnr"] is None
    assert all(len(value) <= 400 for row in rows.values() for value in row.values() if isinstance(value, str))


def test_a_curve_with_values_that_json_lacks(client: TestClient, tmp_path: Path) -> None:
    ledger_with(tmp_path)
    (tmp_path / "runs" / "one" / "metrics.csv").write_text("epoch,val_loss\n1,nan\n2,inf\n3,0.5\n")
    curve = client.get("/api/runs/one").json()["curve"]
    assert [row["val_loss"] for row in curve] == [None, None, 0.5]


UNREACHABLE = (
    "sqlite:///{folder}/spoilt ledger.db",
    "sqlite:////dev/null/secret/ledger.db",
    "postgresql://me:secret@127.0.0.1:1/db",
    "postgresql://:secret@127.0.0.1:1/db",
    "postgresql://127.0.0.1:1/db?user=me&password=secret",
    "postgresql://me:sec@ret/secret@127.0.0.1:1/db",
    "postgresql://me:secret@127.0.0.1:port/db",
    "me:secret@127.0.0.1",
)


@pytest.mark.parametrize("url", UNREACHABLE)
def test_a_ledger_that_cannot_be_read_is_not_described(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spoilt ledger.db").write_bytes(b"not a database" * 100)
    client = client_of(ServerSettings(runs=RunStore(url.format(folder=tmp_path))))
    for path in ("/api/runs", "/api/runs/one"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (
            503,
            {"error": "the runs cannot be read; the log of the server has the details"},
        )
    assert len(caplog.messages) == 2
    assert "secret" not in caplog.text.replace("/dev/null/secret", "")


def test_a_locked_ledger_holds_one_request_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_store, "_PATIENCE", 0.0)
    store = RunStore()
    begun, go = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert go.wait(10)

    monkeypatch.setattr(store, "open_ledger", wait)
    first = threading.Thread(target=store.list_changes)
    first.start()
    assert begun.wait(10)
    with pytest.raises(RunsUnavailable):
        store.list_changes()
    go.set()
    first.join()
    assert store.list_changes()["runs"] == []


def test_the_leaderboard_is_a_file_or_nothing(tmp_path: Path) -> None:
    file = tmp_path / "leaderboard.csv"
    client = client_of(ServerSettings(runs=RunStore(leaderboard=file)))
    assert client.get("/api/leaderboard").json() == {"columns": [], "rows": [], "shown": [], "crops": {}}
    long = b"x" * 200_000
    file.write_bytes(b'model,psnr\nmodel-c,27.55\nbroken\n\n"open,3\n\xff,1\n' + long + b",2\nlast,5\n")
    answer = client.get("/api/leaderboard").json()
    assert answer["columns"] == ["model", "psnr"]
    assert answer["rows"] == [["model-c", "27.55"], ["\N{REPLACEMENT CHARACTER}", "1"], ["last", "5"]]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["serve", "--host", "0.0.0.0"],
            "--host 0.0.0.0 can be reached from other machines; set a --token (or $DAELAB_TOKEN) for the visitors",
        ),
        (["serve", "--leaderboard", "board.csv"], "--leaderboard board.csv: the file does not exist"),
        (
            ["serve", "--allow-host", "http://lab/"],
            "--allow-host takes a name such as lab.example, without port and path, not 'http://lab/'",
        ),
        (["serve", "--timeout", "inf"], "seconds must be at least 0.001 and finite, not inf"),
        (
            ["serve", "--ledger", "me:secret@host"],
            "ledger me:***@host: this is not the URL of a database;"
            " write sqlite:///FILE or postgresql://USER@HOST/NAME",
        ),
        (
            ["serve", "--max-body", "9" * 40 + "GB"],
            f"--max-body must be an amount such as 512MB or 2GB, not '{'9' * 40}GB'",
        ),
        (["serve", "--max-body", "much"], "--max-body must be an amount such as 512MB or 2GB, not 'much'"),
        (["export"], "choose what to write: --onnx FILE.onnx, or --page DIR"),
        (["export", "--onnx", "a.onnx"], "name the model to export: daelab export MODEL --onnx FILE.onnx"),
    ],
)
def test_the_command_line_says_what_is_missing(
    words: list[str], reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["daelab", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().err) == (2, f"daelab: {reason}\n")


# The OpenAPI document


def test_the_document_names_every_address(client: TestClient) -> None:
    found = client.get("/api/openapi.json").json()
    assert set(found["paths"]) == {
        *(f"/api/{name}" for name in ("about", "denoise", "noise", "inspect", "preview", "models", "runs")),
        *("/api/leaderboard", "/api/leaderboard/crops/{crop}/{model}", "/api/samples/{name}"),
        *("/api/columns", "/api/studies", "/api/studies/{name}", "/api/runs/{name}"),
        *(f"/api/runs/{{name}}/{part}" for part in ("details", "report", "samples/{part}", "stop")),
    }
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], path
            if method == "post" and not path.endswith("/stop"):  # which takes no picture
                assert set(operation["requestBody"]["content"]) == {"application/octet-stream", "multipart/form-data"}
                assert {"200", "413", "422", "429", "503"} <= set(operation["responses"])


def test_guard_lets_other_kinds_of_traffic_pass() -> None:
    seen = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(SecurityMiddleware(inner, token=TOKEN)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]
