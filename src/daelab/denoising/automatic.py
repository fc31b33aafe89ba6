"""The choice of the model for each image if none is named: one rule for the commands, the Python API and the server."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from daelab._util.memory import parse_memory_size
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.noise_identification.identify import IdentifiedNoise, identify_noise
from daelab.denoising.noise_identification.network import load_noise_identifier
from daelab.denoising.tiling import ProgressCallback

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float32]

AUTOMATIC = "automatic"
"""The word in place of a model's name that leaves the choice to noise identification."""
LEFT_UNCHANGED = "left as it is"
"""The status of a picture that is not denoised."""


class AutomaticDenoiser:
    """A denoiser that takes for each image the shipped model that noise identification chooses, or none.

    Models are loaded when they are first needed, and kept. Several threads may share one.

    Args:
        tile: The side of a tile in pixels; see `Denoiser`.
        memory: The memory for a tile; see `Denoiser`.
    """

    name = AUTOMATIC

    def __init__(self, *, tile: int | None = None, memory: int | str | None = None) -> None:
        """Load the noise identifier."""
        self._tile, self._memory = tile, memory
        self._identifier = load_noise_identifier()
        self._denoisers: dict[str, Denoiser] = {}
        self._lock = threading.Lock()

    def identify(self, image: _Array) -> IdentifiedNoise:
        """Identify the noise of an image, and choose a model for it.

        Args:
            image: (H, W) or (H, W, 3); uint8, uint16 or floats in [0, 1].
        """
        return identify_noise(image, self._identifier)

    def load(self, name: str) -> Denoiser:
        """Return the denoiser of a shipped model, which is loaded only once.

        Args:
            name: The name of the model.
        """
        # Several threads may ask for the same model at once, and it should be loaded only once.
        with self._lock:
            if name not in self._denoisers:
                self._denoisers[name] = Denoiser.load(name, tile=self._tile, memory=self._memory)
            return self._denoisers[name]


AnyDenoiser = Denoiser | AutomaticDenoiser


def load_denoiser(
    model: str | Path, *, tile: int | None, memory: int | str | None, sigma: float | None, workers: int = 1
) -> AnyDenoiser:
    """Load the denoiser of a model, or the automatic one.

    Args:
        model: A name that `Denoiser.load` takes, or `AUTOMATIC`.
        tile: The side of a tile in pixels; see `Denoiser`.
        memory: The memory for a tile in bytes or as text ("512MB"), shared by the workers; see `Denoiser`.
        sigma: The noise level in 8-bit steps, for a model that takes it.
        workers: The number of pictures that are denoised at once.

    Raises:
        FileNotFoundError: No model has this name.
        ValueError: A number is out of range, or the model takes no sigma.
    """
    # The workers compute at the same time, so each gets its part of the memory.
    share = None if memory is None else max(1, parse_memory_size(memory) // max(1, workers))
    if str(model) != AUTOMATIC:
        return Denoiser.load(model, tile=tile, memory=share, sigma=sigma)
    if sigma is not None:
        raise ValueError("sigma needs a model that takes it; name one, or leave sigma out")
    return AutomaticDenoiser(tile=tile, memory=share)


@dataclass(frozen=True)
class DenoisedImage:
    """A denoised image or stack of images, and how the models were chosen."""

    pixels: _Array
    """The denoised pixels, of the shape and type of the image."""
    spread: _Floats | None
    """The uncertainty map, (H, W) or (N, H, W); None if it was not asked for, or if nothing was denoised."""
    noises: tuple[IdentifiedNoise, ...] = ()
    """The identified noise of each image; empty if a model was named."""


def denoise_image(
    image: _Array,
    denoiser: AnyDenoiser,
    *,
    strength: float = 1.0,
    self_ensemble: bool = False,
    uncertainty: bool = False,
    progress: ProgressCallback | None = None,
) -> DenoisedImage:
    """Denoise an image by a named model, or by the one that fits its noise. Each image of a stack has its own choice.

    Args:
        image: (H, W), (H, W, 3) or (N, H, W, 3); uint8, uint16 or floats in [0, 1].
        denoiser: A denoiser, or the automatic one.
        strength: From 0 (unchanged) to 1 (fully denoised). Half of it is used if the noise is faint.
        self_ensemble: Whether to average over the eight flips and rotations.
        uncertainty: Whether to return the uncertainty map, which implies the self-ensemble.
        progress: Called with (tiles done, tiles in total).

    Returns:
        The denoised image, the uncertainty map, and the identified noise.
    """
    if isinstance(denoiser, Denoiser):
        return DenoisedImage(*_denoise(image, denoiser, strength, self_ensemble, uncertainty, progress))
    if image.ndim < 4:
        noise = denoiser.identify(image)
        if noise.choice is None:
            return DenoisedImage(image, None, (noise,))
        chosen, part = denoiser.load(noise.choice), noise.strength * strength
        return DenoisedImage(*_denoise(image, chosen, part, self_ensemble, uncertainty, progress), (noise,))
    noises = tuple(denoiser.identify(one) for one in image)
    # Images without a model keep their pixels, and their uncertainty is zero.
    pixels, spreads = image.copy(), np.zeros(image.shape[:3], np.float32)
    has_spread = False
    # images of the same choice are denoised together
    for name, part in dict.fromkeys((noise.choice, noise.strength) for noise in noises):
        if name is not None:
            places = [place for place, noise in enumerate(noises) if (noise.choice, noise.strength) == (name, part)]
            pixels[places], spread = _denoise(
                image[places], denoiser.load(name), part * strength, self_ensemble, uncertainty, progress
            )
            if spread is not None:
                spreads[places], has_spread = spread, True
    return DenoisedImage(pixels, spreads if has_spread else None, noises)


def _denoise(
    image: _Array,
    denoiser: Denoiser,
    strength: float,
    self_ensemble: bool,
    uncertainty: bool,
    progress: ProgressCallback | None,
) -> tuple[_Array, _Floats | None]:
    if uncertainty:
        return denoiser.with_spread(image, strength=strength, progress=progress)
    return denoiser(image, strength=strength, self_ensemble=self_ensemble, progress=progress), None


def describe_choices(noises: Sequence[IdentifiedNoise]) -> tuple[str, str]:
    """Describe which models were chosen for images, and why.

    Args:
        noises: The identified noise of each image.

    Returns:
        The names of the models in the order of the images, and each choice with its reason in one line.
    """
    # Reversed, so that the first image of each choice gives the reason.
    first = {noise.choice: noise for noise in reversed(noises)}
    names = list(dict.fromkeys(noise.choice for noise in noises))
    why = " | ".join(f"{name or LEFT_UNCHANGED}: {first[name].why}" for name in names)
    return ", ".join(name for name in names if name is not None), why
