"""A run as data: data + noise + spec + loss + optimiser + seed, checked whole before any tensor exists.

    recipe = load("paper/38", ["training.epochs=2"])
    print(recipe.to_toml())

`load` takes the name of a recipe that ships, or the path of a TOML file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from daelab._util.config import ConfigDocument, ConfigTable, list_shipped_configs, read_toml
from daelab.datasets.registry import CROPPED, match_dataset_name
from daelab.errors import unknown_name
from daelab.models.architectures.base import Architecture
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS, parse_architecture
from daelab.noise.base import PRESETS, Noise
from daelab.noise.grammar import parse_noise
from daelab.training.losses import parse_loss

_SPEC, _NOISE = "model-c", "published-code"


def _noise(value: object) -> Noise:
    if isinstance(value, Noise):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected the text of a noise, found {value!r}")
    return parse_noise(value)


def _spec(value: object) -> Architecture:
    return value if isinstance(value, Architecture) else parse_architecture(value)


def _spec_out(value: Architecture) -> Any:
    return next((name for name, preset in ARCHITECTURE_PRESETS.items() if preset == value), value.to_dict())


def _loss(value: str) -> str:
    parse_loss(value)
    return value


class DataConfig(ConfigTable):
    """Which images, and how they are split."""

    name: Annotated[str, AfterValidator(match_dataset_name)] = "cifar10"
    """`cifar10`, `photos`, `cbsd432`, `folder:PATH` or `npz:PATH`; `cbsd68` is a test set."""
    train: Annotated[int | None, Field(ge=1)] = None
    """Images to train on; all that validation leaves, where it is not given."""
    val: Annotated[int | None, Field(ge=1)] = None
    """Images to validate on; a tenth where it is not given."""
    replacement: bool = False
    """Draw the training images with replacement, as the paper's code did."""
    crop: Annotated[int, Field(ge=4, le=4096)] = 32
    """Side of the crops of a folder's pictures."""
    crops: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Crops of each of a folder's training pictures in an epoch; one where it is not given."""
    buffer: Annotated[int | None, Field(ge=1)] = None
    """Stream a folder from disk and shuffle its crops so many at a time, in memory that does not grow with the folder;
    None: shuffle them all, from memory where they fit."""


class TrainingConfig(ConfigTable):
    """How the network is trained."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    minutes: Annotated[float | None, Field(gt=0)] = None
    """A time budget: the schedule runs over it, and `epochs` is a bound."""
    batch: Annotated[int, Field(ge=1, le=65536)] = 128
    lr: Annotated[float, Field(gt=0)] = 0.003
    optimiser: Literal["adam", "adamw", "sgd", "muon"] = "adam"
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    amsgrad: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Nesterov's, of `sgd`."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training over which the rate rises linearly to `lr`."""
    final_lr: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Where `cosine` and `one-cycle` end, as a share of `lr`."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay per step of the moving average of the weights that is validated and kept; 0: none."""
    flips: bool = False
    """Mirror each image, or not, at random."""
    turns: bool | None = None
    """Turn each image by a quarter, a half, three quarters, or not, at random; square images only."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """`auto`: bf16 where the machine computes it natively."""
    float32_from: Annotated[float | None, Field(ge=0, le=1)] = None
    """Share of the training after which it computes in float32, as the weights will be used; None: never."""
    compile: bool = False
    """torch.compile: 15 to 30 s for the first step."""
    start: Annotated[str | None, Field(min_length=1)] = None
    """A model to begin from, by name or file, of the recipe's spec; new weights where it is not given."""
    curriculum: Annotated[float | None, Field(gt=0, le=1)] = None
    """Share of the training over which the noise grows: until then noisy images are mixed with their clean ones."""


class TeacherConfig(ConfigTable):
    """A larger model that a smaller one learns from (distillation; Hinton et al., 2015)."""

    model: Annotated[str, Field(min_length=1)]
    """By name or file."""
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the loss that is against what the teacher makes of the noisy images, not against the clean ones."""


class ClassifierConfig(ConfigTable):
    """A classifier that scores the denoised validation images during training (the paper's "+ ViT")."""

    name: Annotated[str, Field(min_length=1)] = "builtin"
    """What `daelab evaluate --judge` takes: builtin, holdout, photos, vit, a file, or module:factory."""
    path: str | None = None
    """Of the weights of the judge `vit`."""
    every: Annotated[int, Field(ge=1)] = 1
    """Epochs from one look to the next; the last epoch is always looked at."""
    images: Annotated[int | None, Field(ge=1)] = None
    """The first so many validation images; all where it is not given."""


class Recipe(ConfigDocument):
    """A run as data; frozen. See `load` for how it is read."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of the split, the initial weights, the order, the noise."""
    noise: Annotated[Annotated[Any, BeforeValidator(_noise)], PlainSerializer(str, return_type=str)] = PRESETS[_NOISE]
    spec: Annotated[Annotated[Any, BeforeValidator(_spec)], PlainSerializer(_spec_out)] = ARCHITECTURE_PRESETS[_SPEC]
    loss: Annotated[str, AfterValidator(_loss)] = "mse"
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    judge: ClassifierConfig | None = None
    """None: no classifier looks at the images."""
    teacher: TeacherConfig | None = None
    """None: the clean images alone are learnt from."""

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        if self.spec.channels != 3:
            raise ValueError(f"spec.channels is {self.spec.channels}; the images have 3 channels, RGB")
        crops = self.data.name.startswith(CROPPED)
        if crops and self.data.crop % self.spec.multiple:
            raise ValueError(f"data.crop is {self.data.crop}; this spec needs a multiple of {self.spec.multiple}")
        if self.data.crops and not crops:
            raise ValueError(
                f"data.crops belongs to folder:PATH and cbsd432, whose pictures are cropped; not to {self.data.name}"
            )
        if self.data.buffer and not crops:
            raise ValueError(
                f"data.buffer belongs to folder:PATH and cbsd432, which are streamed; not to {self.data.name}"
            )
        if self.training.momentum and self.training.optimiser != "sgd":
            raise ValueError("training.momentum belongs to optimiser 'sgd'; the others have betas")
        return self


def list_recipes() -> dict[str, Path]:
    """The recipes of runs that ship, by name: `paper/38`."""
    # those of judges and spaces have other fields; see evaluation.classifiers.recipe and experiments.search
    others = ("judge/", "explore/")
    return {name: path for name, path in list_shipped_configs().items() if not name.startswith(others)}


def load_recipe(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe: the name of a shipped one, or a path to a TOML file.

    Args:
        overrides: `a.b=value` texts, as `--set` takes them; values are TOML, or bare text.

    Raises:
        ValueError: names the file and the field, the valid names and the nearest match.
    """
    return parse_recipe(read_toml(find_recipe_file(source, list_recipes())), overrides, where=str(source))


def find_recipe_file(
    source: str | Path, files: Mapping[str, Path], what: str = "recipe", listing: str = "daelab recipes"
) -> Path:
    """The file that is meant: the name of one that ships, or a path.

    Raises:
        FileNotFoundError: there is neither; gives the nearest name and the command that lists them.
    """
    path = files.get(str(source), Path(source))
    if not path.is_file():
        hint = str(unknown_name(what, str(source), files)).partition("; ")[2].partition("?")[0]
        raise FileNotFoundError(
            f"no {what} file {source}; {f'{hint}? ' if hint else ''}`{listing}` lists those that ship"
        )
    return path


def parse_recipe(fields: Mapping[str, Any], overrides: Iterable[str] = (), where: str = "recipe") -> Recipe:
    """A recipe from plain values, with overrides applied; see `load`."""
    return Recipe.parse(fields, overrides, where, expand_preset)


def expand_preset(part: str, found: Any) -> Any:
    """A preset's name stands where a field of it is set: write it out."""
    if part == "spec" and (found is None or isinstance(found, str)):
        return _spec(found or _SPEC).to_dict()
    return {} if found is None else found
