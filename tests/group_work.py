"""What several processes do as one and one does alone; `torchrun tests/group_work.py PICTURES OUT` writes it.

Each work is a function of the pictures' file; run in a folder of its own, with one result that can be compared.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from daelab import data, machine, processes, recipe
from daelab.evaluation import evaluate
from daelab.model import build, inference
from daelab.model.norm import BatchNorm
from daelab.noise import parse
from daelab.spec import PRESETS
from daelab.training import fit
from daelab.training.feed import Feed, chosen, window
from daelab.training.lesson import Lesson

WAYS: dict[str, dict[str, Any]] = {
    "sgd": {"training": {"optimiser": "sgd", "momentum": 0.9, "schedule": "one-cycle"}},
    "adamw": {"training": {"optimiser": "adamw", "weight_decay": 0.1}, "loss": "charbonnier + 0.1 * dssim"},
    "muon": {"training": {"optimiser": "muon", "ema": 0.9, "flips": True, "turns": True}},
    "bf16": {"training": {"optimiser": "sgd", "precision": "bf16"}},
    "no norm": {"spec": {"stages": [8, 4], "norm": "none"}, "training": {"minutes": 60.0}},
    "judge": {"judge": {"name": "photos", "images": 40}, "data": {"name": "photos", "train": 40, "val": 300}},
    "taught": {
        "spec": {"kind": "unet", "widths": [4, 4], "blocks": [1, 1], "conditioned": True},
        "teacher": {"model": "model-b-35"},
        "training": {"optimiser": "sgd", "curriculum": 0.9},
    },
    "streamed": {"data": {"name": "folder:FOLDER", "crop": 16, "crops": 3, "buffer": 12}},
}
"""Recipes; batches of 16 of which the last has one image, so that one of two processes has none of it."""


def way(name: str, pictures: Path) -> recipe.Recipe:
    fields = {"spec": {"stages": [8, 4]}, "data": {"name": f"npz:{pictures}", "train": 33}} | WAYS[name]
    fields["data"] = fields["data"] | {"name": fields["data"]["name"].replace("FOLDER", str(pictures.parent / "album"))}
    training = {"epochs": 2, "batch": 16, "lr": 0.01, "precision": "float32"}
    return recipe.parse(fields | {"training": training | fields.get("training", {})})


def train(name: str, pictures: Path) -> list[dict[str, float]]:
    """The rows of a run."""
    return fit(way(name, pictures), name.replace(" ", "-")).rows


def parts(pictures: Path) -> list[tuple[Tensor, Tensor]]:
    """The batches of an epoch, put together from all processes' parts, from the second on."""
    wanted = recipe.parse(
        {
            "noise": "(type-1 | poisson(5..50)) > speckle(0.1)",
            "spec": {"stages": [4]},
            "data": {"name": f"npz:{pictures}", "train": 33},
            "training": {"batch": 8, "flips": True, "turns": True},
        }
    )
    images, _ = chosen(wanted, data.load(wanted.data.name))
    feed = Feed(images, 8, wanted.seed, torch.device("cpu"), window(wanted))
    lesson = Lesson(wanted, images.size, feed.device)
    found = []
    for clean, noisy, size in feed.pairs(lambda clean, step: lesson.show(clean, step, 0.1), 3, 1, start=1):
        whole = processes.gathered((clean.contiguous(), noisy.contiguous()))
        found.append((torch.cat([pair[0] for pair in whole]), torch.cat([pair[1] for pair in whole])))
        assert len(found[-1][0]) == size
    return found


def scores(pictures: Path) -> dict[str, Any]:
    """An evaluation, with a batch for each of some processes only."""
    network = build(PRESETS["model-b-35"], 0)
    test = data.load(f"npz:{pictures}").train
    return evaluate(inference(network), test, parse("table-1"), batch=10).to_dict()


def norm(pictures: Path) -> list[Tensor]:
    """Batch norm's result, its gradients and its statistics, of 7 pictures far from zero."""
    torch.manual_seed(0)
    x, slope = 30 + torch.randn(7, 4, 6, 6), torch.randn(7, 4, 6, 6)
    layer, mine = BatchNorm(4), processes.part(7)
    part = x[mine].clone().requires_grad_()
    out = layer(part)
    (out * slope[mine]).sum().backward()
    assert part.grad is not None
    whole = [torch.cat(processes.gathered(tensor)) for tensor in (out.detach(), part.grad)]
    sums = [processes.total(weight.grad) for weight in layer.parameters() if weight.grad is not None]
    return [*whole, *sums, layer.running_mean, layer.running_var]  # type: ignore[list-item]


WORKS: dict[str, Callable[[Path], Any]] = {
    "order": lambda pictures: list(processes.together(n * n for n in processes.shared(range(7)))),
    "parts": parts,
    "scores": scores,
    "norm": norm,
    **{f"train {name}": lambda pictures, name=name: train(name, pictures) for name in WAYS},
}


def main(pictures: Path, out: Path) -> None:
    machine.keep_memory = lambda: False  # type: ignore[assignment, misc]
    os.environ["DAELAB_RUNS"] = str(out.parent / "group-runs")
    with processes.joined():
        found = {name: work(pictures) for name, work in WORKS.items()}
        if processes.first():
            out.write_bytes(pickle.dumps(found))
        assert processes.gathered(processes.rank()) == list(range(processes.count()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
