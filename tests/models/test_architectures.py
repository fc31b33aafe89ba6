"""The layer table reproduces the paper's figures, and every preset is inferred from its shapes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daelab.models.architectures.autoencoder import Autoencoder, Stage, infer_architecture
from daelab.models.architectures.base import Architecture, check_tensor_shapes
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS, parse_architecture
from daelab.models.architectures.unet import UNet

# Rows of the paper's layer tables: channels, side, parameters; C Conv2d, N BatchNorm2d, T ConvTranspose2d
FIGURES: dict[str, tuple[str, list[tuple[int, int, int]]]] = {
    # Figure 3
    "model-a": (
        "CCCCCCCTTTTTTT",
        [
            *[(64, 32, 1792), (64, 16, 16448), (32, 16, 18464), (32, 8, 4128), (16, 8, 4624), (16, 4, 1040)],
            *[(8, 4, 1160), (16, 4, 1168), (16, 8, 1040), (32, 8, 4640), (32, 16, 4128), (64, 16, 18496)],
            *[(64, 32, 16448), (3, 32, 1731)],
        ],
    ),
    # Figure 5
    "model-b": (
        "CN" * 8 + "TN" * 7 + "T",
        [
            *[(8, 32, 224), (8, 32, 16), (8, 16, 264), (8, 16, 16), (16, 16, 1168), (16, 16, 32)],
            *[(16, 8, 1040), (16, 8, 32), (32, 8, 4640), (32, 8, 64), (32, 4, 4128), (32, 4, 64)],
            *[(64, 4, 18496), (64, 4, 128), (64, 2, 16448), (64, 2, 128), (64, 4, 16448), (64, 4, 128)],
            *[(32, 4, 18464), (32, 4, 64), (32, 8, 4128), (32, 8, 64), (16, 8, 4624), (16, 8, 32)],
            *[(16, 16, 1040), (16, 16, 32), (8, 16, 1160), (8, 16, 16), (8, 32, 264), (8, 32, 16)],
            (3, 32, 219),
        ],
    ),
    # Figure 6
    "model-c": (
        "CN" * 4 + "TN" * 3 + "T",
        [
            *[(32, 32, 896), (32, 32, 64), (32, 16, 4128), (32, 16, 64), (64, 16, 18496), (64, 16, 128)],
            *[(64, 8, 16448), (64, 8, 128), (64, 16, 16448), (64, 16, 128), (32, 16, 18464), (32, 16, 64)],
            *[(32, 32, 4128), (32, 32, 64), (3, 32, 867)],
        ],
    ),
}
KINDS = {"C": "Conv2d", "N": "BatchNorm2d", "T": "ConvTranspose2d"}
PARAMETERS = {"model-a": 95_307, "model-b-35": 5_539, "model-c": 80_515}

OTHERS = {
    "no downs": Autoencoder((Stage(5, down=False), Stage(7, down=False))),
    "mixed": Autoencoder((Stage(4), Stage(6, down=False), Stage(2)), norm="none", channels=1),
}
AUTOENCODERS = {name: one for name, one in (ARCHITECTURE_PRESETS | OTHERS).items() if isinstance(one, Autoencoder)}
UNETS = {name: one for name, one in ARCHITECTURE_PRESETS.items() if isinstance(one, UNet)} | {
    "small": UNet((8,), (1,)),
    "everything": UNet(
        (8, 12, 16), (1, 2, 1), (2, 1), "gated", "layer", 4, context=6, window=31, saturated=True, channels=2
    ),
    "bare": UNet((8, 12), (0, 0), norm="none", skips=False, residual=False, bias=False),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_papers_figure_row_by_row(name: str) -> None:
    kinds, rows = FIGURES[name]
    assert len(kinds) == len(rows)
    wanted = [
        (f"{KINDS[kind]}-{number}", (channels, side, side), parameters)
        for number, (kind, (channels, side, parameters)) in enumerate(zip(kinds, rows, strict=True), 1)
    ]
    assert [(row.layer, row.shape, row.parameters) for row in ARCHITECTURE_PRESETS[name].table()] == wanted
    assert ARCHITECTURE_PRESETS[name].parameters == sum(row[2] for row in rows)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    assert ARCHITECTURE_PRESETS[name].parameters == PARAMETERS[name]


@pytest.mark.parametrize("autoencoder", AUTOENCODERS.values(), ids=list(AUTOENCODERS))
class TestEveryAutoencoder:
    def test_it_is_inferred_from_its_shapes(self, autoencoder: Autoencoder) -> None:
        assert infer_architecture(autoencoder.tensors()) == autoencoder

    def test_the_decoder_mirrors_the_encoder(self, autoencoder: Autoencoder) -> None:
        layers = autoencoder.layers()
        half = len(layers) // 2
        there = [(layer.inputs, layer.outputs, layer.kernel) for layer in layers[:half]]
        back = [(layer.outputs, layer.inputs, layer.kernel) for layer in reversed(layers[half:])]
        assert there == back
        assert [layer.transposed for layer in layers] == [False] * half + [True] * half
        assert [layer.activation for layer in layers] == ["relu"] * (2 * half - 1) + ["sigmoid"]
        assert layers[-1].norm == "none"


@pytest.mark.parametrize("any_spec", (AUTOENCODERS | UNETS).values(), ids=list(AUTOENCODERS | UNETS))
class TestEverySpec:
    def test_it_reads_back_from_json(self, any_spec: Architecture) -> None:
        assert parse_architecture(json.loads(json.dumps(any_spec.to_dict()))) == any_spec

    def test_its_table_ends_as_it_began(self, any_spec: Architecture) -> None:
        height, width = 3 * any_spec.multiple, 5 * any_spec.multiple
        r = any_spec.unshuffle
        assert any_spec.table(height, width)[-1].shape == (any_spec.channels * r * r, height // r, width // r)
        assert sum(row.parameters for row in any_spec.table()) == any_spec.parameters

    def test_a_changed_shape_is_named(self, any_spec: Architecture) -> None:
        shapes = any_spec.tensors()
        for name in shapes:
            without = {key: shape for key, shape in shapes.items() if key != name}
            with pytest.raises(ValueError, match=rf"^tensor {name} is missing; expected \("):
                check_tensor_shapes(any_spec, without)
            with pytest.raises(ValueError, match=rf"^tensor {name} has shape \(9, 9\); expected \("):
                check_tensor_shapes(any_spec, shapes | {name: (9, 9)})
        with pytest.raises(ValueError, match=r"^tensor extra has shape \(1,\); the architecture has no such"):
            check_tensor_shapes(any_spec, shapes | {"extra": (1,)})

    def test_macs_grow_with_the_picture(self, any_spec: Architecture) -> None:
        m = 64 * any_spec.multiple  # wider than any window
        assert any_spec.macs(3 * m, 4 * m) == 12 * any_spec.macs(m, m)


def test_macs_counted_by_hand() -> None:
    # 3x3 1->2 and back on 4x4 pixels, 2x2 2->2 on the 2x2 it gives, and back from them
    one = Autoencoder((Stage(2),), channels=1)
    assert one.macs(4, 4) == 2 * (1 * 2 * 9 * 16) + 2 * (2 * 2 * 4 * 4)
    assert ARCHITECTURE_PRESETS["model-c"].macs() == 15_400_960
    # 12 -> 4 -> 12 in 3x3 on 4x4 of 8x8 pixels; between them two gated halves: 4->8, 8x9, 4->4, 4->8, 4->4
    gated = UNet((4,), (1,), block="gated")
    assert gated.macs(8, 8) == 16 * (2 * 12 * 4 * 9 + 32 + 72 + 16 + 32 + 16)
    # a context of 2 adds 4->2 on every pixel, and 2->2 and 2->4 once, since the window covers all
    assert UNet((4,), (1,), block="gated", context=2).macs(8, 8) == gated.macs(8, 8) + 16 * 8 + 4 + 8


def test_radius_and_halo_of_model_c() -> None:
    # that those of every preset hold of its module is proven in test_model.py
    assert (ARCHITECTURE_PRESETS["model-c"].radius, ARCHITECTURE_PRESETS["model-c"].halo) == (9, 8)


WRONG: dict[str, tuple[Any, str]] = {
    "name": ("model-d", "unknown architecture 'model-d'; did you mean 'model-"),
    "number": (3, "spec: expected a table of fields for the architecture, found 3"),
    "key": (
        {"stages": [8], "nrom": "batch"},
        "unknown architecture key 'nrom'; did you mean 'norm'? Valid: channels, norm",
    ),
    "no stages": ({"norm": "batch"}, "spec: `stages` must be a list"),
    "empty": ({"stages": []}, "spec: an auto-encoder has 1 to 32 stages, not 0"),
    "many": ({"stages": [{"width": 1, "down": False}] * 33}, "has 1 to 32 stages, not 33"),
    "deep": ({"stages": [1] * 11}, "spec: 11 stages halve the image; at most 10 can"),
    "norm": ({"stages": [8], "norm": "bach"}, "unknown norm 'bach'; did you mean 'batch'? Valid: batch, layer, none"),
    "kind": (
        {"kind": "vnet", "stages": [8]},
        "unknown architecture kind 'vnet'; did you mean 'unet'? Valid: autoencoder, module, unet",
    ),
    "unet key": (
        {"kind": "unet", "widths": [8], "blok": "conv"},
        "unknown architecture key 'blok'; did you mean 'block'?",
    ),
    "unet widths": ({"kind": "unet", "blocks": [1]}, "spec: `widths` must be a list of whole numbers"),
    "unet text": ({"kind": "unet", "widths": "8", "blocks": [1]}, "spec: `widths` must be a list of whole numbers"),
    "unet levels": ({"kind": "unet", "widths": [8, 8], "blocks": [1]}, "2 widths need 2 entries of blocks and 1 of"),
    "unet width": ({"kind": "unet", "widths": [0], "blocks": [1]}, "a width must be a whole number from 1"),
    "unet block": (
        {"kind": "unet", "widths": [8], "blocks": [1], "block": "x"},
        "unknown block 'x'. Valid: conv, gated",
    ),
    "unet skips": ({"kind": "unet", "widths": [8], "blocks": [1], "skips": 1}, "`skips` must be true or false, not 1"),
    "unet bias": ({"kind": "unet", "widths": [8], "blocks": [1], "bias": False}, "bias = false needs norm = 'none'"),
    "channels": ({"stages": [8], "channels": 0}, "channels must be a whole number from 1 to 64, not 0"),
    "true channels": ({"stages": [8], "channels": True}, "channels must be a whole number from 1 to 64, not True"),
    "width": ({"stages": [0]}, "a stage's width must be a whole number from 1 to 4096, not 0"),
    "wide": ({"stages": [4097]}, "from 1 to 4096, not 4097"),
    "float": ({"stages": [{"width": 8.0}]}, "from 1 to 4096, not 8.0"),
    "true": ({"stages": [{"width": True}]}, "from 1 to 4096, not True"),
    "text": ({"stages": ["8"]}, "expected a table of fields for the stage, found '8'"),
    "stage key": ({"stages": [{"width": 8, "dwon": True}]}, "unknown stage key 'dwon'; did you mean 'down'?"),
    "no width": ({"stages": [{"down": True}]}, "spec: a stage needs a `width`"),
    "down": ({"stages": [{"width": 8, "down": "no"}]}, "`down` must be true or false, not 'no'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_spec_is_one_line_that_says_why(case: str) -> None:
    data, message = WRONG[case]
    with pytest.raises(ValueError) as caught:
        parse_architecture(data)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


C = ARCHITECTURE_PRESETS["model-c"].tensors()
NOT_OURS: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "nothing": ({}, "there is no enc1.weight"),
    "flat": ({"enc1.weight": (3, 4)}, r"enc1.weight of shape \(3, 4\) is not a convolution"),
    "half": ({k: v for k, v in C.items() if "dec" not in k}, "tensor dec1.weight is missing"),
    "no norm": ({k: v for k, v in C.items() if "batch" not in k} | {"batch_dec1.bias": (64,)}, "batch_dec1.bias"),
    "5x5": (C | {"enc3.weight": (64, 32, 5, 5)}, r"enc3.weight has shape \(64, 32, 5, 5\); expected .*3, 3"),
    "2x2 first": ({"enc1.weight": (8, 3, 2, 2)}, "enc1.weight has shape"),
    "no outputs": ({"enc1.weight": (0, 3, 3, 3)}, "width must be a whole number"),
}


@pytest.mark.parametrize("case", NOT_OURS)
def test_shapes_of_something_else_are_refused(case: str) -> None:
    shapes, message = NOT_OURS[case]
    with pytest.raises(ValueError, match=message):
        infer_architecture(shapes)


def test_a_spec_in_brief() -> None:
    assert ARCHITECTURE_PRESETS["model-a"].summary == "64, 32, 16, 8 (no down)"
    assert UNet((8, 16, 24), (1, 2, 3), (0, 4)).summary == "U-Net 8 (1+0), 16 (2+4), 24 (3)"


def test_a_spec_is_a_value() -> None:
    assert len({parse_architecture(name) for name in ARCHITECTURE_PRESETS} | set(ARCHITECTURE_PRESETS.values())) == len(
        ARCHITECTURE_PRESETS
    )


GROWN: dict[str, tuple[Architecture, bool]] = {
    "itself": (UNet((8, 16), (1, 2)), True),
    "fewer blocks": (UNet((8, 16), (0, 2), (1,)), True),
    "more blocks": (UNet((8, 16), (1, 3), (1,)), False),
    "more in the decoder": (UNet((8, 16), (1, 2), (2,)), False),
    "narrower": (UNet((8, 12), (1, 2)), False),
    "another number of levels": (UNet((8,), (1,)), False),
    "one that takes the noise level": (UNet((8, 16), (1, 2), conditioned=True), False),
    "another kind": (ARCHITECTURE_PRESETS["model-c"], False),
}


@pytest.mark.parametrize("case", GROWN)
def test_a_unet_grows_from_one_of_fewer_blocks(case: str) -> None:
    other, grows = GROWN[case]
    assert UNet((8, 16), (1, 2)).can_start_from(other) is grows
    assert not grows or UNet((8, 16), (1, 2), conditioned=True).can_start_from(other)
    assert ARCHITECTURE_PRESETS["model-c"].can_start_from(other) is (case == "another kind")
