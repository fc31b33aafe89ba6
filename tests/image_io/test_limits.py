"""Files that would cost more work than is reasonable are refused before anything is decoded."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
import tifffile
from PIL import Image

from daelab.image_io import limits, tiff
from daelab.image_io.read import read_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def save(form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, form, **options)
    return stream.getvalue()


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def make_png(middle: bytes) -> bytes:
    plain = save("PNG")
    return plain[:33] + middle + plain[33:]


def make_gif(blocks: bytes) -> bytes:
    plain = save("GIF")
    start = 13 + (3 << (plain[10] % 8 + 1))
    return plain[:start] + blocks + plain[start:]


def make_jpeg(scans: int = 0, segments: bytes = b"") -> bytes:
    plain = save("JPEG", progressive=True)
    scan = plain[plain.index(b"\xff\xda") : -2]
    return plain[:2] + segments + plain[2:-2] + scan * scans + b"\xff\xd9"


def make_tiff(entries: list[tuple[int, int, int, int]], data: bytes = b"") -> bytes:
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + rows + b"\0\0\0\0" + data


def make_pages(count: int) -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for _ in range(count):
            writer.write(PIXELS, photometric="rgb", metadata=None)
    return stream.getvalue()


def make_exif_of_shared_bytes() -> bytes:
    """Make EXIF data in several segments whose tags all refer to the same bytes."""
    count = 4000
    rows = b"".join(struct.pack("<HHII", 1000 + at, 7, 60_000, 8) for at in range(count))
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", count) + rows + b"\0\0\0\0" + bytes(70_000)
    parts = [exif[at : at + 60_000] for at in range(0, len(exif), 60_000)]
    return b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts)


FRAME = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
ANMF = b"ANMF" + struct.pack("<I", 16) + bytes(16)
STRIPS = 600_000
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "JPEG scans": (lambda: make_jpeg(scans=120), "more than 100 scans"),
    "JPEG segments": (lambda: make_jpeg(segments=b"\xff\xe5\0\x02" * 2001), "more than 2,000 segments"),
    "JPEG padding": (lambda: make_jpeg(segments=b"\xff" * 70_000), "more than 65,536 bytes between segments"),
    "JPEG junk": (lambda: make_jpeg()[:2] + (b"\xff" * 999 + b"\0") * 70, "more than 65,536 bytes between segments"),
    "JPEG EXIF": (lambda: make_jpeg(segments=make_exif_of_shared_bytes()), "more data than the file contains"),
    "PNG text": (lambda: make_png(chunk(b"tEXt", b"k\0v") * 2001), "more than 2,000 chunks of metadata"),
    "PNG unknown": (lambda: make_png(chunk(b"abCd") * 2001), "more than 2,000 chunks of metadata"),
    "PNG data": (lambda: make_png(chunk(b"IDAT") * 9000), "chunks of pixels"),
    "PNG frames": (lambda: make_png(chunk(b"fcTL", bytes(26)) * 10_001), "more than 10,000 frames"),
    "GIF frames": (lambda: make_gif(FRAME * 10_001), "more than 10,000 frames"),
    "GIF comments": (lambda: make_gif(b"\x21\xfe\x01a\0" * 2001), "more than 2,000 comments"),
    "GIF comment": (lambda: make_gif(b"\x21\xfe" + (b"\xff" + bytes(255)) * 4200 + b"\0"), "bytes of comments"),
    "GIF blocks": (lambda: make_gif(b"\x21\xfa" + b"\x01a" * 300_000 + b"\0"), "blocks"),
    "GIF extensions": (lambda: make_gif(b"\x21\xfa\x01a\0" * 40_001), "extensions"),
    "WebP frames": (lambda: save("WEBP") + ANMF * 10_001, "more than 10,000 frames"),
    "WebP chunks": (lambda: save("WEBP") + b"abcd\0\0\0\0" * 2001, "more than 2,000 chunks of metadata"),
    "TIFF pages": (lambda: make_pages(1025), "more than 1,024 pages"),
    "TIFF tags": (lambda: make_tiff([(1000 + at, 3, 1, 0) for at in range(5000)]), "more tags or strips"),
    "TIFF nested": (lambda: make_tiff([(34665, 4, 1, 8)] * 4000), "more tags or strips"),
    "TIFF SubIFDs": (
        lambda: make_tiff([(330, 4, 50_000, 26)], struct.pack("<I", 8) * 50_000),
        "more data than the file contains",
    ),
    "TIFF strips": (lambda: make_tiff([(273, 4, STRIPS, 26)], bytes(4 * STRIPS)), "more tags or strips"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_too_much_work_is_refused_before_decoding(name: str) -> None:
    make, reason = REFUSED[name]
    content = make()
    with (
        mock.patch.object(Image, "open", side_effect=AssertionError),
        pytest.raises(ValueError, match=reason) as caught,
    ):
        read_picture(content, name="a")
    assert "broken" not in str(caught.value)
    assert len(str(caught.value)) < 400


ACCEPTED: dict[str, Callable[[], bytes]] = {
    "JPEG scans": lambda: make_jpeg(scans=9),
    "PNG text": lambda: make_png(b"".join(chunk(b"tEXt", b"k%d\0v" % at) for at in range(300))),
    "PNG frames": lambda: save("PNG", save_all=True, append_images=[Image.fromarray(PIXELS[::-1])] * 20),
    "GIF frames": lambda: save("GIF", save_all=True, append_images=[Image.fromarray(PIXELS // n) for n in (2, 3)]),
    "WebP frames": lambda: save("WEBP", save_all=True, append_images=[Image.fromarray(PIXELS[::-1])] * 20),
    "TIFF pages": lambda: make_pages(100),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_usual_files_are_read(name: str) -> None:
    assert read_picture(ACCEPTED[name]()).size == (16, 16)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF"])
def test_the_look_ends_at_any_cut(form: str) -> None:
    """The check of a file that is cut short raises no error, because the decoder will raise one."""
    content = save(form)
    for length in range(0, len(content), 7):
        assert limits.check_work(io.BytesIO(content[:length])) == ""


@pytest.mark.parametrize(
    ("code", "bits", "channels", "reason"),
    [(0xC3, 8, 3, "lossless"), (0xC1, 12, 1, "12 bits"), (0xC0, 8, 2, "2 channels")],
)
def test_an_unsupported_kind_of_jpeg_is_not_called_broken(code: int, bits: int, channels: int, reason: str) -> None:
    header = bytes([0xFF, code]) + struct.pack(">HBHHB", 8 + 3 * channels, bits, 16, 16, channels) + bytes(3 * channels)
    with pytest.raises(ValueError, match=reason) as caught:
        read_picture(b"\xff\xd8" + header + b"\xff\xd9")
    assert "broken" not in str(caught.value)


def test_a_strip_that_inflates_to_too_much_is_refused() -> None:
    stream = io.BytesIO()
    bands = np.zeros((64, 64, 5), np.uint8)
    tifffile.imwrite(stream, bands, photometric="minisblack", planarconfig="contig", compression="zlib", metadata=None)
    content = stream.getvalue()
    order, tags = "<", tiff.read_tiff_tags(io.BytesIO(content))
    assert tags[0] == order
    bomb = zlib.compress(bytes(10_000_000))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        start, length = page.dataoffsets[0], page.databytecounts[0]
    changed = content.replace(struct.pack("<I", start), struct.pack("<I", len(content)))
    changed = changed.replace(struct.pack("<I", length), struct.pack("<I", len(bomb)))
    with pytest.raises(ValueError, match="inflates to more"):
        read_picture(changed + bomb)
