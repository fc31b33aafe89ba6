"""Which model for which picture, where nobody names one: the one rule of the commands, the Python call and the page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from daelab.denoising.denoiser import Denoiser
from daelab.denoising.noise_identification.identify import IdentifiedNoise, identify_noise
from daelab.denoising.noise_identification.network import load_noise_identifier

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
DenoiseWork = Callable[[Denoiser, Array, float], tuple[Array, Floats | None]]
"""What a denoiser makes of pixels, going so far (0 to 1), and perhaps a map of its spread."""

AUTOMATIC = "automatic"
"""In place of a model's name: `inspect` chooses."""
LEFT_UNCHANGED = "left as it is"


class AutomaticDenoiser:
    """Takes for each picture the shipped model that `inspect` chooses, or leaves it as it is.

    Models are loaded when they are first needed, and kept. Several threads may share one.

    Args:
        tile: side of a tile in pixels; see `Denoiser`.
        memory: of a tile; see `Denoiser`.
    """

    name = AUTOMATIC

    def __init__(self, *, tile: int | None = None, memory: int | str | None = None) -> None:
        self._tile, self._memory = tile, memory
        self._inspector = load_noise_identifier()
        self._loaded: dict[str, Denoiser] = {}
        self._lock = threading.Lock()

    def clean(self, image: Array, work: DenoiseWork) -> tuple[Array, Floats | None, list[IdentifiedNoise]]:
        """What is chosen does its work on a picture; of a stack each picture has its own choice.

        Args:
            image: (H, W), (H, W, 3) or (N, H, W, 3); uint8, uint16 or floats in [0, 1].

        Returns:
            the same shape and type; the spread, (H, W) or (N, H, W), where `work` gives one; what was found.
        """
        if image.ndim < 4:
            seen = identify_noise(image, self._inspector)
            if seen.choice is None:
                return image, None, [seen]
            return *work(self._denoiser(seen.choice), image, seen.strength), [seen]
        found = [identify_noise(one, self._inspector) for one in image]
        result, spreads = image.copy(), np.zeros(image.shape[:3], np.float32)
        maps = False
        for name, strength in dict.fromkeys((seen.choice, seen.strength) for seen in found):
            if name is not None:
                places = [n for n, seen in enumerate(found) if (seen.choice, seen.strength) == (name, strength)]
                result[places], spread = work(self._denoiser(name), image[places], strength)
                if spread is not None:
                    spreads[places], maps = spread, True
        return result, spreads if maps else None, found

    def _denoiser(self, name: str) -> Denoiser:
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = Denoiser.load(name, tile=self._tile, memory=self._memory)
            return self._loaded[name]


def load_denoiser(model: str | Path, *, tile: int | None, memory: int | str | None, sigma: float | None) -> AnyDenoiser:
    """What cleans, by a model's name or by `AUTOMATIC`.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: a number out of range, or a sigma for a model that is not told it.
    """
    if str(model) != AUTOMATIC:
        return Denoiser.load(model, tile=tile, memory=memory, sigma=sigma)
    if sigma is not None:
        raise ValueError("sigma is for a model that is told it; name one, or leave sigma out")
    return AutomaticDenoiser(tile=tile, memory=memory)


AnyDenoiser = Denoiser | AutomaticDenoiser


def describe_choices(found: Sequence[IdentifiedNoise]) -> tuple[str, str]:
    """The models that were chosen, in the order of the pictures, and in one line each choice and its reason."""
    first = {seen.choice: seen for seen in reversed(found)}
    names = list(dict.fromkeys(seen.choice for seen in found))
    why = " | ".join(f"{name or LEFT_UNCHANGED}: {first[name].why}" for name in names)
    return ", ".join(name for name in names if name is not None), why
