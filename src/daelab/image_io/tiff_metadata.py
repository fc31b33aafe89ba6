"""The tags of a TIFF as the metadata that other formats hold."""

from __future__ import annotations

import struct
from typing import Any

from daelab.image_io.picture import convert_resolution
from daelab.image_io.tiff import (
    EXIF_HEADER,
    ICC_PROFILE,
    MAX_SAMPLE_VALUE,
    RESOLUTION_UNIT,
    X_RESOLUTION,
    XMP,
    Y_RESOLUTION,
    Order,
    Tags,
    get_integers,
    pack_directory,
)


def convert_tags_to_exif(order: Order, tags: Tags) -> bytes:
    """Convert tags to the EXIF block that other formats hold.

    Args:
        order: The byte order of the tags.
        tags: The metadata of a page.

    Returns:
        The block with its header, or nothing if there is no metadata but the resolution.
    """
    left_out = (XMP, ICC_PROFILE, 33723, 34377, MAX_SAMPLE_VALUE)  # other formats store these outside of EXIF
    kept = {tag: value for tag, value in tags.items() if tag not in left_out}
    if not kept.keys() - {X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT}:
        return b""
    mark = b"MM" if order == ">" else b"II"
    return EXIF_HEADER + mark + struct.pack(f"{order}HI", 42, 8) + pack_directory(kept, order, 8)


def convert_tags_to_info(order: Order, tags: Tags) -> dict[str, Any]:
    """Convert tags to the metadata that formats share; see `Picture.info`.

    Args:
        order: The byte order of the tags.
        tags: The metadata of a page.
    """
    info: dict[str, Any] = {"exif": convert_tags_to_exif(order, tags)}
    for name, tag in (("icc_profile", ICC_PROFILE), ("xmp", XMP)):
        info[name] = tags.get(tag, (0, b""))[1]
    sides = [tags.get(tag, (0, b""))[1] for tag in (X_RESOLUTION, Y_RESOLUTION)]
    per_inch = {2: 1.0, 3: 2.54}.get(next(iter(get_integers(tags, order, RESOLUTION_UNIT)), 0) or 2)
    if per_inch and all(len(side) == 8 for side in sides):
        ratios = [struct.unpack(f"{order}II", side) for side in sides]
        info["dpi"] = convert_resolution(*(per_inch * above / below if below else 0 for above, below in ratios))
    return {key: value for key, value in info.items() if value}
