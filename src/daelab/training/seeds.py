"""Seeds of their own for everything random in a training, all derived from the seed of the recipe."""

from __future__ import annotations

import numpy as np

PURPOSES = {
    # denoising
    "order": 0,
    "noise": 1,
    "weights": 2,
    "crops": 3,
    # classification
    "classifier subset": 0,
    "classifier weights": 1,
    "classifier order": 2,
    "classifier flips": 3,
    "classifier translations": 4,
    "classifier statistics": 5,
}
"""Purpose -> the number that keeps its seeds apart from others of the same task.

Changing a number changes every training that uses it."""


def derive_seed(seed: int, purpose: str, number: int = 0) -> int:
    """Return a seed that belongs to one purpose and one number alone.

    Args:
        seed: The seed of the recipe.
        purpose: A key of `PURPOSES`.
        number: The epoch or step, from 0.

    Returns:
        A seed from 0 to 2**63 - 1.
    """
    # SeedSequence hashes its input, so that the streams of neighboring steps are unrelated.
    words = np.random.SeedSequence([seed, PURPOSES[purpose], number]).generate_state(1, np.uint64)
    # Without the last bit the seed fits a signed 64-bit integer.
    return int(words[0] >> np.uint64(1))
