"""The device that computes: the choice by `--device` and $DAELAB_DEVICE, and the message if the device is missing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import typer.main

from daelab._util import hardware
from daelab._util.hardware import choose_device, get_accelerator_name, get_free_device_memory
from daelab._util.memory import get_free_memory
from daelab.cli import app, main

Computer = Callable[..., None]


@pytest.fixture
def computer(monkeypatch: pytest.MonkeyPatch) -> Computer:
    """Simulate a computer with accelerators of a kind, or with none."""
    monkeypatch.delenv("DAELAB_DEVICE", raising=False)

    def have(kind: str = "", count: int = 0) -> None:
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: bool(count))
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)

    have()
    return have


@pytest.mark.parametrize(
    ("kind", "count", "name", "device"),
    [
        ("", 0, "auto", "cpu"),
        ("", 0, "cpu", "cpu"),
        ("", 0, "cpu:0", "cpu"),
        ("cuda", 2, "auto", "cuda"),
        ("cuda", 2, "cpu", "cpu"),
        ("cuda", 2, "cuda", "cuda"),
        ("cuda", 2, "cuda:1", "cuda:1"),
        ("xpu", 1, "auto", "xpu"),
        ("xpu", 1, "xpu:0", "xpu:0"),
        ("mps", 1, "auto", "cpu"),
        ("mps", 1, "mps", "mps"),
    ],
)
def test_chosen(
    computer: Computer, monkeypatch: pytest.MonkeyPatch, kind: str, count: int, name: str, device: str
) -> None:
    computer(kind, count)
    assert choose_device(name) == torch.device(device)
    monkeypatch.setenv("DAELAB_DEVICE", name)
    assert choose_device() == torch.device(device)
    assert choose_device("cpu") == torch.device("cpu")  # an argument comes first


@pytest.mark.parametrize(
    ("kind", "count", "name", "offered"),
    [
        ("", 0, "cuda", "cpu;"),
        ("", 0, "xpu", "cpu;"),
        ("", 0, "mps", "cpu;"),
        ("", 0, "meta", "cpu;"),
        ("cuda", 2, "cuda:2", "cpu, cuda:0, cuda:1;"),
        ("cuda", 1, "mps", "cpu, cuda:0;"),
    ],
)
def test_not_there(computer: Computer, kind: str, count: int, name: str, offered: str) -> None:
    computer(kind, count)
    with pytest.raises(ValueError, match=f"device {name} is not available: .* offer {offered}"):
        choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:-1", "CPU", "x" * 5000, "cpu,cuda"])
def test_no_device(computer: Computer, name: str) -> None:
    with pytest.raises(ValueError, match="unknown device .*; write auto, cpu, cuda") as error:
        choose_device(name)
    assert len(str(error.value)) < 200


def test_of_the_cpu(computer: Computer) -> None:
    assert get_accelerator_name() is None
    hardware.synchronize(torch.device("cpu"))
    assert get_free_device_memory(torch.device("cpu")) == pytest.approx(get_free_memory(), rel=0.5)


CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"


def test_providers_of_onnxruntime(computer: Computer, monkeypatch: pytest.MonkeyPatch) -> None:
    computer("cuda", 2)
    choose = hardware._list_onnx_providers
    assert choose([CUDA, "TensorrtExecutionProvider", CPU]) == [(CUDA, {}), CPU]
    assert choose(["AzureExecutionProvider", CPU]) == [CPU]  # auto takes what is installed
    monkeypatch.setenv("DAELAB_DEVICE", "cuda:1")
    assert choose([CUDA, CPU]) == [(CUDA, {"device_id": 1}), CPU]
    with pytest.raises(ValueError, match=r"device cuda:1: the installed onnxruntime has no CUDAExecutionProvider; "):
        choose([CPU])
    monkeypatch.setenv("DAELAB_DEVICE", "cpu")
    assert choose([CUDA, CPU]) == [CPU]


NOT_COMPUTING = {"compare", "data", "models", "noise", "plugins", "publish", "recipes"}
"""The commands that run no network. Noise is always drawn on the CPU."""


def test_every_command_that_computes_takes_it() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    run = {name: command for name, command in commands.items() if not hasattr(command, "commands")}
    run["explore"] = commands["explore"].commands["run"]
    panels = {
        name: option.rich_help_panel
        for name, command in run.items()
        for option in command.params
        if option.name == "device"
    }
    assert panels == dict.fromkeys(set(run) - NOT_COMPUTING, "Performance")


@pytest.mark.parametrize("name", ["inspect a.png", "export model-c --onnx a.onnx", "train-judge", "adapt pictures"])
def test_a_command_names_the_devices_that_are_there(
    computer: Computer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    computer()
    monkeypatch.setattr("sys.argv", ["daelab", *name.split(), "--device", "cuda:1"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (2, 1)
    assert said.startswith("daelab: device cuda:1 is not available: ")
