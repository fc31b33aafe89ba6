"""Weights of other people's networks, tested with a stub of spandrel."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import daelab
from daelab.cli import main


class DnCNN(nn.Module):
    """A network like DnCNN, which estimates the noise and subtracts it."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, channels, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x - self.model(x)


class Descriptor:
    def __init__(self, state: dict[str, Tensor], rules: SimpleNamespace, scale: int) -> None:
        channels = state["model.0.weight"].shape[1]
        self.model = DnCNN(channels)
        self.model.load_state_dict(state)
        self.input_channels = self.output_channels = channels
        self.scale, self.size_requirements = scale, rules
        self.architecture = SimpleNamespace(name="DnCNN")
        self.sizes: list[torch.Size] = []

    def __call__(self, image: Tensor) -> Tensor:
        rules = self.size_requirements
        height, width = image.shape[2:]
        assert min(height, width) >= (rules.minimum or 0)
        assert height % (rules.multiple_of or 1) == width % (rules.multiple_of or 1) == 0
        assert not rules.square or height == width
        return self.model(image)


Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Replace spandrel by a stub whose networks have these size rules."""

    def put(*, scale: int = 1, **rules: Any) -> None:
        class Loader:
            def __init__(self, device: torch.device) -> None:
                self.device = device

            def load_from_state_dict(self, state: dict[str, Tensor]) -> Descriptor:
                if "model.0.weight" not in state:
                    raise RuntimeError("unknown architecture\nof many lines")
                kept = SimpleNamespace(**{"minimum": None, "multiple_of": None, "square": False} | rules)
                return Descriptor(state, kept, scale)

        module = ModuleType("spandrel")
        module.__spec__ = ModuleSpec("spandrel", None)
        module.ModelLoader = Loader  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "spandrel", module)

    return put


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> None:
    """Return the real spandrel, with a stub of torchvision, which the denoising networks do not use."""
    if find_spec("spandrel") is None or find_spec("einops") is None:
        pytest.skip("spandrel is not installed")
    functional = ModuleType("torchvision.transforms.functional")
    for name in ("InterpolationMode", "rotate", "normalize"):
        setattr(functional, name, None)
    for name in ("torchvision", "torchvision.transforms"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, functional.__name__, functional)


def make_dncnn(channels: int, norms: bool) -> nn.Module:
    """Make a DnCNN whose tensors are named as in the files of its authors."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU()]
    for _ in range(6):
        layers += [nn.Conv2d(8, 8, 3, padding=1), *([nn.BatchNorm2d(8)] * norms), nn.ReLU()]
    network = nn.Module()
    network.model = nn.Sequential(*layers, nn.Conv2d(8, channels, 3, padding=1))
    return network.eval()


@pytest.mark.usefixtures("real")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("channels", "norms"), [(3, False), (3, True), (1, False)])
def test_the_real_spandrel_runs_a_dncnn(channels: int, norms: bool, tmp_path: Path) -> None:
    network = make_dncnn(channels, norms)
    torch.save(network.state_dict(), tmp_path / "DnCNN.pth")
    denoiser = daelab.load_model(tmp_path / "DnCNN.pth")
    x = torch.rand(1, 3, 50, 37)
    images = x.reshape(-1, channels, 50, 37)
    due = (images - network.model(images)).detach().clamp(0, 1).reshape(x.shape)  # as spandrel limits it
    inner = (..., slice(8, -8), slice(8, -8))  # at the edges, daelab mirrors the picture
    torch.testing.assert_close(denoiser.batch(x)[inner], due[inner], atol=1e-5, rtol=0)
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="knows no architecture with these tensors"):
        daelab.load_model(tmp_path / "other.pth")


def save(path: Path, channels: int = 3, wrapper: str = "") -> DnCNN:
    torch.manual_seed(0)
    network = DnCNN(channels).eval()
    state = network.state_dict()
    torch.save({wrapper: state} if wrapper else state, path)
    return network


@pytest.mark.parametrize("wrapper", ["", "params", "state_dict"])
@pytest.mark.parametrize(
    "rules", [{}, {"multiple_of": 8}, {"minimum": 64}, {"minimum": 40, "multiple_of": 4}, {"square": True}]
)
def test_a_file_of_another_project_denoises(
    wrapper: str, rules: dict[str, Any], install: Install, tmp_path: Path
) -> None:
    install(**rules)
    network = save(tmp_path / "DnCNN.pth", wrapper=wrapper)
    denoiser = daelab.load_model(tmp_path / "DnCNN.pth", tile=16)
    assert (denoiser.name, denoiser.parameters) == ("DnCNN", sum(p.numel() for p in network.parameters()))
    x = torch.rand(1, 3, 50, 35)
    inner = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(denoiser.batch(x)[inner], network(x).detach()[inner], atol=1e-5, rtol=0)


def test_a_network_of_one_channel_takes_each_channel(install: Install, tmp_path: Path) -> None:
    install()
    network = save(tmp_path / "grey.pth", channels=1)
    picture = np.random.default_rng(0).random((12, 9, 3)).astype(np.float32)
    denoised = daelab.load_model(tmp_path / "grey.pth")(picture)
    for channel in range(3):
        alone = network(torch.from_numpy(picture[None, None, ..., channel])).detach().clamp(0, 1)
        np.testing.assert_allclose(denoised[..., channel], alone[0, 0].numpy(), atol=1e-5)


def test_the_commands_take_such_a_file(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install()
    save(tmp_path / "DnCNN.pth")
    monkeypatch.chdir(tmp_path)
    words = ("evaluate", "DnCNN.pth", "--data", "photos", "--noise", "awgn(25)", "--limit", "2")
    for given in (words, ("leaderboard", "DnCNN.pth", "--data", "photos", "--limit", "4"), ("models", "DnCNN.pth")):
        monkeypatch.setattr(sys, "argv", ["daelab", *given])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capsys.readouterr().err
        assert "DnCNN" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "DnCNN.pth", "--data", "photos", "--noise", "awgn(25)", "--save", "own.safetensors"),
        ("publish", "DnCNN.pth", "own"),
        ("adapt", "noisy", "--start", "DnCNN.pth"),
    ],
)
def test_such_weights_are_not_written_as_a_model_file(
    words: tuple[str, ...],
    install: Install,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install()
    save(tmp_path / "DnCNN.pth")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["daelab", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert "DnCNN.pth holds weights of another project, so daelab cannot write them as a model file" in line
    assert [path.name for path in tmp_path.iterdir()] == ["DnCNN.pth"]


def test_a_mistake_is_one_line(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.pth"
    torch.save({"body.weight": torch.zeros(2)}, path)
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ValueError, match="pip install 'daelab\\[spandrel\\]'"):
        daelab.load_model(path)
    install()
    with pytest.raises(ValueError, match="spandrel does not load it: RuntimeError: unknown architecture$"):
        daelab.load_model(path)
    install(scale=4)
    save(path)
    with pytest.raises(ValueError, match="a DnCNN of 3 channels and scale 4"):
        daelab.load_model(path)
    install()
    save(path, channels=4)
    with pytest.raises(ValueError, match="of 4 channels"):
        daelab.load_model(path)
