"""A space of recipes as data: a recipe in which fields may be lists or ranges, and how it is searched.

space = load("explore/depth", ["data.name=cifar10"])
space.dimensions()                  # name -> Choice or Range
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

from daelab._util.config import ConfigTable, apply_overrides, describe_validation_error, list_shipped_configs, read_toml
from daelab.errors import unknown_name
from daelab.experiments.search.dimensions import MOST, Dimension, FieldPath, FieldValue, find_dimensions, merge_tables
from daelab.experiments.search.goals import PRUNERS, SAMPLERS, SEARCH_GOALS
from daelab.models.architectures.autoencoder import Autoencoder
from daelab.models.architectures.unet import UNet
from daelab.training.recipe import Recipe, TrainingConfig, expand_preset, find_recipe_file, parse_recipe

VARIANT = "variant"
"""The dimension that says which of a space's variants is tried."""


def _row(table: Mapping[str, Any], what: str) -> AfterValidator:
    def check(name: str) -> str:
        if name not in table:
            raise unknown_name(what, name, table)
        return name

    return AfterValidator(check)


class SearchConfig(ConfigTable):
    """How a space is searched: its table `[explore]`."""

    sampler: Annotated[str, _row(SAMPLERS, "sampler")] = "tpe"
    goals: Annotated[tuple[Annotated[str, _row(SEARCH_GOALS, "goal")], ...], Field(min_length=1, max_length=3)] = (
        "psnr",
    )
    """One, or several that are weighed against each other."""
    pruner: Annotated[str, _row(PRUNERS, "pruner")] = "none"
    """Which trials end early, by their validation PSNR after each epoch."""
    trials: Annotated[int | None, Field(ge=1, le=100_000)] = None
    """Runs in all, those with further seeds included; the whole grid, or without end, where it is not given."""
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    """Runs of each point, which differ by the recipe's seed."""
    total_epochs: Annotated[int | None, Field(ge=1)] = None
    """No trial is begun once so many epochs are trained in all."""
    minutes: Annotated[float | None, Field(gt=0)] = None
    """After so long the workers stop at an epoch's end; the study can go on."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the sampler."""

    @model_validator(mode="after")
    def _fits(self) -> SearchConfig:
        if len(set(self.goals)) < len(self.goals):
            raise ValueError(f"goals: {', '.join(self.goals)}: one of them stands twice")
        if self.pruner != "none" and self.goals != ("psnr",):
            raise ValueError(f"pruner {self.pruner} looks at PSNR alone; it needs goals = ['psnr']")
        if self.sampler == "nsga2" and len(self.goals) == 1:
            raise ValueError("sampler nsga2 weighs goals against each other; name two, such as ['psnr', 'macs']")
        return self

    @property
    def bounded(self) -> bool:
        """Whether the search ends by itself."""
        return self.sampler == "grid" or any(
            limit is not None for limit in (self.trials, self.total_epochs, self.minutes)
        )


class _Head(ConfigTable):
    """The part of a space that is no recipe."""

    note: str = ""
    explore: SearchConfig = SearchConfig()
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)


@dataclass(frozen=True)
class SearchSpace:
    """A space: plain values in which lists and ranges stand for what is tried."""

    name: str
    fields: Mapping[str, Any]
    """As its TOML file has them, overrides applied."""
    note: str
    search: SearchConfig
    variants: Mapping[str, Mapping[str, Any]]
    """Name -> fields that it changes together."""

    @property
    def base(self) -> dict[str, Any]:
        """The recipe's fields."""
        return {key: value for key, value in self.fields.items() if key not in _Head.model_fields}

    @property
    def longest(self) -> int:
        """Epochs of the longest trial."""
        made = [self.recipe(point) for variant in self.variants or ("",) for point in self._corners(variant)]
        return max(recipe.training.epochs for recipe in made)

    def _corners(self, variant: str) -> Iterator[dict[str, FieldValue]]:
        """Every extreme of every dimension, with the first of all others."""
        dims = self.dimensions(variant)
        first: dict[str, FieldValue] = {VARIANT: variant} if variant else {}
        first |= {name: dim.extremes()[0] for name, dim in dims.items()}
        yield first
        for name, dim in dims.items():
            yield from ({**first, name: value} for value in dim.extremes()[1:])

    def dimensions(self, variant: str = "") -> dict[str, Dimension]:
        """What varies, by name; of a variant, what is its own is named after it."""
        return {name: dim for name, (_, dim) in self._places(variant).items()}

    def _places(self, variant: str) -> dict[str, tuple[FieldPath, Dimension]]:
        common = dict(find_dimensions(self.base, LISTS))
        found = common if not variant else dict(find_dimensions(merge_tables(self.base, self.variants[variant]), LISTS))
        return {
            (_dotted(place) if common.get(place) == dim else f"{variant}: {_dotted(place)}"): (place, dim)
            for place, dim in found.items()
        }

    def points(self) -> Iterator[dict[str, FieldValue]]:
        """Every point of the grid.

        Raises:
            ValueError: a range without a step has no grid.
        """
        for variant in self.variants or ("",):
            dims = self.dimensions(variant)
            columns = [[(name, value) for value in dim.grid(f"{self.name}: {name}")] for name, dim in dims.items()]
            for point in itertools.product(*columns):
                found: dict[str, FieldValue] = {VARIANT: variant} if variant else {}
                yield found | dict(point)

    def recipe(self, point: Mapping[str, FieldValue], seed: int = 0, note: str = "") -> Recipe:
        """The recipe of a point, with a further seed.

        Raises:
            ValueError: these fields do not go together; names the point.
        """
        variant = str(point.get(VARIANT, ""))
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
        """Everything that can be said before anything is trained.

        Raises:
            ValueError: nothing varies, a value of a dimension makes no recipe, or the grid is too large.
        """
        if not self.variants and not self.dimensions():
            raise ValueError(f"{self.name} varies nothing: write a list or {{low, high}} where a field may vary")
        if self.search.seeds > 1 and any(place == ("seed",) for place, _ in find_dimensions(self.base, LISTS)):
            raise ValueError(f"{self.name}: explore.seeds repeats each point with further seeds, so seed cannot vary")
        if self.search.sampler != "grid":
            for variant in self.variants or ("",):
                for point in self._corners(variant):
                    self.recipe(point)
            return
        for number, point in enumerate(self.points(), 1):
            if number > MOST:
                raise ValueError(f"{self.name}: the grid has over {MOST:,} points; take another sampler")
            self.recipe(point)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, from which `parse` makes it again."""
        return dict(self.fields)


LISTS = frozenset(
    {
        *(field.name for kind in (Autoencoder, UNet) for field in fields(kind) if str(field.type).startswith("tuple")),
        *(name for name, field in TrainingConfig.model_fields.items() if get_origin(field.annotation) is tuple),
    }
)
"""Fields that are lists themselves: what varies there is a list of lists."""


def list_search_spaces() -> dict[str, Path]:
    """The spaces that ship, by name: `explore/depth`."""
    return list_shipped_configs("explore")


def load_search_space(source: str | Path, overrides: Iterable[str] = ()) -> SearchSpace:
    """Read a space: the name of a shipped one, or a path to a TOML file.

    Args:
        overrides: `a.b=value` texts, as `--set` takes them; values are TOML, or bare text.

    Raises:
        ValueError: names the file and the field, the valid names and the nearest match.
        FileNotFoundError: there is no such space.
    """
    path = find_recipe_file(source, list_search_spaces(), "space", "daelab explore spaces")
    return parse_search_space(read_toml(path), overrides, where=str(source))


def parse_search_space(plain: Mapping[str, Any], overrides: Iterable[str] = (), where: str = "space") -> SearchSpace:
    """A space from plain values, checked; see `load`."""
    found = apply_overrides(plain, overrides, where, expand_preset)
    try:
        head = _Head.model_validate({key: value for key, value in found.items() if key in _Head.model_fields})
    except ValidationError as error:
        raise ValueError(f"{where}: {describe_validation_error(error, _Head)}") from None
    space = SearchSpace(where, found, head.note, head.explore, head.variants)
    space.check()
    return space


def format_point(point: Mapping[str, FieldValue]) -> str:
    """A point in a line.

    >>> format_point({"training.lr": 0.005, "spec.stages": "[8, 16]"})
    'training.lr=0.005 spec.stages=[8, 16]'
    """
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in point.items()
    )


def expand_architecture(spec: Any) -> Any:
    """A spec's plain values with what only spaces have resolved: `depth`, and `scale` of all widths.

    >>> expand_architecture({"stages": [8, 16, 32], "depth": 2, "scale": 2})
    {'stages': [16, 32]}
    """
    if not isinstance(spec, Mapping) or not {"depth", "scale"} & set(spec):
        return spec
    made = {key: value for key, value in spec.items() if key not in ("depth", "scale")}
    levels = "widths" if made.get("kind") == "unet" else "stages"
    there = made.get(levels)
    if not isinstance(there, list):
        raise ValueError(f"spec: depth and scale are of a list of {levels}; write it out")
    depth, scale = spec.get("depth", len(there)), spec.get("scale", 1)
    if not (type(depth) is int and 1 <= depth <= len(there)):
        raise ValueError(f"spec.depth is {depth!r}; there are {len(there)} {levels} to take from")
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= 4096:
        raise ValueError(f"spec.scale is {scale!r}; write a number above 0 and up to 4,096")
    made[levels] = [_scaled(one, scale) for one in there[:depth]]
    if levels == "widths" and depth < len(there):
        # the middle's blocks stay the middle's
        blocks, decoder = made.get("blocks"), made.get("decoder")
        made |= {"blocks": [*blocks[: depth - 1], *blocks[-1:]]} if isinstance(blocks, list) else {}
        made |= {"decoder": decoder[: depth - 1]} if isinstance(decoder, list) else {}
    return made


def _scaled(level: Any, scale: float) -> Any:
    if isinstance(level, Mapping):
        return {**level, "width": _scaled(level.get("width"), scale)}
    return max(1, round(level * scale)) if type(level) is int else level


def _dotted(place: FieldPath) -> str:
    return ".".join(map(str, place))
