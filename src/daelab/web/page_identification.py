"""The noise identification of the static page: its networks as ONNX files, and tables for the choice of a model."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daelab._util.hardware import open_onnx_session
from daelab.denoising.named_models import load_named_network
from daelab.denoising.noise_identification.families import (
    BRIGHTNESS_FAMILIES,
    FAMILIES,
    TITLES,
    UNTOUCHED_FAMILIES,
    list_covered,
)
from daelab.denoising.noise_identification.features import PATCH_SIDE, compute_features
from daelab.denoising.noise_identification.gain import REMOVER, compute_gain_features, load_gain_estimator
from daelab.denoising.noise_identification.graphics import find_graphic
from daelab.denoising.noise_identification.identify import (
    CLEAN,
    FAINT,
    FAINTLY_NOISY,
    GAIN,
    GRAPHIC,
    HEAVY,
    LEAST_SHARE,
    NOISY,
    STRONG,
    UNKNOWN,
    rank_shipped_models,
    suits_photographs,
    suits_telephones,
)
from daelab.denoising.noise_identification.network import decode_effects, load_noise_identifier
from daelab.models.inference import fold_batch_norms
from daelab.models.layers import AnySizeNetwork
from daelab.models.onnx import OPSET, ParityError, trace_graph
from daelab.models.onnx_operators import extra_operators

SMALLEST_TILE = 16
"""The smallest side of a tile of the gain estimator's graph, in which the sizes of some blocks are constants."""
_TOLERANCE = 1e-3
"""The largest difference of an output from PyTorch's, relative to values above 1."""


class _FamilyGraph(nn.Module):
    """The patches of a picture, (P, 3, S, S) in [0, 1] -> the probability of each family, and the effect."""

    def __init__(self) -> None:
        super().__init__()
        self.estimator = load_noise_identifier().estimator

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        scores, values = self.estimator(compute_features(patches[None]))
        return scores.softmax(1)[0], decode_effects(values)[0]


class _GainGraph(nn.Module):
    """One tile of a picture, (1, 3, H, W) in [0, 1] -> the gain in dB, and the logarithm of the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.network = load_gain_estimator().network
        self.remover = AnySizeNetwork(fold_batch_norms(load_named_network(REMOVER)[0]))

    def forward(self, tile: Tensor) -> Tensor:
        smooth = self.remover(tile)
        # A denoiser keeps a grey picture grey.
        smooth = torch.where((tile == tile[:, :1]).all(), smooth.mean(1, keepdim=True), smooth)
        estimates: Tensor = self.network(compute_gain_features(tile, smooth)[None])
        return estimates.mean((0, 1))


class _GraphicsGraph(nn.Module):
    """The tiles of a picture, (T, 3, H, W) float32 from 0 to 255 -> 1 if it is drawn, else 0."""

    def forward(self, tiles: Tensor) -> Tensor:
        return find_graphic(tiles.long()).float()


_TILE_AXES = {2: "height", 3: "width"}
_GRAPHS: dict[str, tuple[type[nn.Module], tuple[str, ...], dict[int, str], float]] = {
    "families": (_FamilyGraph, ("patches", "probabilities", "effect"), {0: "count"}, 1),
    "gain": (_GainGraph, ("tile", "gain"), _TILE_AXES, 1),
    "graphics": (_GraphicsGraph, ("tiles", "drawn"), {0: "count", **_TILE_AXES}, 255),
}
"""The module of each graph, the names of its input and outputs, its variable axes, and the value of white."""
_SHAPES = {
    "families": ((3, 3, PATCH_SIDE, PATCH_SIDE), (1, 3, PATCH_SIDE, PATCH_SIDE), (7, 3, PATCH_SIDE, PATCH_SIDE)),
    "gain": ((1, 3, 128, 128), (1, 3, SMALLEST_TILE, 40), (1, 3, 64, 128)),
    "graphics": ((2, 3, 128, 128), (1, 3, SMALLEST_TILE, 40), (12, 3, 32, 64)),
}
"""The shapes at which each graph is compared with PyTorch. It is traced at the first."""


def write_identification(folder: Path, models: Collection[str]) -> dict[str, Any]:
    """Write the graphs of the noise identification into a folder.

    Args:
        folder: The folder.
        models: The names of the models of the page, among which it chooses.

    Returns:
        What `identify.js` needs to know.

    Raises:
        ParityError: A graph's outputs differ from PyTorch's.
    """
    folder.mkdir()
    for name in _GRAPHS:
        _write_graph(name, folder / f"{name}.onnx")
    return {
        "families": list(FAMILIES),
        "untouched": UNTOUCHED_FAMILIES,
        "brightness": BRIGHTNESS_FAMILIES,
        "noisy": NOISY,
        "gain": GAIN,
        "faint": FAINT,
        "titles": TITLES,
        "reasons": {"clean": CLEAN, "faint": FAINTLY_NOISY, "graphic": GRAPHIC, "unknown": UNKNOWN},
        "heavy": HEAVY,
        "strong": STRONG,
        "least_share": LEAST_SHARE,
        "smallest_tile": SMALLEST_TILE,
        "models": [
            {
                "name": name,
                "photographs": suits_photographs(noise),
                "telephones": suits_telephones(noise),
                "covers": [vars(covered) for covered in list_covered(noise)],
            }
            for name, noise in rank_shipped_models()
            if name in models
        ],
    }


def _write_graph(name: str, path: Path) -> None:
    make, names, axes, white = _GRAPHS[name]
    module = make().eval()
    generator = torch.Generator().manual_seed(0)
    # Like pictures, the examples have whole values, many of which are equal.
    examples = [torch.randint(0, 200, shape, generator=generator) * (white / 255) for shape in _SHAPES[name]]
    with torch.no_grad(), extra_operators(OPSET):
        trace_graph(module, examples[0], path, names, [axes])
        session = open_onnx_session(path)
        for example in examples:
            expected = module(example)
            outputs = session.run(None, {names[0]: example.numpy()})
            for one, other in zip(expected if isinstance(expected, tuple) else (expected,), outputs, strict=True):
                difference = (one - torch.from_numpy(other)).abs() / one.abs().clamp_min(1)
                if not float(difference.max()) <= _TOLERANCE:
                    raise ParityError(f"{path.name} was not written: onnxruntime's output differs from PyTorch's")
