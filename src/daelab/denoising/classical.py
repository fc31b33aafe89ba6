"""Classical denoisers behind the learned ones' interface, tuned and evaluated like them.

    baseline:nlm                    tuned on validation images, with a gain-and-offset correction
    baseline:nlm,raw                without the correction
    baseline:nlm,h=0.1              this `h`; what is not given is tuned
    baseline:median,size=3,raw      nothing is left to tune, so it runs on any picture, without data

The paper's noise is not zero-mean, and these methods take for granted that it is. So each first gets
gain * noisy + offset, the best such approximation of the clean training images; then it is tuned.
BM3D (Dabov et al., 2007) runs where the user has installed the package `bm3d`, which is free for
non-commercial use only.
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
from daelab.errors import unknown_name
from daelab.evaluation.evaluate import iterate_noisy_batches
from daelab.evaluation.metrics import convert_mse_to_psnr, mse
from daelab.noise.base import Noise

CLASSICAL_PREFIX = "baseline:"
_MAY_BE_ZERO = ("gain", "offset", "noise", "ycbcr", "sigma")
VALIDATION = 64
"""Validation images that the settings are tuned on."""
FIT = 4096
"""Training images that the correction is fitted on, at most."""
SEED = 1 << 40
"""Of the noise for tuning and fitting: none that an evaluation would be asked for."""
SMALLEST = 16
"""For a method that looks at the whole picture, it is mirrored up to so many pixels a side; smaller ones fail."""

Picture = npt.NDArray[np.float32]
"""(H, W, 3), about [0, 1]."""
SettingValue = float | str
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class ClassicalMethod:
    """A classical method."""

    run: Callable[..., Any]
    """(picture, **settings) -> picture."""
    grid: Mapping[str, tuple[Any, ...]]
    """The values that tuning tries; every combination."""
    halo: Callable[[Settings], int | None]
    """How far it looks; None: over the whole picture."""
    package: str = "scikit-image"


def _nlm(x: Picture, h: float, patch_size: int, patch_distance: int) -> Any:
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(x, patch_size, patch_distance, h, fast_mode=True, channel_axis=-1)


def _tv(x: Picture, weight: float) -> Any:
    from skimage.restoration import denoise_tv_chambolle

    return denoise_tv_chambolle(x, weight, channel_axis=-1)  # type: ignore[no-untyped-call]


def _wavelet(x: Picture, sigma: float, wavelet: str, ycbcr: int) -> Any:
    """BayesShrink (Chang et al., 2000); `sigma` 0: estimated from the picture."""
    from skimage.restoration import denoise_wavelet

    return denoise_wavelet(
        x, sigma=sigma or None, wavelet=wavelet, convert2ycbcr=bool(ycbcr), rescale_sigma=True, channel_axis=-1
    )


def _bilateral(x: Picture, sigma_color: float, sigma_spatial: float) -> Any:
    """The bilateral filter (Tomasi and Manduchi, 1998), with the distance of colours over the channels.

    Ours, since scikit-image's up to 0.26 takes its spatial weights from the wrong places: with a
    `sigma_color` that lets everything pass it is far from a Gaussian filter.
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
    """Beyond this the spatial weights are below a hundredth."""
    return max(1, math.ceil(3 * sigma_spatial))


def _median(x: Picture, size: int) -> Any:
    from scipy.ndimage import median_filter

    return median_filter(x, (size, size, 1))


def _wiener(x: Picture, size: int, noise: float) -> Any:
    """Wiener's filter (Lee, 1980); `noise`: its power; 0: the mean of the local variances.

    As `scipy.signal.wiener`, which takes what lies outside the picture for black; here it is mirrored.
    """
    from scipy.ndimage import uniform_filter

    wide = x.astype(np.float64)
    mean = uniform_filter(wide, (size, size, 1))
    variance = np.maximum(uniform_filter(wide**2, (size, size, 1)) - mean**2, 0)
    power = noise or variance.mean((0, 1))
    kept = np.maximum(variance - power, 0) / np.maximum(np.maximum(variance, power), 1e-12)
    return mean + kept * (wide - mean)


def _bm3d(x: Picture, sigma: float) -> Any:
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
"""Name -> method, in the order of the module's text. To add one is a row here."""


@dataclass(frozen=True)
class ConfiguredMethod:
    """A classical method, some of its settings, and perhaps a correction; `str` gives its text form."""

    name: str
    settings: Mapping[str, SettingValue]
    correction: tuple[float, float] | None = None
    """Gain and offset; (1, 0) is none at all; None: to be fitted."""

    @property
    def filter(self) -> ClassicalMethod:
        return CLASSICAL_METHODS[self.name]

    @property
    def complete(self) -> bool:
        """Whether nothing is left to tune or to fit."""
        return self.correction is not None and set(self.settings) == set(self.filter.grid)

    def candidates(self) -> list[dict[str, SettingValue]]:
        """Every combination of settings that tuning tries."""
        values = [(self.settings[key],) if key in self.settings else row for key, row in self.filter.grid.items()]
        return [dict(zip(self.filter.grid, chosen, strict=True)) for chosen in product(*values)]

    def __str__(self) -> str:
        parts = [f"{key}={value}" for key, value in self.settings.items()]
        if self.correction == (1.0, 0.0):
            parts.append("raw")
        elif self.correction is not None:
            parts += [f"{key}={value!r}" for key, value in zip(("gain", "offset"), self.correction, strict=True)]
        return ",".join([CLASSICAL_PREFIX + self.name, *parts])

    def method(self) -> Backend:
        """Ready for pictures.

        Raises:
            ValueError: something is left to tune.
        """
        if not self.complete:
            left = [key for key in self.filter.grid if key not in self.settings]
            left += [] if self.correction else ["raw, or gain and offset"]
            raise ValueError(
                f"{self} is not tuned: give it {', '.join(left)};"
                f" `daelab evaluate {self} --noise NOISE` finds them, and prints what to write"
            )
        assert self.correction is not None
        gain, offset = self.correction
        halo = self.filter.halo(self.settings)
        return Backend(
            name=str(self), run=lambda x: run_classical_method(self.filter, self.settings, gain * x + offset), halo=halo
        )


def parse_classical_method(text: str) -> ConfiguredMethod:
    """Read the text form of a baseline.

    Raises:
        ValueError: it is none; one line. Or the package it needs is not installed.

    >>> str(parse_classical_method("baseline:tv,weight=.1,raw"))
    'baseline:tv,weight=0.1,raw'
    >>> parse_classical_method("baseline:tv,wait=.1")
    Traceback (most recent call last):
    ValueError: unknown setting of baseline tv 'wait'; did you mean 'weight'? Valid: gain, offset, raw, weight
    """
    name, *parts = [part.strip() for part in text.removeprefix(CLASSICAL_PREFIX).split(",")]
    if name not in CLASSICAL_METHODS:
        raise unknown_name("baseline", name, CLASSICAL_METHODS)
    grid = CLASSICAL_METHODS[name].grid
    found: dict[str, SettingValue] = {}
    for part in parts:
        key, equals, value = (word.strip() for word in part.partition("="))
        if key not in (*grid, "gain", "offset", "raw"):
            raise unknown_name(f"setting of baseline {name}", key, [*grid, "gain", "offset", "raw"])
        if key in found:
            raise ValueError(f"{text}: {key} is given twice")
        if bool(equals) == (key == "raw"):
            raise ValueError(f"{text}: " + ("write raw without a value" if equals else f"write {key}=VALUE"))
        found[key] = "" if key == "raw" else _value(text, key, value, grid.get(key, (0.0,))[0])
    _check_installed(CLASSICAL_METHODS[name].package)
    raw, gain, offset = (found.pop(key, None) for key in ("raw", "gain", "offset"))
    if (gain is None) != (offset is None) or (raw is not None and gain is not None):
        raise ValueError(f"{text}: a correction is raw, or gain and offset together")
    correction = (1.0, 0.0) if raw is not None else None if gain is None else (float(gain), float(offset or 0))
    return ConfiguredMethod(name, {key: found[key] for key in grid if key in found}, correction)


def _value(text: str, key: str, value: str, example: SettingValue) -> SettingValue:
    """A setting's value, of the type of those in the grid."""
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
        raise ValueError(f"{text}: {value!r} is no wavelet; db1, db2, sym4 are some")


def _check_installed(package: str) -> None:
    needed = ("bm3d",) if package == "bm3d" else ("skimage.restoration", "pywt")
    try:
        for module in needed:
            importlib.import_module(module)
    except ImportError:
        what = "bm3d' (for non-commercial use only)" if package == "bm3d" else "daelab[baselines]'"
        raise ValueError(f"this baseline needs a package that is not installed: pip install '{what}") from None


def run_classical_method(method: ClassicalMethod, settings: Settings, x: Tensor) -> Tensor:
    """A method on (N, 3, H, W) float32 of any size, picture by picture."""
    height, width = x.shape[-2:]
    least = SMALLEST if method.halo(settings) is None else 2  # of a single pixel scikit-image drops the axes
    pads = [(0, max(0, least - height)), (0, max(0, least - width)), (0, 0)]
    made = []
    for image in x.permute(0, 2, 3, 1).cpu().numpy():
        padded = np.pad(image, pads, mode="reflect") if any(map(any, pads)) else np.ascontiguousarray(image)
        with warnings.catch_warnings(action="ignore"):  # of levels that a small picture does not have
            made.append(np.asarray(method.run(padded, **settings), np.float32)[:height, :width])
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).clamp(0, 1)


@dataclass(frozen=True)
class TunedMethod:
    """A baseline with every setting chosen, and how it did on the validation images."""

    baseline: ConfiguredMethod
    psnr: float
    """dB, mean over the validation images."""
    tried: tuple[tuple[dict[str, SettingValue], float], ...]
    """Every combination and its PSNR."""
    noise: str
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
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
    """Fit the correction on training images, then take the settings of the highest PSNR on validation images.

    Args:
        train: the first `FIT` are used.
        val: the first `VALIDATION` are used.
        progress: called with (combinations done, combinations in all).
    """
    if baseline.correction is None:
        baseline = replace(baseline, correction=fit_gain_and_offset(train.take(np.arange(min(FIT, len(train)))), noise))
    images = val.take(np.arange(min(VALIDATION, len(val))))
    batches = list(iterate_noisy_batches(images, noise, SEED))
    candidates, tried = baseline.candidates(), []
    for done, settings in enumerate(candidates, 1):
        run = replace(baseline, settings=settings).method().run
        errors = torch.cat([mse(run(batch.noisy), batch.clean) for batch in batches])
        # an image met exactly counts 120 dB
        tried.append((settings, float(convert_mse_to_psnr(errors.clamp_min(1e-12)).mean())))
        if progress:
            progress(done, len(candidates))
    best, psnr = max(tried, key=lambda row: row[1])
    return TunedMethod(replace(baseline, settings=best), psnr, tuple(tried), str(noise), len(images))


def fit_gain_and_offset(images: Images, noise: Noise) -> tuple[float, float]:
    """Gain and offset of the least squares of clean - (gain * noisy + offset), over all values of the images.

    Rounded to four decimals, so that the text form of a baseline is short and exact.
    """
    sums = torch.zeros(5, dtype=torch.float64)
    for batch in iterate_noisy_batches(images, noise, SEED):
        x, y = batch.noisy.double().flatten(), batch.clean.double().flatten()
        sums += torch.stack([torch.tensor(float(len(x))).double(), x.sum(), y.sum(), x @ x, x @ y])
    n, x, y, xx, xy = sums.tolist()
    spread = xx - x * x / n
    gain = (xy - x * y / n) / spread if spread > 1e-12 * n else 1.0
    return round(gain, 4), round((y - gain * x) / n, 4)
