"""A judge of ours in one file: half-precision weights and a header, as a model file has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from daelab._util.config import FileHeader
from daelab._util.tensor_file import describe_layout, read_tensor_header, read_tensors, to_half_precision, write_tensors
from daelab.evaluation.classifiers.network import ConvNet, build_classifier
from daelab.evaluation.classifiers.recipe import ClassifierNetworkConfig

CLASSIFIER_FORMAT = 1
INPUT_STATISTICS = ("mean", "std")
"""Of the images that it takes; kept in full precision."""
_Side = Annotated[int, Field(ge=1, le=4096)]


class ClassifierMetadata(FileHeader):
    """What a judge's file says of itself."""

    format: Literal[1] = 1
    kind: Literal["judge"] = "judge"
    name: str
    network: ClassifierNetworkConfig
    classes: tuple[str, ...] = Field(min_length=2, max_length=10_000)
    size: tuple[_Side, _Side]
    """(H, W) of the images it was trained on; others are resized to it."""
    tta: Literal["none", "mirror", "shift"]
    seed: int = 0
    data: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    """On the test part: images, and accuracy by test-time augmentation."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Epochs, seconds, precision: how the weights came to be."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    recipe_sha256: str = ""
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def accuracy(self) -> float | None:
        """The share of its test images that it judged right; None where the header does not say."""
        found: Any = self.metrics
        for key in ("test", "accuracy", self.tta):
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, float) else None


@dataclass(frozen=True)
class ClassifierFile:
    """A network in evaluation mode and its card."""

    network: ConvNet
    card: ClassifierMetadata

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_tensors(
            path, to_half_precision(self.network.state_dict(), INPUT_STATISTICS), self.card.model_dump(mode="json")
        )


def read_classifier_metadata(path: Path) -> ClassifierMetadata:
    """What a judge's file says of itself, checked against its tensors' shapes; no tensor is read.

    Raises:
        ValueError: names the file and what is wrong.
    """
    header, entries = read_tensor_header(path)
    if header.get("kind") != "judge":
        raise ValueError(f"{path}: a file of daelab's, but no judge; `daelab train-judge` writes judges")
    if header.get("format") != CLASSIFIER_FORMAT:
        raise ValueError(f"{path}: format {header.get('format')!r}; this daelab reads format {CLASSIFIER_FORMAT}")
    card = ClassifierMetadata.parse(path, header)
    with torch.device("meta"):
        network = ConvNet(card.network, len(card.classes))
        if describe_layout(to_half_precision(network.state_dict(), INPUT_STATISTICS)) != entries:
            raise ValueError(f"{path}: its tensors are not those of the network in its header")
        try:
            network.eval()(torch.empty(1, 3, *card.size))
        except RuntimeError:
            raise ValueError(f"{path}: its network takes no images of {card.size[0]}x{card.size[1]} pixels") from None
    return card


def read_classifier_file(path: str | Path) -> ClassifierFile:
    """A judge from its file.

    Raises:
        ValueError: not a judge's file; names it and says what is wrong.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no judge file {path}")
    card = read_classifier_metadata(path)
    _, tensors = read_tensors(path)
    network = build_classifier(card.network, len(card.classes))
    network.load_state_dict(tensors)
    return ClassifierFile(network.eval().requires_grad_(False), card)
