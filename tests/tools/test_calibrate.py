"""The tool that measures the ranges of int8 and writes them into a model's file."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import calibrate
from daelab.models.architectures.unet import UNet
from daelab.models.build import build_network
from daelab.models.int8 import list_int8_layers
from daelab.models.model_file import ModelMetadata, load_network, save_model


class Pictures:
    """Four random pictures."""

    def __len__(self) -> int:
        return 4

    def batch(self, indices: np.ndarray) -> np.ndarray:
        return np.random.default_rng(indices[0]).integers(0, 256, (1, 3, 64, 80), np.uint8)


@pytest.mark.parametrize("conditioned", [False, True])
def test_it_writes_ranges_and_keeps_the_weights(
    conditioned: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = UNet((32,), (1,), conditioned=conditioned)
    network = build_network(spec, 0)
    path = tmp_path / "model.safetensors"
    save_model(path, network, ModelMetadata(spec, "model", "awgn(5..50) | real"))
    monkeypatch.setattr(calibrate, "load_dataset", lambda *_: SimpleNamespace(train=Pictures()))
    monkeypatch.setattr(calibrate, "SIDE", 32)
    monkeypatch.setattr(calibrate, "CROPS", 2)
    monkeypatch.setattr(sys, "argv", ["calibrate.py", str(path), "--data-root", str(tmp_path)])
    calibrate.main()
    after, card = load_network(path)
    assert set(card.ranges) == set(list_int8_layers(spec)) == {"enc1_1a", "enc1_1b"}
    assert all(low < high for low, high in card.ranges.values())
    assert all(bool((after.state_dict()[key] == value).all()) for key, value in network.state_dict().items())
