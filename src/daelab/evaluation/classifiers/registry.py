"""The judges by name, and `load`: ours, the paper's, or the user's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from daelab._util.hardware import choose_device, choose_precision
from daelab.errors import unknown_name
from daelab.evaluation.classifiers.classifier import Classifier
from daelab.evaluation.classifiers.classifier_file import read_classifier_file
from daelab.evaluation.classifiers.external import load_factory_classifier, load_onnx_classifier, resize_images
from daelab.evaluation.classifiers.network import TTA, ConvNet, average_views, compute_view_logits
from daelab.evaluation.classifiers.vit import load_vit

ClassifierReader = Callable[[Path | None, torch.device], Classifier]


def load_classifier(text: str, path: str | Path | None = None, device: torch.device | None = None) -> Classifier:
    """A judge by its text: a name of `JUDGES`, a file, or a Python factory. `judge:` may stand before it.

        builtin            ours for CIFAR-10
        holdout            a second one of another architecture, which no denoiser is trained against
        photos             ours for the bundled photographs
        vit                the paper's vision transformer (extra `classifier`); see `vit.load`
        FILE.safetensors   of `daelab train-judge`
        FILE.onnx          any classifier of RGB images in [0, 1]; see `outside.from_onnx`
        module:factory     a Python function that gives an nn.Module. This runs your code.

    Args:
        path: for `vit`: the folder of its weights, or `hub`.

    Raises:
        ValueError: an unknown name, or a judge that does not load; says what to do.
        FileNotFoundError: there is no such file, or weights are missing.
    """
    device = device or choose_device()
    name = text.removeprefix("judge:")
    if path is not None and name != "vit":
        raise ValueError(f"judge {name}: only vit takes a path to its weights; name a file as the judge itself")
    if name in CLASSIFIERS:
        return CLASSIFIERS[name](None if path is None else Path(path), device)
    suffix = Path(name).suffix.lower()
    if suffix in _FILES:
        if not Path(name).is_file():
            raise FileNotFoundError(f"judge {name}: there is no such file")
        return _FILES[suffix](Path(name), device)
    if ":" in name:
        return load_factory_classifier(name, device)
    raise unknown_name("judge", name, [*CLASSIFIERS, *(f"FILE{suffix}" for suffix in _FILES), "module:factory"])


def list_shipped_classifiers() -> dict[str, Path]:
    """The judges' files that ship, by name."""
    folder = Path(str(resources.files("daelab"))) / "models" / "weights" / "judge"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def load_classifier_file(path: Path, device: torch.device, name: str = "") -> Classifier:
    """A judge of ours, in bf16 where the machine computes it natively.

    Raises:
        ValueError: not a judge's file.
    """
    made = read_classifier_file(path)
    card, network = made.card, made.network.to(device)
    precision = choose_precision("auto", device)

    def logits(x: Tensor, tta: str) -> Tensor:
        fitted = resize_images(x.to(device), card.size)
        return average_views(compute_view_logits(network, fitted, len(TTA[tta]), precision), tta)

    right = "" if card.accuracy is None else f", {card.accuracy:.2%} of its test images right"
    data = card.data.get("name", "unknown data")
    note = f"daelab's own, trained on {data}, test-time augmentation {card.tta}, {precision}{right}"
    return Classifier(name or str(path), partial(logits, tta=card.tta), card.classes, note, partial(logits, tta="none"))


def load_classifier_network(name: str) -> ConvNet:
    """The network of a judge of ours: a name of one that ships, or a file.

    Raises:
        FileNotFoundError: it is not there; says how to make it.
        ValueError: not a judge's file.
    """
    path = list_shipped_classifiers().get(name) or Path(name)
    if not path.is_file():
        raise FileNotFoundError(_missing(name))
    return read_classifier_file(path).network


def _missing(name: str) -> str:
    recipe = {"builtin": "judge/cifar10"}.get(name, f"judge/{name}")
    return (
        f"judge {name}: its weights are not in this installation;"
        f" `daelab train-judge --recipe {recipe} --save FILE.safetensors` makes them, and --judge FILE takes them"
    )


def _shipped(name: str, _path: Path | None, device: torch.device) -> Classifier:
    files = list_shipped_classifiers()
    if name not in files:
        raise FileNotFoundError(_missing(name))
    return load_classifier_file(files[name], device, name)


CLASSIFIERS: dict[str, ClassifierReader] = {
    "builtin": partial(_shipped, "builtin"),
    "holdout": partial(_shipped, "holdout"),
    "photos": partial(_shipped, "photos"),
    "vit": load_vit,
}
"""Name -> function (path of weights or None, device) -> judge."""

_FILES: dict[str, Callable[[Path, torch.device], Classifier]] = {
    ".safetensors": load_classifier_file,
    ".onnx": load_onnx_classifier,
}
