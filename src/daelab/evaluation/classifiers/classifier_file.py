"""The file of a trained classifier: half-precision weights and a header, as in a model file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from daelab._util.config import FileHeader
from daelab._util.tensor_file import describe_layout, read_tensor_header, read_tensors, to_half_precision, write_tensors
from daelab.evaluation.classifiers.network import ClassifierNetwork, build_classifier, make_classifier_network
from daelab.evaluation.classifiers.recipe import ClassifierNetworkConfig

CLASSIFIER_FORMAT = 1
INPUT_STATISTICS = ("mean", "std")
"""The tensors of the input's statistics, which are stored in full precision."""
_Side = Annotated[int, Field(ge=1, le=4096)]


class ClassifierMetadata(FileHeader):
    """The header of a classifier file."""

    format: Literal[1] = 1
    kind: Literal["judge"] = "judge"
    name: str
    network: ClassifierNetworkConfig
    classes: tuple[str, ...] = Field(min_length=2, max_length=10_000)
    size: tuple[_Side, _Side]
    """The (H, W) of the training images, in pixels; other images are resized to it."""
    tta: Literal["none", "mirror", "shift"]
    seed: int = 0
    data: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    """The number of test images, and the accuracy by test-time augmentation."""
    training: dict[str, Any] = Field(default_factory=dict)
    """The epochs, seconds and precision of the training."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    recipe_sha256: str = ""
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def accuracy(self) -> float | None:
        """The share of test images that were classified correctly; None if the header does not say."""
        value: Any = self.metrics
        for key in ("test", "accuracy", self.tta):
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, float) else None


@dataclass(frozen=True)
class ClassifierFile:
    """A classifier network in evaluation mode, and its metadata."""

    network: ClassifierNetwork
    card: ClassifierMetadata

    def save(self, path: Path) -> None:
        """Write the file atomically.

        Args:
            path: The file to write.
        """
        write_tensors(
            path, to_half_precision(self.network.state_dict(), INPUT_STATISTICS), self.card.model_dump(mode="json")
        )


def read_classifier_metadata(path: Path) -> ClassifierMetadata:
    """Read the header of a classifier file and check it against the tensors' shapes; no tensor is read.

    Args:
        path: The file.

    Raises:
        ValueError: The file is no classifier file, or its header and tensors do not match.
    """
    header, entries = read_tensor_header(path)
    if header.get("kind") != "judge":
        raise ValueError(
            f"{path}: this is a file of daelab, but not a classifier; `daelab train-judge` writes classifiers"
        )
    if header.get("format") != CLASSIFIER_FORMAT:
        raise ValueError(f"{path}: format {header.get('format')!r}; this daelab reads format {CLASSIFIER_FORMAT}")
    card = ClassifierMetadata.parse(path, header)
    # On the meta device, so that a hostile header cannot ask for more memory than there is.
    with torch.device("meta"):
        network = make_classifier_network(card.network, len(card.classes))
        if describe_layout(to_half_precision(network.state_dict(), INPUT_STATISTICS)) != entries:
            raise ValueError(f"{path}: the tensors are not those of the network in the header")
        try:
            network.eval()(torch.empty(1, 3, *card.size))
        except RuntimeError:
            raise ValueError(
                f"{path}: the network does not accept images of {card.size[0]}x{card.size[1]} pixels"
            ) from None
    return card


def read_classifier_file(path: str | Path) -> ClassifierFile:
    """Read a classifier file.

    Args:
        path: The file.

    Raises:
        ValueError: The file is no classifier file, or its header and tensors do not match.
        FileNotFoundError: The file does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"the classifier file {path} does not exist")
    card = read_classifier_metadata(path)
    _, tensors = read_tensors(path)
    network = build_classifier(card.network, len(card.classes))
    network.load_state_dict(tensors)
    return ClassifierFile(network.eval().requires_grad_(False), card)
