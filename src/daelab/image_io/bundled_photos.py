"""The ten color photographs that come with scikit-image and scikit-learn."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from daelab.errors import make_unknown_name_error


@dataclass(frozen=True)
class Photo:
    """A bundled photograph. As a data set, each one is a class of its own."""

    name: str
    """The name after `photo:`."""
    package: str
    """The package that ships it."""
    file: str
    """Its path inside the package."""

    def path(self) -> Path:
        """Return the path of the file.

        Raises:
            ValueError: The package is not installed, or was installed without its pictures.
        """
        # the package is located but not imported, since importing it might access the network
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
"""The bundled photographs, sorted by name."""


def find_photo(name: str) -> Path:
    """Return the path of a bundled photograph.

    Args:
        name: The name after `photo:`, such as "cat".

    Raises:
        ValueError: No photograph has this name, or the package that ships it is not installed.
    """
    photo = next((photo for photo in PHOTOS if photo.name == name), None)
    if photo is None:
        raise make_unknown_name_error("bundled photograph", name, [photo.name for photo in PHOTOS])
    return photo.path()
