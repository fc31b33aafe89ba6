"""Small copies of a picture inside its metadata. They are dropped, since they would still show the noise."""

from __future__ import annotations

import re
import struct

_HEADER = b"Exif\0\0"
_OFFSETS = {0x0111: 0x0117, 0x0201: 0x0202}
"""The tags that say where a thumbnail begins, each with the tag of its length."""
_XMP = re.compile(rb"<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails>", re.DOTALL)
_PHOTOSHOP_THUMBNAILS = (1033, 1036)


def drop_exif_thumbnail(exif: bytes) -> bytes:
    """Return an EXIF block without its thumbnail. All other bytes keep their place, since maker notes point to places.

    Args:
        exif: The block, with or without its header "Exif". A damaged block comes back as it is.
    """
    start = len(_HEADER) if exif.startswith(_HEADER) else 0
    block = bytearray(exif[start:])
    order = ">" if block[:2] == b"MM" else "<"
    try:
        pointer = _find_pointer(block, order, *struct.unpack_from(f"{order}I", block, 4))
        (second,) = struct.unpack_from(f"{order}I", block, pointer)
        if not second:
            return exif
        end = _find_pointer(block, order, second) + 4
        values = {}
        for entry in range(second + 2, end - 4, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", block, entry)
            if count == 1:
                (values[tag],) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", block, entry + 8)
    except struct.error:
        return exif
    struct.pack_into(f"{order}I", block, pointer, 0)
    parts = [(values[tag], values[tag] + values.get(length, 0)) for tag, length in _OFFSETS.items() if tag in values]
    # Bytes before the directory of the thumbnail belong to the picture's own metadata.
    for first, last in [(second, end), *(part for part in parts if part[0] >= second)]:
        last = min(last, len(block))
        block[first:last] = bytes(max(0, last - first))
    return exif[:start] + bytes(block[:second] if not any(block[second:]) else block)


def _find_pointer(block: bytearray, order: str, directory: int) -> int:
    """Return the place after the entries of a directory, where the offset of the next directory is."""
    (count,) = struct.unpack_from(f"{order}H", block, directory)
    place: int = directory + 2 + 12 * count
    if place + 4 > len(block):
        raise struct.error
    return place


def drop_xmp_thumbnails(xmp: bytes) -> bytes:
    """Return an XMP packet without its thumbnails.

    Args:
        xmp: The packet.
    """
    return _XMP.sub(b"", xmp)


def drop_photoshop_thumbnails(resources: bytes) -> bytes:
    """Return image resources of Photoshop without the thumbnails.

    Args:
        resources: A sequence of resources. What follows after a damaged one is kept.
    """
    kept, position = b"", 0
    while resources[position : position + 4] == b"8BIM" and len(resources) >= position + 12:
        number, name_length = struct.unpack_from(">HB", resources, position + 4)
        # The name and the data are padded to even lengths.
        data = position + 6 + (name_length + 2) // 2 * 2
        if len(resources) < data + 4:
            break
        (length,) = struct.unpack_from(">I", resources, data)
        following = data + 4 + length + length % 2
        if number not in _PHOTOSHOP_THUMBNAILS:
            kept += resources[position:following]
        position = following
    return kept + resources[position:]
