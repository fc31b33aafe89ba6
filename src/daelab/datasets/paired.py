"""Pairs of images of the same scene, a noisy one and a clean one: real noise whose truth is known.

The batches of such a set have six channels: the clean image, then the noisy one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from daelab._util.memory import get_free_memory
from daelab.datasets.base import Dataset, DatasetSource, Indices, Pixels
from daelab.datasets.decoding import ImageCache, count_pixels, decode_rgb, read_image_size
from daelab.datasets.full_images import FullImageSet
from daelab.datasets.image_folder import ImageFolder
from daelab.datasets.picture_names import PAIR_WORDS, PathList, find_picture_names

_CLASSES = ("pair",)
_OWN_WORDS = re.compile(r"(.+),noisy=([^,/]+),clean=([^,/]+)")


@dataclass(frozen=True)
class PairedFiles:
    """The files of the pairs of a part, in the order of their names."""

    clean: tuple[str, ...]
    noisy: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FullPairs(FullImageSet):
    """Uncropped pairs, whose batches are (B, 6, H, W)."""

    paired = True
    noisy: tuple[Path, ...] = ()
    """The file of the noisy image of each pair; `paths` are the clean ones."""

    def take(self, indices: Indices) -> FullPairs:
        """Select pairs; see `Images.take`."""
        noisy = tuple(self.noisy[i] for i in indices.tolist())
        return replace(self, paths=super().take(indices).paths, labels=self.labels[indices], noisy=noisy)

    def read(self, i: int) -> Pixels:
        """Decode a pair, (H, W, 6).

        Args:
            i: The position of the pair.
        """
        return _decode_pair(self.paths[i], self.noisy[i])


class _PairCache(ImageCache):
    """A cache that reads the noisy image with each clean one, so that both are cropped at the same place."""

    channels = 6

    def __init__(self, crop: int, keeps: bool, noisy: Mapping[Path, Path]) -> None:
        super().__init__(crop, keeps)
        self.noisy = noisy

    def decode(self, path: Path) -> Pixels:
        return _decode_pair(path, self.noisy[path])


def _decode_pair(clean: Path, noisy: Path) -> Pixels:
    return np.concatenate([decode_rgb(clean), decode_rgb(noisy)], axis=2)


def load_pairs(source: DatasetSource) -> Dataset:
    """Load the pairs of a folder and its subfolders.

    The two images of a pair have the same path but for one word, which is a whole name or stands between signs such as
    _ and -: `noisy/1.png` and `clean/1.png`, or `1_real.jpg` and `1_mean.jpg`. `PATH,noisy=WORD,clean=WORD` gives other
    words than those of `PAIR_WORDS`. Subfolders `train`, `val` and `test` are the parts. Without any, all pairs are
    test images.

    Args:
        source: The request: `path`, `crop`, `memory_budget` and `buffer` apply.

    Returns:
        The data set. Test images are uncropped; the others are read as crops.

    Raises:
        ValueError: There is no such folder or no pair, an image has no partner, or the sizes of a pair differ.
    """
    given = _OWN_WORDS.fullmatch(str(source.path))
    root, words = (Path(given[1]), ((given[2], given[3]),)) if given else (source.path, PAIR_WORDS)
    if not root.is_dir():
        raise ValueError(f"paired: {root} is not a folder")
    parts = _divide_parts(_match_names(root, find_picture_names(root), words))
    test = _make_full(root, "test", parts.get("test", PairedFiles((), ())))
    sets = {part: _make_crops(root, part, parts.get(part, PairedFiles((), ())), source) for part in ("train", "val")}
    count = sum(len(files.clean) for files in parts.values())
    note = f"{count:,} pairs of a noisy and a clean picture in {root}"
    return Dataset("paired", sets["train"], sets["val"] if len(sets["val"]) else None, test, _CLASSES, note)


def _match_names(root: Path, names: Iterable[str], choices: Iterable[tuple[str, str]]) -> PairedFiles:
    """Find the partner of each image by the words that suit most of them."""
    names = list(names)
    attempts = [_match_by_words(names, words) for words in choices]
    pairs, rest = max(attempts, key=lambda attempt: len(attempt[0]))
    words = " or ".join(f"{noisy} and {clean}" for noisy, clean in list(choices)[:4])
    if not pairs:
        raise ValueError(
            f"paired: no pair in {root} ({len(names)} pictures); the paths of a pair differ in one word, such as "
            f"{words}; other words: paired:DIR,noisy=WORD,clean=WORD"
        )
    if rest:
        more = f" and {len(rest) - 3} more" if len(rest) > 3 else ""
        raise ValueError(f"paired: no partner in {root} for {', '.join(rest[:3])}{more}; rename or remove them")
    clean, noisy = zip(*sorted(pairs), strict=True)
    for one, other in zip(clean, noisy, strict=True):
        sizes = [read_image_size(root / name) for name in (one, other)]
        if sizes[0] != sizes[1]:
            (height, width), (noisy_height, noisy_width) = sizes
            raise ValueError(
                f"paired: {root / other} has {noisy_width}x{noisy_height} pixels, but {one} has {width}x{height}"
            )
    return PairedFiles(clean, noisy)


def _match_by_words(names: Iterable[str], words: tuple[str, str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the pairs (clean, noisy) and the names without a partner."""
    patterns = [re.compile(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", re.IGNORECASE) for word in words]
    kinds: list[dict[str, str]] = [{}, {}]
    rest = []
    for name in names:
        # Only the last of both words counts: the folder "clean" may hold "noisy street.png".
        places = [[match.span() for match in pattern.finditer(name)] for pattern in patterns]
        if not any(places):
            rest.append(name)
            continue
        kind = 0 if max(places[0], default=(-1, -1)) > max(places[1], default=(-1, -1)) else 1
        start, end = places[kind][-1]
        stem = Path(name[:start] + "*" + name[end:])
        key = str(stem.with_suffix("")) if stem.suffix else str(stem)
        if key in kinds[kind]:
            rest.append(name)
        kinds[kind].setdefault(key, name)
    noisy, clean = kinds
    rest += [kind[key] for kind, other in ((noisy, clean), (clean, noisy)) for key in kind if key not in other]
    return [(clean[key], noisy[key]) for key in noisy if key in clean], sorted(rest)


def _divide_parts(files: PairedFiles) -> dict[str, PairedFiles]:
    """Divide pairs by the folder `train`, `val` or `test` in their paths."""
    parts: dict[str, list[tuple[str, str]]] = {}
    for clean, noisy in zip(files.clean, files.noisy, strict=True):
        folders = Path(clean).parts[:-1]
        part = next((folder for folder in folders if folder in ("train", "val", "test")), "test")
        parts.setdefault(part, []).append((clean, noisy))
    return {part: PairedFiles(*zip(*pairs, strict=True)) for part, pairs in parts.items()}


def _make_full(root: Path, part: str, files: PairedFiles) -> FullPairs:
    clean, noisy = (tuple(root / name for name in names) for names in (files.clean, files.noisy))
    return FullPairs(f"paired/{part}", clean, np.zeros(len(clean), np.int64), _CLASSES, noisy)


def _make_crops(root: Path, part: str, files: PairedFiles, source: DatasetSource) -> ImageFolder:
    names = PathList(root, files.clean)
    budget = get_free_memory() // 4 if source.memory_budget is None else source.memory_budget
    # A pair takes six bytes per pixel.
    keeps = source.buffer is None and sum(6 * count_pixels(names[i], source.crop) for i in range(len(names))) <= budget
    partners = {root / clean: root / noisy for clean, noisy in zip(files.clean, files.noisy, strict=True)}
    cache = _PairCache(source.crop, keeps, partners)
    places, labels = np.arange(len(names)), np.zeros(len(names), np.int64)
    return ImageFolder(f"paired/{part}", names, places, labels, _CLASSES, source.crop, cache, source.buffer)
