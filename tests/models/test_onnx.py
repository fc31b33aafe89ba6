"""An ONNX file gives the same pictures as its model at any size, and holds the model's metadata."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from narrow import NARROW_PRESETS
from torch import nn

from daelab._util.hardware import collect_versions
from daelab.denoising.denoiser import Denoiser
from daelab.experiments.export_model import ExportedModel, export_model
from daelab.models import onnx as onnx_module
from daelab.models.architectures.autoencoder import Autoencoder, Stage
from daelab.models.architectures.base import Architecture
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.models.architectures.unet import UNet
from daelab.models.build import build_network
from daelab.models.inference import fold_batch_norms
from daelab.models.layers import Network, append_noise_level
from daelab.models.model_file import ModelMetadata, read_model_metadata, save_model
from daelab.models.onnx import PARITY_TOLERANCE, AnySizeNetwork, OnnxModel, ParityError, compare_networks
from daelab.models.registry import list_shipped_models

onnx = pytest.importorskip("onnx", reason="the extra export is not installed")
pytest.importorskip("onnxruntime", reason="the extra export is not installed")


def lively(spec: Architecture) -> Network:
    """Return a network whose pictures vary, however deep it is, and whose norms have statistics."""
    network = build_network(spec)
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            nn.init.kaiming_normal_(parameter, generator=generator)
            if isinstance(spec, UNet):  # whose blocks add to one another
                parameter.data *= 0.2
    with torch.no_grad():
        network.train()(torch.rand(8, spec.inputs, 32, 32, generator=generator))
    return network.eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write every architecture as a model file, with the channels of the presets for shipped models."""
    folder = tmp_path_factory.mktemp("models")
    for name, spec in NARROW_PRESETS.items():
        card = ModelMetadata(spec, name, "type-1", recipe_sha256="ab" * 32, versions=collect_versions())
        save_model(folder / f"{name}.safetensors", lively(spec), card)
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def made(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ExportedModel]:
    """Write the same models as ONNX files."""
    folder = tmp_path_factory.mktemp("onnx")
    return {name: export_model(path, folder / f"{name}.onnx") for name, path in files.items()}


@pytest.mark.parametrize("name", NARROW_PRESETS)
def test_every_architecture_is_within_the_tolerance(name: str, made: dict[str, ExportedModel]) -> None:
    parity = made[name].parity
    assert parity.holds
    assert 0 < parity.largest < PARITY_TOLERANCE
    multiple = NARROW_PRESETS[name].multiple
    sizes = [shape for shape, _ in parity.differences]
    assert (1, 1, 1) in sizes
    assert any(h % multiple and w % multiple for _, h, w in sizes)


@pytest.mark.parametrize("name", NARROW_PRESETS)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 2), (3, 5), (31, 33), (64, 48), (129, 7)])
def test_awkward_sizes_equal_the_models_own(
    name: str, size: tuple[int, int], files: dict[str, Path], made: dict[str, ExportedModel]
) -> None:
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(3))
    cleaned = Denoiser.load(files[name]).batch(x)
    assert cleaned.std() > 1e-3  # or wrong padding would not show
    torch.testing.assert_close(OnnxModel(made[name].path)(x), cleaned, rtol=0, atol=1e-5)


def test_many_images_go_through_in_parts(made: dict[str, ExportedModel]) -> None:
    run = OnnxModel(made["model-b-35"].path)
    x = torch.rand(150, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(run(x), torch.cat([run(one[None]) for one in x]), rtol=0, atol=1e-6)


SIZES = [(1, 1), (7, 200), (33, 31), (64, 64), (150, 97)]


@pytest.mark.parametrize("name", list_shipped_models())
def test_every_shipped_model_gives_the_pictures_of_pytorch(name: str, tmp_path: Path) -> None:
    exported = export_model(name, tmp_path / "model.onnx")
    run = OnnxModel(exported.path)
    denoiser = Denoiser.load(name, sigma=25.5 if run.metadata.spec.conditioned else None, precision="float32")
    for size in SIZES:
        x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(7))
        given = append_noise_level(x, torch.tensor([0.1, 0.1])) if denoiser.method.conditioned else x
        torch.testing.assert_close(run(given), denoiser.batch(x), rtol=PARITY_TOLERANCE, atol=PARITY_TOLERANCE)


CONTEXTS = {
    "a window of a few pixels": {"window": 8},
    "a window beyond every size": {"window": 1024},
    "no unshuffling": {"unshuffle": 1, "window": 40},
    "gated blocks": {"block": "gated", "norm": "none"},
    "neither skips nor a residual": {"skips": False, "residual": False, "saturated": True},
    "conditioned": {"conditioned": True},
}


@pytest.mark.parametrize("fields", CONTEXTS.values(), ids=CONTEXTS)
def test_a_context_fits_every_size(fields: dict[str, Any], tmp_path: Path) -> None:
    spec = UNet(widths=(6, 8), blocks=(1, 1), context=4, **fields)
    path = tmp_path / "unet.safetensors"
    save_model(path, lively(spec), ModelMetadata(spec, "unet", "type-1", recipe_sha256="ab" * 32))
    exported = export_model(path, tmp_path / "unet.onnx")
    sides = {side for (_, *sides), _ in exported.parity.differences for side in sides}
    assert min(sides) < 2 * spec.window
    assert exported.parity.holds


@pytest.mark.parametrize("side", [1, 2, 3, 7, 8])
def test_the_padding_is_numpys_reflection(side: int) -> None:
    network = AnySizeNetwork(build_network(Autoencoder(tuple(Stage(1) for _ in range(4)))))
    places = network._mirror_places(torch.zeros(1, 3, side, side), side)
    assert len(places) % 16 == 0
    assert places.tolist() == np.pad(np.arange(side), (0, len(places) - side), mode="reflect").tolist()


def test_the_file_knows_what_it_is(files: dict[str, Path], made: dict[str, ExportedModel]) -> None:
    card, original = OnnxModel(made["model-b"].path).metadata, read_model_metadata(files["model-b"])
    assert card == original
    assert (card.name, card.noise, card.spec.halo) == ("model-b", "type-1", original.spec.halo)
    model = onnx.load(made["model-b"].path)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert json.loads({entry.key: entry.value for entry in model.metadata_props}["daelab"])["versions"]["torch"]


def test_a_denoiser_runs_it_in_tiles(files: dict[str, Path], made: dict[str, ExportedModel]) -> None:
    denoiser = Denoiser.load(made["model-c"].path, tile=32)
    assert (denoiser.name, denoiser.parameters, denoiser.method.noise) == ("model-c", 80515, "type-1")
    image = np.random.default_rng(0).random((130, 77, 3), dtype=np.float32)
    np.testing.assert_allclose(denoiser(image), Denoiser.load(files["model-c"])(image), rtol=0, atol=1e-5)


def test_the_bytes_are_the_same_again(files: dict[str, Path], made: dict[str, ExportedModel], tmp_path: Path) -> None:
    again = export_model(files["model-a"], tmp_path / "model-a.onnx")
    assert again.path.read_bytes() == made["model-a"].path.read_bytes()


def test_a_difference_leaves_no_file(
    files: dict[str, Path], made: dict[str, ExportedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = fold_batch_norms

    def off(network: Network) -> Network:
        folded = usual(network)
        with torch.no_grad():
            folded.get_parameter("enc1.bias").add_(1e-3)
        return folded

    monkeypatch.setattr(onnx_module, "fold_batch_norms", off)
    with pytest.raises(ParityError, match="was not written"):
        export_model(files["model-b-35"], tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []
    # and one that was there stays as it was
    path = made["model-b-35"].path
    before = path.read_bytes()
    with pytest.raises(ParityError):
        export_model(files["model-b-35"], path, overwrite=True)
    assert path.read_bytes() == before


def test_pictures_that_are_no_numbers_do_not_pass() -> None:
    assert not compare_networks(lambda x: x * torch.nan, lambda x: x).holds
    assert compare_networks(lambda x: x, lambda x: x + 9e-6, [(1, 2, 2)]).holds
    assert not compare_networks(lambda x: x, lambda x: x + 2e-5, [(1, 2, 2)]).holds


def foreign(path: Path) -> None:
    """Write a file as another program would."""
    helper = onnx.helper
    entry, out = (helper.make_tensor_value_info(name, 1, ["n", 3, "h", "w"]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "copy", [entry], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def changed(path: Path, **fields: object) -> None:
    """Write one of daelab's files with other metadata."""
    foreign(path)
    model = onnx.load(path)
    card = ModelMetadata(ARCHITECTURE_PRESETS["model-c"]).to_dict() | fields
    onnx.helper.set_model_props(model, {"daelab": json.dumps(card)})
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (foreign, "daelab did not write it"),
        (lambda path: path.write_bytes(b"no onnx"), "not loaded"),
        (lambda path: changed(path, format=9), "format 9"),
        (lambda path: changed(path, noise=3), "`noise`"),
        (lambda path: changed(path, spec={"stages": [0]}), "width"),
        (lambda path: changed(path, spec={"stages": [4], "channels": 4}), "does not run"),
    ],
)
def test_another_file_is_one_clear_line(spoil: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    spoil(path)
    with pytest.raises(ValueError, match=message) as caught:
        OnnxModel(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, -1])
def test_weights_that_are_no_numbers_are_refused(
    value: float, place: int, files: dict[str, Path], made: dict[str, ExportedModel], tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(next(iter(made.values())).path)
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    values = onnx.numpy_helper.to_array(floats[place]).copy()
    values.flat[-1] = value
    floats[place].CopyFrom(onnx.numpy_helper.from_array(values, floats[place].name))
    onnx.save(model, tmp_path / "x.onnx")
    # An infinite bias of the last layer would make a white picture, which is finite.
    with pytest.raises(ValueError, match=r"x.onnx: tensor .* holds NaN or infinite values; export the model again"):
        OnnxModel(tmp_path / "x.onnx")


def test_mistakes(files: dict[str, Path], made: dict[str, ExportedModel], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"end in \.onnx"):
        export_model(files["model-c"], tmp_path / "x.pb")
    with pytest.raises(ValueError, match="already an ONNX file"):
        export_model(made["model-c"].path, tmp_path / "x.onnx")
    with pytest.raises(FileExistsError, match="overwrite=True replaces it"):
        export_model(files["model-c"], made["model-c"].path)
    with pytest.raises(FileNotFoundError):
        OnnxModel(tmp_path / "nowhere.onnx")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        export_model(files["model-c"], tmp_path / "folder.onnx", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        export_model(files["model-c"], tmp_path / "file/x.onnx")


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    from daelab.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["daelab", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0), *capsys.readouterr()


def test_the_command(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "x.onnx"
    words = ("export", files["model-b-35"], "--onnx", place)
    code, out, err = answer(capsys, *words)
    assert (code, err) == (0, "")
    assert "largest difference from PyTorch" in out
    code, out, err = answer(capsys, *words)
    assert (code, out) == (2, "")
    assert "--overwrite" in err
    code, out, _ = answer(capsys, *words, "--overwrite", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["largest_difference"] < found["tolerance"] == 2e-5
    assert found["bytes"] == place.stat().st_size
    assert answer(capsys, "models", place)[0] == 0
    monkeypatch.setattr(onnx_module, "PARITY_TOLERANCE", 1e-12)
    code, out, err = answer(capsys, "export", files["model-b-35"], "--onnx", tmp_path / "y.onnx")
    assert (code, out) == (1, "")
    assert "was not written" in err
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]
