"""The user's own classifiers: an ONNX file, or a Python function that gives an nn.Module."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daelab._util.hardware import open_onnx_session, shorten_error
from daelab.evaluation.classifiers.classifier import Classifier


def resize_images(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, 3, H, W) at another size, bilinear, as Pillow does it."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)


def load_onnx_classifier(path: Path, _device: torch.device) -> Classifier:
    """A classifier in an ONNX file, run by onnxruntime on the CPU.

    Its first input takes float RGB images (N, 3, H, W) in [0, 1] (normalisation belongs in the
    graph; images of another size are resized), its first output gives scores (N, K). A metadata
    entry `classes`, a JSON list, names the classes; else they are the data set's, in its order.

    Raises:
        ValueError: onnxruntime is not installed, or the file is no such classifier.
    """
    try:
        session = open_onnx_session(path)
    except ValueError as error:
        raise ValueError(f"judge {error}") from None
    entry = session.get_inputs()[0]
    shape = [side if isinstance(side, int) else None for side in entry.shape]
    if len(shape) != 4 or shape[1] not in (3, None) or "float" not in entry.type:
        raise ValueError(f"judge {path}: its input is {entry.type} {entry.shape}; wanted are float (N, 3, H, W)")
    kind = "float16" if "float16" in entry.type else "float32"

    def logits(x: Tensor) -> Tensor:
        x = resize_images(x.cpu(), (shape[2] or x.shape[2], shape[3] or x.shape[3]))
        pixels = x.numpy().astype(kind, copy=False)
        step = shape[0] or len(pixels)
        try:
            outs = [session.run(None, {entry.name: pixels[i : i + step]})[0] for i in range(0, len(pixels), step)]
        except Exception as error:
            raise ValueError(f"judge {path}: {shorten_error(error)}") from None
        return torch.cat([torch.from_numpy(out) for out in outs])

    classes = _names(session.get_modelmeta().custom_metadata_map.get("classes", "[]"))
    return Classifier(str(path), logits, classes, f"ONNX, onnxruntime {sys.modules['onnxruntime'].__version__}")


def load_factory_classifier(text: str, device: torch.device) -> Classifier:
    """A classifier from `module:factory`, found in the current folder or installed. This runs its code.

    The factory gives an nn.Module (N, 3, H, W) float32 in [0, 1] -> scores (N, K). Two
    attributes are read where it has them: `classes`, names in the order of the scores, and
    `size`, the (H, W) it wants.

    Raises:
        ValueError: the module or the function is not there, or gives something else.
    """
    module, _, function = text.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for part in function.split("."):
            found = getattr(found, part)
        network = found()
    except Exception as error:  # the user's code may raise anything
        raise ValueError(f"judge {text}: {type(error).__name__}: {shorten_error(error)}") from None
    finally:
        sys.path.remove(here)
    if not isinstance(network, nn.Module):
        raise ValueError(f"judge {text}: it gave {type(network).__name__}, not an nn.Module")
    network = network.to(device).eval().requires_grad_(False)
    size = getattr(network, "size", None)

    def logits(x: Tensor) -> Tensor:
        try:
            out: Tensor = network(resize_images(x, size or tuple(x.shape[-2:])).to(device))
        except Exception as error:
            raise ValueError(f"judge {text}: {type(error).__name__}: {shorten_error(error)}") from None
        return out

    classes = tuple(str(name) for name in getattr(network, "classes", ()))
    return Classifier(text, logits, classes, f"{type(network).__name__} of {text}")


def _names(text: str) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except ValueError:
        names = text.split(",")
    return tuple(str(name) for name in names)
