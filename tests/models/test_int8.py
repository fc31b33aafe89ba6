"""Inference in int8: where it is possible, what it changes, and what a wrong header does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from daelab._util.tensor_file import read_tensor_header, write_tensors
from daelab.denoising.automatic import AutomaticDenoiser, load_model
from daelab.denoising.denoiser import Denoiser
from daelab.experiments.evaluate_model import evaluate
from daelab.experiments.train import save_evaluated_model
from daelab.models import int8
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.models.architectures.unet import UNet
from daelab.models.build import build_network
from daelab.models.inference import measure_ranges, prepare_inference
from daelab.models.int8 import Int8Conv2d, can_compute_int8, choose_ranges, list_int8_layers
from daelab.models.layers import Network
from daelab.models.model_file import ModelMetadata, load_network, save_model

# Where the CPU has the instructions, a wrong result is a failure and no reason to skip.
has_avx2 = bool(getattr(torch.cpu, "get_capabilities", dict)().get("avx2"))
needs_int8 = pytest.mark.skipif(not has_avx2, reason="this CPU does not have AVX2, or this PyTorch cannot tell")
SPEC = UNet((32, 40), (1, 1), context=8)
CPU = torch.device("cpu")


def make_network(seed: int = 0) -> Network:
    """Return a network whose blocks all add something."""
    network = build_network(SPEC, seed)
    torch.manual_seed(seed)
    for name, parameter in network.named_parameters():
        if name.endswith("weight") and parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter, mode="fan_in")
    for name in ("out.weight", *(f"{block}b.weight" for block in ("enc1_1", "enc2_1", "dec1_1"))):
        network.get_parameter(name).data.mul_(0.1)
    return network.eval()


def draw(seed: int, side: int = 64) -> torch.Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    network = make_network()
    ranges = measure_ranges(network, [draw(1), draw(2)])
    path = tmp_path / "eight.safetensors"
    metadata = ModelMetadata(SPEC, "eight", ranges={name: list(limits) for name, limits in ranges.items()})
    save_model(path, network, metadata)
    return path


def test_only_wide_inner_layers_compute_in_int8() -> None:
    assert list_int8_layers(SPEC) == ["enc1_1a", "enc1_1b", "enc2_1a", "enc2_1b", "dec1_1a", "dec1_1b"]
    assert list_int8_layers(UNet((16, 40), (1, 1))) == ["enc2_1a", "enc2_1b"]
    assert list_int8_layers(UNet((32, 40), (1, 1), block="gated")) == []
    assert list_int8_layers(UNet((32,), (1,), norm="layer")) == ["enc1_1b"]
    for spec in ARCHITECTURE_PRESETS.values():
        first, *_, last = (layer.name for layer in spec.layers())
        assert not {first, last} & set(list_int8_layers(spec))


def test_ranges_hold_nearly_all_inputs_and_are_the_widest_of_the_batches() -> None:
    network = make_network()
    batches = [draw(1), draw(2) * 3]
    wide = measure_ranges(network, batches, outside=0.0)
    parts = [measure_ranges(network, [batch], outside=0.0) for batch in batches]
    for name, (low, high) in wide.items():
        assert (low, high) == (min(part[name][0] for part in parts), max(part[name][1] for part in parts))
    narrow = measure_ranges(network, batches, outside=0.01)
    assert all(wide[name][0] <= low <= high <= wide[name][1] for name, (low, high) in narrow.items())
    assert narrow["enc1_1a"] != wide["enc1_1a"]
    # The network itself is as it was.
    assert not any(layer._forward_pre_hooks for layer in network.modules())


@needs_int8
def test_int8_changes_little_and_is_used(model: Path) -> None:
    fast, exact = (Denoiser.load(model, "cpu", precision=precision) for precision in ("int8", "float32"))
    assert (fast.method.precision, exact.method.precision) == ("int8", "float32")
    assert "int8 on cpu" in repr(fast)
    x = draw(3)
    difference = (fast.batch(x) - exact.batch(x)).abs()
    change = (exact.batch(x) - x).abs()
    assert 0 < difference.mean() < 0.02 * change.mean()
    assert Denoiser.load(model, "cpu").method.precision == "int8"


@needs_int8
def test_one_convolution_equals_its_rounded_inputs_and_weights() -> None:
    conv = torch.nn.Conv2d(24, 32, 3, padding=1)
    x = (torch.rand(2, 24, 9, 11) * 4 - 1).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        layer = Int8Conv2d(conv, -1.0, 3.0, relu=True)
        step = 4 / 255
        rounded = (x / step + layer.zero).round().clamp(0, 255).sub(layer.zero) * step
        # The largest magnitude that two neighboring inputs of at most 1 can give together.
        signed = torch.stack([conv.weight, -conv.weight]).clamp_min(0)
        scales = (signed[:, :, ::2] + signed[:, :, 1::2]).amax((0, 2, 3, 4)).view(-1, 1, 1, 1) / 127
        weight = (conv.weight / scales).round() * scales
        wanted = torch.nn.functional.conv2d(rounded, weight, conv.bias, padding=1).relu()
        torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-4)
        # Values outside the range are clipped, and do not wrap around.
        torch.testing.assert_close(layer(x + 100), layer(torch.full_like(x, 3.0)), rtol=0, atol=1e-4)


@needs_int8
@pytest.mark.parametrize("inputs", [24, 25])
@pytest.mark.parametrize(("pair", "scale"), [((0.5, 0.5), 64 / 63.5), ((1.0, 0.0), 1.0), ((0.0, 1.0), 1.0)])
def test_the_largest_inputs_and_weights_do_not_overflow(inputs: int, pair: tuple[float, float], scale: float) -> None:
    conv = torch.nn.Conv2d(inputs, 32, 3, padding=1, bias=False)
    weights = torch.tensor(pair).repeat(13)[:inputs].view(1, -1, 1, 1)
    # Half of the outputs have negative weights.
    conv.weight.data = (weights * torch.where(torch.arange(32) % 2 > 0, 1, -1).view(-1, 1, 1, 1)).expand(-1, -1, 3, 3)
    x = torch.full((1, inputs, 6, 6), 255.0).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        got, wanted = Int8Conv2d(conv, 0.0, 255.0, relu=False)(x), conv(x)
    # Weights of 63.5 are rounded to 64, and a pair of 128 times 255 still fits 16 bits.
    torch.testing.assert_close(got, wanted * scale, rtol=1e-6, atol=0)


@needs_int8
def test_tiles_of_int8_equal_the_full_picture(model: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (150, 170, 3), np.uint8)
    full, tiled = (Denoiser.load(model, "cpu", tile=tile, precision="int8")(pixels) for tile in (256, 32))
    assert np.abs(full.astype(int) - tiled.astype(int)).max() <= 1


def test_without_the_instructions_auto_is_float32_and_int8_says_why(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "can_compute_int8", lambda: False)
    assert Denoiser.load(model, "cpu").method.precision == "float32"
    with pytest.raises(ValueError, match="eight cannot compute in int8: it needs an x86 CPU with AVX2"):
        Denoiser.load(model, "cpu", precision="int8")


@needs_int8
def test_every_cpu_with_the_instructions_computes_exactly() -> None:
    assert can_compute_int8()


def test_the_check_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    can_compute_int8.__wrapped__()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_cpu_without_them_is_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx": True}, raising=False)
    assert not can_compute_int8.__wrapped__()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not can_compute_int8.__wrapped__()


def test_a_pytorch_without_the_operator_is_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    monkeypatch.delattr(torch, "quantize_per_tensor")
    assert not can_compute_int8.__wrapped__()


def test_a_model_without_ranges_computes_in_float32() -> None:
    assert load_model("model-c").method.precision == "float32"  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="model-c.* cannot compute in int8: the model has no ranges for it"):
        load_model("model-c", precision="int8")
    with pytest.raises(ValueError, match="unknown precision 'half'"):
        load_model("model-c", precision="half")
    assert choose_ranges("auto", {"a": (0.0, 1.0)}, torch.device("meta"), "m") is None


@needs_int8
def test_the_automatic_denoiser_uses_int8_where_a_model_has_ranges() -> None:
    assert AutomaticDenoiser(precision="float32").load("photo-m").precision == "float32"
    chosen = AutomaticDenoiser(precision="int8")
    assert chosen.precision == "float32"
    assert chosen.load("photo-m").precision == chosen.precision == "int8"
    assert chosen.load("model-c").precision == "float32"
    assert chosen.precision == "float32, int8"
    with pytest.raises(ValueError, match="photo-s cannot compute in int8: the model has no ranges"):
        load_model("photo-s", precision="int8")


@pytest.mark.parametrize("name", ["baseline:median,size=3", "a.onnx"])
def test_the_precision_of_what_is_no_network_of_pytorch_is_checked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.onnx").touch()
    with pytest.raises(ValueError, match="unknown precision 'int17'; did you mean 'int8'"):
        Denoiser.load(name, precision="int17")
    with pytest.raises(ValueError, match=f"{name} cannot compute in int8: "):
        Denoiser.load(name, precision="int8")


def test_the_precision_of_an_evaluation_is_checked_and_told() -> None:
    for precision, message in (("int17", "unknown precision 'int17'"), ("int8", "cannot compute in int8")):
        with pytest.raises(ValueError, match=message):  # a method that is yet to be tuned
            evaluate("baseline:median", "photos", precision=precision)
    median = Denoiser.load("baseline:median,size=3,raw", precision="auto")
    with pytest.raises(ValueError, match="precision is for a model's name"):
        evaluate(median, "photos", precision="auto")
    told = evaluate(median, "photos", "awgn(5)", limit=1)
    assert told.to_dict()["precision"] == "float32"
    with pytest.raises(ValueError, match="are those of float32, and these are of int8"):
        save_evaluated_model("model-c", replace(told, precision="int8"), "never.safetensors")


@pytest.mark.parametrize(
    "ranges",
    [
        {"stem": [0.0, 1.0]},
        {"nonesuch": [0.0, 1.0]},
        {"enc1_1a": [1.0, 0.0]},
        {"enc1_1a": [0, 1]},
        {"enc1_1a": "0 to 1"},
        {"enc1_1a": [0.0]},
    ],
)
def test_wrong_ranges_are_one_line(ranges: dict[str, object], model: Path) -> None:
    header, _ = read_tensor_header(model)
    write_tensors(model, load_file(model), {**header, "ranges": ranges})
    with pytest.raises(ValueError, match=r"eight.safetensors: `ranges\..*` in its header must be"):
        load_network(model)


def test_ranges_survive_a_file(model: Path, tmp_path: Path) -> None:
    network, metadata = load_network(model)
    save_model(tmp_path / "again.safetensors", network, replace(metadata, name="again"))
    assert load_network(tmp_path / "again.safetensors")[1].ranges == metadata.ranges
    assert set(metadata.ranges) == set(list_int8_layers(SPEC))
    x = draw(4)
    ranges = choose_ranges("auto", metadata.ranges, CPU, "m")
    assert torch.isfinite(prepare_inference(network, ranges=ranges)(x)).all()
