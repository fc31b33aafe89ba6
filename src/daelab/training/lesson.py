"""What a step shows to a network, and how what it gives is measured."""

from __future__ import annotations

import torch
from torch import Tensor

from daelab import losses, modelfile
from daelab.model import Network, inference
from daelab.noise import BatchDraws
from daelab.recipe import Recipe
from daelab.training.feed import derive, mirror, turn


class Lesson:
    """The noise, flips, loss and teacher of a recipe; a step's are a function of (seed, step) alone.

    Args:
        size: height and width of the images.

    Raises:
        ValueError: weights that the loss or the teacher needs are not there, do not load, or take other sizes.
    """

    def __init__(self, recipe: Recipe, size: tuple[int, int], device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.criterion = losses.parse(recipe.loss)
        """The recipe's loss against the clean images alone, as validation measures it."""
        # a loss may need weights that are not there: known now, not after the first batch
        blank = torch.zeros(1, 3, *size, device=device)
        self.criterion(blank, blank)
        self.teacher = None
        if recipe.teacher:
            network, card = model_of("teacher.model", recipe.teacher.model)
            if any(side % card.spec.multiple for side in size):
                height, width = size
                raise ValueError(f"teacher.model {recipe.teacher.model} does not take images of {height}x{width}")
            self.teacher = inference(network, device)

    def show(self, clean: Tensor, step: int, progress: float) -> tuple[Tensor, Tensor]:
        """The clean images of a step, flipped and turned as the recipe says, and the noisy ones.

        Args:
            progress: share of the training that is done, 0 to 1.
        """
        training = self.recipe.training
        draws = BatchDraws(len(clean), derive(self.recipe.seed, "noise", step), self.device)
        if training.flips:
            clean = mirror(clean, draws.generator)
        if training.turns:
            clean = turn(clean, draws.generator)
        noisy = self.recipe.noise.apply(clean, draws)
        if training.curriculum and progress < training.curriculum:
            noisy = clean.lerp(noisy, progress / training.curriculum)
        return clean, noisy

    def loss(self, denoised: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        """A scalar: the recipe's loss, of which the teacher's share is against what the teacher gives."""
        loss = self.criterion(denoised, clean)
        if self.teacher is None or self.recipe.teacher is None:
            return loss
        # made in inference mode, which what is trained through may not be
        taught = self.criterion(denoised, self.teacher(noisy).clone())
        return torch.lerp(loss, taught, self.recipe.teacher.weight)


def model_of(field: str, name: str) -> tuple[Network, modelfile.Card]:
    """The model that a field of a recipe names.

    Raises:
        ValueError: there is none, or it does not load; names the field.
    """
    try:
        return modelfile.load(modelfile.find(name))
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{field}: {error}") from error
