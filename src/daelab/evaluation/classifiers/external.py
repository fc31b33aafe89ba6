"""The user's own classifier: an ONNX file, or a Python function that returns an nn.Module."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daelab._util.hardware import open_onnx_session
from daelab._util.plugins import import_object
from daelab._util.text import shorten_error, summarize_error
from daelab.evaluation.classifiers.classifier import Classifier


def resize_images(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize images bilinearly, as Pillow does.

    Args:
        x: (N, 3, H, W) images.
        size: The new (height, width) in pixels.
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)


def load_onnx_classifier(path: Path, _device: torch.device) -> Classifier:
    """Load a classifier from an ONNX file, which onnxruntime runs on the CPU.

    The first input takes float RGB images (N, 3, H, W) in [0, 1]; the graph must normalize them itself. Images of
    another size are resized. The first output gives scores (N, K). The metadata entry `classes`, a JSON list, names
    the classes; without it the classes are those of the data set, in its order.

    Args:
        path: The ONNX file.
        _device: The device; unused, since onnxruntime computes on the CPU.

    Raises:
        ValueError: onnxruntime is not installed, or the file is no such classifier.
    """
    try:
        session = open_onnx_session(path)
    except ValueError as error:
        raise ValueError(f"classifier {error}") from None
    entry = session.get_inputs()[0]
    shape = [side if isinstance(side, int) else None for side in entry.shape]
    if len(shape) != 4 or shape[1] not in (3, None) or "float" not in entry.type:
        raise ValueError(f"classifier {path}: the input is {entry.type} {entry.shape}; expected float (N, 3, H, W)")
    kind = "float16" if "float16" in entry.type else "float32"

    def logits(x: Tensor) -> Tensor:
        x = resize_images(x.cpu(), (shape[2] or x.shape[2], shape[3] or x.shape[3]))
        pixels = x.numpy().astype(kind, copy=False)
        # A graph of a fixed batch size takes no other, so the images are given in steps of it, and the last is filled.
        step = shape[0] or len(pixels)
        pixels = np.concatenate([pixels, np.repeat(pixels[-1:], -len(x) % step, 0)])
        try:
            outs = [session.run(None, {entry.name: pixels[i : i + step]})[0] for i in range(0, len(pixels), step)]
        except Exception as error:
            raise ValueError(f"classifier {path}: {shorten_error(error)}") from None
        return torch.cat([torch.from_numpy(out) for out in outs])[: len(x)]

    classes = _names(session.get_modelmeta().custom_metadata_map.get("classes", "[]"))
    return Classifier(str(path), logits, classes, f"ONNX, onnxruntime {sys.modules['onnxruntime'].__version__}")


def load_factory_classifier(text: str, device: torch.device) -> Classifier:
    """Load a classifier from a Python function of an installed module or one in the current folder.

    This runs the module's code. The function returns an nn.Module (N, 3, H, W) float32 in [0, 1] -> scores (N, K). Two
    optional attributes of it are read: `classes`, the names in the order of the scores, and `size`, the (H, W) of the
    images that it takes.

    Args:
        text: The module and the function, as `module:factory`.
        device: The device to compute on.

    Raises:
        ValueError: The module or the function does not exist, or the function returns something else.
    """
    factory = import_object(text, "classifier")
    try:
        network = factory()
        if isinstance(network, nn.Module):
            network = network.to(device).eval().requires_grad_(False)
    except Exception as error:  # the user's code may raise anything
        raise ValueError(f"classifier {text}: {summarize_error(error)}") from None
    if not isinstance(network, nn.Module):
        raise ValueError(f"classifier {text}: the function returned {type(network).__name__}, not an nn.Module")
    size = getattr(network, "size", None)

    def logits(x: Tensor) -> Tensor:
        try:
            out: Tensor = network(resize_images(x, size or tuple(x.shape[-2:])).to(device))
        except Exception as error:
            raise ValueError(f"classifier {text}: {summarize_error(error)}") from None
        return out

    classes = tuple(str(name) for name in getattr(network, "classes", ()))
    return Classifier(text, logits, classes, f"{type(network).__name__} of {text}")


def _names(text: str) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except ValueError:
        names = text.split(",")
    return tuple(str(name) for name in names)
