"""The recipe of a denoiser: images, noise, architecture, loss, optimizer and seed, checked before any tensor exists.

    recipe = load_recipe("paper/38", ["training.epochs=2"])
    print(recipe.to_toml())

`load_recipe` takes the name of a shipped recipe or the path of a TOML file.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from daelab._util.config import ConfigDocument, ConfigTable, apply_overrides, read_toml
from daelab._util.files import list_shipped_configs
from daelab._util.plugins import is_object_name
from daelab.datasets.registry import CROPPED_PREFIXES, check_dataset_name
from daelab.errors import make_unknown_name_error
from daelab.evaluation.classifiers.registry import CLASSIFIERS
from daelab.models.architectures.base import Architecture
from daelab.models.architectures.external import ModuleArchitecture
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS, parse_architecture
from daelab.models.registry import find_shipped_model
from daelab.noise.base import PRESETS, Noise
from daelab.noise.grammar import parse_noise
from daelab.training.losses import parse_loss

_DEFAULT_SPEC, _DEFAULT_NOISE = "model-c", "published-code"

ExternalName = tuple[str, str]
"""A field of a recipe, such as `judge.name`, and its value that names code, a download or a file."""


def _is_shipped_model(name: str) -> bool:
    return find_shipped_model(name) is not None


_EXTERNAL_FIELDS: dict[str, Callable[[str], bool]] = {
    "judge.name": lambda name: name.removeprefix("judge:") in CLASSIFIERS,
    "judge.path": lambda path: False,
    "loss": lambda text: ":" not in text,
    "spec": lambda name: not is_object_name(name),
    "spec.factory": lambda name: False,
    "teacher.model": _is_shipped_model,
    "training.start": _is_shipped_model,
}
"""The fields that can name code, a download or a file -> whether a value only names what ships with daelab.

`data.name` is not among them: its folder or array is the subject of a recipe, is read by decoders with bounds, and only
its pixels have an effect."""


def _validate_noise(value: object) -> Noise:
    if isinstance(value, Noise):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected the text of a noise, found {value!r}")
    return parse_noise(value)


def _validate_spec(value: object) -> Architecture:
    return value if isinstance(value, Architecture) else parse_architecture(value)


def _serialize_spec(value: Architecture) -> Any:
    if isinstance(value, ModuleArchitecture) and value == ModuleArchitecture(value.factory):
        return value.factory  # as `--set spec=package.module:factory` names it, before it is measured
    return next((name for name, preset in ARCHITECTURE_PRESETS.items() if preset == value), value.to_dict())


def _validate_loss(value: str) -> str:
    parse_loss(value)
    return value


class DataConfig(ConfigTable):
    """The images of a training, and how they are split."""

    name: Annotated[str, AfterValidator(check_dataset_name)] = "cifar10"
    """The data set: `cifar10`, `photos`, `cbsd432`, `folder:PATH` or `npz:PATH`; `cbsd68` is only a test set."""
    train: Annotated[int | None, Field(ge=1)] = None
    """The number of training images. Default: all that are not used for validation."""
    val: Annotated[int | None, Field(ge=1)] = None
    """The number of validation images. Default: a tenth."""
    replacement: bool = False
    """Whether the training images are drawn with replacement, as by the paper's code."""
    crop: Annotated[int, Field(ge=4, le=4096)] = 32
    """The side of the crops of a folder's pictures, in pixels."""
    crops: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """The number of crops of each of a folder's training pictures in an epoch. Default: 1."""
    buffer: Annotated[int | None, Field(ge=1)] = None
    """The number of crops that are shuffled at a time while a folder is streamed from disk, so that memory does not
    grow with the folder. Default: all crops are shuffled at once, in memory if they fit."""


class TrainingConfig(ConfigTable):
    """The optimization of the network."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    minutes: Annotated[float | None, Field(gt=0)] = None
    """The time budget, over which the schedule then runs; `epochs` remains an upper bound."""
    batch: Annotated[int, Field(ge=1, le=65536)] = 128
    lr: Annotated[float, Field(gt=0)] = 0.003
    vector_lr: Annotated[float | None, Field(gt=0, le=1)] = None
    """The share of `lr` at which biases and norms are trained. At a high rate they can shut off most features of a
    network without norms. Default: 1."""
    optimiser: Literal["adam", "adamw", "sgd", "muon"] = "adam"
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    amsgrad: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The Nesterov momentum of `sgd`."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the training in which the learning rate rises linearly to `lr`."""
    final_lr: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of `lr` at which `cosine` and `one-cycle` end."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The decay per step of the moving average of the weights, which is then validated and kept. 0: no average."""
    flips: bool = False
    """Whether images are mirrored at random."""
    turns: bool | None = None
    """Whether images are rotated at random by 0, 90, 180 or 270 degrees, which needs square images."""
    reduce: Annotated[int | None, Field(ge=2, le=8)] = None
    """The factor by which half of the images are reduced at random, which averages away the grain of photographs; the
    others are cut to the same size at a random place. Default: none is reduced."""
    zoom: Annotated[float | None, Field(gt=1, le=8)] = None
    """The largest factor by which half of the images are enlarged at random, since detail is softer in a camera's
    full-size photographs than in reduced ones. Default: none is enlarged."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """The precision of the training; `auto` is bf16 where the hardware supports it natively."""
    float32_from: Annotated[float | None, Field(ge=0, le=1)] = None
    """The share of the training after which it goes on in float32, as the model will be used. Default: never."""
    compile: bool = False
    """Whether `torch.compile` is used, which takes 15 to 30 s in the first step."""
    validate_every: Annotated[int | None, Field(ge=1)] = None
    """The number of epochs from one validation to the next; the last epoch is always validated. Default: 1."""
    start: Annotated[str | None, Field(min_length=1)] = None
    """The name of a shipped model to begin from, of the recipe's architecture, or with `--set` and in Python a file.
    Default: new weights."""
    renew: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...] | None, Field(min_length=1, examples=[["enc2"]])
    ] = None
    """With `start`, the layers that keep their initial weights, by the beginning of their names: "enc2" is all of the
    encoder's second level. Their residual blocks begin as the identity. Default: none."""
    curriculum: Annotated[float | None, Field(gt=0, le=1)] = None
    """The share of the training in which the noise grows, as noisy images are mixed with their clean ones."""


class TeacherConfig(ConfigTable):
    """A larger model that a smaller one learns from: distillation (Hinton et al., 2015)."""

    model: Annotated[str, Field(min_length=1)]
    """The name of a shipped model, or with `--set` and in Python a file."""
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The share of the loss that is measured against the teacher's output, not against the clean images."""


class ClassifierConfig(ConfigTable):
    """A classifier that scores the denoised validation images during training (the paper's "+ ViT")."""

    name: Annotated[str, Field(min_length=1)] = "builtin"
    """The classifier: builtin, holdout, photos, vit; with `--set` and in Python also a file, or module:factory."""
    path: str | None = None
    """The folder with the weights of `vit`, or `hub`; only with `--set` and in Python."""
    every: Annotated[int, Field(ge=1)] = 1
    """Epochs from one score to the next; the last epoch is always scored."""
    images: Annotated[int | None, Field(ge=1)] = None
    """The number of validation images that are scored. Default: all."""


class Recipe(ConfigDocument):
    """The recipe of a denoiser, as `load_recipe` reads it."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """The seed of the split, the initial weights, the order of the images and the noise."""
    noise: Annotated[Annotated[Any, BeforeValidator(_validate_noise)], PlainSerializer(str, return_type=str)] = PRESETS[
        _DEFAULT_NOISE
    ]
    spec: Annotated[Annotated[Any, BeforeValidator(_validate_spec)], PlainSerializer(_serialize_spec)] = (
        ARCHITECTURE_PRESETS[_DEFAULT_SPEC]
    )
    loss: Annotated[str, AfterValidator(_validate_loss)] = "mse"
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    judge: ClassifierConfig | None = None
    """The classifier that scores validation images. Default: none."""
    teacher: TeacherConfig | None = None
    """The teacher. Default: none, so that only the clean images are learned from."""

    def check_size(self, what: str, *sides: int) -> None:
        """Raise a ValueError if the sides of the images are no multiples of what the training needs.

        Args:
            what: The sides in words, with which the message begins.
            *sides: The sides in pixels.
        """
        multiple = self.spec.multiple * (self.training.reduce or 1)
        if any(side % multiple for side in sides):
            cause = f" with training.reduce={self.training.reduce}" if self.training.reduce else ""
            raise ValueError(f"{what}; this architecture{cause} needs multiples of {multiple}")

    @model_validator(mode="after")
    def _check_fields(self) -> Recipe:
        if self.spec.channels != 3 and self.judge:
            raise ValueError(f"spec.channels is {self.spec.channels}; the classifier of `judge` takes 3 channels, RGB")
        crops = self.data.name.startswith(CROPPED_PREFIXES)
        if crops:
            self.check_size(f"data.crop is {self.data.crop}", self.data.crop)
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
        if self.training.renew and not self.training.start:
            raise ValueError("training.renew belongs to training.start; without it all layers are new")
        return self


def list_recipes() -> dict[str, Path]:
    """Return the files of the shipped denoiser recipes by name, such as `paper/38`."""
    # Recipes of classifiers and search spaces have other fields.
    others = ("judge/", "explore/")
    return {name: path for name, path in list_shipped_configs().items() if not name.startswith(others)}


def load_recipe(source: str | Path, overrides: Iterable[str] = (), *, trusted: bool = False) -> Recipe:
    """Read a recipe and apply changes to it.

    Args:
        source: The name of a shipped recipe, or the path of a TOML file.
        overrides: Changes as texts `a.b=value`, as `--set` takes them; a value is TOML or plain text.
        trusted: Whether the file may name code, a download or another file. Overrides always may.

    Raises:
        FileNotFoundError: There is no such recipe.
        ValueError: A field is wrong; the message names the file, the field, the valid names and the nearest match.
    """
    overrides = list(overrides)
    recipe = parse_recipe(read_toml(find_recipe_file(source, list_recipes())), overrides, where=str(source))
    if not trusted:
        refuse_external_names(recipe.to_dict(), str(source), find_overridden_names(overrides))
    return recipe


def find_external_names(fields: Any, path: tuple[str, ...] = ()) -> Iterator[ExternalName]:
    """Find what a recipe or a search space names that does not ship: code, downloads and files, except for its images.

    Args:
        fields: The plain values. In those of a search space, lists and variants are searched too.
        path: The last keys of the place of these values.

    >>> list(find_external_names({"judge": {"name": ["builtin", "os:abort"]}}))
    [('judge.name', 'os:abort')]
    """
    if isinstance(fields, Mapping):
        for key, value in fields.items():
            yield from find_external_names(value, (*path[-1:], str(key)))
    elif isinstance(fields, list | tuple):
        for value in fields:
            yield from find_external_names(value, path)
    elif isinstance(fields, str):
        # The table around a field of the recipe itself is a variant of a search space.
        for field in (".".join(path), path[-1] if path else ""):
            if field in _EXTERNAL_FIELDS and not _EXTERNAL_FIELDS[field](fields):
                yield field, fields
                return


def find_overridden_names(overrides: Iterable[str]) -> set[ExternalName]:
    """Find what overrides name that does not ship, which their author thereby trusts.

    Args:
        overrides: Changes as texts `a.b=value`.
    """
    return set(find_external_names(apply_overrides({}, overrides, expand=expand_preset)))


def refuse_external_names(fields: Mapping[str, Any], where: str, trusted: Collection[ExternalName]) -> None:
    """Refuse plain values from a file that name code, a download or another file, because it may be a stranger's.

    Args:
        fields: The plain values of a recipe or a search space.
        where: The beginning of an error message.
        trusted: The names that the user gave elsewhere.

    Raises:
        ValueError: There is such a name. The message says how to give it on the command line.
    """
    known = {*trusted, *_list_names_in_shipped_files()}
    names = [name for name in dict.fromkeys(find_external_names(fields)) if name not in known]
    if names:
        field, value = names[0]
        # All names are listed unless the line would become too long.
        few = names[:2] if all(len(value) <= 40 for _, value in names[:2]) else names[:1]
        short = [(field, value if len(value) <= 80 and value.isprintable() else "VALUE") for field, value in few]
        raise ValueError(
            f"{where}: {field} is {value[:80]!r}, but a file may name only what ships with daelab, because other names "
            f"can run code, open files or connect; if you trust it, add: "
            + " ".join(f"--set {shlex.quote(f'{field}={value}')}" for field, value in short)
        )


def find_recipe_file(
    source: str | Path, files: Mapping[str, Path], what: str = "recipe", listing: str = "daelab recipes"
) -> Path:
    """Return the file that a name or a path means.

    Args:
        source: The name of a shipped file, or a path.
        files: The shipped files by name.
        what: The kind of file, for the error message.
        listing: The command that lists the shipped files, for the error message.

    Raises:
        FileNotFoundError: There is neither; the message gives the nearest name.
    """
    path = files.get(str(source), Path(source))
    if not path.is_file():
        hint = str(make_unknown_name_error(what, str(source), files)).partition("; ")[2].partition("?")[0]
        raise FileNotFoundError(
            f"no {what} file {source}; {f'{hint}? ' if hint else ''}`{listing}` lists those that ship"
        )
    return path


def parse_recipe(fields: Mapping[str, Any], overrides: Iterable[str] = (), where: str = "recipe") -> Recipe:
    """Make a recipe from plain values and apply changes to it.

    Args:
        fields: The fields of the recipe, as in its TOML file.
        overrides: Changes as texts `a.b=value`.
        where: The beginning of an error message.

    Raises:
        ValueError: A field is wrong; see `load_recipe`.
    """
    return Recipe.parse(fields, overrides, where, expand_preset)


@cache
def _list_names_in_shipped_files() -> frozenset[ExternalName]:
    """List what the shipped recipes and search spaces name, such as the model of a run that comes before."""
    return frozenset(name for path in list_shipped_configs().values() for name in find_external_names(read_toml(path)))


def is_classifier_recipe(fields: Mapping[str, Any]) -> bool:
    """Return whether plain values are those of a classifier's recipe.

    Args:
        fields: The fields of a recipe of any kind.
    """
    return "network" in fields


def expand_preset(part: str, found: Any) -> Any:
    """Replace the name of a preset by its fields, so that one of them can be changed.

    Args:
        part: The key of the recipe.
        found: The value of the key, or None.

    Returns:
        The table to set a field of.
    """
    if part == "spec" and (found is None or isinstance(found, str)):
        return _validate_spec(found or _DEFAULT_SPEC).to_dict()
    return {} if found is None else found
