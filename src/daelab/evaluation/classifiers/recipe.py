"""The recipe of a classifier's training: TOML as the recipe of a run, with its own tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from daelab._util.config import ConfigDocument, ConfigTable, read_toml
from daelab._util.files import list_shipped_configs
from daelab.datasets.registry import check_dataset_name
from daelab.errors import make_unknown_name_error

DEFAULT_CLASSIFIER_RECIPE = "judge/cifar10"
_Width = Annotated[int, Field(ge=1, le=2048)]


class ClassifierNetworkConfig(ConfigTable):
    """The network of a classifier: a whitening layer, then blocks of 3x3 convolutions, each pooled."""

    widths: Annotated[tuple[_Width, ...], Field(min_length=1, max_length=5)] = (64, 256, 256)
    """The channels of each block; each block halves height and width."""
    kernel: Annotated[int, Field(ge=1, le=4)] = 2
    """The side of the whitening layer's patches, in pixels."""
    skips: Literal["residual", "preactivation"] | None = None
    """None: two convolutions in a block. residual: three, the last two with a skip connection (Page, 2019).
    preactivation: a network of another kind, `PreactivationNet`, without whitening."""


class ClassifierDataConfig(ConfigTable):
    """The images of the training."""

    name: Annotated[str, AfterValidator(check_dataset_name)] = "cifar10"
    train: Annotated[int | None, Field(ge=2)] = None
    """The number of training images, the first of a seeded permutation; None for all."""
    crop: Annotated[int, Field(ge=8, le=4096)] = 32
    """The side of the crops of a folder's pictures, in pixels."""


class ClassifierTrainingConfig(ConfigTable):
    """The training: Nesterov SGD with a triangular learning rate and Lookahead (Jordan, 2024, "94% on CIFAR-10")."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    batch: Annotated[int, Field(ge=2, le=65536)] = 1024
    """The images of a batch. The images that do not fill a batch are left out, different ones in each epoch."""
    part: Annotated[int, Field(ge=2, le=65536)] = 256
    """The images of a part of a batch. Parts fit the cache; batch norm is computed for each part (Hoffer, 2017)."""
    lr: Annotated[float, Field(gt=0)] = 1.3
    """The highest learning rate of the weights, for the mean loss of a batch."""
    start_lr: Annotated[float, Field(ge=0, le=1)] = 0.2
    """The first learning rate, as a share of `lr`."""
    peak: Annotated[float, Field(gt=0, lt=1)] = 0.23
    """The share of the training after which the learning rate is highest."""
    final_lr: Annotated[float, Field(ge=0, le=1)] = 0.07
    """The last learning rate, as a share of `lr`."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.85
    """The momentum of Nesterov SGD."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.00153
    """The weight decay. That of the biases is divided by `bias_scale`, so that rate times decay is the same for all."""
    bias_scale: Annotated[float, Field(gt=0)] = 64.0
    """The factor of the learning rate of batch norms' biases."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.2
    lookahead: Annotated[int, Field(ge=0)] = 5
    """The steps between two updates of Lookahead's slow weights; 0 for no Lookahead."""
    lookahead_decay: Annotated[float, Field(ge=0, lt=1)] = 0.774
    """The decay of the slow weights at the end of the training; it rises with the cube of the progress."""
    whiten_bias_epochs: Annotated[int, Field(ge=0)] = 3
    """The epochs in which the bias of the whitening layer is trained."""
    flips: bool = True
    """Whether images are mirrored: at random in the first epoch, then in alternate epochs."""
    translate: Annotated[int, Field(ge=0, le=16)] = 2
    """The largest random shift of an image in pixels, over a reflected border."""
    precision: Literal["auto", "float32", "bf16"] = "auto"


class ClassifierRecipe(ConfigDocument):
    """The recipe of a classifier."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    tta: Literal["none", "mirror", "shift"] = "mirror"
    """The test-time augmentation: the classifier averages 1, 2 or 6 views of an image."""
    data: ClassifierDataConfig = ClassifierDataConfig()
    network: ClassifierNetworkConfig = ClassifierNetworkConfig()
    training: ClassifierTrainingConfig = ClassifierTrainingConfig()


def list_classifier_recipes() -> dict[str, Path]:
    """Return the shipped classifier recipes by name, such as `judge/cifar10`."""
    return list_shipped_configs("judge")


def load_classifier_recipe(
    source: str | Path = DEFAULT_CLASSIFIER_RECIPE, overrides: Iterable[str] = ()
) -> ClassifierRecipe:
    """Load a classifier recipe.

    Args:
        source: The name of a shipped recipe (`judge/photos`; `judge` is the default one), or a TOML file.
        overrides: Changes of fields as `a.b=value` texts, as `--set` takes them.

    Raises:
        ValueError: A field is unknown or its value is invalid.
        FileNotFoundError: There is no such recipe.
    """
    files = list_classifier_recipes()
    name = DEFAULT_CLASSIFIER_RECIPE if str(source) == "judge" else str(source)
    path = files.get(name) or files.get(f"judge/{name}") or Path(source)
    if not path.is_file():
        raise FileNotFoundError(str(make_unknown_name_error("classifier recipe", name, files)))
    return ClassifierRecipe.parse(read_toml(path), overrides, where=str(source))
