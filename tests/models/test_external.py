"""A user's module as a network: how it is tiled and stored, and who may name it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import daelab
from daelab.datasets.arrays import make_dataset
from daelab.denoising.denoiser import Denoiser
from daelab.models.architectures.external import ModuleArchitecture
from daelab.models.architectures.presets import parse_architecture
from daelab.models.external import ExternalNetwork, split_model_name, wrap_module
from daelab.models.model_file import load_network, read_model_metadata, save_model
from daelab.training.callbacks.progress import SilentProgress
from daelab.training.recipe import load_recipe, parse_recipe

NETS = """
import torch
from torch import nn
import torch.nn.functional as F


class Plain(nn.Module):
    def __init__(self, side=3, step=1):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, side, padding=side // 2), nn.BatchNorm2d(6), nn.ReLU())
        self.last = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x):
        return x - 0.1 * self.last(self.body(x))


class Other(Plain):
    pass


class Strided(nn.Module):
    def __init__(self, step=2):
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, step, step), nn.ConvTranspose2d(4, 3, step, step)

    def forward(self, x):
        return self.up(torch.relu(self.down(x)))


class SelfPadding(Strided):
    def forward(self, x):
        height, width = x.shape[2:]
        return super().forward(F.pad(x, (0, width % 2, 0, height % 2)))[..., :height, :width]


class Centered(nn.Module):
    def forward(self, x):
        return x - 0.1 * x.mean((2, 3), keepdim=True)


def make_number():
    return 3


def fail():
    raise RuntimeError("out of\\npaper")


def weigh(image, clean):
    return (image - clean).abs().mean()
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Write a module of the user into the current folder."""
    import importlib
    import sys

    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield importlib.import_module("nets")
    sys.modules.pop("nets", None)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)


def blur(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 5, 1, 2, count_include_pad=False)


def use_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(x.numpy() * 0.5)


TILINGS: dict[str, tuple[Callable[[object], object], int, int | None]] = {
    "two convolutions": (lambda nets: nets.Plain(), 1, 2),
    "a wider one": (lambda nets: nets.Plain(side=7), 1, 4),
    "stride": (lambda nets: nets.Strided(), 2, 0),
    "a larger stride": (lambda nets: nets.Strided(16), 16, 0),
    "a stride that pads by itself": (lambda nets: nets.SelfPadding(), 2, 0),
    "the mean of the whole": (lambda nets: nets.Centered(), 1, None),
    "a function": (lambda nets: blur, 1, 2),
    "no gradient": (lambda nets: use_numpy, 1, None),
    "the identity": (lambda nets: nn.Identity(), 1, 0),
}


@pytest.mark.parametrize("case", TILINGS)
def test_tiling_is_measured_and_gives_the_picture_of_the_whole(case: str, nets: object) -> None:
    make, multiple, halo = TILINGS[case]
    torch.manual_seed(0)
    module = make(nets)
    denoiser = Denoiser(module, tile=24)
    assert (denoiser.method.multiple, denoiser.method.halo) == (multiple, halo)
    assert "random picture" in repr(denoiser)
    picture = np.random.default_rng(0).random((67, 53, 3)).astype(np.float32)
    whole = Denoiser(module, multiple=multiple, halo=None)(picture)
    np.testing.assert_allclose(denoiser(picture), whole, atol=1e-5)
    assert np.abs(whole - picture).max() > 0.01 or case == "the identity"


def test_a_given_tiling_is_not_measured(nets: object) -> None:
    module = nets.Plain()
    module.multiple, module.halo = 4, 8
    assert Denoiser(module).method.halo == 8
    assert Denoiser(module, multiple=8, halo=9).method.halo == 16
    assert "given" in repr(Denoiser(module))
    assert module.training


MISTAKES = {
    "another shape": (lambda: Denoiser(nn.Conv2d(3, 1, 3, padding=1)), "does not map a picture"),
    "no tensor": (lambda: Denoiser(lambda x: None), "does not map a picture"),
    "multiple": (lambda: Denoiser(blur, multiple=0), "multiple must be a whole number"),
    "multiple of text": (lambda: Denoiser(blur, multiple="2"), "multiple must be a whole number"),
    "halo": (lambda: Denoiser(blur, halo=-1), "halo must be"),
    "halo of a backend": (lambda: Denoiser(Denoiser(blur).method, halo=3), "a backend has its own"),
    "no such module": (lambda: daelab.load_model("nosuch:make"), "model nosuch:make: ModuleNotFoundError"),
    "no such function": (lambda: daelab.load_model("nets:make"), "model nets:make: AttributeError"),
    "a number": (lambda: daelab.load_model("nets:make_number"), "returned int"),
    "a failure": (lambda: daelab.load_model("nets:fail"), "model nets:fail: RuntimeError: out of$"),
    "another model's file": (lambda: daelab.load_model("nets:Plain@model-c"), "holds no weights of a module of yours"),
    "no such file": (lambda: daelab.load_model("nets:Plain@nosuch"), "unknown model or run 'nosuch'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line(case: str, nets: object) -> None:
    work, message = MISTAKES[case]
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        work()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_network_without_weights_is_not_trained(nets: object, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="the network has no weights to train"):
        daelab.train("quick", "weightless", network=nets.Centered, dataset=images, report=False)


def test_a_file_is_no_code_because_its_name_has_a_colon(nets: object, tmp_path: Path) -> None:
    (tmp_path / "nets:Plain").write_bytes(b"")
    assert split_model_name("nets:Plain") == (None, "nets:Plain")
    assert split_model_name("nets:Plain@nets:Plain") == ("nets:Plain", "nets:Plain")


def train(nets: object, images: np.ndarray, name: str, **options: object) -> daelab.Denoiser:
    recipe = parse_recipe({"training": {"epochs": 2, "batch": 8}})
    options = {"network": nets.Plain, "dataset": images, "loss": nets.weigh, "noise": "gaussian(0, 0.1)"} | options
    return daelab.train(recipe, name, **options)


def test_a_module_trains_and_its_file_loads_only_by_its_name(nets: object, images: np.ndarray) -> None:
    run = train(nets, images, "own").run
    card = read_model_metadata(run.best)
    assert isinstance(card.spec, ModuleArchitecture)
    assert (card.spec.factory, card.spec.halo, card.noise) == ("nets:Plain", 2, "gaussian(0, 0.1)")
    assert card.data["name"] == "python:arrays"
    with pytest.raises(ValueError, match=r"a file may not name code; name it yourself: nets:Plain@"):
        daelab.load_model("own")
    with pytest.raises(ValueError, match="holds the weights of nets:Plain, not of nets:Other"):
        daelab.load_model("nets:Other@own")
    # The class of a notebook may have moved into a module since.
    network, metadata = load_network(run.best, nets.Plain())
    spec = replace(metadata.spec, factory="__main__:Plain")
    save_model(Path("notebook.safetensors"), ExternalNetwork(spec, network.module), metadata)
    assert daelab.load_model("nets:Plain@notebook.safetensors").method.halo == 2
    with pytest.raises(ValueError, match="holds the weights of __main__:Plain, not of nets:Other"):
        daelab.load_model("nets:Other@notebook.safetensors")
    denoiser = daelab.load_model("nets:Plain@own")
    assert daelab.evaluate(denoiser, make_dataset(images)).scores.overall.noise == "gaussian(0, 0.1)"
    module = nets.Plain().eval()
    load_network(run.best, module)
    x = torch.rand(2, 3, 9, 14)
    torch.testing.assert_close(denoiser.batch(x), module(x).detach(), atol=1e-5, rtol=0)


def test_a_training_of_a_module_resumes_exactly(
    nets: object, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(nets, images, "whole")

    class Interrupted(Exception):
        pass

    class Stop(SilentProgress):
        def epoch(self, row: object, best: object) -> None:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(nets, images, "parts", progress=Stop())
    parts = train(nets, images, "parts", resume=True)
    assert len(parts.rows) == 2
    assert [row["val_loss"] for row in parts.rows] == [row["val_loss"] for row in whole.rows]


def test_a_recipe_names_code_only_if_the_user_does(nets: object, tmp_path: Path) -> None:
    for text in ('spec = "nets:Plain"', '[spec]\nkind = "module"\nfactory = "nets:Plain"', 'loss = "nets:weigh"'):
        (tmp_path / "mine.toml").write_text(text)
        with pytest.raises(ValueError, match="a file may name only what ships"):
            load_recipe(tmp_path / "mine.toml")
    recipe = load_recipe("quick", ["spec=nets:Plain", "loss=nets:weigh + mse"])
    assert parse_recipe(recipe.to_dict()) == recipe


WRONG = {
    "no factory": {"kind": "module"},
    "a factory of another form": {"kind": "module", "factory": "os.abort"},
    "multiple": {"kind": "module", "factory": "a:b", "multiple": 0},
    "halo": {"kind": "module", "factory": "a:b", "multiple": 4, "halo": 6},
    "halo of text": {"kind": "module", "factory": "a:b", "halo": "2"},
    "parameters": {"kind": "module", "factory": "a:b", "parameters": -1},
    "unknown": {"kind": "module", "factory": "a:b", "other": 1},
    "a list": {"kind": "module", "factory": ["a:b"]},
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_header_is_one_line(case: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_architecture(WRONG[case])
    assert "\n" not in str(caught.value)


def test_an_architecture_of_a_module_has_a_text_form() -> None:
    spec = ModuleArchitecture("a.b:c", 4, 8, 10, 20)
    assert parse_architecture(spec.to_dict()) == spec
    whole = ModuleArchitecture("a.b:c", halo=None)
    assert parse_architecture(whole.to_dict()) == whole
    assert (spec.parameters, spec.macs(2, 3), spec.radius, spec.summary != "") == (20, 60, 8, True)


def test_a_denoiser_is_a_module_of_pytorch(nets: object) -> None:
    for denoiser in (daelab.load_model("model-c"), Denoiser(nets.Strided())):
        module = denoiser.module
        x = torch.rand(1, 3, 13, 11, requires_grad=True)
        out = module(x)
        torch.testing.assert_close(out.detach(), denoiser.batch(x.detach()), atol=1e-5, rtol=0)
        out.sum().backward()
        assert x.grad is not None
        assert x.grad.abs().sum() > 0
        torch.testing.assert_close(pickle.loads(pickle.dumps(module))(x), out)
        sides = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
        exported = torch.export.export(module, (x.detach(),), dynamic_shapes={"x": sides})
        other = torch.rand(1, 3, 21, 9)
        torch.testing.assert_close(exported.module()(other), module(other).detach(), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="no module"):
        _ = Denoiser.load("baseline:median,size=3,raw").module


@pytest.mark.parametrize("shape", [(3, 9, 14), (2, 3, 9, 14)])
@pytest.mark.parametrize("kind", [torch.float32, torch.uint8])
def test_tensors_with_channels_first_come_back_as_such(shape: tuple[int, ...], kind: torch.dtype) -> None:
    denoiser = daelab.load_model("model-c")
    x = torch.rand(shape) if kind == torch.float32 else torch.randint(0, 256, shape, dtype=kind)
    out = denoiser(x)
    assert (type(out), out.shape, out.dtype, out.device) == (Tensor, x.shape, kind, x.device)
    np.testing.assert_array_equal(out.movedim(-3, -1).numpy(), denoiser(x.movedim(-3, -1).numpy()))


def test_wrapping_keeps_the_module(nets: object) -> None:
    module = nets.Plain()
    network, _ = wrap_module(module)
    assert network.module is module
    assert network.spec.parameters == sum(p.numel() for p in module.parameters())
    assert network.spec.macs(10, 10) == 100 * (3 * 6 * 9 + 6 * 3 * 9)
