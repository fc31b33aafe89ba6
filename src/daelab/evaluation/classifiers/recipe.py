"""A judge's training as data; TOML, as a run's recipe is, with tables of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from daelab._util.config import ConfigDocument, ConfigTable, list_shipped_configs, read_toml
from daelab.datasets.registry import match_dataset_name
from daelab.errors import unknown_name

DEFAULT_CLASSIFIER_RECIPE = "judge/cifar10"
_Width = Annotated[int, Field(ge=1, le=2048)]


class ClassifierNetworkConfig(ConfigTable):
    """A classifier's shape: a whitening layer, then blocks of 3x3 convolutions, each pooled."""

    widths: Annotated[tuple[_Width, ...], Field(min_length=1, max_length=5)] = (64, 256, 256)
    """Channels of each block; each halves height and width."""
    kernel: Annotated[int, Field(ge=1, le=4)] = 2
    """Side of the whitening layer's patches, in pixels."""
    skips: Literal["residual"] | None = None
    """None: two convolutions in a block; residual: three, the last two beside a skip (Page, 2019)."""


class ClassifierDataConfig(ConfigTable):
    """Which images; all of the training part, unless told otherwise."""

    name: Annotated[str, AfterValidator(match_dataset_name)] = "cifar10"
    train: Annotated[int | None, Field(ge=2)] = None
    """Only the first so many of a seeded permutation."""
    crop: Annotated[int, Field(ge=8, le=4096)] = 32
    """Side of the crops of a folder's pictures."""


class ClassifierTrainingConfig(ConfigTable):
    """Nesterov SGD with a triangular rate and Lookahead (Jordan, 2024, "94% on CIFAR-10 in 3.29 seconds")."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    batch: Annotated[int, Field(ge=2, le=65536)] = 1024
    """An epoch leaves out the images that do not fill a batch, others each time."""
    part: Annotated[int, Field(ge=2, le=65536)] = 256
    """A batch is worked off in such parts, which fit the cache; batch norm sees one at a time (Hoffer, 2017)."""
    lr: Annotated[float, Field(gt=0)] = 1.3
    """Peak rate of the weights, for the mean loss of a batch."""
    start_lr: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Where the rate begins, as a share of `lr`."""
    peak: Annotated[float, Field(gt=0, lt=1)] = 0.23
    """Share of the training after which the rate is highest."""
    final_lr: Annotated[float, Field(ge=0, le=1)] = 0.07
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.85
    """Nesterov's."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.00153
    """The biases' is smaller by `bias_scale`, so that rate times decay is the same for all."""
    bias_scale: Annotated[float, Field(gt=0)] = 64.0
    """By how much the biases of batch norms learn faster than weights."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.2
    lookahead: Annotated[int, Field(ge=0)] = 5
    """Steps between two syntheses with the slow weights; 0: none."""
    lookahead_decay: Annotated[float, Field(ge=0, lt=1)] = 0.774
    """Of the slow weights, at the end of the training; it rises with the cube of the progress."""
    whiten_bias_epochs: Annotated[int, Field(ge=0)] = 3
    """Epochs in which the whitening layer's bias learns."""
    flips: bool = True
    """Mirror each image, or not, at random in the first epoch; then in turn."""
    translate: Annotated[int, Field(ge=0, le=16)] = 2
    """Most pixels an image moves by, either way, over a reflected border."""
    precision: Literal["auto", "float32", "bf16"] = "auto"


class ClassifierRecipe(ConfigDocument):
    """How a judge is made."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    tta: Literal["none", "mirror", "shift"] = "mirror"
    """Views of an image whose answers are averaged when it judges: 1, 2 or 6."""
    data: ClassifierDataConfig = ClassifierDataConfig()
    network: ClassifierNetworkConfig = ClassifierNetworkConfig()
    training: ClassifierTrainingConfig = ClassifierTrainingConfig()


def list_classifier_recipes() -> dict[str, Path]:
    """The recipes that ship, by name: `judge/cifar10`."""
    return list_shipped_configs("judge")


def load_classifier_recipe(
    source: str | Path = DEFAULT_CLASSIFIER_RECIPE, overrides: Iterable[str] = ()
) -> ClassifierRecipe:
    """A recipe that ships (`judge/photos`; `judge` is the default one), or a TOML file.

    Args:
        overrides: `a.b=value` texts, as `--set` takes them.

    Raises:
        ValueError: names the file and the field, the valid names and the nearest match.
        FileNotFoundError: there is no such recipe.
    """
    files = list_classifier_recipes()
    name = DEFAULT_CLASSIFIER_RECIPE if str(source) == "judge" else str(source)
    path = files.get(name) or files.get(f"judge/{name}") or Path(source)
    if not path.is_file():
        raise FileNotFoundError(str(unknown_name("judge recipe", name, files)))
    return parse_classifier_recipe(read_toml(path), overrides, where=str(source))


def parse_classifier_recipe(
    fields: Mapping[str, Any], overrides: Iterable[str] = (), where: str = "recipe"
) -> ClassifierRecipe:
    """A recipe from plain values, with overrides applied; see `load`."""
    return ClassifierRecipe.parse(fields, overrides, where)
