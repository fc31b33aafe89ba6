"""The one interface of all classifiers: a callable from images to classes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

LogitsFunction = Callable[[Tensor], Tensor]
"""A function of (N, 3, H, W) float32 in [0, 1] to (N, K) scores; the highest marks the predicted class."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier: images (N, 3, H, W) float32 in [0, 1] -> (N,) int64 on the CPU, indices into `classes`."""

    name: str
    logits: LogitsFunction
    classes: tuple[str, ...] = ()
    """The names of the classes. If empty, the classes are those of the data set, in its order."""
    note: str = ""
    """One line on what the classifier is and where it comes from."""
    single: LogitsFunction | None = None
    """The scores without test-time augmentation, if `logits` averages several views of an image."""
    _columns: tuple[int, ...] = ()
    """The indices of the logits of `classes`, unless they are all logits in order."""
    _cache: dict[tuple[bytes, tuple[int, ...]], Tensor] = field(default_factory=dict)

    def quick(self) -> Classifier:
        """Return this classifier without test-time augmentation: faster, a little less accurate."""
        if self.single is None:
            return self
        # With an empty cache, since the remembered classes are those of the augmented scores.
        return replace(self, logits=self.single, single=None, note=f"{self.note}, without augmentation", _cache={})

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Predict the class of each image.

        Args:
            images: (N, 3, H, W) float32 in [0, 1].

        Returns:
            (N,) int64 on the CPU, indices into `classes`.

        Raises:
            ValueError: The classifier does not give (N, K) scores, or gives NaN.
        """
        logits = torch.as_tensor(self.logits(images))
        count = len(self._columns) or len(self.classes)
        if logits.ndim != 2 or len(logits) != len(images) or (not self._columns and logits.shape[1] != count):
            raise ValueError(
                f"classifier {self.name}: it returned the shape {tuple(logits.shape)} for {len(images)} images;"
                f" expected the scores of {count} classes for each image"
            )
        if logits.isnan().any():
            raise ValueError(f"classifier {self.name}: it returned NaN; its weights may be damaged")
        if self._columns:
            logits = logits[:, list(self._columns)]
        return logits.float().argmax(1).cpu()

    def remembered(self, images: Tensor) -> Tensor:
        """Predict as `__call__` does, with a cache: clean and noisy test images return with every model.

        Args:
            images: (N, 3, H, W) float32 in [0, 1].
        """
        # The key is made of the pixels themselves, since the same images return as new tensors.
        pixels = images.contiguous().cpu().numpy()
        digest = hashlib.blake2b(pixels.tobytes(), digest_size=16, key=str(pixels.shape).encode()).digest()
        key = (digest, self._columns)
        if key not in self._cache:
            self._cache[key] = self(images)
        return self._cache[key]

    def on(self, classes: tuple[str, ...], data: str = "the data set") -> Classifier:
        """Return this classifier with the classes of a data set, matched by name.

        Args:
            classes: The names of the data set's classes, in its order.
            data: The name of the data set, for the error message.

        Raises:
            ValueError: The classifier does not know one of the classes.
        """
        if not self.classes:
            return replace(self, classes=classes)
        if self.classes == classes:
            return self
        places = {_plain(name): place for place, name in enumerate(self.classes)}
        missing = [name for name in classes if _plain(name) not in places]
        if missing:
            raise ValueError(
                f"classifier {self.name} does not know the classes {_few(missing)} of {data};"
                f" it knows {_few(self.classes)}"
            )
        columns = tuple(places[_plain(name)] for name in classes)
        return replace(self, classes=classes, _columns=columns)


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ")


def _few(names: tuple[str, ...] | list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
