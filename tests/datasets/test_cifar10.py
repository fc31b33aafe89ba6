"""CIFAR-10 is found or downloaded, and checked before it is read. Everything else is refused."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import http.server
import io
import os
import pickle
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from daelab.datasets import cifar10
from daelab.datasets.cifar10 import ARCHIVE, FOLDER, TRAIN, find_cifar10, unpickle
from daelab.datasets.download import download_file, unpack_archive
from daelab.datasets.registry import load_dataset

REPOSITORY = Path(__file__).parents[2]


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_cifar10_is_the_published_one() -> None:
    if find_cifar10(REPOSITORY / ".data") is None:
        pytest.skip("CIFAR-10 is neither in .data nor in $DAELAB_DATA")
    loaded = load_dataset("cifar10", REPOSITORY / ".data", download=False)
    assert len(loaded.train) == 50_000
    assert set(loaded.train.count_classes().values()) == {5_000}
    assert set(loaded.test.count_classes().values()) == {1_000}
    assert loaded.classes[:3] == ("airplane", "automobile", "bird")
    # Mean and spread of each channel as the field quotes them.
    values = loaded.train.batch(np.arange(0, 50_000, 5)).astype(np.float32) / 255
    assert values.mean(axis=(0, 2, 3)) == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.003)
    assert values.std(axis=(0, 2, 3)) == pytest.approx([0.2470, 0.2435, 0.2616], abs=0.003)
    assert loaded.test.labels[:6].tolist() == [3, 8, 8, 0, 6, 6]  # a cat, two ships, an airplane, two frogs


def member(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def write_archive(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> str:
    """Write a .tar.gz file, and return its MD5."""
    with tarfile.open(path, "w:gz") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def made_files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Write the seven files with four images each, and put their MD5 in place of the published ones."""
    files = {}
    for seed, name in enumerate([*TRAIN, "test_batch"]):
        batch = {b"data": pixels(4, 3072, seed=seed), b"labels": [0, 1, 1, 0]}
        files[name] = pickle.dumps(batch, protocol=3)
    files["batches.meta"] = pickle.dumps({b"label_names": [b"cat", b"dog"]}, protocol=3)
    monkeypatch.setattr(cifar10, "MD5", {name: hashlib.md5(c).hexdigest() for name, c in files.items()})
    return files


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the user's data folder by an empty one, and remove $DAELAB_DATA."""
    monkeypatch.delenv("DAELAB_DATA", raising=False)
    monkeypatch.setattr(cifar10.platformdirs, "user_data_path", lambda *_, **__: tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def published(tmp_path: Path, made_files: dict[str, bytes], home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pack these files into an archive at a file:// URL, as if it were published."""
    path = tmp_path / "published.tar.gz"
    folder = tarfile.TarInfo(FOLDER)
    folder.type = tarfile.DIRTYPE
    readme = member(f"{FOLDER}/readme.html", b"hello")
    files = [member(f"{FOLDER}/{name}", content) for name, content in made_files.items()]
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", write_archive(path, [(folder, b""), readme, *files]))
    monkeypatch.setattr(cifar10, "URL", path.as_uri())
    return path


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    folder = root / FOLDER
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("place", ["root", "root itself", "environment", "user"])
def test_cifar10_is_found(
    place: str, tmp_path: Path, home: Path, made_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(home if place == "user" else tmp_path / "data", made_files)
    root = {"root": folder.parent, "root itself": folder}.get(place)
    if place == "environment":
        monkeypatch.setenv("DAELAB_DATA", str(folder.parent))
    loaded = load_dataset("cifar10", root, download=False)
    assert (len(loaded.train), len(loaded.test), loaded.classes) == (20, 4, ("cat", "dog"))
    assert str(folder) in loaded.note
    assert np.array_equal(loaded.train.batch(np.array([4]))[0].ravel(), pixels(4, 3072, seed=1)[0])
    assert len(load_dataset("cifar10", root, download=False, train=False).train) == 0


@pytest.mark.parametrize("damage", ["altered", "truncated", "missing"])
def test_a_damaged_file_is_named_with_both_md5(
    damage: str, tmp_path: Path, home: Path, made_files: dict[str, bytes]
) -> None:
    path = write_folder(tmp_path, made_files) / "data_batch_3"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + (b"" if damage == "truncated" else b"?"))
    with pytest.raises(ValueError, match=str(path)) as error:
        load_dataset("cifar10", tmp_path)
    message = str(error.value)
    assert "\n" not in message
    assert cifar10.MD5["data_batch_3"] in message
    assert cifar10.URL in message
    if path.exists():
        assert hashlib.md5(path.read_bytes()).hexdigest() in message


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch evil",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Evil()),
        pickle.dumps({b"data": Evil()}, protocol=2),
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
    ],
)
def test_a_malicious_pickle_is_refused(
    content: bytes, tmp_path: Path, home: Path, made_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = made_files | {"test_batch": content}
    monkeypatch.setitem(cifar10.MD5, "test_batch", hashlib.md5(content).hexdigest())
    write_folder(tmp_path, files)
    with pytest.raises(ValueError, match="is not allowed"):
        load_dataset("cifar10", tmp_path)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps([1, 2]), pickle.dumps({b"a": 1})[:-3]])
def test_a_damaged_pickle_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^some/file is not a CIFAR-10 file"):
        unpickle(content, "some/file")


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_arrays_of_either_numpy_are_unpickled(module: bytes) -> None:
    array = pixels(3, 5)
    content = pickle.dumps({b"data": array}, protocol=3).replace(b"numpy._core.multiarray", module)
    assert np.array_equal(unpickle(content, "batch")[b"data"], array)


def test_cifar10_downloads_unpacks_and_is_found_again(published: Path, home: Path) -> None:
    seen: list[tuple[int, int]] = []
    loaded = load_dataset("cifar10", progress=lambda done, total: seen.append((done, total)))
    size = published.stat().st_size
    assert seen[-1] == (size, size)
    assert len(loaded.train) == 20
    assert sorted(path.name for path in home.iterdir()) == [FOLDER]
    assert sorted(path.name for path in (home / FOLDER).iterdir()) == sorted(cifar10.MD5)
    published.unlink()
    assert len(load_dataset("cifar10").train) == 20


def test_an_archive_that_lies_there_is_unpacked(published: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    published.rename(tmp_path / "root" / ARCHIVE)
    loaded = load_dataset("cifar10", tmp_path / "root", download=False)
    assert len(loaded.test) == 4
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == [FOLDER, ARCHIVE]


@pytest.mark.parametrize("download", [True, False])
def test_no_cifar10_and_no_network_says_what_to_place_where(
    download: bool, published: Path, home: Path, tmp_path: Path
) -> None:
    published.unlink()
    with pytest.raises(ValueError) as error:
        load_dataset("cifar10", tmp_path / "root", download=download)
    message = str(error.value)
    assert "\n" not in message
    for part in (str(tmp_path / "root"), str(home), cifar10.URL, FOLDER, ARCHIVE):
        assert part in message
    assert not list((tmp_path / "root").glob("*"))


def test_a_changed_archive_is_refused_and_leaves_nothing(
    published: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", "0" * 32)
    with pytest.raises(ValueError, match=f"expected MD5 {'0' * 32}, found"):
        load_dataset("cifar10")
    assert not list(home.iterdir())


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info, b""


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("../evil", b"x")], "'../evil' is not a file inside"),
        ([member("evil", b"x")], "'evil' is not a file inside"),
        ([member(f"{FOLDER}/../../evil", b"x")], "refused"),
        ([member("/tmp/evil", b"x")], "refused"),
        ([link(f"{FOLDER}/test_batch", "/etc/passwd")], "refused"),
        ([member(f"{FOLDER}/test_batch", b"x")], "lacks batches.meta, data_batch_1"),
    ],
)
def test_an_archive_with_members_outside_its_folder_is_refused(
    members: list[tuple[tarfile.TarInfo, bytes]],
    message: str,
    published: Path,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", write_archive(published, members))
    with pytest.raises(ValueError, match=message):
        load_dataset("cifar10")
    assert not list(home.iterdir())
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("content", [b"no archive", b"\x1f\x8b\x08\x00" + bytes(20)])
def test_an_archive_that_cannot_be_read_is_a_value_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpack_archive(path, "folder", ["a"], tmp_path / "out")


class Flaky(http.server.BaseHTTPRequestHandler):
    """A server of `content` that sends at most `burst` bytes per connection, and can resume if `ranges` is set."""

    content = pixels(300_000).tobytes()
    burst = 120_000
    ranges = True
    asked: list[str | None]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        if self.path != "/file":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(self.content[start : start + self.burst])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(Flaky, "asked", [], raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = http.server.HTTPServer(("127.0.0.1", 0), Flaky)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_broken_connection_is_taken_up_where_it_stopped(flaky: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    download_file(f"{flaky}/file", tmp_path / "file", lambda done, total: seen.append((done, total)))
    assert (tmp_path / "file").read_bytes() == Flaky.content
    assert Flaky.asked == [None, "bytes=120000-", "bytes=240000-"]
    assert {total for _, total in seen} == {300_000}
    assert seen[-1][0] == 300_000


def test_a_server_that_cannot_resume_is_given_up(flaky: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flaky, "ranges", False)
    with pytest.raises(OSError, match="closed after 120,000 of 300,000 bytes"):
        download_file(f"{flaky}/file", tmp_path / "file")
    with pytest.raises(OSError, match="404"):
        download_file(f"{flaky}/no-such-file", tmp_path / "other")
    gc.collect()
