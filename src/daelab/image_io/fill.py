"""Filling of pixels that are not to be seen, such as those that alpha hides, from those beside them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from daelab.image_io.picture import Array

_Mask = npt.NDArray[np.bool_]
_Places = npt.NDArray[np.intp]


def fill_pixels(pixels: Array, missing: _Mask) -> Array:
    """Return a copy of a picture in which missing pixels are filled with mirror images of the others.

    Mirror images keep the texture and the noise of what they mirror, so that a denoiser sees no smooth surface where a
    noisy one ends.

    Args:
        pixels: (H, W) or (H, W, C) of any type.
        missing: (H, W), true where a pixel is to be filled. If all are missing, the picture stays as it is.
    """
    filled = pixels.copy()
    rows = np.flatnonzero(~missing.all(1))
    if not rows.size:
        return filled
    for row in rows[missing[rows].any(1)]:
        filled[row] = filled[row, _mirror_places(~missing[row])]
    # Rows without any pixel of their own mirror whole rows.
    present = np.zeros(len(pixels), np.bool_)
    present[rows] = True
    if not present.all():
        filled = filled[_mirror_places(present)]
    return filled


def _mirror_places(present: _Mask) -> _Places:
    """Return the place along a line that each place is filled from: its own if it is present.

    A gap is divided between the runs of present places on its two sides. Each run is mirrored at its end, back and
    forth if the gap is longer.
    """
    places = np.arange(len(present))
    edges = np.flatnonzero(np.diff(np.concatenate([[False], present, [False]])))
    starts, ends = edges[::2], edges[1::2] - 1
    before = np.searchsorted(starts, places, "right") - 1
    after = np.minimum(before + 1, len(starts) - 1)
    left = places - ends[before.clip(0)]
    right = starts[after] - places
    # Before the first run there is only the one after, and after the last run only the one before.
    from_left = (before >= 0) & ((right <= 0) | (left <= right))
    run = np.where(from_left, before.clip(0), after)
    distance = np.where(from_left, left, right) - 1
    length = ends[run] - starts[run] + 1
    fold = distance % (2 * length)
    fold = np.minimum(fold, 2 * length - 1 - fold)
    return np.where(present, places, np.where(from_left, ends[run] - fold, starts[run] + fold))
