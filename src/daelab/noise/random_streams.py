"""Sources of random numbers: one interface, two implementations.

`BatchStream` takes them from a torch generator, the fast source for training.
`IndexedStream` computes them from (seed, image index) with the counter-based generator
Philox, for a whole batch at once. An image gets the same numbers whatever the batch
size, the order, the number of workers or of processes. It is the source for evaluation.

Shapes: N images, and `shape` is the shape of each image's numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_Indices = Tensor | Sequence[int] | npt.NDArray[np.integer[Any]]


class RandomStream(Protocol):
    """A source of random numbers for N images. Every call gives fresh numbers."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def uniform(self, *shape: int) -> Tensor:
        """Draw uniform numbers.

        Args:
            shape: The shape of the numbers of one image.

        Returns:
            (N, *shape) float32 in [0, 1).
        """
        ...

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers.

        Args:
            shape: The shape of the numbers of one image.

        Returns:
            (N, *shape) float32.
        """
        ...

    def poisson(self, rate: Tensor) -> Tensor:
        """Draw Poisson counts.

        Args:
            rate: The rates (N, ...), at least 0.

        Returns:
            The counts as float32, of the same shape.
        """
        ...

    def pick(self, options: int) -> Tensor:
        """Choose a number for each image, uniformly.

        Args:
            options: The number of choices.

        Returns:
            (N,) int64 on the CPU, each in [0, options).
        """
        ...

    def take(self, index: Tensor) -> RandomStream:
        """Return the source for a subset of the images.

        Args:
            index: The positions of the images, (M,) int64 on the CPU.
        """
        ...


class BatchStream:
    """A source that draws from a torch generator, in the order of the calls.

    Choices are drawn on the CPU, so that a batch on a GPU never waits for the host.
    """

    def __init__(self, images: int, seed: int, device: torch.device | str = "cpu") -> None:
        """Start the generators.

        Args:
            images: The number of images, N.
            seed: The seed, 0 to 2**63 - 1.
            device: The device of the numbers.
        """
        self.images = images
        self.device = torch.device(device)
        self.host = torch.Generator().manual_seed(seed)
        on_host = self.device.type == "cpu"
        self.generator = self.host if on_host else torch.Generator(self.device).manual_seed(seed)

    def __len__(self) -> int:
        """Return the number of images."""
        return self.images

    def uniform(self, *shape: int) -> Tensor:
        """Draw uniform numbers; see `RandomStream.uniform`."""
        return torch.rand(self.images, *shape, generator=self.generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers; see `RandomStream.normal`."""
        return torch.randn(self.images, *shape, generator=self.generator, device=self.device)

    def poisson(self, rate: Tensor) -> Tensor:
        """Draw Poisson counts; see `RandomStream.poisson`."""
        return torch.poisson(rate, generator=self.generator)

    def pick(self, options: int) -> Tensor:
        """Choose a number for each image, uniformly; see `RandomStream.pick`."""
        return torch.randint(options, (self.images,), generator=self.host)

    def take(self, index: Tensor) -> BatchStream:
        """Return a source that shares the generators; see `RandomStream.take`."""
        part = BatchStream.__new__(BatchStream)
        part.images, part.device = len(index), self.device
        part.host, part.generator = self.host, self.generator
        return part


class IndexedStream:
    """A source whose numbers depend only on (seed, image index, number of earlier draws)."""

    def __init__(self, indices: _Indices, seed: int, device: torch.device | str = "cpu") -> None:
        """Start before the first draw.

        Args:
            indices: (N,) int64, the numbers of the images in their data set.
            seed: The seed, 0 to 2**63 - 1.
            device: The device of the numbers.
        """
        self.indices = torch.as_tensor(indices, dtype=torch.int64).cpu()
        self.seed = seed
        self.device = torch.device(device)
        self.stream = 0
        self.parts: list[IndexedStream] = []

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.indices)

    def uniform(self, *shape: int) -> Tensor:
        """Draw uniform numbers; see `RandomStream.uniform`."""
        count = math.prod(shape)
        words = self._draw_words(-(-count // 4), self.device)
        # With more bits than the 24 of float32, a number could be rounded up to 1.
        return _to_unit_interval(words, 24).float().flatten(1)[:, :count].reshape(len(self), *shape)

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers; see `RandomStream.normal`."""
        # Box and Muller, 1958. It is computed in float64, so that the float32 results are the same
        # on all hardware, except for one rounding in half a billion.
        count = math.prod(shape)
        words = self._draw_words(-(-count // 4), self.device)
        # Adding 1 turns [0, 1) into (0, 1], since the logarithm of 0 is infinite.
        radius = torch.sqrt(-2.0 * torch.log(_to_unit_interval(words[:, :2] + 1, 32)))
        angle = (2.0 * math.pi) * _to_unit_interval(words[:, 2:], 32)
        pair = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
        return pair.float().flatten(1)[:, :count].reshape(len(self), *shape)

    def poisson(self, rate: Tensor) -> Tensor:
        """Draw Poisson counts; see `RandomStream.poisson`."""
        return _invert_poisson(self.uniform(*rate.shape[1:]).double(), rate.double()).float()

    def pick(self, options: int) -> Tensor:
        """Choose a number for each image, uniformly; see `RandomStream.pick`."""
        words = self._draw_words(1, torch.device("cpu"))
        return (words[:, 0, 0] * options) >> 32

    def take(self, index: Tensor) -> IndexedStream:
        """Return a source such that later draws from either never repeat each other; see `RandomStream.take`."""
        part = IndexedStream(self.indices[index], self.seed, self.device)
        part.stream = self.stream
        self.parts.append(part)
        return part

    def _get_next_stream(self) -> int:
        """Return the first stream that neither this source nor a part of it has used."""
        return max([self.stream, *(part._get_next_stream() for part in self.parts)])

    def _draw_words(self, blocks: int, device: torch.device) -> Tensor:
        """Return (N, 4, blocks) int64 with 32 random bits each, from the next stream."""
        image = self.indices.to(device, non_blocking=True)[:, None]
        block = torch.arange(blocks, device=device)[None, :]
        # beyond the streams of the parts, or an image would get the same numbers twice
        used = self._get_next_stream()
        stream = torch.tensor(used, device=device)
        self.stream = used + 1
        counter = (block.expand(len(self), -1), stream, image & _WORD, image >> 32)
        key = (self.seed & _WORD, (self.seed >> 32) & _WORD)
        return torch.stack(generate_philox(counter, key), dim=1)


def generate_philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Generate random words with Philox 4x32-10, the counter-based generator of Salmon et al., SC 2011.

    Args:
        counter: Four int64 tensors that broadcast together, with values in [0, 2**32).
        key: Two integers in [0, 2**32).

    Returns:
        Four int64 tensors with values in [0, 2**32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # int64 products wrap around, which leaves both 32-bit halves correct
        low, high = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (
            (high >> 32 & _WORD) ^ c1 ^ k0,
            high & _WORD,
            (low >> 32 & _WORD) ^ c3 ^ k1,
            low & _WORD,
        )
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return c0, c1, c2, c3


def _to_unit_interval(words: Tensor, bits: int) -> Tensor:
    """Convert 32-bit words to float64 in [0, 1), from their leading `bits`."""
    return (words >> (32 - bits)).double() * 2.0**-bits


def _invert_poisson(u: Tensor, rate: Tensor) -> Tensor:
    """Return the smallest k with P(X <= k) > u for X ~ Poisson(rate), by exact inversion.

    The search starts from the Cornish-Fisher expansion. P(X <= k) is the regularized upper
    incomplete gamma function Q(k + 1, rate).
    """
    safe = rate.clamp_min(1e-30)
    # The quantiles of 0 and 1 are infinite. The search below corrects the start in any case.
    z = torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12))
    k = (rate + z * rate.sqrt() + (z * z - 1) / 6).floor().clamp_min(0)
    while bool((high := (k > 0) & (torch.special.gammaincc(k.clamp_min(1e-30), safe) > u)).any()):
        k = k - high.double()
    while bool((low := torch.special.gammaincc(k + 1, safe) <= u).any()):
        k = k + low.double()
    return torch.where(rate > 0, k, torch.zeros_like(k))
