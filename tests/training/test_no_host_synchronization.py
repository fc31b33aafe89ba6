"""A training step never makes the host wait for a GPU: it reads no tensor, and no size that depends on one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from daelab.datasets.base import ImageSet
from daelab.runs.folder import get_run_folder
from daelab.training.checkpoint_schedule import CheckpointSchedule
from daelab.training.engine import Trainer
from daelab.training.recipe import list_recipes, load_recipe
from daelab.training.tasks.denoising import DenoisingTask

WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2", "is_nonzero", "equal"}
"""Operations whose result, or its size, must reach the host before the next one can be launched."""


class WaitDetector(TorchDispatchMode):
    """A mode that refuses operations that make the host wait for a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masked = name in {"index", "index_put", "index_put_"} and any(
            place is not None and place.dtype == torch.bool for place in args[1]
        )
        if name in WAITING or masked:
            raise AssertionError(f"{name} makes the host wait")
        return func(*args, **(kwargs or {}))


def make_task(name: str) -> DenoisingTask:
    recipe = load_recipe(name, ["training.batch=4", "data.train=8", "data.val=2"])
    crop = 32 if recipe.data.name == "cifar10" else 64
    # The weights do not matter, and the file that they are from may not be there.
    training = recipe.training.model_copy(update={"start": None})
    recipe = recipe.model_copy(update={"training": training})
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, crop, crop), dtype=np.uint8)
    images = ImageSet(name="random", images=pixels, labels=np.zeros(8, np.int64), classes=("one",))
    return DenoisingTask(recipe, images, images.take(np.arange(2)), torch.device("cpu"))


def test_the_detector_detects() -> None:
    x = torch.arange(4.0)
    waiting: list[Callable[[], object]] = [lambda: x[1].item(), lambda: x[x > 1], x.nonzero, lambda: bool(x[0])]
    for operation in waiting:
        with WaitDetector(), pytest.raises(AssertionError, match="wait"):
            operation()


DISTINCT = {
    (str(recipe.noise), recipe.loss, recipe.training.optimiser, type(recipe.spec).__name__): name
    for name, recipe in ((name, load_recipe(name)) for name in list_recipes())
}
"""One recipe for each combination of what a step consists of."""


@pytest.mark.parametrize("name", DISTINCT.values())
def test_a_step_never_waits(name: str, tmp_path: Path) -> None:
    task = make_task(name)
    trainer = Trainer(task, get_run_folder("run", tmp_path), CheckpointSchedule())
    task.initialize(trainer.state)
    batches = iter(task.load_batches(0, 0, lambda step: 0.5))
    # The first step creates the optimizer's state, and may wait.
    trainer._step(next(batches))
    with WaitDetector():
        trainer._step(next(batches))
