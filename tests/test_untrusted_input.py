"""A file from a stranger is only data: a bad one is refused by its header in one line, and nothing in it runs."""

from __future__ import annotations

import ast
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import daelab
from daelab._util import tensor_file
from daelab._util.tensor_file import read_tensor_header, read_tensors
from daelab.datasets import arrays
from daelab.datasets.decoding import decode_rgb
from daelab.datasets.registry import load_dataset
from daelab.evaluation.classifiers.registry import list_shipped_classifiers, load_classifier
from daelab.image_io.read import read_picture
from daelab.image_io.write import write_picture
from daelab.models import model_file
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.models.build import build_network
from daelab.models.model_file import ModelMetadata, load_network, save_model
from daelab.training.recipe import load_recipe, parse_recipe

PACKAGE = Path(daelab.__file__).parent
SPEC = ARCHITECTURE_PRESETS["model-b-35"]


def refused(path: Path, read: Callable[[Path], object]) -> str:
    """Return what the error says after the file's name."""
    with pytest.raises(ValueError) as caught:
        read(path)
    assert type(caught.value) is ValueError
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line
    assert len(line) < 500 + len(str(path))
    return line


# Model files: the header is looked at before there is a tensor or a network


def entry(**changes: object) -> Callable[[dict[str, Any]], None]:
    return lambda header: header["enc1.weight"].update(changes)


def card(**changes: object) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        said = json.loads(header["__metadata__"]["daelab"]) | changes
        header["__metadata__"]["daelab"] = json.dumps(said)

    return change


HEADERS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "half precision": (entry(dtype="F16"), "tensor enc1.weight is of type F16; expected F32"),
    "whole numbers": (entry(dtype="I64"), "tensor enc1.weight is of type I64; expected F32"),
    "no type": (entry(dtype=3), "header is damaged"),
    "a type of many letters": (entry(dtype="F" * 1000), "header is damaged"),
    "an endless side": (entry(shape=[float("inf")]), "header is damaged"),
    "a side that is a truth": (entry(shape=[True, 3, 3, 3]), "header is damaged"),
    "a side below zero": (entry(shape=[-8, 3, 3, 3]), "header is damaged"),
    "a side that no memory has": (entry(shape=[2**60, 3, 3, 3]), "header is damaged"),
    "a text as shape": (entry(shape="8333"), "header is damaged"),
    "a million tensors": (lambda h: h.update({f"x{i}": h["enc1.bias"] for i in range(30_000)}), "no such tensor"),
    "a spec of a network of petabytes": (card(spec={"stages": [4096] * 32}), "at most 10 can"),
    "a kind that is a list": (card(spec={"kind": [1]}), "unknown architecture kind '[1]'"),
    "a deep card": (card(metrics=json.loads("[" * 400 + "]" * 400)), "`metrics` in its header must be of type dict"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_lying_header_is_refused_before_anything_is_allocated(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, build_network(SPEC), ModelMetadata(SPEC))
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    spoil, message = HEADERS[case]
    spoil(header)
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + content[8 + length :])
    for module, name in ((tensor_file, "load_file"), (model_file, "build_network")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("it was allocated"))
    assert message in refused(path, load_network)


def judges_file(path: Path, **changes: object) -> Path:
    """Write a classifier's file with other metadata."""
    header, _ = read_tensor_header(list_shipped_classifiers()["photos"])
    _, tensors = read_tensors(list_shipped_classifiers()["photos"])
    save_file(tensors, path, metadata={"daelab": json.dumps(header | changes)})
    return path


@pytest.mark.parametrize("size", [[-8, 8], [1, 1], [10**12, 10**12], [8]])
def test_a_judge_of_impossible_images(size: list[int], tmp_path: Path) -> None:
    refused(judges_file(tmp_path / "j.safetensors", size=size), lambda path: load_classifier(str(path)))


@pytest.mark.parametrize(
    "metrics", [{}, {"test": 3}, {"test": {"accuracy": "x"}}, {"test": {"accuracy": {"mirror": []}}}]
)
def test_a_judge_that_does_not_say_how_well_it_does(metrics: object, tmp_path: Path) -> None:
    assert "right" not in load_classifier(str(judges_file(tmp_path / "j.safetensors", metrics=metrics))).note


# The paper's .pt files

STATE = dict(build_network(SPEC).state_dict())
BIAS = "dec4.bias"
PT: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "a number that stands for gigabytes": (
        {"enc1.weight": torch.zeros(1).expand(4096, 4096, 3, 3)},
        "its header describes more data than the file contains",
    ),
    "sparse": (STATE | {BIAS: torch.zeros(3).to_sparse()}, "its tensors are not those of this network"),
    "on no device": (STATE | {BIAS: torch.zeros(3, device="meta")}, "its tensors are not those of this network"),
}


@pytest.mark.parametrize("case", PT)
def test_tensors_that_are_more_than_they_seem(case: str, tmp_path: Path) -> None:
    state, message = PT[case]
    torch.save(state, tmp_path / "m.pt")
    assert message in refused(tmp_path / "m.pt", load_network)


def test_a_compressed_checkpoint_is_not_unpacked(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(tmp_path / "m.pt", "w", 8) as bomb:
        for name in good.namelist():
            bomb.writestr(name, good.read(name))
    assert "compressed" in refused(tmp_path / "m.pt", load_network)


# Pictures


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


PICTURE = Image.fromarray(np.arange(48 * 48 * 3, dtype=np.uint32).reshape(48, 48, 3).astype(np.uint8))
PNG, JPEG, BMP, GIF = (saved(PICTURE, form) for form in ("PNG", "JPEG", "BMP", "GIF"))
ZEROS = zlib.compress(bytes(50_000_000))


def jpeg(exif: bytes) -> bytes:
    """Return a JPEG with an EXIF block."""
    body = b"Exif\0\0" + exif
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + JPEG[2:]


def tiff(entries: list[tuple[int, int, int, int]], tail: bytes = b"", following: int = 0) -> bytes:
    """Return a small TIFF with one directory at byte 8."""
    packed = b"".join(struct.pack("<HHII", *one) for one in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + struct.pack("<I", following) + tail


SHAPE = [
    (256, 4, 1, 4),
    (257, 4, 1, 4),
    (258, 3, 1, 8),
    (262, 3, 1, 1),
    (273, 4, 1, 8),
    (277, 3, 1, 1),
    (279, 4, 1, 16),
]
TAGS_BOMB = [(tag, 7, 200_000, 0) for tag in range(40_000, 40_300)]
REFUSED: dict[str, tuple[bytes, str]] = {
    "zero.bmp": (BMP[:18] + bytes(8) + BMP[26:], ""),
    "vast.bmp": (BMP[:18] + struct.pack("<ii", 100_000, 100_000) + BMP[26:], "10,000,000,000 pixels"),
    "vast.gif": (
        GIF.replace(b",\0\0\0\0" + struct.pack("<HH", 48, 48), b",\0\0\0\0\xff\xff\xff\xff"),
        "4,294,836,225 pixels",
    ),
    "texts.png": (PNG[:33] + chunk(b"zTXt", b"k\0\0" + ZEROS) + PNG[33:], "broken"),
    "tags.tif": (tiff(SHAPE + TAGS_BOMB, bytes(200_000)), "its tags describe more data than the file contains"),
    "strip.tif": (tiff([(256, 4, 1, 10_000_000), (257, 4, 1, 10_000_000), *SHAPE[2:]]), "100,000,000,000,000 pixels"),
    "short.npy": (
        b"\x93NUMPY\1\0\x46\0{'descr': '|u1', 'fortran_order': False, 'shape': (9, 9), }".ljust(79) + b"\n",
        "end before",
    ),
    "wraps.npy": (
        (b"\x93NUMPY\1\0\x76\0{'descr': '|u1', 'fortran_order': False, 'shape': (%d, %d), }" % (2**32, 2**32)).ljust(
            127
        )
        + b"\n",
        "18,446,744,073,709,551,616 pixels",
    ),
    "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "not a picture"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_picture_that_is_refused(name: str, tmp_path: Path) -> None:
    content, message = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    before = _peak()
    assert message in refused(tmp_path / name, read_picture)
    if not name.endswith(".npy"):
        refused(tmp_path / name, decode_rgb)
    assert _peak() - before < 200_000_000


def _peak() -> int:
    """Return the largest memory that this process has used, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


ODD: dict[str, bytes] = {
    "profile.png": PNG[:33] + chunk(b"iCCP", b"x\0\0" + ZEROS[:3000]) + PNG[33:],
    "exif.jpg": jpeg(os.urandom(60_000)),
    "short-exif.jpg": jpeg(b"II*"),
    "loop.jpg": jpeg(b"II*\0\x08\0\0\0\x01\0\x69\x87\4\0\1\0\0\0\x08\0\0\0\x08\0\0\0"),
    "dots.jpg": saved(PICTURE, "JPEG", dpi=(65535, 1)),
    "dots.bmp": BMP[:38] + b"\xff\xff\xff\x7f" * 2 + BMP[46:],
    "zero.gif": GIF[:6] + bytes(4) + GIF[10:],
    "frame.gif": GIF[:6] + struct.pack("<HH", 1, 1) + GIF[10:],
    "row.png": saved(Image.new("RGB", (10_000, 1)), "PNG"),
    "column.jpg": saved(Image.new("RGB", (1, 10_000)), "JPEG"),
    "animated.webp": saved(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(90)], lossless=True),
    "loop.tif": tiff(SHAPE, following=8),
}


@pytest.mark.parametrize("target", [".png", ".jpg", ".tif", ".bmp", ".webp", ".gif"])
@pytest.mark.parametrize("name", ODD)
def test_an_odd_picture_is_read_and_written_or_refused_in_one_line(name: str, target: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(ODD[name])
    place = tmp_path / name
    try:
        found = read_picture(place)
        place = tmp_path / f"out{target}"
        write_picture(place, found)
        done = read_picture(place).size == found.size
    except ValueError as error:
        done = str(error).startswith(f"{place}: ")
    assert done


def test_a_picture_of_a_data_set_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would give PostScript to Ghostscript, whatever the name of the file."""
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / "a.png").write_bytes(REFUSED["postscript.png"][0])
    assert "not a picture" in refused(tmp_path / "a.png", decode_rgb)


def test_arrays_larger_than_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((100, 32, 32, 3), np.uint8))
    monkeypatch.setattr(arrays, "get_free_memory", lambda: 300_000)
    assert "its arrays are 307,328 bytes unpacked; 300,000 are free" in refused(
        tmp_path / "a.npz", lambda path: load_dataset(f"npz:{path}")
    )


# TOML

TOML = {
    "large": ("note = '" + "x" * 100_001 + "'", "the file has over 100000 bytes"),
    "brackets": ("x = " + "[" * 5000, "not TOML"),
    "a deep table": ("[" + ".".join(["a"] * 3000) + "]", "tables and lists are nested over 16 deep"),
    "a deep list": ("note = " + "[" * 60 + "]" * 60, "tables and lists are nested over 16 deep"),
    "many digits": ("seed = " + "9" * 5000, "not TOML"),
    "a long value": ("seed = '" + "x" * 50_000 + "'", "..."),
}


@pytest.mark.parametrize("case", TOML)
def test_a_recipe_without_measure(case: str, tmp_path: Path) -> None:
    text, message = TOML[case]
    (tmp_path / "r.toml").write_text(text)
    assert message in refused(tmp_path / "r.toml", load_recipe)


@pytest.mark.parametrize(
    "override", ["seed=" + "[" * 3000, ".".join(["a"] * 3000) + "=1", "seed=" + "9" * 5000, "a\nb"]
)
def test_an_override_without_measure(override: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_recipe({}, [override])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500


# The source


@cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax tree of every file of the package."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Return (file, name of the function, call) for every call in the package."""
    for file, tree in trees().items():
        yield from ((file, ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call))


def imported() -> Iterator[tuple[str, str]]:
    """Return (file, module) for every import in the package."""
    for file, tree in trees().items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            yield from ((file, name) for name in names)


def test_nothing_is_evaluated_and_no_shell_is_asked() -> None:
    forbidden = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads"}
    found = [(file, name) for file, name, _ in calls() if name in forbidden or name.startswith("os.exec")]
    # The worker and its server exchange pickles through their own pipes, which nobody else can write to.
    assert {file for file, _ in found} <= {"web/worker.py"}
    for file, name, call in calls():
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert "shell" not in given, f"{file}: {name}"
        if name == "torch.load":
            assert given["weights_only"] == "True", file
        if name == "np.load":
            assert given["allow_pickle"] == "False", file


NETWORK = ("urllib", "http", "socket", "ssl", "ftplib", "smtplib", "requests", "httpx", "aiohttp", "asyncio")
ALLOWED = {
    # what the user asked for by naming a data set that is not here
    ("datasets/download.py", "http.client"),
    ("datasets/download.py", "urllib.request"),
    # the name of this machine
    ("runs/process_lock.py", "socket"),
}


def test_only_downloads_that_were_asked_for_know_the_network() -> None:
    # `web` answers on the port that it is told to
    known = {(file, name) for file, name in imported() if name.partition(".")[0] in NETWORK}
    assert {entry for entry in known if not entry[0].startswith("web/")} == ALLOWED
    assert {name for file, name, _ in calls() if file == "runs/process_lock.py" and name.startswith("socket")} == {
        "socket.gethostname"
    }


def test_onnxruntime_is_imported_in_one_place_which_turns_its_telemetry_off_before() -> None:
    places = {file for file, name in imported() if name.startswith("onnxruntime")}
    assert places == {"_util/hardware.py"}
    text = (PACKAGE / "_util" / "hardware.py").read_text(encoding="utf-8")
    assert text.index('setdefault("ORT_DISABLE_TELEMETRY", "1")') < text.index("import onnxruntime")


WATCHED = """
import os, sys
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.bind", "subprocess.Popen"):
        if event != "subprocess.Popen" or args[1][0] not in ("git", "uname"):  # for environment.json
            os.write(2, f"{event} {args[1:]}\\n".encode())
            os._exit(9)
sys.addaudithook(watch)
from daelab.cli import main
from daelab.experiments.reports import style
style.find_spec = lambda name: None
tiny = "--set data.train=16 --set data.val=8 --set training.batch=8 --set spec=model-b-35 --epochs 1 --name a"
for words in (
    f"train --recipe quick {tiny}",
    "evaluate a --data photos --limit 4 --judge photos",
    "export a --onnx a.onnx",
    "denoise photo:cat --model a.onnx --out cat.png",
    "inspect cat.png",
    "ledger list",
):
    sys.argv = ["daelab", *words.split()]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
"""


def test_no_command_opens_a_connection(tmp_path: Path) -> None:
    environment = os.environ | {"HOME": str(tmp_path), "DAELAB_RUNS": str(tmp_path / "runs"), "OMP_NUM_THREADS": "1"}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run(
        [sys.executable, "-c", WATCHED], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} - {".cache", ".config"} == {"runs", "a.onnx", "cat.png"}
