"""Every preset's network equals one of plain torch layers, keeps float64, and depends on its radius only."""

from __future__ import annotations

import pytest
import torch
from narrow import NARROW_PRESETS
from torch import Tensor, nn

from daelab.models.architectures.autoencoder import Autoencoder, Stage
from daelab.models.architectures.base import Architecture
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.models.architectures.unet import UNet
from daelab.models.build import build_network
from daelab.models.inference import fold_batch_norms, prepare_inference
from daelab.models.layers import Margins, Network, crop_margins
from daelab.models.unet import compute_window_means

AUTOENCODERS = {name: spec for name, spec in ARCHITECTURE_PRESETS.items() if isinstance(spec, Autoencoder)} | {
    "no downs": Autoencoder((Stage(5, down=False), Stage(7, down=False))),
    "mixed": Autoencoder((Stage(4), Stage(6, down=False), Stage(2)), norm="none", channels=1),
    "one": Autoencoder((Stage(4),)),
}
UNETS = {name: spec for name, spec in NARROW_PRESETS.items() if isinstance(spec, UNet)} | {
    "one level": UNet((6,), (2,)),
    "levels": UNet((4, 6, 8), (1, 0, 1), decoder=(2, 1), unshuffle=1),
    "three levels": UNet((4, 4, 4), (1, 1, 1), norm="none"),
    "three gated levels": UNet((4, 4, 4), (1, 1, 1), block="gated", norm="none"),
    "gated, no middle": UNet((4, 4), (1, 0), decoder=(1,), block="gated", norm="none", unshuffle=1),
    "gated": UNet((4, 6), (1, 1), block="gated"),
    "context": UNet((4, 6), (1, 1), context=3, window=21, saturated=True),
    "gated context": UNet((4, 6), (1, 1), block="gated", context=3, window=13),
    "layer norm": UNet((4, 6), (1, 1), norm="layer"),
    "no constants": UNet((4, 6), (1, 1), norm="none", bias=False, channels=1),
    "conditioned": UNet((4, 6), (1, 1), conditioned=True, saturated=True),
    "no skips, sigmoid": UNet((4, 6), (1, 1), skips=False, residual=False),
}
SPECS: dict[str, Architecture] = AUTOENCODERS | UNETS
every = pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
every_autoencoder = pytest.mark.parametrize("spec", AUTOENCODERS.values(), ids=list(AUTOENCODERS))
every_unet = pytest.mark.parametrize("spec", UNETS.values(), ids=list(UNETS))


def lively(spec: Architecture, dtype: torch.dtype = torch.float32) -> Network:
    """Return a network whose norms have statistics and whose weights are not zero, as after a training."""
    network = build_network(spec, seed=1).to(dtype)
    generator = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.data.copy_(torch.rand(len(tensor), generator=generator) * 0.5 + 0.5)
    for parameter in network.parameters():
        if not parameter.any():
            spread = 0.3 / parameter[0].numel() ** 0.5
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return network


def images(spec: Architecture, dtype: torch.dtype = torch.float32) -> Tensor:
    m = max(spec.multiple, 8)
    return noise(2, spec.inputs, m, 2 * m).to(dtype)


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


class Plain(nn.Module):
    """The paper's network (section 3.3) from torch's own layers, with the same names of tensors."""

    def __init__(self, spec: Autoencoder) -> None:
        super().__init__()
        self.names = []
        for layer in spec.layers():
            kind = nn.ConvTranspose2d if layer.transposed else nn.Conv2d
            stride, padding = (2, 0) if layer.kernel == 2 else (1, 1)
            self.add_module(layer.name, kind(layer.inputs, layer.outputs, layer.kernel, stride, padding))
            if layer.norm == "batch":
                self.add_module(f"batch_{layer.name}", nn.BatchNorm2d(layer.outputs))
            self.names.append(layer.name)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.names:
            x = getattr(self, name)(x)
            x = getattr(self, f"batch_{name}", nn.Identity())(x)
            x = torch.sigmoid(x) if name == self.names[-1] else torch.relu(x)
        return x


def plain(network: Network) -> Plain:
    other = Plain(network.spec).to(next(network.parameters()).dtype)
    other.load_state_dict(network.state_dict(), strict=True)
    return other.train(network.training)


@every
def test_the_output_is_an_image_of_the_same_shape(spec: Architecture) -> None:
    x = images(spec)
    for network in (build_network(spec).train(), build_network(spec).eval()):
        y = network(x)
        assert (y.shape, y.dtype) == (x[:, : spec.channels].shape, x.dtype)
        if spec.layers()[-1].activation == "sigmoid":
            assert y.min() >= 0
            assert y.max() <= 1


@every
def test_the_state_dict_is_the_specs(spec: Architecture) -> None:
    network = build_network(spec)
    assert {name: tuple(t.shape) for name, t in network.state_dict().items()} == spec.tensors()
    assert list(network.state_dict()) == list(spec.tensors())
    assert sum(p.numel() for p in network.parameters()) == spec.parameters


@every_autoencoder
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_forward_and_gradients_equal_those_of_plain_layers(spec: Autoencoder, training: bool) -> None:
    network = lively(spec, torch.float64).train(training)
    reference = plain(network)
    x = images(spec, dtype=torch.float64)
    here, there = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = network(here), reference(there)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    ((y - 0.3) ** 2).mean().backward()
    ((expected - 0.3) ** 2).mean().backward()
    torch.testing.assert_close(here.grad, there.grad, rtol=1e-9, atol=1e-14)
    for (name, p), q in zip(network.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-14, msg=lambda m, name=name: f"{name}: {m}")
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, reference.state_dict()[name])


@every
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_layout_in_memory_changes_nothing(spec: Architecture, layout: torch.memory_format) -> None:
    network = lively(spec).eval()
    x = images(spec)
    other = network(x)
    network.to(memory_format=layout)
    torch.testing.assert_close(network(x.contiguous(memory_format=layout)), other, rtol=0, atol=1e-5)


@every
def test_folding_the_norms_changes_nothing(spec: Architecture) -> None:
    network = lively(spec).train()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    folded = fold_batch_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert network.training
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    x = images(spec)
    torch.testing.assert_close(folded(x), network.eval()(x), rtol=0, atol=1e-5)
    double = lively(spec, torch.float64).eval()
    torch.testing.assert_close(fold_batch_norms(double)(x.double()), double(x.double()), rtol=0, atol=1e-12)


@every_autoencoder
def test_float64_stays_float64(spec: Autoencoder) -> None:
    network = lively(spec, torch.float64).eval()
    x = images(spec, dtype=torch.float64)
    assert network(x).dtype == fold_batch_norms(network)(x).dtype == torch.float64
    # and is computed in it: float32 on the way would leave an error of 1e-8
    torch.testing.assert_close(network(x), plain(network)(x), rtol=0, atol=1e-13)


@every
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_inference_equals_the_module(spec: Architecture, dtype: torch.dtype, tolerance: float) -> None:
    network, x = lively(spec).eval(), images(spec)
    y = prepare_inference(network, dtype=dtype)(x)
    assert y.dtype == torch.float32
    assert not y.requires_grad
    torch.testing.assert_close(y, network(x).detach(), rtol=0, atol=tolerance)


def positive(spec: Architecture) -> Network:
    """Return a network in float64 in which no path cancels another and every ReLU is open: the whole reach shows."""
    network = build_network(spec).double().eval()
    for name, tensor in network.state_dict().items():
        if name.endswith("weight") and tensor.ndim == 4:
            tensor.fill_(1 / (tensor[0].numel()))
        elif name.endswith("bias"):
            tensor.zero_()
    return network


def far_enough(spec: Architecture) -> int:
    """Return a multiple of the architecture's size multiple that is larger than its radius."""
    return (spec.radius // spec.multiple + 1) * spec.multiple


@every_autoencoder
def test_radius_is_how_far_the_input_matters_and_no_farther(spec: Autoencoder) -> None:
    radius, m, centre = spec.radius, spec.multiple, far_enough(spec)
    rows = noise(1, spec.inputs, 2 * centre + m, m).requires_grad_()
    network = positive(spec)
    farthest = 0
    for at in range(centre, centre + m):
        (gradient,) = torch.autograd.grad(network(rows)[0, 0, at].sum(), rows)
        touched = torch.nonzero(gradient.abs().sum((0, 1, 3))).flatten()
        first, stop = int(touched.min()), int(touched.max()) + 1
        assert spec.reach(at, at + 1) == (first, stop)
        farthest = max(farthest, at - first, stop - 1 - at)
    assert farthest == radius


@every
def test_changes_beyond_the_radius_change_nothing(spec: Architecture) -> None:
    if spec == NARROW_PRESETS["photo-l"]:
        pytest.skip("with all weights positive, the products of its many gated blocks overflow")
    network, at, radius = positive(spec), far_enough(spec), spec.radius
    x = noise(1, spec.inputs, 2 * at + spec.multiple, 2 * at + spec.multiple)
    changed = 1 - x
    near = slice(at - radius, at + radius + 1)
    changed[..., near, near] = x[..., near, near]
    with torch.inference_mode():
        difference = (network(x) - network(changed)).abs()
    assert float(difference[..., at, at].max()) < 1e-15
    assert float(difference[..., 0, 0].max()) > 1e-9


@every
def test_tiles_with_a_halo_equal_the_whole(spec: Architecture) -> None:
    network = lively(spec, torch.float64).eval()
    halo, m = spec.halo, spec.multiple
    side = 2 * halo + 4 * m
    x = noise(1, spec.inputs, m, side)
    with torch.inference_mode():
        whole = network(x)
        for start in range(0, side, m):
            first, last = max(start - halo, 0), min(start + m + halo, side)
            tile = network(x[..., first:last])[..., start - first : start - first + m]
            assert float((tile - whole[..., start : start + m]).abs().max()) < 1e-12


@every
@pytest.mark.parametrize("exchanged", [False, True])
def test_the_inside_equals_that_of_the_whole_window(spec: Architecture, exchanged: bool) -> None:
    network = lively(spec, torch.float64).eval()
    halo, m = spec.halo, spec.multiple
    x = noise(1, spec.inputs, 3 * halo + 5 * m, 3 * m)
    with torch.inference_mode():
        for top, bottom, left, right in (
            (halo, halo + m, 0, m),
            (2 * halo + 3 * m, halo + m, m, 0),
            (0, 1, 2 * m, m - 1),
            (halo + m, 0, 0, 0),
            # As in a flipped window, and around recovered detail, the inside may begin off the network's grid.
            *((halo + off, halo + 2 * m - off, off, 0) for off in range(1, m)),
        ):
            window = x.transpose(2, 3) if exchanged else x
            margins: Margins = (left, right, top, bottom) if exchanged else (top, bottom, left, right)
            inside = network.denoise_inside(window, margins)
            torch.testing.assert_close(inside, crop_margins(network(window), margins), rtol=0, atol=1e-12)


def test_what_only_the_margins_need_is_not_computed() -> None:
    spec = ARCHITECTURE_PRESETS["photo-s"]
    network, halo, m = build_network(spec).eval(), spec.halo, spec.multiple
    heights: dict[str, int] = {}
    for name in ("stem", "enc1_1a", "enc2_1a", "dec1_1a"):
        network.get_submodule(name).register_forward_hook(
            lambda _, __, y, name=name: heights.update({name: y.shape[2]})
        )
    with torch.inference_mode():
        network.denoise_inside(torch.zeros(1, 3, 2 * halo + m, m), (halo, halo, 0, 0))
    # The last layer and two blocks of the decoder need 10 pixels, rounded up to 12. The lower level needs 16 more, and
    # the first level of the encoder 8 more: 36.
    assert heights == {"stem": 70, "enc1_1a": 2 + 2 * 36 // 2, "enc2_1a": 1 + 2 * 28 // 4, "dec1_1a": 2 + 2 * 12 // 2}


def test_a_smaller_halo_would_not_do() -> None:
    spec = ARCHITECTURE_PRESETS["model-c"]
    network, halo, m = lively(spec, torch.float64).eval(), spec.halo - spec.multiple, spec.multiple
    x = noise(1, 3, 32, 32)
    with torch.inference_mode():
        tile = network(x[..., 16 - halo : 16 + m + halo])[..., halo : halo + m]
        assert float((tile - network(x)[..., 16 : 16 + m]).abs().max()) > 1e-9


def test_a_seed_gives_the_same_weights_and_leaves_the_generator_alone() -> None:
    def weights(seed: int) -> Tensor:
        return build_network(ARCHITECTURE_PRESETS["model-c"], seed).get_parameter("enc1.weight")

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_initial_weights_are_torchs_own() -> None:
    torch.manual_seed(7)
    reference = Plain(ARCHITECTURE_PRESETS["model-c"])
    for name, tensor in build_network(ARCHITECTURE_PRESETS["model-c"], 7).state_dict().items():
        assert torch.equal(tensor, reference.state_dict()[name])


@every_unet
def test_a_residual_network_begins_as_the_identity(spec: UNet) -> None:
    x = images(spec)
    assert torch.equal(build_network(spec)(x), x[:, : spec.channels]) == spec.residual


@every_unet
def test_every_part_of_a_unet_learns(spec: UNet) -> None:
    network = lively(spec).train()
    network(images(spec)).square().mean().backward()
    assert not [name for name, parameter in network.named_parameters() if not parameter.grad.any()]


@pytest.mark.parametrize("name", ["gated", "context", "gated context", "layer norm"])
def test_a_block_is_what_its_paper_says(name: str) -> None:
    spec = UNETS[name]
    network = lively(spec, torch.float64).eval()
    x, gain = noise(1, 4, 8, 8), torch.ones(())
    context = noise(1, 3, 1, 1) if spec.context else None
    conv = {part: network.get_submodule(f"enc1_1{part}") for part in ("abdef" if spec.block == "gated" else "ab")}
    if context is not None:
        gain = 1 + network.get_submodule("enc1_1c")(context)
    norm = network.get_submodule(f"{spec.norm}_enc1_1a")
    if spec.block == "conv":
        wanted = x + conv["b"](torch.relu(norm(conv["a"](x))) * gain)
    else:
        inner = conv["d"](norm(conv["a"](x)))
        middle = x + conv["b"](inner[:, :4] * inner[:, 4:] * gain)
        inner = network.get_submodule(f"{spec.norm}_enc1_1e")(conv["e"](middle))
        wanted = middle + conv["f"](inner[:, :4] * inner[:, 4:])
    torch.testing.assert_close(network._run_block("enc1_1", x, context, 0), wanted, rtol=0, atol=1e-13)


def test_window_means_are_those_of_the_pixels_that_are_there() -> None:
    x = noise(2, 3, 7, 9)
    means = compute_window_means(x, 2)
    for row, column in ((0, 0), (3, 4), (6, 8), (0, 8)):
        window = x[..., max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
        torch.testing.assert_close(means[..., row, column], window.mean((-2, -1)))


def test_a_context_over_the_whole_picture_is_one_mean() -> None:
    network = lively(UNet((4,), (1,), context=3, window=63), torch.float64).eval()
    x = noise(1, 4, 16, 16)
    one = network._compute_context(x)
    local = network.run("context2", compute_window_means(network.run("context1", x), 15))
    assert one.shape == (1, 3, 1, 1)
    torch.testing.assert_close(one.expand_as(local), local, rtol=0, atol=1e-13)


def test_without_constants_a_scaled_picture_gives_a_scaled_output() -> None:
    network = lively(UNETS["no constants"], torch.float64).eval()
    x = noise(1, 1, 8, 8)
    torch.testing.assert_close(network(3 * x), 3 * network(x), rtol=0, atol=1e-12)
