"""The paper's classifier: a vision transformer fine-tuned on CIFAR-10, through transformers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daelab.evaluation.classifiers.classifier import Classifier
from daelab.evaluation.classifiers.external import resize_images

HUB = "nateraw/vit-base-patch16-224-cifar10"
"""Named in the paper; 97.7% macro F1 on clean CIFAR-10 (section on the final results)."""


def load_vit(path: Path | None, device: torch.device) -> Classifier:
    """The paper's vision transformer.

    The network is never asked for unless the path is `hub`: with no path the weights must be in
    the local cache of huggingface_hub. Its preprocessing is the model's own (`ViTImageProcessor`):
    bilinear to 224 x 224, then (x - 0.5) / 0.5, from the file `preprocessor_config.json` where
    there is one.

    Args:
        path: the folder of its files (config.json and weights), or `hub` to download them.

    Raises:
        ValueError: transformers is not installed, or the files do not load.
        FileNotFoundError: the weights are not there; says how to get them.
    """
    try:
        import transformers
    except ImportError:
        raise ValueError("judge vit: needs transformers: pip install 'daelab[classifier]'") from None
    hub = path is not None and str(path) == "hub"
    source = HUB if path is None or hub else str(path)
    if path is not None and not hub and not (path / "config.json").is_file():
        raise FileNotFoundError(f"judge vit: no config.json in {path}; {_how()}")
    logging: Any = transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        network: Any = transformers.ViTForImageClassification.from_pretrained(source, local_files_only=not hub)
        settings = _preprocessing(transformers, source, local=not hub)
    except Exception as error:  # transformers and huggingface_hub raise many kinds
        if path is None:
            raise FileNotFoundError(f"judge vit: the weights of {HUB} are not on this machine; {_how()}") from None
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
        raise ValueError(f"judge vit: {source}: {reason}; {_how()}") from None
    finally:
        logging.set_verbosity(before)
    network.to(device).eval().requires_grad_(False)
    return Classifier("vit", _Logits(network, device, **settings), _classes(network.config), f"{source}, transformers")


def _how() -> str:
    return (
        f"download them with `hf download {HUB} --local-dir DIR` and give --judge-path DIR, or --judge-path hub"
        " to download them now"
    )


class _Logits:
    """Preprocessing and network."""

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
    """ViTImageProcessor in torch: 8-bit pixels, resized bilinearly and rounded as Pillow does, normalised."""
    x = x.mul(255).round()
    return (resize_images(x, size).round().clamp(0, 255).div(255) - mean) / std


def _preprocessing(transformers: Any, source: str, local: bool) -> dict[str, Any]:
    """Size, mean and std of the model's image processor; the paper's where the files bring none."""
    try:
        found, _ = transformers.image_processing_base.ImageProcessingMixin.get_image_processor_dict(
            source, local_files_only=local
        )
    except OSError:
        found = {}
    size = found.get("size", 224)
    sides = (size, size) if isinstance(size, int) else (size["height"], size["width"])
    return {"size": sides, "mean": found.get("image_mean", [0.5] * 3), "std": found.get("image_std", [0.5] * 3)}


def _classes(config: Any) -> tuple[str, ...]:
    """Names in the order of the logits; none where they are transformers' placeholders."""
    names = tuple(str(config.id2label[place]) for place in range(config.num_labels))
    return () if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names
