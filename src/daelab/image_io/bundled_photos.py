"""The ten colour photographs that come with scikit-image and scikit-learn."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from daelab.errors import unknown_name


@dataclass(frozen=True)
class Photo:
    """One photograph, which is one class."""

    name: str
    package: str
    file: str

    def path(self) -> Path:
        """Where it lies; found without importing the package, so that nothing can reach for the network.

        Raises:
            ValueError: the package is not installed, or came without its pictures.
        """
        spec = importlib.util.find_spec(self.package)
        for place in (spec.submodule_search_locations or ()) if spec is not None else ():
            if (Path(place) / self.file).is_file():
                return Path(place) / self.file
        raise ValueError(
            f"photos: {self.file} of the package {self.package} is not installed; run: pip install 'daelab[photos]'"
        )


PHOTOS = (
    Photo("astronaut", "skimage", "data/astronaut.png"),
    Photo("cat", "skimage", "data/chelsea.png"),
    Photo("coffee", "skimage", "data/coffee.png"),
    Photo("dahlia", "sklearn", "datasets/images/flower.jpg"),
    Photo("galaxies", "skimage", "data/hubble_deep_field.jpg"),
    Photo("motorcycle", "skimage", "data/motorcycle_left.png"),
    Photo("pagoda", "sklearn", "datasets/images/china.jpg"),
    Photo("retina", "skimage", "data/retina.jpg"),
    Photo("rocket", "skimage", "data/rocket.jpg"),
    Photo("tissue", "skimage", "data/ihc.png"),
)


def find_photo(name: str) -> Path:
    """The file of a bundled photograph, by its name in the set.

    Raises:
        ValueError: an unknown name, or the package it comes with is not installed.
    """
    found = next((photo for photo in PHOTOS if photo.name == name), None)
    if found is None:
        raise unknown_name("bundled photograph", name, [photo.name for photo in PHOTOS])
    return found.path()
