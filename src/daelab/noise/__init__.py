"""Noise recipes as frozen values with a text form; parse, print, apply.

    noise = parse("published-code")
    noisy = noise.apply(x, BatchDraws(len(x), seed=0))              # training
    noisy = noise.apply(x, IndexedDraws(indices, seed=0))           # evaluation

`x` is (N, C, H, W) float32 in [0, 1]. `kinds` holds the paper's noises and the textbook's,
`photographic` those of cameras, scanners, film and files, `draws` the sources of random
numbers, `text` the grammar and the presets. The module itself is `parse`:
`daelab.noise("type-1")`.
"""

import sys
from types import ModuleType

from daelab.noise.draws import BatchDraws, Draws, IndexedDraws
from daelab.noise.kinds import Chain, Mixture, Noise, Range, Term, terms
from daelab.noise.text import FORMULAS, PRESETS, parse

__all__ = [
    "FORMULAS",
    "PRESETS",
    "BatchDraws",
    "Chain",
    "Draws",
    "IndexedDraws",
    "Mixture",
    "Noise",
    "Range",
    "Term",
    "parse",
    "terms",
]


class _Callable(ModuleType):
    """`daelab.noise` is a module and, for users, the function that reads a noise."""

    def __call__(self, text: str) -> Noise:
        return parse(text)


sys.modules[__name__].__class__ = _Callable
