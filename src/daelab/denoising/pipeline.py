"""The denoising pipeline: read a picture, choose a model, denoise every page, and write it if anything changed.

`run_file` reads and writes files, for `daelab denoise` and `denoise_file`. `run_bytes` works in memory, for standard
input and the server. What happens between reading and writing is the same for both: `denoise_picture`.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from daelab._util.files import write_file
from daelab.denoising.automatic import (
    AUTOMATIC,
    LEFT_UNCHANGED,
    AnyDenoiser,
    denoise_planes,
    describe_choices,
    load_denoiser,
    name_precision,
)
from daelab.denoising.blending import Blend
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.noise_identification.identify import IdentifiedNoise
from daelab.denoising.planes import join_spreads, split_planes
from daelab.denoising.side_files import COMPARISON, UNCERTAINTY, join_side_by_side, make_uncertainty_picture
from daelab.denoising.stacks import denoise_slices
from daelab.denoising.tiling import ProgressCallback
from daelab.image_io.formats import FORMATS, find_format, parse_format
from daelab.image_io.picture import Picture
from daelab.image_io.read import MAX_PIXELS, find_picture, read_picture
from daelab.image_io.write import check_format_holds, check_target, encode_to_bytes, write_picture

_Floats = npt.NDArray[np.float32]

DENOISED_SUFFIX = "_clean"
"""The suffix of the names of denoised pictures."""
DENOISED, DONE_BEFORE, FAILED = "cleaned", "done before", "failed"
"""The further values of `DenoiseResult.status`, beside `LEFT_UNCHANGED`."""


@dataclass(frozen=True)
class DenoiseOptions:
    """Options of denoising and writing pictures. `denoise_file` explains each."""

    strength: float = 1.0
    self_ensemble: bool = False
    overwrite: bool = False
    strip: bool = False
    compare: bool = False
    uncertainty: bool = False
    max_pixels: int = MAX_PIXELS
    chroma: float | None = None
    detail: float = 0.0
    neighbors: int = 0

    def __post_init__(self) -> None:
        """Check the numbers, so that a wrong one is an error even if no picture is denoised."""
        _ = self.blend

    @property
    def blend(self) -> Blend:
        """How the denoised picture is mixed with its source."""
        return Blend(self.strength, self.chroma, self.detail)


@dataclass(frozen=True)
class DenoiseResult:
    """A report on one picture."""

    source: str = ""
    """The path of the picture; empty if it was not read from a file."""
    result: str = ""
    """The path of the denoised picture."""
    status: str = DENOISED
    """"cleaned", "left as it is", "done before" or "failed"."""
    reason: str = ""
    """The reason why it failed."""
    note: str = ""
    """A remark for the user, such as "the first of 12 frames"."""
    model: str = ""
    """The model that was chosen, if none was named; several if pages differ."""
    why: str = ""
    """The choice and its reason, in one line."""
    precision: str = ""
    """The precision of the computation, float32 or int8, or both if pages differ; empty if nothing was denoised."""
    height: int = 0
    """The height in pixels."""
    width: int = 0
    """The width in pixels."""
    pages: int = 1
    """The number of pages."""
    seconds: float = 0.0
    """The time from reading to writing."""
    compare: str = ""
    """The path of the picture that shows source and result side by side."""
    uncertainty: str = ""
    """The path of the uncertainty map."""
    largest_spread: float | None = None
    """The value that white stands for in that map, as a part of the full range."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that have a value, for JSON."""
        return {key: value for key, value in vars(self).items() if value not in ("", None)}


@dataclass(frozen=True)
class DenoisedPicture:
    """A picture after denoising, before it is written."""

    result: DenoiseResult
    """The report, as far as it is known."""
    picture: Picture
    """The denoised picture."""
    spread: _Floats | None
    """The uncertainty map of the first page, if it was asked for."""
    unchanged: bool
    """Whether the result is the source file, byte for byte; encoding the picture again could lose quality."""


@dataclass(frozen=True)
class DenoisedBytes:
    """A picture that was denoised in memory."""

    result: DenoiseResult
    """The report."""
    picture: Picture
    """The denoised picture."""
    data: bytes
    """The bytes of its file."""
    form: str
    """The name of the format of that file."""


def denoise_file(
    src: str | Path,
    dst: str | Path | None = None,
    *,
    model: AnyDenoiser | str | Path = AUTOMATIC,
    strength: float = 1.0,
    chroma: float | None = None,
    detail: float = 0.0,
    self_ensemble: bool = False,
    overwrite: bool = False,
    in_place: bool = False,
    strip: bool = False,
    compare: bool = False,
    uncertainty: bool = False,
    max_pixels: int = MAX_PIXELS,
    tile: int | None = None,
    memory: int | str | None = None,
    sigma: float | None = None,
    force: bool = False,
    progress: ProgressCallback | None = None,
) -> DenoiseResult:
    """Denoise a picture file into a file of the same kind. Mode, bit depth, alpha and metadata are kept.

    Args:
        src: The picture, a file of a format that `daelab denoise` reads.
        dst: The file to write, in the format of its suffix. Default: `NAME_clean` beside the source.
        model: A denoiser, or a name that `load_model` takes. Default: noise identification chooses a shipped model for
            each page, and leaves pages unchanged that look clean or that no model was trained for.
        strength: From 0 (unchanged) to 1 (fully denoised), or up to 2 for a model that takes the noise level.
        chroma: The strength for the two color-difference channels, from 0 to 1. Default: that of `strength`.
        detail: The part of the brightness detail to recover from the source, from 0 (none) to 1.
        self_ensemble: Whether to average over the eight flips and rotations, which takes eight times as long.
        overwrite: Whether to replace `dst` if it exists.
        in_place: Whether to replace `src` itself.
        strip: Whether to leave out all metadata.
        compare: Whether to also write source and result side by side, as `DST_compare.png`.
        uncertainty: Whether to also write where the eight results of the self-ensemble differ, as
            `DST_uncertainty.png`.
        max_pixels: The largest picture to accept, in pixels. It is checked from the file header.
        tile: The largest side of a tile in pixels; see `Denoiser`.
        memory: The memory for a tile, in bytes or as text ("512MB"); see `Denoiser`.
        sigma: The standard deviation of the noise in 8-bit steps, for a model that takes it.
        force: Whether to denoise a picture that would be left unchanged, if no model is named.
        progress: Called with (tiles done, tiles in total) of each page.

    Returns:
        The report: what was written, which model was chosen and why.

    Raises:
        OSError: The picture or the model does not exist, or the picture is a folder.
        FileExistsError: `dst` exists and `overwrite` is False.
        ValueError: The picture is damaged, or the format of `dst` cannot hold the result. The error names the file.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("LA", (40, 30), 128).save(f"{folder}/noisy.png")
    ...     result = denoise_file(f"{folder}/noisy.png")
    >>> Path(result.result).name, result.height, result.width
    ('noisy_clean.png', 30, 40)
    """
    src = Path(src)
    if src.is_dir():
        raise IsADirectoryError(f"{src} is a folder; give the name of a picture")
    if in_place and dst is not None:
        raise ValueError("in_place replaces the source; it takes no dst")
    dst = src if in_place else choose_target(src, DENOISED_SUFFIX) if dst is None else Path(dst)
    if not in_place and is_same_file(src, dst):
        raise ValueError(f"{dst} is the source itself; in_place=True replaces it")
    if not isinstance(model, AnyDenoiser):
        model = load_denoiser(model, tile=tile, memory=memory, sigma=sigma, force=force)
    options = DenoiseOptions(
        strength, self_ensemble, overwrite, strip, compare, uncertainty, max_pixels, chroma, detail
    )
    return run_file(model, str(src), dst, options, progress)


def run_file(
    denoiser: AnyDenoiser, source: str, target: Path, options: DenoiseOptions, progress: ProgressCallback | None = None
) -> DenoiseResult:
    """Denoise a picture file into a file.

    Args:
        denoiser: A denoiser, or the automatic one.
        source: A path, or `photo:NAME` for a bundled photograph.
        target: The file to write, in the format of its suffix. It may be the source.
        options: The options.
        progress: Called with (tiles done, tiles in total) of each page.

    Raises:
        FileNotFoundError: The picture does not exist.
        FileExistsError: A file to write exists and `options.overwrite` is False.
        ValueError: The picture is damaged, or the format of the target cannot hold the result.
    """
    start = time.monotonic()
    suffixes = [COMPARISON] * options.compare + [UNCERTAINTY] * options.uncertainty
    side_files = {suffix: target.with_name(f"{target.stem}{suffix}.png") for suffix in suffixes}
    # All targets are checked before anything is computed, so that minutes of work are not lost at the end.
    form = check_target(target, overwrite=options.overwrite or target == Path(source))
    for place in side_files.values():
        check_target(place, overwrite=options.overwrite)
    picture = read_picture(source, max_pixels=options.max_pixels)
    # The note names what the result lacks, such as further frames; replacing the file would lose it.
    if picture.note and is_same_file(Path(source), target):
        raise ValueError(f"{source}: it cannot be replaced ({picture.note}); write another file with --out")
    denoised = denoise_picture(picture, denoiser, options, form=form, name=source, progress=progress)
    comparison = join_side_by_side(picture, denoised.picture) if options.compare else None
    del picture  # encoding the result needs the memory
    if not denoised.unchanged:
        # The target was checked above, and it may be the source itself.
        write_picture(target, denoised.picture, overwrite=True)
    elif not is_same_file(find_picture(source), target):
        # An unchanged picture is copied byte by byte, since to encode it again could lose something.
        write_file(target, lambda part: shutil.copyfile(find_picture(source), part))
    if comparison is not None:
        write_picture(side_files[COMPARISON], comparison, overwrite=True)
    if denoised.spread is not None:
        write_picture(side_files[UNCERTAINTY], make_uncertainty_picture(denoised.spread), overwrite=True)
    return replace(
        denoised.result,
        source=source,
        result=str(target),
        seconds=round(time.monotonic() - start, 3),
        compare=str(side_files.get(COMPARISON, "")),
        uncertainty=str(side_files[UNCERTAINTY]) if denoised.spread is not None else "",
    )


def run_bytes(
    denoiser: AnyDenoiser,
    data: bytes,
    options: DenoiseOptions,
    *,
    name: str = "standard input",
    form: str | None = None,
    progress: ProgressCallback | None = None,
) -> DenoisedBytes:
    """Denoise a picture in memory.

    Args:
        denoiser: A denoiser, or the automatic one.
        data: The bytes of a picture file.
        options: The options; `compare` and `overwrite` mean nothing here.
        name: The name of the file, for errors.
        form: The name of the format of the result. Default: that of the picture.
        progress: Called with (tiles done, tiles in total) of each page.

    Raises:
        ValueError: The picture is damaged, or the format cannot hold the result. The error starts with the name.
    """
    start = time.monotonic()
    picture = read_picture(data, max_pixels=options.max_pixels, name=name)
    form = form or FORMATS[picture.form].written_as or picture.form
    denoised = denoise_picture(picture, denoiser, options, form=form, name=name, progress=progress)
    try:
        # The bytes of an unchanged picture are returned as they came, as a file would be copied.
        encoded = data if denoised.unchanged else encode_to_bytes(denoised.picture, form)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    result = replace(denoised.result, seconds=round(time.monotonic() - start, 3))
    return DenoisedBytes(result, denoised.picture, encoded, form)


def denoise_picture(
    picture: Picture,
    denoiser: AnyDenoiser,
    options: DenoiseOptions,
    *,
    form: str,
    name: str,
    progress: ProgressCallback | None = None,
) -> DenoisedPicture:
    """Denoise every page of a picture.

    Args:
        picture: The picture.
        denoiser: A denoiser, or the automatic one.
        options: The options.
        form: The name of the format that it will be written in.
        name: The name of the file, for errors.
        progress: Called with (tiles done, tiles in total) of each page.

    Raises:
        ValueError: The format cannot hold the picture, or its pixels cannot be denoised.
    """
    picture = picture.stripped() if options.strip else picture
    noises, notes = list[IdentifiedNoise](), [picture.note]
    try:
        # Checked before denoising, so that a format that cannot hold the result fails at once.
        check_format_holds(picture, form)
        pixels = _denoise_as_stack(denoiser, picture, options)
        spreads: list[_Floats | None] = [None] * len(pixels)
        for page in () if pixels else picture.layers:
            planes = split_planes(page)
            notes.append(planes.note)
            images = denoise_planes(
                planes,
                denoiser,
                blend=options.blend,
                self_ensemble=options.self_ensemble,
                uncertainty=options.uncertainty,
                progress=progress,
            )
            pixels.append(planes.join([image.pixels for image in images]))
            spreads.append(join_spreads([image.spread for image in images]))
            noises.extend(noise for image in images for noise in image.noises)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    model, why = describe_choices(noises)
    status = LEFT_UNCHANGED if noises and not model else DENOISED
    # Another format, or a file without metadata, must be written even if no pixel changed.
    unchanged = status == LEFT_UNCHANGED and picture.form == form and not options.strip
    result = DenoiseResult(
        status=status,
        # All frames are left in a file that is copied.
        note="; ".join(note for note in dict.fromkeys(notes[unchanged:]) if note),
        model=model,
        why=why,
        precision=name_precision(denoiser, noises),
        height=picture.size[0],
        width=picture.size[1],
        pages=len(picture.pages),
        largest_spread=None if spreads[0] is None else float(spreads[0].max()),
    )
    return DenoisedPicture(result, picture.with_layer_pixels(pixels), spreads[0], unchanged)


def _denoise_as_stack(denoiser: AnyDenoiser, picture: Picture, options: DenoiseOptions) -> list[npt.NDArray[Any]]:
    """Return the denoised layers of a stack whose slices are denoised with their neighbors; none without neighbors."""
    if not options.neighbors:
        return []
    if not isinstance(denoiser, Denoiser) or options.uncertainty:
        raise ValueError("neighbors need a model that is named, and allow no uncertainty map")
    return denoise_slices(denoiser, picture, options.neighbors, options.blend, options.self_ensemble)


def is_same_file(one: Path, other: Path) -> bool:
    """Return whether two paths exist and are the same file.

    Args:
        one: A path.
        other: Another path.
    """
    return one.exists() and other.exists() and one.samefile(other)


def choose_target(source: Path, suffix: str, form: str | None = None) -> Path:
    """Return the path of a result beside its source.

    Args:
        source: The picture.
        suffix: The text to add to its name, such as "_clean".
        form: The name of another format for the result, such as "png".

    Raises:
        ValueError: No format has this name.
    """
    row = find_format(source.suffix)
    form = form or (row.written_as if row is not None else "")
    return source.with_name(source.stem + suffix + (parse_format(form)[0] if form else source.suffix))
