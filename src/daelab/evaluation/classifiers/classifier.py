"""A classifier that scores images: one callable, whatever is behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

LogitsFunction = Callable[[Tensor], Tensor]
"""(N, 3, H, W) float32 in [0, 1] -> (N, K) scores, the highest for the answer."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """Images (N, 3, H, W) float32 in [0, 1] -> (N,) int64 on the CPU, places in `classes`."""

    name: str
    logits: LogitsFunction
    classes: tuple[str, ...] = ()
    """Empty where the classifier does not say: then they are the data set's, in its order."""
    note: str = ""
    """One line: what it is and where it came from."""
    single: LogitsFunction | None = None
    """The same from one look at an image, where `logits` averages several."""
    _columns: tuple[int, ...] = ()
    """Which logits stand for `classes`, where not all of them in order."""
    _met: dict[tuple[bytes, tuple[int, ...]], Tensor] = field(default_factory=dict)

    def quick(self) -> Classifier:
        """This judge without test-time augmentation: faster, a little less right."""
        if self.single is None:
            return self
        return replace(self, logits=self.single, single=None, note=f"{self.note}, without augmentation", _met={})

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """The class of each image.

        Raises:
            ValueError: the classifier does not give (N, K) scores.
        """
        logits = torch.as_tensor(self.logits(images))
        wanted = len(self._columns) or len(self.classes)
        if logits.ndim != 2 or len(logits) != len(images) or (not self._columns and logits.shape[1] != wanted):
            raise ValueError(
                f"judge {self.name}: it gave {tuple(logits.shape)} for {len(images)} images;"
                f" wanted are scores of {wanted} classes for each"
            )
        if self._columns:
            logits = logits[:, list(self._columns)]
        return logits.float().argmax(1).cpu()

    def remembered(self, images: Tensor) -> Tensor:
        """The same, kept in memory by the pixels: clean and noisy test images come again with every model."""
        pixels = images.contiguous().cpu().numpy()
        digest = hashlib.blake2b(pixels.tobytes(), digest_size=16, key=str(pixels.shape).encode()).digest()
        key = (digest, self._columns)
        if key not in self._met:
            self._met[key] = self(images)
        return self._met[key]

    def on(self, classes: tuple[str, ...], data: str = "the data set") -> Classifier:
        """This judge answering with places in a data set's classes, matched by name.

        Raises:
            ValueError: it does not know one of the classes.
        """
        if not self.classes:
            return replace(self, classes=classes)
        if self.classes == classes:
            return self
        places = {_plain(name): place for place, name in enumerate(self.classes)}
        missing = [name for name in classes if _plain(name) not in places]
        if missing:
            raise ValueError(
                f"judge {self.name} does not know {_few(missing)} of {data}; it knows {_few(self.classes)}"
            )
        columns = tuple(places[_plain(name)] for name in classes)
        return replace(self, classes=classes, _columns=columns)


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ")


def _few(names: tuple[str, ...] | list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
