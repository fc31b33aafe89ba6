"""Where random numbers come from: one interface, two sources.

`BatchDraws` takes them from a torch generator: the fast source, for training.
`IndexedDraws` computes them from (seed, image index) with the counter-based generator
Philox, for a whole batch at once: image i gets the same numbers whatever the batch
size, the order, the worker count or the number of processes. For evaluation.

Shapes: N images, `shape` is what each image gets.
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
Indices = Tensor | Sequence[int] | npt.NDArray[np.integer[Any]]


class RandomStream(Protocol):
    """Random numbers for N images; every call gives fresh ones."""

    def __len__(self) -> int: ...

    def uniform(self, *shape: int) -> Tensor:
        """(N, *shape) float32 in [0, 1)."""
        ...

    def normal(self, *shape: int) -> Tensor:
        """(N, *shape) float32, standard normal."""
        ...

    def poisson(self, rate: Tensor) -> Tensor:
        """Poisson counts for `rate` (N, ...), as float32."""
        ...

    def pick(self, options: int) -> Tensor:
        """(N,) int64 on the CPU: one of `options` choices for each image, uniformly."""
        ...

    def take(self, index: Tensor) -> RandomStream:
        """The source for a subset of the images; `index` (M,) int64 on the CPU."""
        ...


class BatchStream:
    """Draws from a torch generator, in the order of the calls.

    Choices are drawn on the CPU, so that a batch on a GPU never waits for the host.
    """

    def __init__(self, images: int, seed: int, device: torch.device | str = "cpu") -> None:
        self.images = images
        self.device = torch.device(device)
        self.host = torch.Generator().manual_seed(seed)
        on_host = self.device.type == "cpu"
        self.generator = self.host if on_host else torch.Generator(self.device).manual_seed(seed)

    def __len__(self) -> int:
        return self.images

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(self.images, *shape, generator=self.generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.images, *shape, generator=self.generator, device=self.device)

    def poisson(self, rate: Tensor) -> Tensor:
        return torch.poisson(rate, generator=self.generator)

    def pick(self, options: int) -> Tensor:
        return torch.randint(options, (self.images,), generator=self.host)

    def take(self, index: Tensor) -> BatchStream:
        part = BatchStream.__new__(BatchStream)
        part.images, part.device = len(index), self.device
        part.host, part.generator = self.host, self.generator
        return part


class IndexedStream:
    """Draws that depend on (seed, image index, how many draws came before) alone.

    Args:
        indices: (N,) int64, the images' numbers in their data set.
        seed: 0 to 2**63 - 1.
        device: where the numbers are wanted.
    """

    def __init__(self, indices: Indices, seed: int, device: torch.device | str = "cpu") -> None:
        self.indices = torch.as_tensor(indices, dtype=torch.int64).cpu()
        self.seed = seed
        self.device = torch.device(device)
        self.stream = 0
        self.parts: list[IndexedStream] = []

    def __len__(self) -> int:
        return len(self.indices)

    def uniform(self, *shape: int) -> Tensor:
        count = math.prod(shape)
        words = self._words(-(-count // 4), self.device)
        return _unit(words, 24).float().flatten(1)[:, :count].reshape(len(self), *shape)

    def normal(self, *shape: int) -> Tensor:
        # Box and Muller, 1958. In float64, so that the float32 result is the same
        # on every machine but for one rounding in half a billion.
        count = math.prod(shape)
        words = self._words(-(-count // 4), self.device)
        radius = torch.sqrt(-2.0 * torch.log(_unit(words[:, :2] + 1, 32)))
        angle = (2.0 * math.pi) * _unit(words[:, 2:], 32)
        pair = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
        return pair.float().flatten(1)[:, :count].reshape(len(self), *shape)

    def poisson(self, rate: Tensor) -> Tensor:
        return _poisson_quantile(self.uniform(*rate.shape[1:]).double(), rate.double()).float()

    def pick(self, options: int) -> Tensor:
        words = self._words(1, torch.device("cpu"))
        return (words[:, 0, 0] * options) >> 32

    def take(self, index: Tensor) -> IndexedStream:
        part = IndexedStream(self.indices[index], self.seed, self.device)
        part.stream = self.stream
        self.parts.append(part)
        return part

    def _reached(self) -> int:
        """The first stream that neither this nor a part of it has used."""
        return max([self.stream, *(part._reached() for part in self.parts)])

    def _words(self, blocks: int, device: torch.device) -> Tensor:
        """(N, 4, blocks) int64 holding 32 random bits each, of the next stream."""
        image = self.indices.to(device, non_blocking=True)[:, None]
        block = torch.arange(blocks, device=device)[None, :]
        # past those of the parts, or an image would meet the same numbers twice
        used = self._reached()
        stream = torch.tensor(used, device=device)
        self.stream = used + 1
        counter = (block.expand(len(self), -1), stream, image & _WORD, image >> 32)
        key = (self.seed & _WORD, (self.seed >> 32) & _WORD)
        return torch.stack(philox(counter, key), dim=1)


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Philox 4x32-10, the counter-based generator of Salmon et al., SC 2011.

    Args:
        counter: four int64 tensors that broadcast together, values in [0, 2**32).
        key: two ints in [0, 2**32).

    Returns:
        four int64 tensors, values in [0, 2**32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # int64 products wrap around, which leaves both 32-bit halves right
        low, high = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (
            (high >> 32 & _WORD) ^ c1 ^ k0,
            high & _WORD,
            (low >> 32 & _WORD) ^ c3 ^ k1,
            low & _WORD,
        )
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return c0, c1, c2, c3


def _unit(words: Tensor, bits: int) -> Tensor:
    """32-bit words -> float64 in [0, 1), with the leading `bits` of them."""
    return (words >> (32 - bits)).double() * 2.0**-bits


def _poisson_quantile(u: Tensor, rate: Tensor) -> Tensor:
    """The smallest k with P(X <= k) > u for X ~ Poisson(rate): exact inversion.

    Starts from the Cornish-Fisher expansion and steps to the answer; P(X <= k) is the
    regularised upper incomplete gamma function Q(k + 1, rate).
    """
    safe = rate.clamp_min(1e-30)
    z = torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12))
    k = (rate + z * rate.sqrt() + (z * z - 1) / 6).floor().clamp_min(0)
    while bool((high := (k > 0) & (torch.special.gammaincc(k.clamp_min(1e-30), safe) > u)).any()):
        k = k - high.double()
    while bool((low := torch.special.gammaincc(k + 1, safe) <= u).any()):
        k = k + low.double()
    return torch.where(rate > 0, k, torch.zeros_like(k))
