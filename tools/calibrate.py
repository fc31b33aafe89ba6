"""Measure the ranges that the layers of a photo model need to compute in int8, and write them into its file.

    python tools/calibrate.py photo-s photo-m --data-root DIR     of models that ship, or of model files

The ranges are those of crops of training photographs, without noise and with the kinds of noise that the model was
trained for.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from daelab.datasets.base import Images
from daelab.datasets.registry import load_dataset
from daelab.denoising.named_models import find_model
from daelab.models.architectures.base import Architecture
from daelab.models.inference import measure_ranges
from daelab.models.layers import append_noise_level
from daelab.models.model_file import load_network, save_model
from daelab.noise.base import Noise
from daelab.noise.grammar import parse_noise

CROPS = 24
"""The training photographs whose middles are measured."""
SIDE = 256
"""The side of a crop, in pixels."""


def main() -> None:
    """Write the ranges."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("models", nargs="+")
    options.add_argument("--data-root", type=Path, required=True, help="folder with cbsd432")
    args = options.parse_args()
    pictures = load_dataset("cbsd432", args.data_root).train
    crops = [cut_middle(pictures, place) for place in range(0, len(pictures), len(pictures) // CROPS)]
    for model in args.models:
        path = find_model(model)
        network, metadata = load_network(path)
        ranges = measure_ranges(network, make_batches(crops, parse_noise(metadata.noise), metadata.spec))
        save_model(path, network, replace(metadata, ranges={name: list(limits) for name, limits in ranges.items()}))
        print(path, *(f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in ranges.items()), sep="\n  ")


def cut_middle(images: Images, place: int) -> Tensor:
    """Return the middle of a picture (1, 3, SIDE, SIDE) in [0, 1]."""
    pixels = images.batch(np.array([place]))  # (1, 3, H, W) uint8
    top, left = ((side - SIDE) // 2 for side in pixels.shape[2:])
    return torch.from_numpy(pixels[:, :, top : top + SIDE, left : left + SIDE]).float() / 255


def make_batches(crops: list[Tensor], noise: Noise, spec: Architecture) -> Iterator[Tensor]:
    """Yield the crops as the network takes them: as they are, and with each kind of noise."""
    for number, clean in enumerate(crops):
        for kind in (parse_noise("none"), *noise.options()):
            noisy = kind(clean, seed=number)
            level = (noisy - clean).square().flatten(1).mean(1).sqrt()
            yield append_noise_level(noisy, level) if spec.conditioned else noisy


if __name__ == "__main__":
    main()
