"""The training objective of a denoiser: what a step shows to the network, and the loss of what it returns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from daelab._util.distributed import run_on_first
from daelab._util.text import summarize_error
from daelab.denoising.named_models import load_named_network
from daelab.evaluation.evaluate import LossFunction, make_noisy_batch
from daelab.models.architectures.base import Architecture
from daelab.models.external import split_model_name
from daelab.models.inference import prepare_inference
from daelab.models.layers import Network, append_noise_level
from daelab.models.model_file import ModelMetadata, load_network
from daelab.models.registry import find_model_file
from daelab.noise.random_streams import BatchStream
from daelab.training.loader import flip_randomly, reduce_randomly, rotate_randomly, zoom_randomly
from daelab.training.losses import parse_loss
from daelab.training.recipe import Recipe, list_recipes
from daelab.training.seeds import derive_seed
from daelab.training.self_supervised import SelfSupervisedLoss


class DenoisingObjective:
    """The noise, flips, loss and teacher of a recipe; those of a step follow from (seed, step) alone.

    Args:
        recipe: The recipe.
        size: Height and width of the images, in pixels.
        device: The device of the batches.
        loss: The loss, if it is a function that was handed over. Default: the recipe's.

    Raises:
        ValueError: Weights that the loss or the teacher needs are missing, do not load, or take other sizes.
    """

    def __init__(
        self, recipe: Recipe, size: tuple[int, int], device: torch.device, loss: LossFunction | None = None
    ) -> None:
        """Load the weights that the loss and the teacher need."""
        self.recipe, self.device = recipe, device
        self.criterion = loss or parse_loss(recipe.loss)
        """The recipe's loss against the clean images alone, as validation measures it."""
        # If weights of the loss are missing, it fails here and not after the first batch.
        blank = torch.zeros(1, recipe.spec.channels, *size, device=device)
        value = self.criterion(blank, blank)
        if not isinstance(value, Tensor) or value.ndim:
            raise ValueError(f"loss {recipe.loss} must return a scalar tensor, the mean over the images")
        _check_noise(recipe, blank)
        _check_self_supervised(recipe, self.criterion, size)
        self.teacher = None
        if recipe.teacher:
            name = recipe.teacher.model
            network, metadata = load_named_model("teacher.model", name)
            self.teacher_inputs = metadata.spec.inputs
            if any(side % metadata.spec.multiple for side in size):
                raise ValueError(f"teacher.model {name} does not take images of {size[0]}x{size[1]}")
            if self.teacher_inputs > recipe.spec.inputs:
                raise ValueError(f"teacher.model {name} needs the noise level as input; set spec.conditioned = true")
            self.teacher = prepare_inference(network, device)

    def transform(self, clean: Tensor, step: int, progress: float) -> tuple[Tensor, Tensor]:
        """Return the target images of a step, flipped and rotated as the recipe says, and the network's input.

        Args:
            clean: Clean images (N, 3, H, W) in [0, 1], or pairs (N, 6, H, W).
            step: The step, counted from the beginning of the training.
            progress: The share of the training that is over, from 0 to 1.
        """
        training = self.recipe.training
        stream = BatchStream(len(clean), derive_seed(self.recipe.seed, "noise", step), self.device)
        # Flips, turns and noise share one stream, so their order is part of what a seed means.
        if training.flips:
            clean = flip_randomly(clean, stream.generator)
        if training.turns:
            clean = rotate_randomly(clean, stream.generator)
        if training.reduce:
            clean = reduce_randomly(clean, training.reduce, stream.generator)
        if training.zoom:
            clean = zoom_randomly(clean, training.zoom, stream.generator)
        clean, noisy = make_noisy_batch(clean, self.recipe.noise, stream, self.recipe.spec.channels)
        if isinstance(self.criterion, SelfSupervisedLoss):
            # The clean images are not used at all, even if there are any.
            return noisy, self.criterion.draw(noisy, stream.generator)
        if training.curriculum and progress < training.curriculum:
            noisy = clean.lerp(noisy, progress / training.curriculum)
        return clean, make_network_input(self.recipe.spec, clean, noisy)

    def compute(self, network: Callable[[Tensor], Tensor], clean: Tensor, given: Tensor) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            network: The network.
            clean: The first of what `transform` returned: the target images.
            given: The second: the input of the network, or what a loss of noisy images alone has drawn.
        """
        if isinstance(self.criterion, SelfSupervisedLoss):
            return self.criterion.compute(network, clean, given)
        return self.loss(network(given), clean, given)

    def loss(self, denoised: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        """Return the recipe's loss, of which the teacher's share is against the teacher's output.

        Args:
            denoised: The network's output (N, 3, H, W).
            clean: The clean images (N, 3, H, W).
            noisy: The network's input (N, C, H, W).

        Returns:
            A scalar.
        """
        loss = self.criterion(denoised, clean)
        if self.teacher is None or self.recipe.teacher is None:
            return loss
        # The teacher's output is an inference tensor, which must be cloned before gradients can pass.
        teacher_loss = self.criterion(denoised, self.teacher(noisy[:, : self.teacher_inputs]).clone())
        return torch.lerp(loss, teacher_loss, self.recipe.teacher.weight)


def make_network_input(spec: Architecture, clean: Tensor, noisy: Tensor) -> Tensor:
    """Return a network's input: the noisy images, and for a conditioned network the level of each image's noise.

    Args:
        spec: The architecture of the network.
        clean: Clean images (N, 3, H, W).
        noisy: Noisy images (N, 3, H, W).
    """
    if not spec.conditioned:
        return noisy
    return append_noise_level(noisy, (noisy - clean).square().flatten(1).mean(1).sqrt())


def _check_self_supervised(recipe: Recipe, loss: LossFunction, size: tuple[int, int]) -> None:
    """Raise a ValueError if a loss of noisy images alone does not fit the other fields of the recipe."""
    if not isinstance(loss, SelfSupervisedLoss):
        return
    if recipe.teacher or recipe.spec.conditioned or recipe.training.curriculum:
        raise ValueError(
            f"loss {recipe.loss} allows no teacher, no curriculum and no network that takes the noise level"
        )
    multiple = loss.shrinks * recipe.spec.multiple
    if any(side % multiple for side in size):
        raise ValueError(f"loss {recipe.loss}: {size[0]}x{size[1]} images; their sides must be multiples of {multiple}")


def _check_noise(recipe: Recipe, blank: Tensor) -> None:
    """Raise a ValueError if the noise cannot be added to the images of the recipe, such as one for color images."""
    # A mixture adds only one of its components to an image, so each component is tried.
    for one in recipe.noise.options():
        try:
            one.apply(blank, BatchStream(1, 0, blank.device))
        except Exception as error:  # a noise of a plugin may raise anything
            if recipe.spec.channels == 3:
                raise
            reason = summarize_error(error)
            raise ValueError(
                f"noise {one} cannot be added to {recipe.spec.channels}-channel images: {reason}"
            ) from None


def load_named_model(field: str, name: str) -> tuple[Network, ModelMetadata]:
    """Load the model that a field of a recipe names.

    Args:
        field: The field, such as `training.start`, for the error message.
        name: The name or the path of the model.

    Raises:
        ValueError: There is no such model, or it does not load.
    """
    # The best model of a run, as the recipes of second stages name it.
    path = Path(name)
    if path.name == "best.safetensors" and not path.exists():
        run = path.parent.name
        first = (
            f"train the recipe {run} first, under the name {run}" if run in list_recipes() else "train this run first"
        )
        raise ValueError(f"{field}: there is no file {name}; {first}")
    try:
        if split_model_name(name)[0] is not None:
            return load_named_network(name)
        return run_on_first(lambda: load_network(find_model_file(name)))
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{field}: {error}") from error
