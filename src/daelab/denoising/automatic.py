"""The choice of the model for each image if none is named: one rule for the commands, the Python API and the server."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daelab._util.hardware import choose_device
from daelab._util.memory import parse_memory_size
from daelab.denoising.arrays import convert_to_array
from daelab.denoising.blending import FULL, Blend
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.noise_identification.gain import load_gain_estimator
from daelab.denoising.noise_identification.identify import IdentifiedNoise, identify_noise
from daelab.denoising.noise_identification.network import load_noise_identifier
from daelab.denoising.planes import PixelPlanes, split_planes
from daelab.denoising.tiling import ProgressCallback, check_tile
from daelab.image_io.picture import Picture
from daelab.models.int8 import check_precision

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float32]

AUTOMATIC = "automatic"
"""The word in place of a model's name that leaves the choice to noise identification."""
AUTOMATIC_NAMES = (AUTOMATIC, "auto")
"""This word and its short form."""
LEFT_UNCHANGED = "left as it is"
"""The status of a picture that is not denoised."""


class AutomaticDenoiser:
    """A denoiser that takes for each image the shipped model that noise identification chooses, or none.

    Models are loaded when they are first needed, and kept. Several threads may share one.

    Args:
        tile: The largest side of a tile in pixels; see `Denoiser`.
        memory: The memory for a tile; see `Denoiser`.
        force: Whether to denoise every picture, even if it looks clean.
        precision: The precision of the models; see `Denoiser.load`. Models that cannot compute in int8 use float32.
    """

    name = AUTOMATIC

    def __init__(
        self,
        *,
        tile: int | None = None,
        memory: int | str | None = None,
        force: bool = False,
        precision: str = "auto",
    ) -> None:
        """Load the noise identifier and the gain estimator."""
        # The models are loaded later, and a wrong option should be an error at once.
        check_precision(precision, choose_device(), AUTOMATIC)
        check_tile(tile)
        self._tile, self._memory = tile, memory
        self._identifier, self._estimator = load_noise_identifier(), load_gain_estimator()
        # For a model, auto means int8 if the model can; whether the device can was checked above.
        self._force, self._precision = force, "float32" if precision == "float32" else "auto"
        self._denoisers: dict[str, Denoiser] = {}
        self._lock = threading.Lock()

    def __call__(
        self,
        image: npt.ArrayLike,
        *,
        strength: float = 1.0,
        chroma: float | None = None,
        detail: float = 0.0,
        self_ensemble: bool = False,
        progress: ProgressCallback | None = None,
    ) -> _Array:
        """Denoise one picture, or a batch of pictures of one size, each by the model that fits its noise.

        Args:
            image: A picture or a batch; see `Denoiser.__call__`.
            strength: A number from 0, the unchanged picture, to 1, the denoised one; see `Blend`.
            chroma: The strength for the two color-difference channels. Default: that of `strength`.
            detail: The part of the brightness detail to recover from the source, from 0 to 1.
            self_ensemble: Average over the eight flips and rotations, which takes eight times as long.
            progress: Called with (tiles done, tiles in total).

        Returns:
            The denoised picture or batch, of the same shape and type.
        """
        image, blend = convert_to_array(image), Blend(strength, chroma, detail)
        if not image.size:
            return image.copy()
        planes = split_planes(Picture(image))
        denoised = denoise_image(planes.arrays[0], self, blend=blend, self_ensemble=self_ensemble, progress=progress)
        return planes.join([denoised.pixels])

    @property
    def device(self) -> torch.device:
        """The device of the batches that `batch` takes."""
        return torch.device("cpu")

    @property
    def parameters(self) -> int:
        """The number of trained parameters; 0, since the model differs from picture to picture."""
        return 0

    @property
    def precision(self) -> str:
        """The precision of the models that were used so far; both if they differ, and float32 if none was used."""
        return ", ".join(sorted({denoiser.precision for denoiser in self._denoisers.values()})) or "float32"

    def batch(self, x: Tensor, progress: ProgressCallback | None = None, *, self_ensemble: bool = False) -> Tensor:
        """Denoise a batch of tensors, each image by the model that fits its noise.

        Args:
            x: (N, 3, H, W) float32 in [0, 1], of any height and width.
            progress: Called with (tiles done, tiles in total).
            self_ensemble: Average over the eight flips and rotations, which takes eight times as long.

        Returns:
            (N, 3, H, W).
        """
        images = []
        for image in x:
            noise = self.identify(image.clamp(0, 1).permute(1, 2, 0).numpy())
            if noise.choice is None:
                images.append(image)
            else:
                chosen = self.load(noise.choice)
                denoised = chosen.batch(image[None], progress, self_ensemble=self_ensemble)[0].to(x.device)
                images.append(torch.from_numpy(noise.limit_change(image.numpy(), denoised.numpy())))
        return torch.stack(images) if images else x

    def identify(self, image: _Array) -> IdentifiedNoise:
        """Identify the noise of an image, and choose a model for it.

        Args:
            image: (H, W) or (H, W, 3); uint8, uint16 or floats in [0, 1].
        """
        noise = identify_noise(image, self._identifier, self._estimator)
        return replace(noise, forced=True) if self._force else noise

    def load(self, name: str) -> Denoiser:
        """Return the denoiser of a shipped model, which is loaded only once.

        Args:
            name: The name of the model.
        """
        # Several threads may ask for the same model at once, and it should be loaded only once.
        with self._lock:
            if name not in self._denoisers:
                self._denoisers[name] = Denoiser.load(
                    name, tile=self._tile, memory=self._memory, precision=self._precision
                )
            return self._denoisers[name]


AnyDenoiser = Denoiser | AutomaticDenoiser


def load_denoiser(
    model: str | Path,
    *,
    tile: int | None,
    memory: int | str | None,
    sigma: float | None,
    workers: int = 1,
    force: bool = False,
    blend: Blend = FULL,
    precision: str = "auto",
) -> AnyDenoiser:
    """Load the denoiser of a model, or the automatic one.

    Args:
        model: A name that `Denoiser.load` takes, or `AUTOMATIC`.
        tile: The largest side of a tile in pixels; see `Denoiser`.
        memory: The memory for a tile in bytes or as text ("512MB"), shared by the workers; see `Denoiser`.
        sigma: The noise level in 8-bit steps, for a model that takes it.
        workers: The number of pictures that are denoised at once.
        force: Whether the automatic denoiser denoises every picture, even if it looks clean.
        blend: How results will be mixed with their sources.
        precision: The precision of the computation; see `Denoiser.load`.

    Raises:
        FileNotFoundError: No model has this name.
        ValueError: A number is out of range, or the model does not take the noise level that a number is about.
    """
    # The workers compute at the same time, so each gets its part of the memory.
    share = None if memory is None else max(1, parse_memory_size(memory) // max(1, workers))
    if str(model) not in AUTOMATIC_NAMES:
        denoiser = Denoiser.load(model, tile=tile, memory=share, sigma=sigma, precision=precision)
        blend.check_model(denoiser.name, denoiser.method.conditioned)
        return denoiser
    blend.check_model(AUTOMATIC, conditioned=False)
    if sigma is not None:
        raise ValueError("sigma needs a model that takes it; name one, such as photo-s.level, or leave sigma out")
    return AutomaticDenoiser(tile=tile, memory=share, force=force, precision=precision)


def load_model(
    name: str | Path,
    device: torch.device | str | None = None,
    *,
    tile: int | None = None,
    memory: int | str | None = None,
    sigma: float | None = None,
    precision: str = "auto",
) -> AnyDenoiser:
    """Load a denoiser.

    Args:
        name: A model file, the name of a shipped model, the name of a run, an ONNX file of `daelab export`, a model of
            the hub (`hf://OWNER/NAME`), which this downloads, a classical method with all its settings
            (`baseline:median,size=3,raw`), or `automatic`, which chooses the shipped model that fits the noise of each
            picture.
        device: The device. Default: the GPU if there is one. `automatic` takes no device.
        tile: The largest side of a tile in pixels; see `Denoiser`.
        memory: The memory of a tile, in bytes or as text; see `Denoiser`.
        sigma: The standard deviation of the noise in 8-bit steps; see `Denoiser`.
        precision: `auto`, `float32` or `int8`; see `Denoiser.load`. With `automatic`, models that cannot compute in
            int8 use float32.

    Raises:
        FileNotFoundError: There is no such model or run.
        ValueError: The file is not a model, or a number is out of range.

    >>> load_model("model-c", tile=256).name
    'model-c.published-code'
    """
    if str(name) not in AUTOMATIC_NAMES:
        return Denoiser.load(name, device, tile=tile, memory=memory, sigma=sigma, precision=precision)
    if device is not None:
        raise ValueError("automatic takes no device; name a model, or leave device out")
    return load_denoiser(name, tile=tile, memory=memory, sigma=sigma, precision=precision)


def denoise(
    image: npt.ArrayLike,
    *,
    model: AnyDenoiser | str | Path = AUTOMATIC,
    strength: float = 1.0,
    chroma: float | None = None,
    detail: float = 0.0,
    self_ensemble: bool = False,
    sigma: float | None = None,
    force: bool = False,
    progress: ProgressCallback | None = None,
) -> Any:
    """Denoise a picture or a batch in memory, by the model that `daelab denoise` would choose.

    Args:
        image: A picture or a batch; see `Denoiser.__call__`.
        model: A denoiser, or a name that `load_model` takes. For many pictures, load a denoiser once.
        strength: From 0 (unchanged) to 1 (fully denoised), or up to 2 for a model that takes the noise level.
        chroma: The strength for the two color-difference channels, from 0 to 1. Default: that of `strength`.
        detail: The part of the brightness detail to recover from the source, from 0 (none) to 1.
        self_ensemble: Whether to average over the eight flips and rotations, which takes eight times as long.
        sigma: The standard deviation of the noise in 8-bit steps, for a model that takes it.
        force: Whether to denoise a picture that would be left unchanged, if no model is named.
        progress: Called with (tiles done, tiles in total).

    Returns:
        The denoised picture or batch, of the same shape and type.

    Raises:
        ValueError: A number is out of range, or `sigma` or `force` is given with a denoiser that is loaded.

    >>> denoise(np.zeros((16, 16), np.uint8)).shape
    (16, 16)
    """
    if not isinstance(model, AnyDenoiser):
        model = load_denoiser(model, tile=None, memory=None, sigma=sigma, force=force)
    elif sigma is not None or force:
        raise ValueError("sigma and force are for a model's name; a denoiser has its own")
    return model(image, strength=strength, chroma=chroma, detail=detail, self_ensemble=self_ensemble, progress=progress)


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
    sample: _Array | None = None,
    blend: Blend = FULL,
    self_ensemble: bool = False,
    uncertainty: bool = False,
    progress: ProgressCallback | None = None,
) -> DenoisedImage:
    """Denoise an image by a named model, or by the one that fits its noise. Each image of a stack has its own choice.

    Args:
        image: (H, W), (H, W, 3) or (N, H, W, 3); uint8, uint16 or floats in [0, 1].
        denoiser: A denoiser, or the automatic one.
        sample: The part of the image that noise identification looks at. Default: the image.
        blend: How the result is mixed with the image.
        self_ensemble: Whether to average over the eight flips and rotations.
        uncertainty: Whether to return the uncertainty map, which implies the self-ensemble.
        progress: Called with (tiles done, tiles in total).

    Returns:
        The denoised image, the uncertainty map, and the identified noise.
    """
    options: dict[str, Any] = {
        "blend": blend,
        "self_ensemble": self_ensemble,
        "uncertainty": uncertainty,
        "progress": progress,
    }
    if isinstance(denoiser, Denoiser):
        return DenoisedImage(*denoiser.denoise_plane(image, **options))
    if image.ndim < 4:
        noise = denoiser.identify(image if sample is None else sample)
        if noise.choice is None:
            return DenoisedImage(image, None, (noise,))
        denoised, spread = denoiser.load(noise.choice).denoise_plane(image, **options)
        return DenoisedImage(noise.limit_change(image, denoised, blend.strength), spread, (noise,))
    noises = tuple(denoiser.identify(one[..., 0] if one.shape[-1] == 1 else one) for one in image)
    # Images without a model keep their pixels, and their uncertainty is zero.
    pixels, spreads = image.copy(), np.zeros(image.shape[:3], np.float32)
    has_spread = False
    # images of the same choice are denoised together
    for name in dict.fromkeys(noise.choice for noise in noises):
        if name is not None:
            places = [place for place, noise in enumerate(noises) if noise.choice == name]
            denoised, spread = denoiser.load(name).denoise_plane(image[places], **options)
            for at, one in zip(places, denoised, strict=True):
                pixels[at] = noises[at].limit_change(image[at], one, blend.strength)
            if spread is not None:
                spreads[places], has_spread = spread, True
    return DenoisedImage(pixels, spreads if has_spread else None, noises)


def denoise_planes(planes: PixelPlanes, denoiser: AnyDenoiser, **options: Any) -> list[DenoisedImage]:
    """Denoise the planes of a page. Their noise is one, so the colors of CMYK decide for its black too.

    Args:
        planes: The planes.
        denoiser: A denoiser, or the automatic one.
        **options: The options of `denoise_image`.
    """
    first = denoise_image(planes.arrays[0], denoiser, sample=planes.samples[0], **options)
    images = [first]
    for plane in planes.arrays[1:]:
        chosen = denoiser
        if isinstance(denoiser, AutomaticDenoiser):
            choice = first.noises[0].choice
            # Black that is not used at all has no noise, and must not get any ink.
            if choice is None or plane.min() == plane.max():
                images.append(DenoisedImage(plane, None))
                continue
            chosen = denoiser.load(choice)
        images.append(denoise_image(plane, chosen, **options))
    return images


def name_precision(denoiser: AnyDenoiser, noises: Sequence[IdentifiedNoise]) -> str:
    """Return the precision that images were denoised in; both if they differ, and "" if none was denoised.

    Args:
        denoiser: A denoiser, or the automatic one.
        noises: The identified noise of each image.
    """
    if isinstance(denoiser, Denoiser):
        return denoiser.precision
    choices = {noise.choice for noise in noises if noise.choice is not None}
    return ", ".join(sorted({denoiser.load(choice).precision for choice in choices}))


def describe_choices(noises: Sequence[IdentifiedNoise]) -> tuple[str, str]:
    """Describe which models were chosen for images, and why.

    Args:
        noises: The identified noise of each image.

    Returns:
        The names of the models in the order of the images, and each choice with its reason in one line.
    """
    names = list(dict.fromkeys(noise.choice for noise in noises if noise.choice is not None))
    # The first image of each choice gives the reason.
    first = {noise.choice: noise.why for noise in reversed(noises)}
    return ", ".join(names), " | ".join(first[choice] for choice in dict.fromkeys(noise.choice for noise in noises))
