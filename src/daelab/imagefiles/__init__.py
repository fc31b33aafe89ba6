"""A picture's file in, the same kind of file out: pixels as an array, and all else as it was.

`read` gives a `Picture`, `write` puts one into a file. Pillow decodes and encodes what it can in full;
`png` and `tiff` write these two formats themselves, since Pillow loses 16-bit colour and much of what
they say beside the pixels (docs/decisions.md).
"""

from daelab.imagefiles.picture import SUFFIXES, Picture, value_range
from daelab.imagefiles.read import MAX_PIXELS, path_of, read
from daelab.imagefiles.write import check, check_place, save, write

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "Picture",
    "check",
    "check_place",
    "path_of",
    "read",
    "save",
    "value_range",
    "write",
]
