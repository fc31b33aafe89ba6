"""A noisy picture's file in, a clean file of the same kind out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from daelab._util.files import write_file
from daelab.denoising.automatic import AUTOMATIC, LEFT_UNCHANGED, AnyDenoiser, describe_choices, load_denoiser
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.noise_identification.identify import IdentifiedNoise
from daelab.denoising.tiling import ProgressCallback
from daelab.errors import unknown_name
from daelab.image_io.picture import SUFFIXES, Picture, get_value_range
from daelab.image_io.read import MAX_PIXELS, find_picture, read_picture
from daelab.image_io.write import check_format_holds, check_target, write_picture

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
PageFunction = Callable[[Array], tuple[Array, Floats | None]]
"""Takes (H, W), (H, W, 3) or (N, H, W, 3), uint8, uint16 or floats in [0, 1]; gives the same, and perhaps a map."""

RESULT_SUFFIX = "_clean"
COMPARED, UNSURE = "_compare", "_uncertainty"
_GAP = 4
"""White columns between a picture and its clean form, side by side."""


@dataclass(frozen=True)
class DenoiseOptions:
    """How pictures are cleaned and written; each a keyword of `denoise_file`."""

    strength: float = 1.0
    self_ensemble: bool = False
    overwrite: bool = False
    strip: bool = False
    compare: bool = False
    uncertainty: bool = False
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class DenoiseResult:
    """What became of a picture."""

    source: str = ""
    result: str = ""
    status: str = "cleaned"
    """"cleaned", "left as it is", "done before" or "failed"."""
    reason: str = ""
    """Why it failed."""
    note: str = ""
    """What a user should know: that only a first frame was read."""
    model: str = ""
    """Which was chosen, where none was named; of pages that differ in it, several."""
    why: str = ""
    """The choice and its reason, in one line."""
    height: int = 0
    width: int = 0
    pages: int = 1
    seconds: float = 0.0
    compare: str = ""
    """The picture and its clean form side by side: the path of that file."""
    uncertainty: str = ""
    """The path of the map of the spread."""
    largest_spread: float | None = None
    """What white stands for in that map, as a part of the picture's full range."""

    def to_dict(self) -> dict[str, Any]:
        """What there is to say, for JSON."""
        return {key: value for key, value in vars(self).items() if value not in ("", None)}


def denoise_file(
    src: str | Path,
    dst: str | Path | None = None,
    *,
    model: AnyDenoiser | str | Path = AUTOMATIC,
    strength: float = 1.0,
    self_ensemble: bool = False,
    overwrite: bool = False,
    in_place: bool = False,
    strip: bool = False,
    compare: bool = False,
    uncertainty: bool = False,
    max_pixels: int = MAX_PIXELS,
    tile: int | None = None,
    memory: int | str | None = None,
    progress: ProgressCallback | None = None,
) -> DenoiseResult:
    """Clean a picture's file into a file of the same kind: mode, depth, alpha and metadata as they were.

    Args:
        src: PNG, JPEG, WebP, TIFF, BMP, GIF or .npy.
        dst: the clean picture's file, in the format of its suffix; beside the source, named
            `NAME_clean`, where it is not given.
        model: a denoiser, or what `load` takes. Else `inspect` chooses a model that ships for each page, and
            leaves alone what looks clean and what no model was trained for; the result says which, and why.
        strength: from 0, the picture as it came, to 1, the clean one.
        self_ensemble: average over the eight flips and rotations; eight times the work.
        overwrite: replace `dst` where it exists.
        in_place: replace `src` itself.
        strip: leave out all metadata.
        compare: also write source and result side by side, `DST_compare.png`.
        uncertainty: also write where the self-ensemble's eight results differ, `DST_uncertainty.png`.
        max_pixels: refuse larger pictures, by their header.
        tile: side of a tile in pixels; see `Denoiser`.
        memory: of a tile, in bytes or as text ("512MB").
        progress: called with (tiles done, tiles in all) of each page.

    Raises:
        FileNotFoundError: there is no such picture or model.
        FileExistsError: `dst` exists and `overwrite` is False.
        ValueError: the picture is broken, or its format cannot hold the result; names the file.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("LA", (40, 30), 128).save(f"{folder}/noisy.png")
    ...     done = denoise_file(f"{folder}/noisy.png")
    >>> Path(done.result).name, done.height, done.width
    ('noisy_clean.png', 30, 40)
    """
    src = Path(src)
    if in_place and dst is not None:
        raise ValueError("in_place replaces the source; it takes no dst")
    dst = src if in_place else choose_target(src, RESULT_SUFFIX) if dst is None else Path(dst)
    if not in_place and is_same_file(src, dst):
        raise ValueError(f"{dst} is the source itself; in_place=True replaces it")
    denoiser = load_denoiser(model, tile=tile, memory=memory, sigma=None) if isinstance(model, str | Path) else model
    options = DenoiseOptions(strength, self_ensemble, overwrite, strip, compare, uncertainty, max_pixels)
    return run_file(denoiser, str(src), dst, options, progress)


def run_file(
    denoiser: AnyDenoiser, source: str, target: Path, options: DenoiseOptions, progress: ProgressCallback | None = None
) -> DenoiseResult:
    """`denoise_file` with a denoiser that is loaded; `source` may be photo:NAME."""
    began = time.monotonic()
    extras = {ending: target.with_name(target.stem + ending + ".png") for ending in _wanted_extras(options)}
    for place in (target, *extras.values()):
        check_target(place, overwrite=options.overwrite or place == Path(source))
    form = SUFFIXES[target.suffix.lower()]
    picture = read_picture(source, max_pixels=options.max_pixels)
    if picture.note and is_same_file(Path(source), target):
        raise ValueError(f"{source}: only {picture.note} would be left of it; write it elsewhere")
    try:
        done, result, spread = denoise_picture(picture, denoiser, options, form, progress)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    compared = join_side_by_side(picture, result) if options.compare else None
    copied = is_unchanged(done, picture, form, options)
    del picture  # the writer needs the room
    if copied:
        done = replace(done, note="")  # all of it is left
        _copy(find_picture(source), target)
    else:
        write_picture(target, result, overwrite=True)
    if compared is not None:
        write_picture(extras[COMPARED], compared, overwrite=True)
    if spread is not None:
        write_picture(extras[UNSURE], make_uncertainty_picture(spread), overwrite=True)
    return replace(
        done,
        source=source,
        result=str(target),
        seconds=round(time.monotonic() - began, 3),
        compare=str(extras.get(COMPARED, "")),
        uncertainty=str(extras[UNSURE]) if spread is not None else "",
    )


def is_unchanged(said: DenoiseResult, picture: Picture, form: str, options: DenoiseOptions) -> bool:
    """Whether the source's own bytes are the result: nothing was changed, and to write it anew could lose something."""
    return said.status == LEFT_UNCHANGED and picture.form == form and not options.strip


def _copy(source: Path, target: Path) -> None:
    if not is_same_file(source, target):
        write_file(target, lambda part: shutil.copyfile(source, part))


def _wanted_extras(options: DenoiseOptions) -> list[str]:
    """Endings of the files that are written beside a result."""
    return [ending for ending, wanted in ((COMPARED, options.compare), (UNSURE, options.uncertainty)) if wanted]


def denoise_picture(
    picture: Picture,
    denoiser: AnyDenoiser,
    options: DenoiseOptions,
    form: str,
    progress: ProgressCallback | None = None,
) -> tuple[DenoiseResult, Picture, Floats | None]:
    """What is said of it, the picture with clean pixels on every page, and if asked for the spread of the first.

    Where nothing is to be changed there is no spread, and `untouched` says whether the file may stay as it is.

    Raises:
        ValueError: the format `form` cannot hold it.
    """
    picture = picture.stripped() if options.strip else picture
    check_format_holds(picture, form)

    found: list[IdentifiedNoise] = []

    def work(one: Denoiser, image: Array, strength: float) -> tuple[Array, Floats | None]:
        strength *= options.strength
        if options.uncertainty:
            return one.with_spread(image, strength=strength, progress=progress)
        return one(image, strength=strength, self_ensemble=options.self_ensemble, progress=progress), None

    def each(image: Array) -> tuple[Array, Floats | None]:
        if isinstance(denoiser, Denoiser):
            return work(denoiser, image, 1.0)
        done, spread, seen = denoiser.clean(image, work)
        found.extend(seen)
        return done, spread

    result, spread = map_pages(picture, each)
    height, width = picture.size
    largest = None if spread is None else float(spread.max())
    said = DenoiseResult(
        note=picture.note, height=height, width=width, pages=len(picture.pages), largest_spread=largest
    )
    if found:
        model, why = describe_choices(found)
        said = replace(said, status=said.status if model else LEFT_UNCHANGED, model=model, why=why)
    return said, result, spread


def map_pages(picture: Picture, each: PageFunction) -> tuple[Picture, Floats | None]:
    """Put the pixels of every page through `each`; also what it gives beside them for the first page.

    CMYK goes through as the light that the inks leave: three of them as colour, black as grey, so
    that its separation stays. Floats outside [0, 1] and integers of other types go through scaled by their range.
    """
    pages, spreads = [], []
    for page in picture.pages:
        pixels, spread = _mapped_pixels(page.pixels, each)
        pages.append(replace(page, pixels=pixels, more=()))
        spreads.append(spread)
    return replace(pages[0], more=tuple(pages[1:])), spreads[0]


def _mapped_pixels(pixels: Array, each: PageFunction) -> tuple[Array, Floats | None]:
    if pixels.dtype in (np.uint8, np.uint16):
        return _mapped_inks(pixels, each) if pixels.ndim == 3 and pixels.shape[2] == 4 else each(pixels)
    low, high = get_value_range(pixels)
    if (low, high) == (0.0, 1.0) and pixels.dtype.kind == "f":
        return each(pixels)
    scaled = ((pixels.astype(np.float64) - low) / (high - low)).clip(0, 1).astype(np.float32)
    found, spread = each(scaled)
    result = found.astype(np.float64) * (high - low) + low
    return (result.round() if pixels.dtype.kind in "ui" else result).astype(pixels.dtype), spread


def _mapped_inks(pixels: Array, each: PageFunction) -> tuple[Array, Floats | None]:
    light = ~pixels
    colour, spread = each(light[..., :3])
    black, more = each(light[..., 3])
    if spread is not None and more is not None:
        spread = np.sqrt((3 * spread**2 + more**2) / 4)
    return ~np.dstack([colour, black]), spread


def join_side_by_side(picture: Picture, result: Picture) -> Picture:
    """The first pages of both as one colour picture, with white between."""
    left, right = (_first(page).colour().pixels for page in (picture, result))
    gap = np.full((left.shape[0], _GAP, 3), 255, np.uint8)
    return Picture(np.hstack([left, gap, right]))


def _first(picture: Picture) -> Picture:
    return picture.with_pixels(picture.pixels[0]) if picture.pixels.ndim == 4 else picture


def make_uncertainty_picture(spread: Floats) -> Picture:
    """The spread as a grey picture of 16 bits, in which the largest is white; its comment says how large."""
    spread = spread.reshape(-1, spread.shape[-1])  # of several pictures one below the other
    largest = float(spread.max())
    grey = (spread * (65535 / largest) if largest else spread).round().astype(np.uint16)
    comment = f"white: a standard deviation of {largest:.6f} of the full range"
    return Picture(grey, info={"comment": comment.encode()})


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths are one file."""
    return one.exists() and other.exists() and one.samefile(other)


def choose_target(source: Path, suffix: str, form: str | None = None) -> Path:
    """The result's place beside its source, perhaps in another format."""
    return source.with_name(source.stem + suffix + (_extension(form) if form else source.suffix))


def parse_format(name: str) -> str:
    """The format of a name such as jpg.

    Raises:
        ValueError: no such format.
    """
    return SUFFIXES[_extension(name)]


def _extension(form: str) -> str:
    """A format's suffix, by its name.

    Raises:
        ValueError: no such format; lists the names.

    >>> _extension("jpg"), _extension(".TIFF")
    ('.jpg', '.tiff')
    """
    suffix = f".{form.lower().removeprefix('.')}"
    if suffix not in SUFFIXES:
        raise unknown_name("picture format", form, (name.removeprefix(".") for name in SUFFIXES))
    return suffix
