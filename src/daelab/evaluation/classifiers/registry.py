"""The classifiers by name: those of daelab, the paper's, and the user's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from daelab._util.hardware import choose_device, choose_precision
from daelab._util.plugins import PluginTable
from daelab.errors import make_unknown_name_error
from daelab.evaluation.classifiers.classifier import Classifier
from daelab.evaluation.classifiers.classifier_file import read_classifier_file
from daelab.evaluation.classifiers.external import load_factory_classifier, load_onnx_classifier, resize_images
from daelab.evaluation.classifiers.network import TTA, ClassifierNetwork, average_views, compute_view_logits
from daelab.evaluation.classifiers.vit import load_vit

ClassifierReader = Callable[[Path | None, torch.device], Classifier]


def load_classifier(text: str, path: str | Path | None = None, device: torch.device | None = None) -> Classifier:
    """Load a classifier.

        builtin            daelab's classifier for CIFAR-10
        holdout            a second one of another architecture
        unseen             a third one, with which no shipped denoiser is trained or chosen
        photos             daelab's classifier for the bundled photographs
        vit                the paper's vision transformer (extra `classifier`); see `load_vit`
        FILE.safetensors   a file of `daelab train-judge`
        FILE.onnx          any classifier of RGB images in [0, 1]; see `load_onnx_classifier`
        module:factory     a Python function that returns an nn.Module; this runs your code

    Args:
        text: A name of `CLASSIFIERS`, a file, or a Python function, optionally after the prefix `judge:`.
        path: The folder of the weights of `vit`, or `hub` to download them; no other classifier takes a path.
        device: The device to compute on. Default: the GPU if there is one.

    Raises:
        ValueError: The name is unknown, or the classifier cannot be loaded.
        FileNotFoundError: There is no such file, or its weights are missing.
    """
    device = device or choose_device()
    name = text.removeprefix("judge:")
    if path is not None and name != "vit":
        raise ValueError(
            f"classifier {name}: only vit takes a path to its weights; write the file as the classifier itself"
        )
    if name in CLASSIFIERS:
        found = CLASSIFIERS[name](None if path is None else Path(path), device)
        # The loader may be that of a plugin.
        if not isinstance(found, Classifier):
            raise ValueError(f"classifier {name}: its loader returned {type(found).__name__}, not a Classifier")
        return found
    suffix = Path(name).suffix.lower()
    if suffix in _FILES:
        if not Path(name).is_file():
            raise FileNotFoundError(f"classifier {name}: the file does not exist")
        return _FILES[suffix](Path(name), device)
    if ":" in name:
        return load_factory_classifier(name, device)
    raise make_unknown_name_error(
        "classifier", name, [*CLASSIFIERS, *(f"FILE{suffix}" for suffix in _FILES), "module:factory"]
    )


def list_shipped_classifiers() -> dict[str, Path]:
    """Return the files of the shipped classifiers by name."""
    folder = Path(str(resources.files("daelab"))) / "models" / "weights" / "judge"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def load_classifier_file(path: Path, device: torch.device, name: str = "") -> Classifier:
    """Load one of daelab's classifiers, in bf16 where the hardware computes it natively.

    Args:
        path: The classifier file.
        device: The device to compute on.
        name: The name of the classifier. Default: the path.

    Raises:
        ValueError: The file is no classifier file.
    """
    file = read_classifier_file(path)
    card, network = file.card, file.network.to(device)
    precision = choose_precision("auto", device)

    def logits(x: Tensor, tta: str) -> Tensor:
        fitted = resize_images(x.to(device), card.size)
        return average_views(compute_view_logits(network, fitted, len(TTA[tta]), precision), tta)

    accuracy = "" if card.accuracy is None else f", accuracy {card.accuracy:.2%} on its test images"
    data = card.data.get("name", "unknown data")
    note = f"daelab's own, trained on {data}, test-time augmentation {card.tta}, {precision}{accuracy}"
    return Classifier(name or str(path), partial(logits, tta=card.tta), card.classes, note, partial(logits, tta="none"))


def load_classifier_network(name: str) -> ClassifierNetwork:
    """Load the network of one of daelab's classifiers.

    Args:
        name: The name of a shipped classifier, or a file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is no classifier file.
    """
    path = list_shipped_classifiers().get(name) or Path(name)
    if not path.is_file():
        raise FileNotFoundError(_missing(name))
    return read_classifier_file(path).network


def _missing(name: str) -> str:
    recipe = {"builtin": "judge/cifar10"}.get(name, f"judge/{name}")
    return (
        f"classifier {name}: its weights are not in this installation; create them with"
        f" `daelab train-judge --recipe {recipe} --save FILE.safetensors` and use them with --judge FILE"
    )


def _shipped(name: str, _path: Path | None, device: torch.device) -> Classifier:
    files = list_shipped_classifiers()
    if name not in files:
        raise FileNotFoundError(_missing(name))
    return load_classifier_file(files[name], device, name)


CLASSIFIERS: PluginTable[ClassifierReader] = PluginTable(
    "classifiers",
    {name: partial(_shipped, name) for name in ("builtin", "holdout", "photos", "unseen")} | {"vit": load_vit},
)
"""The classifiers by name: functions of the path of the weights, or None, and the device."""

_FILES: dict[str, Callable[[Path, torch.device], Classifier]] = {
    ".safetensors": load_classifier_file,
    ".onnx": load_onnx_classifier,
}
