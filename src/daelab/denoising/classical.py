"""Classical denoising methods with the interface of the networks, tuned and evaluated as these are.

    baseline:nlm                    tuned on validation images, with a gain-and-offset correction
    baseline:nlm,raw                without the correction
    baseline:nlm,h=0.1              with this `h`; the other settings are tuned
    baseline:median,size=3,raw      complete, so it needs no tuning and runs on any picture

These methods assume zero-mean noise, and the paper's noise is not zero-mean. So each method gets gain * noisy +
offset as its input, the best such approximation of the clean training images; then it is tuned. BM3D (Dabov et al.,
2007) needs the package `bm3d`, which is free for non-commercial use only.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from daelab.datasets.base import Images
from daelab.denoising.backends import Backend
from daelab.errors import make_unknown_name_error
from daelab.evaluation.evaluate import iterate_noisy_batches
from daelab.evaluation.metrics import convert_mse_to_psnr, mse
from daelab.noise.base import Noise

CLASSICAL_PREFIX = "baseline:"
"""The beginning of the text form of a classical method."""
_MAY_BE_ZERO = ("gain", "offset", "noise", "ycbcr", "sigma")
VALIDATION = 64
"""The number of validation images that the settings are tuned on."""
FIT = 4096
"""The largest number of training images that the correction is fitted on."""
SEED = 1 << 40
"""The seed of the noise for tuning and fitting, which no evaluation uses."""
SMALLEST = 16
"""The smallest side in pixels for a method that needs the full image; smaller pictures are extended by reflection."""

_Pixels = npt.NDArray[np.float32]
"""A picture (H, W, 3) with values of about [0, 1]."""
SettingValue = float | str
"""A value of a setting: a number, or the name of a wavelet."""
Settings = Mapping[str, Any]
"""The values of a method's settings by name."""


@dataclass(frozen=True)
class ClassicalMethod:
    """A classical denoising method and the settings that can be tuned."""

    run: Callable[..., Any]
    """A function (picture, **settings) -> picture."""
    grid: Mapping[str, tuple[Any, ...]]
    """The values of each setting; tuning tries every combination."""
    halo: Callable[[Settings], int | None]
    """A function of the settings to the pixels around a pixel that its result depends on; None for all pixels."""
    package: str = "scikit-image"
    """The package that the method needs."""


def _nlm(x: _Pixels, h: float, patch_size: int, patch_distance: int) -> Any:
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(x, patch_size, patch_distance, h, fast_mode=True, channel_axis=-1)


def _tv(x: _Pixels, weight: float) -> Any:
    from skimage.restoration import denoise_tv_chambolle

    return denoise_tv_chambolle(x, weight, channel_axis=-1)  # type: ignore[no-untyped-call]


def _wavelet(x: _Pixels, sigma: float, wavelet: str, ycbcr: int) -> Any:
    """Apply BayesShrink (Chang et al., 2000); a `sigma` of 0 is estimated from the picture."""
    from skimage.restoration import denoise_wavelet

    return denoise_wavelet(
        x, sigma=sigma or None, wavelet=wavelet, convert2ycbcr=bool(ycbcr), rescale_sigma=True, channel_axis=-1
    )


def _bilateral(x: _Pixels, sigma_color: float, sigma_spatial: float) -> Any:
    """Apply the bilateral filter (Tomasi and Manduchi, 1998), with the distance of colors over all channels.

    It is implemented here, since scikit-image up to 0.26 reads its spatial weights from the wrong places: with a very
    large `sigma_color` its filter is far from a Gaussian filter.
    """
    reach = _reach(sigma_spatial)
    padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    height, width, _ = x.shape
    total, weights = np.zeros_like(x), np.zeros((height, width, 1), np.float32)
    for down, right in product(range(2 * reach + 1), repeat=2):
        other = padded[down : down + height, right : right + width]
        near = ((down - reach) ** 2 + (right - reach) ** 2) / sigma_spatial**2
        alike = np.square(other - x).sum(-1, keepdims=True) / np.float32(sigma_color**2)
        weight = np.exp(np.float32(-0.5) * (alike + np.float32(near)))
        total += weight * other
        weights += weight
    return total / weights


def _reach(sigma_spatial: float) -> int:
    """Return the distance in pixels beyond which the spatial weights are below one hundredth."""
    return max(1, math.ceil(3 * sigma_spatial))


def _median(x: _Pixels, size: int) -> Any:
    from scipy.ndimage import median_filter

    return median_filter(x, (size, size, 1))


def _wiener(x: _Pixels, size: int, noise: float) -> Any:
    """Apply Wiener's filter (Lee, 1980); `noise` is its power, and 0 stands for the mean of the local variances.

    It equals `scipy.signal.wiener`, except that the picture is extended by reflection and not by black.
    """
    from scipy.ndimage import uniform_filter

    # In float64, since E[x^2] - E[x]^2 loses digits in float32.
    wide = x.astype(np.float64)
    mean = uniform_filter(wide, (size, size, 1))
    variance = np.maximum(uniform_filter(wide**2, (size, size, 1)) - mean**2, 0)
    power = noise or variance.mean((0, 1))
    kept = np.maximum(variance - power, 0) / np.maximum(np.maximum(variance, power), 1e-12)
    return mean + kept * (wide - mean)


def _bm3d(x: _Pixels, sigma: float) -> Any:
    return importlib.import_module("bm3d").bm3d_rgb(x, sigma)


CLASSICAL_METHODS: dict[str, ClassicalMethod] = {
    "nlm": ClassicalMethod(
        _nlm,
        {"h": (0.02, 0.04, 0.06, 0.08, 0.12, 0.16), "patch_size": (3, 5, 7), "patch_distance": (5, 9)},
        lambda settings: settings["patch_distance"] + settings["patch_size"] // 2,
    ),
    "tv": ClassicalMethod(_tv, {"weight": (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)}, lambda settings: None),
    "wavelet": ClassicalMethod(
        _wavelet,
        {"sigma": (0.0, 0.03, 0.05, 0.08, 0.12), "wavelet": ("db1", "db2", "sym4"), "ycbcr": (0, 1)},
        lambda settings: None,
    ),
    "bilateral": ClassicalMethod(
        _bilateral,
        {"sigma_color": (0.1, 0.2, 0.3, 0.4, 0.6, 0.8), "sigma_spatial": (0.5, 0.75, 1.0, 1.5, 2.0)},
        lambda settings: _reach(settings["sigma_spatial"]),
    ),
    "median": ClassicalMethod(_median, {"size": (3, 5, 7)}, lambda settings: settings["size"] // 2),
    "wiener": ClassicalMethod(
        _wiener,
        {"size": (3, 5, 7), "noise": (0.0, 0.002, 0.005, 0.01, 0.02, 0.04)},
        lambda settings: settings["size"] // 2 if settings["noise"] else None,
    ),
    "bm3d": ClassicalMethod(
        _bm3d, {"sigma": (0.03, 0.05, 0.0588, 0.08, 0.098, 0.12, 0.18, 0.196, 0.25)}, lambda settings: None, "bm3d"
    ),
}
"""The classical methods by name. To add a method is to add a row here."""


@dataclass(frozen=True)
class ConfiguredMethod:
    """A classical method with some or all of its settings; `str` returns its text form."""

    name: str
    settings: Mapping[str, SettingValue]
    """The given settings by name."""
    correction: tuple[float, float] | None = None
    """The gain and the offset; (1, 0) for no correction, None for one that is still to be fitted."""

    @property
    def filter(self) -> ClassicalMethod:
        """The method's row of `CLASSICAL_METHODS`."""
        return CLASSICAL_METHODS[self.name]

    @property
    def complete(self) -> bool:
        """Whether all settings and the correction are given."""
        return self.correction is not None and set(self.settings) == set(self.filter.grid)

    def candidates(self) -> list[dict[str, SettingValue]]:
        """Return every combination of settings that tuning tries."""
        values = [(self.settings[key],) if key in self.settings else row for key, row in self.filter.grid.items()]
        return [dict(zip(self.filter.grid, combination, strict=True)) for combination in product(*values)]

    def __str__(self) -> str:
        """Return the text form, which `parse_classical_method` reads."""
        parts = [f"{key}={value}" for key, value in self.settings.items()]
        if self.correction == (1.0, 0.0):
            parts.append("raw")
        elif self.correction is not None:
            parts += [f"{key}={value!r}" for key, value in zip(("gain", "offset"), self.correction, strict=True)]
        return ",".join([CLASSICAL_PREFIX + self.name, *parts])

    def method(self) -> Backend:
        """Return the backend of a denoiser.

        Raises:
            ValueError: A setting or the correction is still to be tuned.
        """
        if not self.complete:
            left = [key for key in self.filter.grid if key not in self.settings]
            left += [] if self.correction else ["raw, or gain and offset"]
            raise ValueError(
                f"{self} is not tuned: add {', '.join(left)};"
                f" `daelab evaluate {self} --noise NOISE` finds and prints them"
            )
        assert self.correction is not None
        gain, offset = self.correction
        halo = self.filter.halo(self.settings)
        return Backend(
            name=str(self), run=lambda x: run_classical_method(self.filter, self.settings, gain * x + offset), halo=halo
        )


def parse_classical_method(text: str) -> ConfiguredMethod:
    """Parse the text form of a classical method.

    Args:
        text: The text form, as in the module's docstring.

    Raises:
        ValueError: The name or a setting is unknown, a value is invalid, or the package of the method is not installed.

    >>> str(parse_classical_method("baseline:tv,weight=.1,raw"))
    'baseline:tv,weight=0.1,raw'
    >>> parse_classical_method("baseline:tv,wait=.1")
    Traceback (most recent call last):
    ValueError: unknown setting of tv 'wait'; did you mean 'weight'? Valid: gain, offset, raw, weight
    """
    name, *parts = [part.strip() for part in text.removeprefix(CLASSICAL_PREFIX).split(",")]
    if name not in CLASSICAL_METHODS:
        raise make_unknown_name_error("classical method", name, CLASSICAL_METHODS)
    grid = CLASSICAL_METHODS[name].grid
    given: dict[str, SettingValue] = {}
    for part in parts:
        key, equals, value = (word.strip() for word in part.partition("="))
        if key not in (*grid, "gain", "offset", "raw"):
            raise make_unknown_name_error(f"setting of {name}", key, [*grid, "gain", "offset", "raw"])
        if key in given:
            raise ValueError(f"{text}: the setting {key} is given twice")
        if bool(equals) == (key == "raw"):
            raise ValueError(f"{text}: " + ("write raw without a value" if equals else f"write {key}=VALUE"))
        given[key] = "" if key == "raw" else _value(text, key, value, grid.get(key, (0.0,))[0])
    _check_installed(CLASSICAL_METHODS[name].package)
    raw, gain, offset = (given.pop(key, None) for key in ("raw", "gain", "offset"))
    if (gain is None) != (offset is None) or (raw is not None and gain is not None):
        raise ValueError(f"{text}: write either raw, or both gain and offset")
    correction = (1.0, 0.0) if raw is not None else None if gain is None else (float(gain), float(offset or 0))
    return ConfiguredMethod(name, {key: given[key] for key in grid if key in given}, correction)


def _value(text: str, key: str, value: str, example: SettingValue) -> SettingValue:
    """Convert the text of a value to the type of the values in the grid."""
    if isinstance(example, str):
        _check_wavelet(text, value)
        return value
    try:
        number = type(example)(value)
    except ValueError:
        kind = "whole number" if isinstance(example, int) else "number"
        raise ValueError(f"{text}: {key} must be a {kind}, not {value!r}") from None
    low = -math.inf if key in ("gain", "offset") else 0
    if not low <= number < math.inf or (number == 0 and key not in _MAY_BE_ZERO):
        raise ValueError(f"{text}: {key} must be {'a finite number' if low < 0 else 'above zero'}, not {value}")
    return number


def _check_wavelet(text: str, value: str) -> None:
    _check_installed("scikit-image")
    if value not in importlib.import_module("pywt").wavelist(kind="discrete"):
        raise ValueError(f"{text}: {value!r} is not a wavelet; examples are db1, db2 and sym4")


def _check_installed(package: str) -> None:
    needed = ("bm3d",) if package == "bm3d" else ("skimage.restoration", "pywt")
    try:
        for module in needed:
            importlib.import_module(module)
    except ImportError:
        what = "bm3d' (for non-commercial use only)" if package == "bm3d" else "daelab[baselines]'"
        raise ValueError(f"this classical method needs a package that is not installed: pip install '{what}") from None


def run_classical_method(method: ClassicalMethod, settings: Settings, x: Tensor) -> Tensor:
    """Apply a classical method to each picture of a batch.

    Args:
        method: The method.
        settings: The values of all its settings.
        x: (N, 3, H, W) float32 in about [0, 1], of any size.

    Returns:
        (N, 3, H, W) float32 in [0, 1] on the CPU.
    """
    height, width = x.shape[-2:]
    least = SMALLEST if method.halo(settings) is None else 2  # scikit-image drops the axes of a single pixel
    pads = [(0, max(0, least - height)), (0, max(0, least - width)), (0, 0)]
    results = []
    for image in x.permute(0, 2, 3, 1).cpu().numpy():
        padded = np.pad(image, pads, mode="reflect") if any(map(any, pads)) else np.ascontiguousarray(image)
        with warnings.catch_warnings(action="ignore"):  # of wavelet levels that a small picture does not have
            results.append(np.asarray(method.run(padded, **settings), np.float32)[:height, :width])
    return torch.from_numpy(np.stack(results)).permute(0, 3, 1, 2).clamp(0, 1)


@dataclass(frozen=True)
class TunedMethod:
    """A classical method with tuned settings, and its scores on the validation images."""

    baseline: ConfiguredMethod
    """The method with all settings."""
    psnr: float
    """The PSNR in dB, mean over the validation images."""
    tried: tuple[tuple[dict[str, SettingValue], float], ...]
    """Every combination of settings with its PSNR."""
    noise: str
    """The text form of the noise."""
    images: int
    """The number of validation images."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        gain, offset = self.baseline.correction or (1.0, 0.0)
        return {
            "text": str(self.baseline),
            "settings": dict(self.baseline.settings),
            "gain": gain,
            "offset": offset,
            "validation_psnr": self.psnr,
            "validation_images": self.images,
            "tried": [{**settings, "psnr": psnr} for settings, psnr in self.tried],
            "noise": self.noise,
        }


def tune_classical_method(
    baseline: ConfiguredMethod,
    train: Images,
    val: Images,
    noise: Noise,
    progress: Callable[[int, int], None] | None = None,
) -> TunedMethod:
    """Fit the correction on training images, and choose the settings of the highest PSNR on validation images.

    Args:
        baseline: The method, with the settings that are given.
        train: The training images; the first `FIT` are used.
        val: The validation images; the first `VALIDATION` are used.
        noise: The noise of the images.
        progress: Called with the numbers of combinations done and of all combinations.
    """
    if baseline.correction is None:
        baseline = replace(baseline, correction=fit_gain_and_offset(train.take(np.arange(min(FIT, len(train)))), noise))
    images = val.take(np.arange(min(VALIDATION, len(val))))
    # Made once, so that all combinations are compared on the same noisy pictures.
    batches = list(iterate_noisy_batches(images, noise, SEED))
    candidates, tried = baseline.candidates(), []
    for done, settings in enumerate(candidates, 1):
        run = replace(baseline, settings=settings).method().run
        errors = torch.cat([mse(run(batch.noisy), batch.clean) for batch in batches])
        # An image that is restored exactly counts as 120 dB.
        tried.append((settings, float(convert_mse_to_psnr(errors.clamp_min(1e-12)).mean())))
        if progress:
            progress(done, len(candidates))
    best, psnr = max(tried, key=lambda row: row[1])
    return TunedMethod(replace(baseline, settings=best), psnr, tuple(tried), str(noise), len(images))


def fit_gain_and_offset(images: Images, noise: Noise) -> tuple[float, float]:
    """Fit the gain and the offset that minimize the squares of clean - (gain * noisy + offset) over all pixels.

    Both are rounded to four decimals, so that the text form of a classical method is short and exact.

    Args:
        images: The clean images.
        noise: The noise.

    Returns:
        the gain and the offset.
    """
    sums = torch.zeros(5, dtype=torch.float64)
    for batch in iterate_noisy_batches(images, noise, SEED):
        x, y = batch.noisy.double().flatten(), batch.clean.double().flatten()
        sums += torch.stack([torch.tensor(float(len(x))).double(), x.sum(), y.sum(), x @ x, x @ y])
    n, x, y, xx, xy = sums.tolist()
    # Without spread, any gain fits equally well, so that it stays 1.
    spread = xx - x * x / n
    gain = (xy - x * y / n) / spread if spread > 1e-12 * n else 1.0
    return round(gain, 4), round((y - gain * x) / n, 4)
