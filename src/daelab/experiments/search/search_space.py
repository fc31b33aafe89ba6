"""A search space as data: a recipe in which fields may be lists or ranges, and the settings of the search.

space = load_search_space("explore/depth", ["data.name=cifar10"])
space.dimensions()                  # name -> ChoiceDimension or RangeDimension
space.recipe({"spec.stages": "[8, 16]"}, seed=1)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_origin

from pydantic import AfterValidator, Field, ValidationError, model_validator

from daelab._util.config import ConfigTable, apply_overrides, describe_validation_error, read_toml
from daelab._util.files import list_shipped_configs
from daelab.errors import make_unknown_name_error
from daelab.experiments.search.dimensions import MOST, Dimension, FieldPath, FieldValue, find_dimensions, merge_tables
from daelab.experiments.search.goals import PRUNERS, SAMPLERS, SEARCH_GOALS
from daelab.models.architectures.autoencoder import Autoencoder
from daelab.models.architectures.unet import UNet
from daelab.training.recipe import (
    Recipe,
    TrainingConfig,
    expand_preset,
    find_overridden_names,
    find_recipe_file,
    parse_recipe,
    refuse_external_names,
)

VARIANT = "variant"
"""The name of the dimension that selects a variant of the search space."""


def _row(table: Mapping[str, Any], what: str) -> AfterValidator:
    def check(name: str) -> str:
        if name not in table:
            raise make_unknown_name_error(what, name, table)
        return name

    return AfterValidator(check)


class SearchConfig(ConfigTable):
    """The settings of a search: the table `[explore]` of a search space."""

    sampler: Annotated[str, _row(SAMPLERS, "sampler")] = "tpe"
    """The name of the sampler."""
    goals: Annotated[tuple[Annotated[str, _row(SEARCH_GOALS, "goal")], ...], Field(min_length=1, max_length=3)] = (
        "psnr",
    )
    """The names of one or several goals; with several, the best trade-offs are sought."""
    pruner: Annotated[str, _row(PRUNERS, "pruner")] = "none"
    """The name of the pruner, which ends trials early by their validation PSNR after each epoch."""
    trials: Annotated[int | None, Field(ge=1, le=100_000)] = None
    """The number of runs, those with further seeds included. Default: the whole grid, or no limit."""
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    """The number of runs of each point, which differ by the recipe's seed."""
    total_epochs: Annotated[int | None, Field(ge=1)] = None
    """The number of epochs over all trials after which no trial is started."""
    minutes: Annotated[float | None, Field(gt=0)] = None
    """The time after which the workers stop at the end of an epoch; the study can be resumed."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """The seed of the sampler."""

    @model_validator(mode="after")
    def _fits(self) -> SearchConfig:
        if len(set(self.goals)) < len(self.goals):
            raise ValueError(f"goals: {', '.join(self.goals)}: a goal occurs twice")
        if self.pruner != "none" and self.goals != ("psnr",):
            raise ValueError(f"the pruner {self.pruner} uses the PSNR alone; it needs goals = ['psnr']")
        if self.sampler == "nsga2" and len(self.goals) == 1:
            raise ValueError("the sampler nsga2 needs two or three goals, such as ['psnr', 'macs']")
        return self

    @property
    def bounded(self) -> bool:
        """Whether the search ends by itself."""
        return self.sampler == "grid" or any(
            limit is not None for limit in (self.trials, self.total_epochs, self.minutes)
        )


class _Head(ConfigTable):
    """The part of a search space that is no recipe."""

    note: str = ""
    explore: SearchConfig = SearchConfig()
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)


@dataclass(frozen=True)
class SearchSpace:
    """A search space: the plain values of a recipe in which lists and ranges stand for the values to try."""

    name: str
    """The name of the search space, or its file."""
    fields: Mapping[str, Any]
    """The fields of its TOML file, with overrides applied."""
    note: str
    """One line on what is searched."""
    search: SearchConfig
    """The settings of the search."""
    variants: Mapping[str, Mapping[str, Any]]
    """The variants by name, each with the fields that it changes together."""

    @property
    def base(self) -> dict[str, Any]:
        """The recipe's fields."""
        return {key: value for key, value in self.fields.items() if key not in _Head.model_fields}

    @property
    def first(self) -> Recipe:
        """The recipe of the first point."""
        return self.recipe(next(self._corners(next(iter(self.variants), ""))))

    @property
    def longest(self) -> int:
        """The number of epochs of the longest trial."""
        recipes = [self.recipe(point) for variant in self.variants or ("",) for point in self._corners(variant)]
        return max(recipe.training.epochs for recipe in recipes)

    def _corners(self, variant: str) -> Iterator[dict[str, FieldValue]]:
        """Yield every extreme of every dimension, combined with the first extremes of all others."""
        dims = self.dimensions(variant)
        first: dict[str, FieldValue] = {VARIANT: variant} if variant else {}
        first |= {name: dim.extremes()[0] for name, dim in dims.items()}
        yield first
        for name, dim in dims.items():
            yield from ({**first, name: value} for value in dim.extremes()[1:])

    def dimensions(self, variant: str = "") -> dict[str, Dimension]:
        """Return the dimensions by name.

        Args:
            variant: The name of a variant; the names of its own dimensions begin with it.
        """
        return {name: dim for name, (_, dim) in self._places(variant).items()}

    def _places(self, variant: str) -> dict[str, tuple[FieldPath, Dimension]]:
        common = dict(find_dimensions(self.base, LISTS))
        own = common if not variant else dict(find_dimensions(merge_tables(self.base, self.variants[variant]), LISTS))
        return {
            (_dotted(place) if common.get(place) == dim else f"{variant}: {_dotted(place)}"): (place, dim)
            for place, dim in own.items()
        }

    def points(self) -> Iterator[dict[str, FieldValue]]:
        """Yield every point of the grid.

        Raises:
            ValueError: A range has no step.
        """
        for variant in self.variants or ("",):
            dims = self.dimensions(variant)
            columns = [[(name, value) for value in dim.grid(f"{self.name}: {name}")] for name, dim in dims.items()]
            for point in itertools.product(*columns):
                head: dict[str, FieldValue] = {VARIANT: variant} if variant else {}
                yield head | dict(point)

    def recipe(self, point: Mapping[str, FieldValue], seed: int = 0, note: str = "") -> Recipe:
        """Return the recipe of a point.

        Args:
            point: The values of the dimensions.
            seed: A number that is added to the recipe's seed.
            note: The note of the recipe.

        Raises:
            ValueError: The fields of the point make no valid recipe.
        """
        variant = str(point.get(VARIANT, ""))
        # Copied, since the fields are replaced in place and other points need the original.
        plain = deepcopy(merge_tables(self.base, self.variants[variant]) if variant else self.base)
        for name, (place, dim) in self._places(variant).items():
            table: Any = plain
            for part in place[:-1]:
                table = table[part]
            table[place[-1]] = dim.plain(point[name])
        where = f"{self.name}, {format_point(point)}"
        try:
            plain |= {"spec": expand_architecture(plain["spec"])} if "spec" in plain else {}
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        plain["note"] = note
        if seed:
            plain["seed"] = plain.get("seed", 0) + seed
        return parse_recipe(plain, where=where)

    def check(self) -> None:
        """Check the search space before anything is trained.

        Raises:
            ValueError: Nothing varies, a value of a dimension makes no valid recipe, or the grid is too large.
        """
        if not self.variants and not self.dimensions():
            raise ValueError(f"{self.name} varies nothing: write a list or {{low, high}} for a field that should vary")
        if self.search.seeds > 1 and any(place == ("seed",) for place, _ in find_dimensions(self.base, LISTS)):
            raise ValueError(f"{self.name}: explore.seeds repeats each point with further seeds, so seed cannot vary")
        if self.search.sampler != "grid":
            for variant in self.variants or ("",):
                for point in self._corners(variant):
                    self.recipe(point)
            return
        for number, point in enumerate(self.points(), 1):
            if number > MOST:
                raise ValueError(f"{self.name}: the grid has more than {MOST:,} points; use another sampler")
            self.recipe(point)

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values, which `parse_search_space` reads."""
        return dict(self.fields)


LISTS = frozenset(
    {
        *(field.name for kind in (Autoencoder, UNet) for field in fields(kind) if str(field.type).startswith("tuple")),
        *(name for name, field in TrainingConfig.model_fields.items() if get_origin(field.annotation) is tuple),
    }
)
"""The fields that are lists themselves; their choices are lists of lists."""


def list_search_spaces() -> dict[str, Path]:
    """Return the shipped search spaces by name, such as `explore/depth`."""
    return list_shipped_configs("explore")


def load_search_space(source: str | Path, overrides: Iterable[str] = ()) -> SearchSpace:
    """Load a search space.

    Args:
        source: The name of a shipped search space, or the path of a TOML file.
        overrides: Changes of fields as `a.b=value` texts, as `--set` takes them; values are TOML or plain text.

    Raises:
        ValueError: A field is unknown or its value is invalid.
        FileNotFoundError: There is no such search space.
    """
    path, overrides = find_recipe_file(source, list_search_spaces(), "space", "daelab explore spaces"), list(overrides)
    space = parse_search_space(read_toml(path), overrides, where=str(source))
    refuse_external_names(space.fields, str(source), find_overridden_names(overrides))
    return space


def parse_search_space(plain: Mapping[str, Any], overrides: Iterable[str] = (), where: str = "space") -> SearchSpace:
    """Parse and check a search space from plain values.

    Args:
        plain: The fields.
        overrides: Changes of fields as `a.b=value` texts.
        where: The source of the fields, for error messages.

    Raises:
        ValueError: A field is unknown or its value is invalid.
    """
    values = apply_overrides(plain, overrides, where, expand_preset)
    try:
        head = _Head.model_validate({key: value for key, value in values.items() if key in _Head.model_fields})
    except ValidationError as error:
        raise ValueError(f"{where}: {describe_validation_error(error, _Head)}") from None
    space = SearchSpace(where, values, head.note, head.explore, head.variants)
    space.check()
    return space


def format_point(point: Mapping[str, FieldValue]) -> str:
    """Format a point as one line.

    Args:
        point: The values of the dimensions.

    >>> format_point({"training.lr": 0.005, "spec.stages": "[8, 16]"})
    'training.lr=0.005 spec.stages=[8, 16]'
    """
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in point.items()
    )


def expand_architecture(spec: Any) -> Any:
    """Resolve the fields of an architecture that only search spaces have: `depth`, and `scale` of all widths.

    Args:
        spec: The plain values of the architecture.

    >>> expand_architecture({"stages": [8, 16, 32], "depth": 2, "scale": 2})
    {'stages': [16, 32]}
    """
    if not isinstance(spec, Mapping):
        return spec
    # Checked here, since the reader of architectures does not know `depth` and `scale`, and could not suggest them.
    kind = UNet if spec.get("kind") == "unet" else Autoencoder
    known = ["depth", "scale", "kind", *(field.name for field in fields(kind))]
    for key in spec:
        if key not in known:
            raise make_unknown_name_error("architecture key", str(key), known)
    if not {"depth", "scale"} & set(spec):
        return spec
    expanded = {key: value for key, value in spec.items() if key not in ("depth", "scale")}
    levels = "widths" if expanded.get("kind") == "unet" else "stages"
    widths = expanded.get(levels)
    if not isinstance(widths, list):
        raise ValueError(f"spec: depth and scale need a list of {levels}; write one")
    depth, scale = spec.get("depth", len(widths)), spec.get("scale", 1)
    if not (type(depth) is int and 1 <= depth <= len(widths)):
        raise ValueError(
            f"spec.depth is {depth!r}; write a whole number from 1 to {len(widths)}, the number of {levels}"
        )
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= 4096:
        raise ValueError(f"spec.scale is {scale!r}; write a number above 0 and up to 4,096")
    expanded[levels] = [_scale_width(width, scale) for width in widths[:depth]]
    if levels == "widths" and depth < len(widths):
        # the blocks of the middle stay those of the middle
        blocks, decoder = expanded.get("blocks"), expanded.get("decoder")
        expanded |= {"blocks": [*blocks[: depth - 1], *blocks[-1:]]} if isinstance(blocks, list) else {}
        expanded |= {"decoder": decoder[: depth - 1]} if isinstance(decoder, list) else {}
    return expanded


def _scale_width(level: Any, scale: float) -> Any:
    if isinstance(level, Mapping):
        return {**level, "width": _scale_width(level.get("width"), scale)}
    return max(1, round(level * scale)) if type(level) is int else level


def _dotted(place: FieldPath) -> str:
    return ".".join(map(str, place))
