"""Thumbnails in metadata, which would still show the noise, are dropped. All other metadata is kept."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from daelab.image_io.picture import Picture
from daelab.image_io.read import read_picture
from daelab.image_io.thumbnails import drop_exif_thumbnail, drop_photoshop_thumbnails, drop_xmp_thumbnails
from daelab.image_io.write import encode_to_bytes

SMALL = b"\xff\xd8 a small copy of the picture \xff\xd9"
XMP = (
    b"<x:xmpmeta><dc:title>a cat</dc:title>"
    b'<xmp:Thumbnails rdf:parseType="x"><rdf:Alt><xmpGImg:image>QUJD</xmpGImg:image></rdf:Alt></xmp:Thumbnails>'
    b"</x:xmpmeta>"
)
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 24, 3), dtype=np.uint8)


def make_exif(order: str = "<", behind: bytes = b"", strips: bool = False) -> bytes:
    """Make an EXIF block with a description, a thumbnail, and a maker note that refers to its own position."""
    note_place, entries = 8 + 2 + 3 * 12 + 4, []
    note = struct.pack(f"{order}I", note_place) + b"a maker note"
    entries = [(0x010E, 2, 4, b"cat\0"), (0x0112, 3, 1, struct.pack(f"{order}HH", 6, 0))]
    entries += [(0x927C, 7, len(note), struct.pack(f"{order}I", note_place))]
    first = struct.pack(f"{order}H", len(entries))
    first += b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries)
    second_place = note_place + len(note)
    small_place = second_place + 2 + 2 * 12 + 4
    place, length = (0x0111, 0x0117) if strips else (0x0201, 0x0202)
    second = struct.pack(f"{order}H", 2)
    for tag, value in ((place, small_place), (length, len(SMALL))):
        second += struct.pack(f"{order}HHII", tag, 4, 1, value)
    head = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HI", 42, 8)
    return head + first + struct.pack(f"{order}I", second_place) + note + second + bytes(4) + SMALL + behind


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("strips", [True, False])
@pytest.mark.parametrize("behind", [b"", b"more"])
def test_only_the_thumbnail_is_dropped(order: str, strips: bool, behind: bytes) -> None:
    before = make_exif(order, behind, strips)
    after = drop_exif_thumbnail(b"Exif\0\0" + before).removeprefix(b"Exif\0\0")
    assert SMALL not in after
    note = before.index(b"a maker note")
    assert after[note - 4 : note + 12] == before[note - 4 : note + 12]
    assert (len(after) == len(before)) == bool(behind)
    exif = Image.Exif()
    exif.load(after)
    assert (exif[0x010E], exif[0x0112]) == ("cat", 6)
    assert not exif.get_ifd(1)
    assert drop_exif_thumbnail(after) == after


def test_damaged_exif_comes_back_as_it_is() -> None:
    whole = make_exif()
    for length in range(8 + 2 + 36 + 4):
        assert drop_exif_thumbnail(whole[:length]) == whole[:length]
    for length in range(50, len(whole)):
        drop_exif_thumbnail(whole[:length])
    # A thumbnail that claims to lie in front of its directory would wipe out other metadata.
    place = struct.pack("<HHI", 0x0201, 4, 1)
    at = whole.index(place) + len(place)
    kept = drop_exif_thumbnail(whole[:at] + struct.pack("<I", 8) + whole[at + 4 :])
    assert kept[8:46] == whole[8:46]


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize("target", ["JPEG", "WEBP", "PNG", "TIFF"])
def test_no_format_keeps_a_thumbnail(form: str, target: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, form, exif=b"Exif\0\0" + make_exif())
    assert SMALL in stream.getvalue()
    written = encode_to_bytes(read_picture(stream.getvalue()), target)
    assert SMALL not in written
    with Image.open(io.BytesIO(written)) as image:
        assert image.getexif()[0x010E].rstrip("\0") == "cat"


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "TIFF"])
def test_no_format_keeps_a_thumbnail_in_xmp(form: str) -> None:
    content = encode_to_bytes(Picture(PIXELS, info={"xmp": XMP}), form)
    assert b"QUJD" in content
    written = encode_to_bytes(read_picture(content), form)
    assert b"QUJD" not in written
    assert b"a cat" in written
    assert drop_xmp_thumbnails(b"<x/>") == b"<x/>"


def make_resource(number: int, data: bytes, name: bytes = b"") -> bytes:
    named = bytes([len(name)]) + name
    padded = [part + bytes(len(part) % 2) for part in (named, data)]
    return b"8BIM" + struct.pack(">H", number) + padded[0] + struct.pack(">I", len(data)) + padded[1]


def test_photoshop_keeps_all_resources_but_thumbnails() -> None:
    kept = [make_resource(1028, b"a caption"), make_resource(1005, b"sixteen bytes...", b"name")]
    small = [make_resource(1036, SMALL), make_resource(1033, SMALL + b"?", b"x")]
    assert drop_photoshop_thumbnails(kept[0] + small[0] + kept[1] + small[1]) == kept[0] + kept[1]
    damaged = kept[0] + b"8BIM\0"
    assert drop_photoshop_thumbnails(damaged) == damaged


def test_a_tiff_of_photoshop_loses_its_layers_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    resources = make_resource(1036, SMALL) + make_resource(1028, b"a caption")
    tags = [(34377, 7, len(resources), resources, True), (37724, 7, len(SMALL), SMALL, True)]
    tifffile.imwrite(path, PIXELS, photometric="rgb", metadata=None, extratags=tags)
    picture = read_picture(path)
    assert "Photoshop layers" in picture.note
    written = encode_to_bytes(picture, "TIFF")
    assert SMALL not in written
    assert b"a caption" in written
