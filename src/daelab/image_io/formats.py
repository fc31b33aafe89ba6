"""The table of picture formats, from which suffixes, limits, media types and help texts are derived."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from daelab.errors import make_unknown_name_error


@dataclass(frozen=True)
class PictureFormat:
    """A row of the table: what a format is called, what it can hold, and what daelab does with it."""

    name: str
    """The name in Pillow, such as "WEBP"; "NPY" for NumPy's arrays."""
    title: str
    """The name for people, such as "WebP"."""
    suffixes: tuple[str, ...]
    """The suffixes of file names in lower case, the usual one first."""
    media_type: str
    """The MIME type."""
    denoise: bool = True
    """Whether `daelab denoise` reads and writes it. `write.py` writes it by Pillow unless it has a writer for it."""
    train: bool = True
    """Whether data sets read it. They take it from Pillow, if Pillow was built with it."""
    browser: bool = True
    """Whether browsers show it."""
    sample_types: tuple[str, ...] = ("u1",)
    """The types of samples that can be written, as NumPy writes them ("u2" is uint16); every type if empty."""
    channels: tuple[int, ...] = (1, 3)
    """The numbers of channels that can be written, alpha not counted: 1 is grey, 3 is color, 4 is CMYK."""
    alpha: bool = False
    """Whether alpha can be written."""
    bands: bool = False
    """Whether further bands can be written."""
    pages: bool = False
    """Whether several pages can be written."""
    stacks: bool = False
    """Whether several pictures of one size can be written as an array (N, H, W, 3)."""
    palette: Literal["never", "kept", "always"] = "never"
    """When Pillow writes indices into a palette: "kept" is for pictures that had one."""
    metadata: tuple[str, ...] = ()
    """The keys of `Picture.info` that can be written."""
    package: str = ""
    """The package that reads and writes it; empty for the formats that daelab always has."""
    extra: str = ""
    """The extra of daelab that installs the package."""
    signature: bytes = b""
    """A regular expression for the first bytes of a file of a format with a package; empty if they do not tell."""
    sensor: bool = False
    """Whether it holds what the sensor of a camera measured, so that no other pictures can be written in it."""
    written_as: str = ""
    """The name of the format of its results, if it is only read."""
    encoder_options: dict[str, Any] = field(default_factory=dict)
    """Pillow's options where the source does not say how it was encoded, such as the quality.

    A JPEG source of less quality is written with this quality too."""
    alpha_options: dict[str, Any] = field(default_factory=dict)
    """Further options of Pillow for a picture with alpha."""


FORMATS: dict[str, PictureFormat] = {}
"""The table: the name of each format with its row. `register_format` adds to it."""
_by_suffix: dict[str, PictureFormat] = {}


def register_format(row: PictureFormat) -> None:
    """Add a row to the table.

    Args:
        row: The format. If `denoise` is set, Pillow must be able to read and write it.

    Raises:
        ValueError: A row has this name already, or one of these suffixes.
    """
    if row.name in FORMATS or not _by_suffix.keys().isdisjoint(row.suffixes):
        raise ValueError(f"the picture format {row.name} ({', '.join(row.suffixes)}) is already in the table")
    FORMATS[row.name] = row
    _by_suffix.update(dict.fromkeys(row.suffixes, row))


for _row in (
    PictureFormat(
        "PNG",
        "PNG",
        (".png",),
        "image/png",
        sample_types=("u1", "u2"),
        alpha=True,
        metadata=("exif", "icc_profile", "xmp", "comment", "dpi"),
    ),
    PictureFormat(
        "JPEG",
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif"),
        "image/jpeg",
        channels=(1, 3, 4),
        metadata=("exif", "icc_profile", "xmp", "comment", "dpi"),
        encoder_options={"quality": 95, "subsampling": 0},
    ),
    PictureFormat(
        "WEBP",
        "WebP",
        (".webp",),
        "image/webp",
        alpha=True,
        metadata=("exif", "icc_profile", "xmp"),
        encoder_options={"quality": 95, "exact": True},
    ),
    PictureFormat(
        "TIFF",
        "TIFF",
        (".tif", ".tiff"),
        "image/tiff",
        browser=False,
        sample_types=("u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"),
        channels=(1, 3, 4),
        alpha=True,
        bands=True,
        pages=True,
        metadata=("exif", "icc_profile", "xmp", "dpi"),
    ),
    PictureFormat(
        "AVIF",
        "AVIF",
        (".avif",),
        "image/avif",
        alpha=True,
        metadata=("exif", "icc_profile", "xmp"),
        encoder_options={"quality": 95, "subsampling": "4:4:4"},
        # Otherwise alpha would be compressed with loss as well.
        alpha_options={"quality": 100},
    ),
    # Pillow writes JPEG 2000 without loss by default.
    PictureFormat("JPEG2000", "JPEG 2000", (".jp2",), "image/jp2", browser=False, alpha=True, metadata=("comment",)),
    PictureFormat("BMP", "BMP", (".bmp",), "image/bmp", palette="kept", metadata=("dpi",)),
    PictureFormat("GIF", "GIF", (".gif",), "image/gif", alpha=True, palette="always", metadata=("comment",)),
    PictureFormat(
        "NPY",
        ".npy",
        (".npy",),
        "application/octet-stream",
        train=False,
        browser=False,
        sample_types=(),
        stacks=True,
    ),
    PictureFormat(
        "HEIF",
        "HEIC",
        (".heic", ".heif"),
        "image/heif",
        train=False,
        browser=False,
        alpha=True,
        metadata=("exif", "icc_profile", "xmp"),
        package="pillow_heif",
        extra="heic",
        signature=rb"....ftyp(hei[cxms]|hev[cx]|mif1|msf1)",
        encoder_options={"quality": 95, "chroma": 444},
    ),
    PictureFormat(
        "JXL",
        "JPEG XL",
        (".jxl",),
        "image/jxl",
        train=False,
        browser=False,
        alpha=True,
        metadata=("exif", "icc_profile", "xmp"),
        package="pylibjxl",
        extra="jxl",
        signature=rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    ),
    PictureFormat(
        "EXR",
        "OpenEXR",
        (".exr",),
        "image/x-exr",
        train=False,
        browser=False,
        sample_types=("f2", "f4", "u4"),
        alpha=True,
        package="OpenEXR",
        extra="exr",
        signature=rb"v/1\x01",
    ),
    PictureFormat(
        "FITS",
        "FITS",
        (".fits", ".fit", ".fts"),
        "image/fits",
        train=False,
        browser=False,
        sample_types=("u1", "u2", "u4", "i2", "i4", "f4", "f8"),
        channels=(1,),
        pages=True,
        package="astropy",
        extra="fits",
        signature=rb"SIMPLE  =",
    ),
    PictureFormat(
        "DNG",
        "DNG",
        (".dng",),
        "image/x-adobe-dng",
        train=False,
        browser=False,
        sample_types=("u2",),
        package="rawpy",
        extra="raw",
        sensor=True,
    ),
    PictureFormat(
        "RAW",
        "camera raw",
        (
            *(".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".sr2", ".srf", ".raf", ".orf", ".rw2", ".rwl", ".pef"),
            *(".srw", ".3fr", ".fff", ".iiq", ".dcr", ".kdc", ".mrw", ".mos", ".mef", ".erf", ".x3f"),
        ),
        "image/x-dcraw",
        train=False,
        browser=False,
        package="rawpy",
        extra="raw",
        signature=rb"FUJIFILMCCD-RAW|....ftypcrx |II(RO|RS|U\0)|MMOR|II\*\0....CR|II....HEAPCCDR|\0MRM|FOVb",
        sensor=True,
        written_as="DNG",
    ),
    PictureFormat(
        "PPM", "PPM", (".pbm", ".pgm", ".pnm", ".ppm"), "image/x-portable-anymap", denoise=False, browser=False
    ),
    PictureFormat("TGA", "TGA", (".tga",), "image/x-tga", denoise=False, browser=False),
):
    register_format(_row)


def list_formats() -> list[PictureFormat]:
    """Return the formats of pictures that can be denoised without a further package."""
    return [row for row in FORMATS.values() if row.denoise and not row.package]


def list_suffixes() -> list[str]:
    """Return the suffixes of pictures that can be denoised without a further package."""
    return [suffix for row in list_formats() for suffix in row.suffixes]


def list_browser_suffixes() -> list[str]:
    """Return the suffixes of pictures that can be denoised and that browsers show."""
    return [suffix for row in list_formats() if row.browser for suffix in row.suffixes]


def list_training_formats() -> list[PictureFormat]:
    """Return the formats that data sets read."""
    return [row for row in FORMATS.values() if row.train]


def list_training_suffixes() -> list[str]:
    """Return the suffixes of pictures that data sets read, sorted."""
    return sorted(suffix for row in list_training_formats() for suffix in row.suffixes)


def find_format(suffix: str) -> PictureFormat | None:
    """Return the format of a suffix, or None if no picture with it can be denoised. It may need a further package.

    Args:
        suffix: The suffix of a file name, with its dot, in any case.

    >>> find_format(".JPG").name
    'JPEG'
    """
    row = _by_suffix.get(suffix.lower())
    return row if row is not None and row.denoise else None


def find_training_format(suffix: str) -> PictureFormat | None:
    """Return the format of a suffix, or None if data sets do not read pictures with it.

    Args:
        suffix: The suffix of a file name, with its dot, in any case.
    """
    row = _by_suffix.get(suffix.lower())
    return row if row is not None and row.train else None


def parse_format(name: str) -> tuple[str, PictureFormat]:
    """Return the suffix and the format that a name of a format stands for.

    Args:
        name: A suffix of the format with or without its dot, in any case.

    Raises:
        ValueError: No format has this name. The error lists the names.

    >>> suffix, row = parse_format("jpg")
    >>> suffix, row.name
    ('.jpg', 'JPEG')
    """
    suffix = f".{name.lower().removeprefix('.')}"
    row = find_format(suffix)
    if row is None:
        raise make_unknown_name_error("picture format", name, (known.removeprefix(".") for known in list_suffixes()))
    return suffix, row


def describe_formats() -> str:
    """Return the names of the formats that can be denoised, for help texts.

    >>> describe_formats()
    'PNG, JPEG, WebP, TIFF, AVIF, JPEG 2000, BMP, GIF or .npy'
    """
    *others, last = (row.title for row in list_formats())
    return f"{', '.join(others)} or {last}"
