"""A model file returns what was saved. A damaged, foreign or hostile file is refused in one line."""

from __future__ import annotations

import json
import math
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from daelab._util.hardware import collect_versions
from daelab._util.tensor_file import read_tensor_header
from daelab.models.architectures.autoencoder import Autoencoder
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.models.build import build_network
from daelab.models.layers import Network
from daelab.models.model_file import ModelMetadata, load_network, read_model_metadata, round_to_half, save_model
from daelab.models.registry import find_model_file, list_shipped_models
from daelab.training.recipe import load_recipe

CARD = ModelMetadata(
    ARCHITECTURE_PRESETS["model-b-35"],
    name="test",
    noise="type-1",
    data={"name": "photos", "train": 9},
    metrics={"val_loss": 0.1},
    recipe={"seed": 0},
    recipe_sha256="ab",
    versions=collect_versions(),
)


def same(a: nn.Module, b: nn.Module) -> bool:
    mine, other = a.state_dict(), b.state_dict()
    return list(mine) == list(other) and all(torch.equal(mine[name], other[name]) for name in mine)


def trained(name: str) -> Network:
    """Return a network in channels-last order whose statistics have moved, as after a training."""
    network = build_network(ARCHITECTURE_PRESETS[name], seed=1)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    return network


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["enc1.weight", "dec1.bias", "bn_enc1.running_var"])
@pytest.mark.parametrize("stored", ["float32", "float16"])
def test_weights_that_are_no_numbers_are_refused(name: str, value: float, stored: str, tmp_path: Path) -> None:
    network, path = trained("model-b-35"), tmp_path / "m.safetensors"
    names = list(network.state_dict())
    name = name if name in names else next(item for item in names if item.endswith(name.split(".")[1]))
    network.state_dict()[name][-1] = value
    save_model(path, network, replace(CARD, stored=stored))
    torch.save(network.state_dict(), tmp_path / "m.pt")
    for file in (path, tmp_path / "m.pt"):
        with pytest.raises(ValueError, match=f"{file}: tensor {name} holds NaN or infinite values; train the model"):
            load_network(file)


@pytest.mark.parametrize("name", ARCHITECTURE_PRESETS)
def test_build_save_load_equal(name: str, tmp_path: Path) -> None:
    network, path = trained(name), tmp_path / "m.safetensors"
    save_model(path, network, CARD)
    loaded, card = load_network(path)
    assert same(loaded, network)
    assert not loaded.training
    assert card == read_model_metadata(path) == replace(CARD, spec=ARCHITECTURE_PRESETS[name])
    x = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), network.eval()(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ARCHITECTURE_PRESETS)
def test_half_precision_comes_back_as_it_was_rounded(name: str, tmp_path: Path) -> None:
    network, path, whole = trained(name), tmp_path / "half.safetensors", tmp_path / "whole.safetensors"
    save_model(whole, network, CARD)
    save_model(path, network, replace(CARD, stored="float16"))
    loaded, card = load_network(path)
    assert card.stored == read_model_metadata(path).stored == "float16"
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
    assert not same(loaded, network)
    round_to_half(network)
    assert same(loaded, network)
    assert path.stat().st_size < whole.stat().st_size


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_model(tmp_path / name, trained("model-c"), CARD)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_header_is_read_without_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, trained("model-c"), CARD)
    whole = path.read_bytes()
    path.write_bytes(whole[: 8 + struct.unpack("<Q", whole[:8])[0]])
    header, entries = read_tensor_header(path)
    assert {name: entry.shape for name, entry in entries.items()} == ARCHITECTURE_PRESETS["model-c"].tensors()
    assert header["format"] == 1
    assert json.loads(json.dumps(header)) == header


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, trained("model-b-35"), CARD)
    before = path.read_bytes()
    with pytest.raises(ValueError):
        save_model(path, trained("model-c"), replace(CARD, metrics={"val_loss": float("nan")}))
    with pytest.raises(TypeError):
        save_model(path, trained("model-c"), replace(CARD, metrics={"val_loss": object()}))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Files that are not what they should be: bytes of a good one -> bytes of a bad one


def header_of(content: bytes) -> dict[str, Any]:
    length = struct.unpack("<Q", content[:8])[0]
    found: dict[str, Any] = json.loads(content[8 : 8 + length])
    return found


def with_header(content: bytes, header: object) -> bytes:
    length, raw = struct.unpack("<Q", content[:8])[0], json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + content[8 + length :]


def with_card(content: bytes, **changes: object) -> bytes:
    header = header_of(content)
    card = json.loads(header["__metadata__"]["daelab"]) | changes
    return with_header(content, header | {"__metadata__": {"daelab": json.dumps(card)}})


def with_shape(content: bytes, shape: object) -> bytes:
    header = header_of(content)
    header["enc1.weight"]["shape"] = shape
    return with_header(content, header)


SPEC = CARD.spec.to_dict()
BAD: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda good: b"", "not a safetensors file"),
    "seven bytes": (lambda good: good[:7], "not a safetensors file"),
    "a picture": (lambda good: b"\x89PNG\r\n\x1a\n" + good, "not a safetensors file"),
    "a header too long": (lambda good: struct.pack("<Q", 4_000_001) + b" " * 4_000_001, "not a safetensors file"),
    "cut in the header": (lambda good: good[:200], "its safetensors header is damaged"),
    "cut in the tensors": (lambda good: good[:-100], "damaged or cut short"),
    "too many bytes": (lambda good: good + b"\0" * 100, "damaged or cut short"),
    "a header that is no object": (lambda good: with_header(good, [1]), "header is damaged"),
    "a deep header": (lambda good: struct.pack("<Q", 100_000) + b"[" * 100_000, "header is damaged"),
    "no tensors' shape": (lambda good: with_shape(good, "x"), "header is damaged"),
    "another's": (lambda good: with_header(good, header_of(good) | {"__metadata__": {}}), "daelab did not write it"),
    "no card": (
        lambda good: with_header(good, header_of(good) | {"__metadata__": {"daelab": "[]"}}),
        "header is damaged",
    ),
    "another format": (lambda good: with_card(good, format=2), "format 2; this daelab reads format 1"),
    "no spec": (lambda good: with_card(good, spec=None), "expected a table of fields for the architecture, found None"),
    "another spec": (lambda good: with_card(good, spec=SPEC | {"stages": [8]}), "tensor dec1.weight has shape"),
    "a huge spec": (lambda good: with_card(good, spec={"stages": [4096] * 10}), "tensor enc1.weight has shape"),
    "a wrong name": (lambda good: with_card(good, name=["x"]), "`name` in its header must be of type str, not ['x']"),
    "another precision": (lambda good: with_card(good, stored="int4"), "unknown storage precision 'int4'"),
    "a precision that is no text": (
        lambda good: with_card(good, stored=["F16"]),
        "`stored` in its header must be of type str",
    ),
    "a precision that is not the tensors'": (
        lambda good: with_card(good, stored="float16"),
        "tensor dec1.weight is of type F32; expected F16",
    ),
    "wrong metrics": (lambda good: with_card(good, metrics=3), "`metrics` in its header must be of type dict, not 3"),
    "wrong scores": (
        lambda good: with_card(good, metrics={"test": {"psnr": "30"}}),
        "`metrics.test.psnr` in its header is of a wrong type: '30'",
    ),
    "a score that is not finite": (
        lambda good: with_card(good, metrics={"val_psnr": math.inf}),
        "`metrics.val_psnr` in its header is of a wrong type: inf",
    ),
    "a wrong name of its data": (
        lambda good: with_card(good, data={"name": 5}),
        "`data.name` in its header is of a wrong type: 5",
    ),
    "another shape": (lambda good: with_shape(good, [8, 3, 5, 5]), "tensor enc1.weight has shape (8, 3, 5, 5)"),
    "a lost tensor": (
        lambda good: with_header(good, {k: v for k, v in header_of(good).items() if k != "dec4.bias"}),
        "tensor dec4.bias is missing",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_in_one_line(case: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, trained("model-b-35"), CARD)
    spoil, message = BAD[case]
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError) as caught:
        load_network(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_field_of_a_later_minor_version_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, trained("model-b-35"), CARD)
    path.write_bytes(with_card(path.read_bytes(), author="somebody"))
    assert read_model_metadata(path) == CARD


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"a safetensors file, but daelab did not write it"):
        load_network(tmp_path / "x.safetensors")


# Pickles


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def _pickled(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize("write", [torch.save, _pickled], ids=["torch", "pickle"])
@pytest.mark.parametrize("wrap", [lambda h: h, lambda h: {"enc1.weight": h}], ids=["bare", "in a dict"])
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_pickle_that_would_run_code_is_refused(
    write: Callable[[object, Path], None], wrap: Callable[[Hostile], object], suffix: str, tmp_path: Path
) -> None:
    path, trace = tmp_path / f"m{suffix}", tmp_path / "it ran"
    write(wrap(Hostile(trace)), path)
    with pytest.raises(ValueError) as caught:
        load_network(path)
    assert not trace.exists()
    assert str(caught.value) == f"{path}: not loaded: it contains objects other than tensors, which could run code"


PLAIN = dict(build_network(ARCHITECTURE_PRESETS["model-b-35"]).state_dict())
NOT_THE_PAPERS: dict[str, tuple[object, str]] = {
    "a tensor": (torch.zeros(3), "not a state dict of tensors"),
    "numbers": ({"enc1.weight": 3}, "not a state dict of tensors"),
    "another network": ({"conv.weight": torch.zeros(3)}, "these tensors are not an auto-encoder"),
    "one too many": (PLAIN | {"head": torch.zeros(3)}, "tensor head has shape (3,); the architecture has no such"),
    "another shape": (PLAIN | {"dec4.bias": torch.zeros(4)}, "tensor dec4.bias has shape (4,); expected (3,)"),
    "too few": ({k: v for k, v in PLAIN.items() if k != "enc2.bias"}, "tensor enc2.bias is missing; expected (8,)"),
}


@pytest.mark.parametrize("case", NOT_THE_PAPERS)
def test_a_foreign_state_dict_is_refused(case: str, tmp_path: Path) -> None:
    value, message = NOT_THE_PAPERS[case]
    torch.save(value, tmp_path / "m.pt")
    with pytest.raises(ValueError) as caught:
        load_network(tmp_path / "m.pt")
    assert str(caught.value).startswith(f"{tmp_path / 'm.pt'}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello"])
def test_a_damaged_pt_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.pt: not loaded: damaged$"):
        load_network(tmp_path / "m.pt")


@pytest.mark.parametrize("name", [name for name, spec in ARCHITECTURE_PRESETS.items() if isinstance(spec, Autoencoder)])
def test_a_state_dict_is_read_with_its_spec_inferred(name: str, tmp_path: Path) -> None:
    network = trained(name)
    torch.save(network.state_dict(), tmp_path / "m.pt")
    loaded, card = load_network(tmp_path / "m.pt")
    assert same(loaded, network)
    assert (card.spec, card.name, card.noise) == (ARCHITECTURE_PRESETS[name], "m", "published-code")


@pytest.mark.parametrize("test, name", [("35", "model-b-35"), ("37", "model-c"), ("38", "model-c")])
def test_the_papers_checkpoints_load_strictly(test: str, name: str, paper: Path) -> None:
    network, card = load_network(paper / f"{test}.pt")
    assert card.spec == network.spec == ARCHITECTURE_PRESETS[name]
    state = torch.load(paper / f"{test}.pt", map_location="cpu", weights_only=True)
    assert set(state) == set(network.state_dict())
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in state.items())


# Names


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model file .*m\.safetensors"):
        load_network(tmp_path / "m.safetensors")


@pytest.mark.parametrize("name", list_shipped_models())
def test_every_shipped_model_loads_by_name(name: str) -> None:
    path = find_model_file(name)
    network, card = load_network(path)
    assert card.name == name
    command, option, made = card.training["command"].rpartition(" --recipe ")
    assert (command, option) == ("daelab train", " --recipe ")
    assert load_recipe(made).sha256 == card.recipe_sha256
    assert network.spec == card.spec


def test_a_file_does_not_take_the_place_of_a_shipped_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("dae-s", "model-c"):
        Path(name).touch()
        assert find_model_file(name).parent != Path()
    assert find_model_file("./dae-s") == Path("dae-s")


def test_a_name_that_is_no_model() -> None:
    with pytest.raises(FileNotFoundError, match="model"):
        find_model_file("nonesuch")
