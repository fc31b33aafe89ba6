"""A judge of ours in one file: half-precision weights and a header, as a model file has."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from daelab import tensorfile
from daelab.judge.network import ConvNet, build
from daelab.judge.recipe import Network
from daelab.settings import FileHeader

FORMAT = 1
INPUT = ("mean", "std")
"""Of the images that it takes; kept in full precision."""
_Side = Annotated[int, Field(ge=1, le=4096)]


class Card(FileHeader):
    """What a judge's file says of itself."""

    format: Literal[1] = 1
    kind: Literal["judge"] = "judge"
    name: str
    network: Network
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
class JudgeFile:
    """A network in evaluation mode and its card."""

    network: ConvNet
    card: Card

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        tensorfile.write(path, tensorfile.halved(self.network.state_dict(), INPUT), self.card.model_dump(mode="json"))


def read_card(path: Path) -> Card:
    """What a judge's file says of itself, checked against its tensors' shapes; no tensor is read.

    Raises:
        ValueError: names the file and what is wrong.
    """
    header, entries = tensorfile.read_header(path)
    if header.get("kind") != "judge":
        raise ValueError(f"{path}: a file of daelab's, but no judge; `daelab train-judge` writes judges")
    if header.get("format") != FORMAT:
        raise ValueError(f"{path}: format {header.get('format')!r}; this daelab reads format {FORMAT}")
    card = Card.parse(path, header)
    with torch.device("meta"):
        network = ConvNet(card.network, len(card.classes))
        if tensorfile.layout(tensorfile.halved(network.state_dict(), INPUT)) != entries:
            raise ValueError(f"{path}: its tensors are not those of the network in its header")
        try:
            network.eval()(torch.empty(1, 3, *card.size))
        except RuntimeError:
            raise ValueError(f"{path}: its network takes no images of {card.size[0]}x{card.size[1]} pixels") from None
    return card


def load(path: str | Path) -> JudgeFile:
    """A judge from its file.

    Raises:
        ValueError: not a judge's file; names it and says what is wrong.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no judge file {path}")
    card = read_card(path)
    _, tensors = tensorfile.read(path)
    network = build(card.network, len(card.classes))
    network.load_state_dict(tensors)
    return JudgeFile(network.eval().requires_grad_(False), card)


def versions() -> dict[str, str]:
    """Of this library and those that decide a result."""
    found = {name: metadata.version(name) for name in ("daelab", "torch", "numpy", "safetensors")}
    return {"python": platform.python_version(), **found}
