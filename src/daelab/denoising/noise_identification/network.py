"""The inspector's small network, and its file: features -> which family, and level, gain and offset."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daelab._util.tensor_file import describe_layout, read_tensor_header, read_tensors, write_tensors
from daelab.denoising.noise_identification.families import FAMILIES
from daelab.denoising.noise_identification.features import COUNT, compute_features

IDENTIFIER_FORMAT = 1
WIDTH = 128
TARGETS = ("level", "gain", "offset")
SURE = 0.8
"""The probability from which an answer counts as sure."""
_FAMILIES = [[name, text] for name, text in FAMILIES.items()]
"""In order, since the network's answers have it."""
_LEAST_LEVEL = 1e-3


class NoiseEstimator(nn.Module):
    """Two hidden layers over standardised features."""

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(COUNT))
        self.register_buffer("scale", torch.ones(COUNT))
        self.first, self.second = nn.Linear(COUNT, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.last = nn.Linear(WIDTH, len(FAMILIES) + len(TARGETS))

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """(N, COUNT) -> scores of the families (N, K), and (N, 3): the level's logarithm, gain - 1, offset."""
        x = ((seen - self.mean) / self.scale).clamp(-8, 8)
        x = F.relu(self.second(F.relu(self.first(x))))
        out: Tensor = self.last(x)
        return out[:, : len(FAMILIES)], out[:, len(FAMILIES) :]

    @torch.inference_mode()
    def estimate(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(N, P, 3, 32, 32) -> probabilities of the families (N, K), and level, gain and offset (N, 3)."""
        scores, values = self(compute_features(patches))
        return scores.softmax(1), decode_effects(values)


def encode_effects(effects: Tensor) -> Tensor:
    """(N, 3) level, gain, offset -> what the network gives."""
    level = effects[:, :1].clamp_min(_LEAST_LEVEL).log()
    return torch.cat([level, effects[:, 1:2] - 1, effects[:, 2:]], dim=1)


def decode_effects(values: Tensor) -> Tensor:
    """The inverse of `encoded`, but for levels below the least."""
    return torch.cat([values[:, :1].clamp(-9, 0).exp(), values[:, 1:2] + 1, values[:, 2:]], dim=1)


@dataclass(frozen=True)
class NoiseIdentifier:
    """A trained estimator, and where it comes from."""

    estimator: NoiseEstimator
    card: dict[str, Any]
    """Families, data, seed, examples, versions; and what it scored on pictures held out."""

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        header = {"kind": "inspector", "format": IDENTIFIER_FORMAT, "families": _FAMILIES} | self.card
        write_tensors(path, self.estimator.state_dict(), header)


def load_noise_identifier(path: Path | None = None) -> NoiseIdentifier:
    """An inspector's file; the one that ships where none is named.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is no inspector's, or tells other families apart; one line.
    """
    path = path or find_shipped_identifier()
    if not path.is_file():
        raise FileNotFoundError(f"no inspector {path}; `daelab train-inspector --save {path}` makes one")
    header, entries = read_tensor_header(path)
    if header.get("kind") != "inspector" or header.get("format") != IDENTIFIER_FORMAT:
        raise ValueError(
            f"{path}: no inspector's file of format {IDENTIFIER_FORMAT}; `daelab train-inspector` writes those"
        )
    with torch.device("meta"):
        wanted = describe_layout(NoiseEstimator().state_dict())
    if header.get("families") != _FAMILIES or entries != wanted:
        raise ValueError(f"{path}: an inspector of another version; `daelab train-inspector` writes one for this")
    _, tensors = read_tensors(path)
    estimator = NoiseEstimator()
    estimator.load_state_dict(tensors)
    card = {key: value for key, value in header.items() if key not in ("kind", "format", "families")}
    return NoiseIdentifier(estimator.eval().requires_grad_(False), card)


def find_shipped_identifier() -> Path:
    """Where the inspector that ships is."""
    return Path(str(resources.files("daelab"))) / "models" / "weights" / "inspector" / "inspector.safetensors"
