"""The small network of noise identification, from features to families and effects; and its file."""

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
"""The version of the file format."""
WIDTH = 128
"""The number of units of a hidden layer."""
TARGETS = ("level", "gain", "offset")
"""The effects that the network estimates."""
SURE = 0.8
"""The probability above which a family counts as certain."""
_FAMILIES = [[name, text] for name, text in FAMILIES.items()]
"""The families in the order of the network's outputs."""
_LEAST_LEVEL = 1e-3


class NoiseEstimator(nn.Module):
    """A network of two hidden layers over standardized features."""

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        """Build the untrained network."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(COUNT))
        self.register_buffer("scale", torch.ones(COUNT))
        self.first, self.second = nn.Linear(COUNT, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.last = nn.Linear(WIDTH, len(FAMILIES) + len(TARGETS))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the scores of the families, and the encoded effects.

        Args:
            features: (N, COUNT).

        Returns:
            (N, K) scores, and (N, 3): the logarithm of the level, gain - 1, and the offset.
        """
        # Clamped, so that a feature far outside the training data does not dominate all others.
        x = ((features - self.mean) / self.scale).clamp(-8, 8)
        x = F.relu(self.second(F.relu(self.first(x))))
        out: Tensor = self.last(x)
        return out[:, : len(FAMILIES)], out[:, len(FAMILIES) :]

    @torch.inference_mode()
    def estimate(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate the probabilities of the families, and the effects.

        Args:
            patches: (N, P, 3, 32, 32) float32 in [0, 1].

        Returns:
            (N, K) probabilities, and (N, 3): level, gain and offset.
        """
        scores, values = self(compute_features(patches))
        return scores.softmax(1), decode_effects(values)


def encode_effects(effects: Tensor) -> Tensor:
    """Encode effects as the network's outputs.

    Args:
        effects: (N, 3) level, gain and offset.
    """
    # A level of zero has no logarithm.
    level = effects[:, :1].clamp_min(_LEAST_LEVEL).log()
    return torch.cat([level, effects[:, 1:2] - 1, effects[:, 2:]], dim=1)


def decode_effects(values: Tensor) -> Tensor:
    """Decode the network's outputs to effects, the inverse of `encode_effects` except for the smallest levels.

    Args:
        values: (N, 3) outputs of the network.
    """
    # Levels are at most 1, the whole range of values, and the clamp keeps the exponential from overflowing.
    return torch.cat([values[:, :1].clamp(-9, 0).exp(), values[:, 1:2] + 1, values[:, 2:]], dim=1)


@dataclass(frozen=True)
class NoiseIdentifier:
    """A trained noise estimator and its metadata."""

    estimator: NoiseEstimator
    """The network in evaluation mode."""
    card: dict[str, Any]
    """The metadata: families, data, seed, examples, versions, and the scores on held-out pictures."""

    def save(self, path: Path) -> None:
        """Write the file atomically.

        Args:
            path: The file to write.
        """
        header = {"kind": "inspector", "format": IDENTIFIER_FORMAT, "families": _FAMILIES} | self.card
        write_tensors(path, self.estimator.state_dict(), header)


def load_noise_identifier(path: Path | None = None) -> NoiseIdentifier:
    """Load a noise identifier.

    Args:
        path: Its file. Default: the shipped one.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is no noise identifier, or one with other families.
    """
    path = path or find_shipped_identifier()
    if not path.is_file():
        raise FileNotFoundError(
            f"the noise identifier {path} does not exist; `daelab train-inspector --save {path}` creates one"
        )
    header, entries = read_tensor_header(path)
    if header.get("kind") != "inspector" or header.get("format") != IDENTIFIER_FORMAT:
        raise ValueError(
            f"{path}: not a noise identifier of format {IDENTIFIER_FORMAT}; `daelab train-inspector` creates one"
        )
    # On the meta device, since only names and shapes are compared and no memory is needed.
    with torch.device("meta"):
        layout = describe_layout(NoiseEstimator().state_dict())
    if header.get("families") != _FAMILIES or entries != layout:
        raise ValueError(
            f"{path}: the noise identifier is of another version of daelab; `daelab train-inspector` creates a new one"
        )
    _, tensors = read_tensors(path)
    estimator = NoiseEstimator()
    estimator.load_state_dict(tensors)
    card = {key: value for key, value in header.items() if key not in ("kind", "format", "families")}
    return NoiseIdentifier(estimator.eval().requires_grad_(False), card)


def find_shipped_identifier() -> Path:
    """Return the path of the shipped noise identifier."""
    return Path(str(resources.files("daelab"))) / "models" / "weights" / "inspector" / "inspector.safetensors"
