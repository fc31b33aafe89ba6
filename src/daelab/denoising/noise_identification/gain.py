"""The estimate of how much a picture would gain by denoising, from what a small denoiser removes from some tiles of it.

Shapes: T tiles of a picture, (T, 3, h, w) float32 in [0, 1], whose sides are multiples of 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daelab._util.tensor_file import describe_layout, read_tensor_header, read_tensors, write_tensors
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.tiling import reflect_indices

TILES = 12
"""The largest number of tiles of a picture."""
TILE_SIDE = 128
"""The largest side of a tile in pixels."""
_BLOCK = 8
"""The side of JPEG's blocks, on whose grid tiles begin."""
_LEAST = 0.02
"""An amplitude in 8-bit steps, added so that flat tiles have a logarithm."""
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_LAGS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0))
FEATURES = 103
"""The number of statistics."""
HIDDEN_UNITS = 96
"""The number of units of a hidden layer."""
ENSEMBLE = 5
"""The number of networks, whose mean is the estimate."""
GAIN_FORMAT = 1
"""The version of the file format."""
REMOVER = "photo-s"
"""The shipped model that removes something from the tiles, and whose gain is estimated."""
_KIND = "gain-estimator"


class GainNetwork(nn.Module):
    """Networks of two hidden layers over standardized statistics, which estimate the same."""

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        """Build the untrained networks."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        sizes = ((FEATURES, HIDDEN_UNITS), (HIDDEN_UNITS, HIDDEN_UNITS), (HIDDEN_UNITS, 2))
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(ENSEMBLE, *size)) for size in sizes)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(ENSEMBLE, 1, size[1])) for size in sizes)

    def forward(self, features: Tensor) -> Tensor:
        """Compute what each network estimates.

        Args:
            features: (N, FEATURES).

        Returns:
            (ENSEMBLE, N, 2): the gain in dB, and the logarithm of the noise in 8-bit steps.
        """
        # Clamped, so that a statistic far outside the training data does not dominate all others.
        x = ((features - self.mean) / self.scale).clamp(-5, 5).expand(ENSEMBLE, -1, -1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = F.dropout(F.silu(torch.baddbmm(bias, x, weight)), 0.1, self.training)
        return torch.baddbmm(self.biases[-1], x, self.weights[-1])


@dataclass(frozen=True)
class GainEstimator:
    """The estimate of what denoising would gain, with the model that it looks through."""

    network: GainNetwork
    """The networks in evaluation mode."""
    remover: Denoiser
    """The small denoiser."""

    @torch.inference_mode()
    def estimate(self, tiles: Tensor) -> tuple[float, float]:
        """Estimate the gain in PSNR in dB, and the standard deviation of the noise in 8-bit steps.

        Args:
            tiles: Tiles of a picture, (T, 3, h, w) float32 in [0, 1].
        """
        removed = self.remover.batch(tiles)
        features = [compute_gain_features(*pair) for pair in zip(tiles[:, None], removed[:, None], strict=True)]
        # The mean over the tiles, since a dark or a busy one may hide the noise of the others.
        gain, level = self.network(torch.stack(features)).mean((0, 1)).tolist()
        return gain, float(np.exp(level))


def save_gain_network(network: GainNetwork, path: Path, card: dict[str, Any]) -> None:
    """Write the networks to a file.

    Args:
        network: The networks.
        path: The file.
        card: The metadata.
    """
    write_tensors(path, network.state_dict(), {"kind": _KIND, "format": GAIN_FORMAT, **card})


def load_gain_estimator(path: Path | None = None) -> GainEstimator:
    """Load the networks and the small denoiser.

    Args:
        path: The file of the networks. Default: the shipped one.

    Raises:
        ValueError: The file is no such file, or one of another version.
    """
    weights = Path(str(resources.files("daelab"))) / "models" / "weights"
    path = path or weights / "inspector" / "gain.safetensors"
    header, entries = read_tensor_header(path)
    with torch.device("meta"):
        layout = describe_layout(GainNetwork().state_dict())
    if header.get("kind") != _KIND or header.get("format") != GAIN_FORMAT or entries != layout:
        raise ValueError(f"{path}: not a gain estimator of this version; `python tools/train_gain.py` creates one")
    network = GainNetwork()
    network.load_state_dict(read_tensors(path)[1])
    # On the CPU and in float32, so that a picture is treated alike on every computer.
    remover = Denoiser.load(weights / f"{REMOVER}.safetensors", "cpu", precision="float32")
    return GainEstimator(network.eval().requires_grad_(False), remover)


def cut_tiles(picture: Tensor) -> Tensor:
    """Cut at most `TILES` tiles from a picture, spread evenly over it.

    Args:
        picture: (3, H, W) of any size. A side of less than 8 pixels is continued by reflection.

    Returns:
        (T, 3, h, w) of the picture's type.
    """
    for axis in (1, 2):
        if (length := picture.shape[axis]) < _BLOCK:
            picture = picture.index_select(axis, torch.from_numpy(reflect_indices(0, _BLOCK, length)))
    height, width = picture.shape[1:]
    rows, columns = height / TILE_SIDE, width / TILE_SIDE
    # As many tiles along each side as keep their distances alike.
    across = int(np.clip(round((TILES * columns / rows) ** 0.5), 1, min(TILES, max(1, width // TILE_SIDE))))
    down = int(np.clip(TILES // across, 1, max(1, height // TILE_SIDE)))
    tall, wide = (min(TILE_SIDE, length // _BLOCK * _BLOCK) for length in (height, width))
    tops, lefts = _spread(height - tall, down), _spread(width - wide, across)
    return torch.stack([picture[:, top : top + tall, left : left + wide] for top in tops for left in lefts])


def _spread(room: int, count: int) -> list[int]:
    places = np.linspace(0, room, count) if count > 1 else [room / 2]
    return [int(at) // _BLOCK * _BLOCK for at in places]


def compute_gain_features(x: Tensor, smooth: Tensor) -> Tensor:
    """Compute the statistics of tiles, taken together, and of what the small denoiser removes from them.

    Noise differs from detail in what is removed: it is there where the picture is flat, it does not follow the edges,
    and it looks alike at all places. Compression leaves exact zeros in the frequencies of its blocks.

    Args:
        x: The tiles.
        smooth: The denoised tiles.

    Returns:
        (K,) float32.
    """
    planes, structure = _to_opponent(255 * x), _to_opponent(255 * smooth)
    removed = planes - structure
    luma = structure[:, :1]
    # The structure at the size of each of the two bands.
    edges = [_measure_blocks(_gradient(luma)), _measure_blocks(_gradient(F.avg_pool2d(luma, 2)))]
    parts = [_log_quantiles(edges[0])]
    for channels in (slice(0, 1), slice(1, 3)):
        r, s, p = removed[:, channels], structure[:, channels], planes[:, channels]
        parts += [_measure_bands(r), _measure_bands(s)]
        for edge, band in zip(edges, (r, F.avg_pool2d(r, 2)), strict=True):
            parts.append(_measure_places((_measure_blocks(_detail(band)) + _LEAST).log(), edge))
        parts += [_measure_lags(r), _measure_shape(r), _correlate(r.flatten(), _laplacian(s).flatten())[None]]
        parts += [_measure_frequencies(p), _measure_frequencies(r)]
    parts.append(_measure_steps(planes[:, :1]))
    return torch.cat([part.flatten() for part in parts]).nan_to_num(0, 0, 0)


def _measure_places(sizes: Tensor, edges: Tensor) -> Tensor:
    """Return how large the details are in flat and in busy blocks, their quantiles, and whether they follow edges."""
    ranked, count = sizes[edges.argsort()], sizes.shape[0]
    tenth, third, half = (count + 9) // 10, (count + 2) // 3, (2 * count + 2) // 3
    parts = [ranked[:tenth], ranked[:third], ranked[count // 3 : half], ranked[2 * count // 3 :]]
    means = torch.stack([part.mean() for part in parts])
    follow = _correlate(sizes, (edges + _LEAST).log())
    return torch.cat([means, torch.quantile(sizes, torch.tensor(_QUANTILES)), follow[None]])


def _to_opponent(x: Tensor) -> Tensor:
    red, green, blue = x.unbind(1)
    # The rows are orthogonal and of length 1, so white noise keeps its deviation.
    return torch.stack([(red + green + blue) / 3**0.5, (red - blue) / 2**0.5, (red - 2 * green + blue) / 6**0.5], 1)


def _detail(x: Tensor) -> Tensor:
    return (x[..., ::2, ::2] - x[..., 1::2, ::2] - x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 2


def _gradient(x: Tensor) -> Tensor:
    down, across = x.diff(dim=-2)[..., :, :-1], x.diff(dim=-1)[..., :-1, :]
    return F.pad((down.square() + across.square()).sqrt(), (0, 1, 0, 1))[..., ::2, ::2]


def _laplacian(x: Tensor) -> Tensor:
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    around = padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:] + padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
    return 4 * x - around


def _measure_blocks(x: Tensor) -> Tensor:
    """Return the root mean square in blocks of 4x4, as one row."""
    return F.avg_pool2d(x.square().mean(1, keepdim=True), min(4, *x.shape[2:])).sqrt().flatten()


def _log_quantiles(x: Tensor) -> Tensor:
    return (torch.quantile(x, torch.tensor(_QUANTILES)) + _LEAST).log()


def _measure_bands(x: Tensor) -> Tensor:
    """Return the logarithms of the size of the details at three scales."""
    sizes = []
    for _ in range(3):
        low = F.avg_pool2d(x, 2)
        sizes.append((x - F.interpolate(low, scale_factor=2.0)).square().mean().sqrt())
        x = low
        if min(x.shape[2:]) < 2:
            break
    sizes += [x.square().mean().sqrt()] * (4 - len(sizes))
    return (torch.stack(sizes[:3]) + _LEAST).log()


def _measure_lags(x: Tensor) -> Tensor:
    height, width = x.shape[2:]
    power = x.square().mean() + _LEAST**2
    return torch.stack([(x[..., a:, b:] * x[..., : height - a, : width - b]).mean() / power for a, b in _LAGS])


def _measure_shape(x: Tensor) -> Tensor:
    power = x.square().mean() + _LEAST**2
    tails = (x**4).mean().div(power**2).clamp_min(0.1).log()
    return torch.stack([x.abs().mean() / power.sqrt(), tails, power.log() / 2])


def _correlate(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(), b - b.mean()
    return (a * b).mean() / ((a.square().mean() * b.square().mean()).sqrt() + _LEAST**2)


def _measure_frequencies(x: Tensor) -> Tensor:
    """Return the share of zeros and the size of low, middle and high frequencies in the blocks of JPEG's grid."""
    tiles = x.unfold(2, _BLOCK, _BLOCK).unfold(3, _BLOCK, _BLOCK)
    waves = torch.einsum("ui,nchwij,vj->nchwuv", _BASIS, tiles, _BASIS).abs().flatten(-2)
    order = (torch.arange(_BLOCK)[:, None] + torch.arange(_BLOCK)).flatten()
    bands = [waves[..., (order >= low) & (order <= high)] for low, high in ((1, 3), (4, 7), (8, 14))]
    shares = [(band < 0.75).float().mean() for band in bands]
    return torch.stack([*shares, *((band.mean() + _LEAST).log() for band in bands)])


def _make_basis() -> Tensor:
    at = torch.arange(_BLOCK, dtype=torch.float64)
    waves = torch.cos((2 * at + 1) * at[:, None] * (torch.pi / 16)) / 2
    waves[0] = 8**-0.5
    return waves.float()


_BASIS = _make_basis()


def _measure_steps(x: Tensor) -> Tensor:
    """Return how much larger the steps at the edges of JPEG's blocks are than elsewhere."""
    ratios = []
    for steps in (x.diff(dim=-1).abs().mean((0, 1, 2)), x.diff(dim=-2).abs().mean((0, 1, 3))):
        places = F.pad(steps, (0, 1), value=torch.nan).reshape(-1, _BLOCK).nanmean(0)
        ratio = ((places + _LEAST) / (places.nanmean() + _LEAST)).log().nan_to_num(0)
        ratios += [ratio.amax(), ratio[-1]]
    return torch.stack(ratios)
