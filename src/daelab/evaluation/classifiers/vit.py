"""The paper's classifier: a vision transformer fine-tuned on CIFAR-10, through transformers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daelab._util.text import shorten_error
from daelab.evaluation.classifiers.classifier import Classifier
from daelab.evaluation.classifiers.external import resize_images

HUB = "nateraw/vit-base-patch16-224-cifar10"
"""The model that the paper names; its macro F1 on clean CIFAR-10 is 97.7% (section on the final results)."""


def load_vit(path: Path | None, device: torch.device) -> Classifier:
    """Load the paper's vision transformer.

    Nothing is downloaded unless the path is `hub`; without a path the weights must be in the local cache of
    huggingface_hub. The preprocessing is the model's own (`ViTImageProcessor`), as `preprocessor_config.json` says;
    without that file, images are resized bilinearly to 224 x 224 and scaled by (x - 0.5) / 0.5.

    Args:
        path: The folder of the files (config.json and weights), or `hub` to download them.
        device: The device to compute on.

    Raises:
        ValueError: transformers is not installed, or the files cannot be loaded.
        FileNotFoundError: The weights are missing.
    """
    try:
        import transformers
    except ImportError:
        raise ValueError("classifier vit: transformers is not installed: pip install 'daelab[classifier]'") from None
    hub = path is not None and str(path) == "hub"
    source = HUB if path is None or hub else str(path)
    if path is not None and not hub and not (path / "config.json").is_file():
        raise FileNotFoundError(f"classifier vit: {path} has no config.json; {_describe_download()}")
    logging: Any = transformers.utils.logging
    before = logging.get_verbosity()
    # The library would print warnings between the lines of a command.
    logging.set_verbosity_error()
    try:
        network: Any = transformers.ViTForImageClassification.from_pretrained(source, local_files_only=not hub)
        settings = _preprocessing(transformers, source, local=not hub)
    except Exception as error:  # transformers and huggingface_hub raise many kinds
        if path is None:
            raise FileNotFoundError(
                f"classifier vit: the weights of {HUB} are not on this computer; {_describe_download()}"
            ) from None
        reason = shorten_error(error)
        raise ValueError(f"classifier vit: {source}: {reason}; {_describe_download()}") from None
    finally:
        logging.set_verbosity(before)
    network.to(device).eval().requires_grad_(False)
    return Classifier("vit", _Logits(network, device, **settings), _classes(network.config), f"{source}, transformers")


def _describe_download() -> str:
    return (
        f"download them with `hf download {HUB} --local-dir DIR` and give --judge-path DIR, or --judge-path hub"
        " to download them now"
    )


class _Logits:
    """The preprocessing and the network as one function."""

    def __init__(
        self, network: Any, device: torch.device, size: tuple[int, int], mean: list[float], std: list[float]
    ) -> None:
        self.network, self.device, self.size = network, device, size
        self.mean, self.std = (torch.tensor(values, device=device)[:, None, None] for values in (mean, std))

    def __call__(self, x: Tensor) -> Tensor:
        x = preprocess_for_vit(x.to(self.device), self.size, self.mean, self.std)
        logits: Tensor = self.network(pixel_values=x).logits
        return logits


def preprocess_for_vit(x: Tensor, size: tuple[int, int], mean: Tensor, std: Tensor) -> Tensor:
    """Prepare images as ViTImageProcessor does: 8-bit pixels, resized bilinearly and rounded, then normalized.

    Args:
        x: (N, 3, H, W) in [0, 1].
        size: The (height, width) of the network's input, in pixels.
        mean: (3, 1, 1) the mean of each channel.
        std: (3, 1, 1) the standard deviation of each channel.
    """
    # ViTImageProcessor takes 8-bit pixels, so the classifier must see the same whole numbers here.
    x = x.mul(255).round()
    return (resize_images(x, size).round().clamp(0, 255).div(255) - mean) / std


def _preprocessing(transformers: Any, source: str, local: bool) -> dict[str, Any]:
    """Read size, mean and std of the model's image processor; the paper's values if the files have none."""
    try:
        config, _ = transformers.image_processing_base.ImageProcessingMixin.get_image_processor_dict(
            source, local_files_only=local
        )
    except OSError:
        config = {}
    size = config.get("size", 224)
    sides = (size, size) if isinstance(size, int) else (size["height"], size["width"])
    return {"size": sides, "mean": config.get("image_mean", [0.5] * 3), "std": config.get("image_std", [0.5] * 3)}


def _classes(config: Any) -> tuple[str, ...]:
    """Return the names in the order of the logits; none if they are the placeholders of transformers."""
    names = tuple(str(config.id2label[place]) for place in range(config.num_labels))
    return () if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names
