"""What a step shows to a network, and how what it gives is measured."""

from __future__ import annotations

import torch
from torch import Tensor

from daelab._util.distributed import run_on_first
from daelab.models.architectures.base import Architecture
from daelab.models.layers import Network, append_noise_level, prepare_inference
from daelab.models.model_file import ModelMetadata, load_network
from daelab.models.registry import find_model_file
from daelab.noise.random_streams import BatchStream
from daelab.training.loader import derive_seed, flip_randomly, rotate_randomly
from daelab.training.losses import parse_loss
from daelab.training.recipe import Recipe


class DenoisingObjective:
    """The noise, flips, loss and teacher of a recipe; a step's are a function of (seed, step) alone.

    Args:
        size: height and width of the images.

    Raises:
        ValueError: weights that the loss or the teacher needs are not there, do not load, or take other sizes.
    """

    def __init__(self, recipe: Recipe, size: tuple[int, int], device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.criterion = parse_loss(recipe.loss)
        """The recipe's loss against the clean images alone, as validation measures it."""
        # a loss may need weights that are not there: known now, not after the first batch
        blank = torch.zeros(1, 3, *size, device=device)
        self.criterion(blank, blank)
        self.teacher = None
        if recipe.teacher:
            network, card = load_named_model("teacher.model", recipe.teacher.model)
            name, self.taught = recipe.teacher.model, card.spec.inputs
            if any(side % card.spec.multiple for side in size):
                raise ValueError(f"teacher.model {name} does not take images of {size[0]}x{size[1]}")
            if self.taught > recipe.spec.inputs:
                raise ValueError(f"teacher.model {name} is told the noise's level; set spec.conditioned = true too")
            self.teacher = prepare_inference(network, device)

    def show(self, clean: Tensor, step: int, progress: float) -> tuple[Tensor, Tensor]:
        """The clean images of a step, flipped and turned as the recipe says, and what the network is given for them.

        Args:
            progress: share of the training that is done, 0 to 1.
        """
        training = self.recipe.training
        draws = BatchStream(len(clean), derive_seed(self.recipe.seed, "noise", step), self.device)
        if training.flips:
            clean = flip_randomly(clean, draws.generator)
        if training.turns:
            clean = rotate_randomly(clean, draws.generator)
        noisy = self.recipe.noise.apply(clean, draws)
        if training.curriculum and progress < training.curriculum:
            noisy = clean.lerp(noisy, progress / training.curriculum)
        return clean, make_network_input(self.recipe.spec, clean, noisy)

    def loss(self, denoised: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        """A scalar: the recipe's loss, of which the teacher's share is against what the teacher makes of `noisy`."""
        loss = self.criterion(denoised, clean)
        if self.teacher is None or self.recipe.teacher is None:
            return loss
        # made in inference mode, which what is trained through may not be
        taught = self.criterion(denoised, self.teacher(noisy[:, : self.taught]).clone())
        return torch.lerp(loss, taught, self.recipe.teacher.weight)


def make_network_input(spec: Architecture, clean: Tensor, noisy: Tensor) -> Tensor:
    """What a network is given in training: the noisy images, and where it is told, the level of each one's noise."""
    if not spec.conditioned:
        return noisy
    return append_noise_level(noisy, (noisy - clean).square().flatten(1).mean(1).sqrt())


def load_named_model(field: str, name: str) -> tuple[Network, ModelMetadata]:
    """The model that a field of a recipe names.

    Raises:
        ValueError: there is none, or it does not load; names the field.
    """
    try:
        return run_on_first(lambda: load_network(find_model_file(name)))
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{field}: {error}") from error
