"""Sample images of a run, whose file may be damaged or a stranger's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from daelab.runs.samples import read_samples

IMAGES = np.zeros((2, 3, 4, 4), np.uint8)


def test_samples_are_read_by_name(tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    np.savez(path, clean=IMAGES, noisy=IMAGES + 1, epoch_4=IMAGES, epoch_x=IMAGES, other=IMAGES, denoised=IMAGES / 2)
    samples = read_samples(path)
    assert sorted(samples) == ["clean", "epoch_4", "noisy"]
    np.testing.assert_array_equal(samples["noisy"], IMAGES + 1)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"x"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK no archive"),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to(path),
        lambda path: np.savez(path, clean=np.array([{}], dtype=object)),
        lambda path: np.savez_compressed(path, clean=np.zeros((1, 3, 5000, 5000), np.uint8)),
        lambda path: None,
    ],
    ids=["text", "empty", "no archive", "folder", "circle", "pickle", "bomb", "missing"],
)
def test_a_damaged_file_holds_no_samples(write: Callable[[Path], object], tmp_path: Path) -> None:
    """A report without samples is better than a training that fails at its end with NumPy's words about pickle."""
    write(tmp_path / "samples.npz")
    assert read_samples(tmp_path / "samples.npz") == {}
