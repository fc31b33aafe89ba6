"""Work that a group of processes and a single process must do alike: `torchrun tests/_util/group_work.py PICTURES OUT`.

Each piece of work is a function of the file of pictures. It runs in a folder of its own and returns one result,
which the test compares.
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

from daelab._util import hardware
from daelab._util.distributed import count_processes, gather_values, get_rank, is_first_process, join_group, sum_values
from daelab._util.work_sharing import merge_results, select_share, slice_share
from daelab.datasets.registry import load_dataset
from daelab.evaluation.classifiers.recipe import ClassifierRecipe
from daelab.evaluation.evaluate import evaluate_denoiser
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.models.build import build_network
from daelab.models.inference import prepare_inference
from daelab.models.normalization import BatchNorm
from daelab.noise.grammar import parse_noise
from daelab.training.loader import BatchLoader, get_shuffle_window, select_images
from daelab.training.objective import DenoisingObjective
from daelab.training.recipe import Recipe, parse_recipe
from daelab.training.tasks.classification import fit_classifier
from daelab.training.tasks.denoising import fit_denoiser

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


def way(name: str, pictures: Path) -> Recipe:
    fields = {"spec": {"stages": [8, 4]}, "data": {"name": f"npz:{pictures}", "train": 33}} | WAYS[name]
    fields["data"] = fields["data"] | {"name": fields["data"]["name"].replace("FOLDER", str(pictures.parent / "album"))}
    training = {"epochs": 2, "batch": 16, "lr": 0.01, "precision": "float32"}
    return parse_recipe(fields | {"training": training | fields.get("training", {})})


def train(name: str, pictures: Path) -> list[dict[str, float]]:
    """Train a network, and return the rows of its run."""
    return fit_denoiser(way(name, pictures), name.replace(" ", "-")).rows


def train_classifier(pictures: Path) -> list[dict[str, float]]:
    """Return the rows of a classifier's run. Its batches of 14 have three parts, so a process gets one or two."""
    training = {"epochs": 2, "batch": 14, "part": 5, "lr": 0.1, "lookahead": 2, "precision": "float32"}
    fields = {"data": {"name": "photos", "train": 33}, "network": {"widths": [4, 6]}, "training": training}
    return fit_classifier(ClassifierRecipe.parse(fields), "classifier").rows


def parts(pictures: Path) -> list[tuple[Tensor, Tensor]]:
    """Return the batches of an epoch from the second on, put together from the parts of all processes."""
    wanted = parse_recipe(
        {
            "noise": "(type-1 | poisson(5..50)) > speckle(0.1)",
            "spec": {"stages": [4]},
            "data": {"name": f"npz:{pictures}", "train": 33},
            "training": {"batch": 8, "flips": True, "turns": True},
        }
    )
    images, _ = select_images(wanted, load_dataset(wanted.data.name))
    feed = BatchLoader(images, 8, wanted.seed, torch.device("cpu"), get_shuffle_window(wanted))
    objective = DenoisingObjective(wanted, images.size, feed.device)
    found = []
    for clean, noisy, size in feed.pairs(lambda clean, step: objective.transform(clean, step, 0.1), 3, 1, start=1):
        whole = gather_values((clean.contiguous(), noisy.contiguous()))
        found.append((torch.cat([pair[0] for pair in whole]), torch.cat([pair[1] for pair in whole])))
        assert len(found[-1][0]) == size
    return found


def scores(pictures: Path) -> dict[str, Any]:
    """Evaluate a denoiser on fewer batches than there are processes in the last round."""
    network = build_network(ARCHITECTURE_PRESETS["model-b-35"], 0)
    test = load_dataset(f"npz:{pictures}").train
    return evaluate_denoiser(prepare_inference(network), test, parse_noise("table-1"), batch=10).to_dict()


def norm(pictures: Path) -> list[Tensor]:
    """Return the result, gradients and statistics of a batch norm, for 7 pictures whose mean is far from zero."""
    torch.manual_seed(0)
    x, slope = 30 + torch.randn(7, 4, 6, 6), torch.randn(7, 4, 6, 6)
    layer, mine = BatchNorm(4), slice_share(7)
    part = x[mine].clone().requires_grad_()
    out = layer(part)
    (out * slope[mine]).sum().backward()
    assert part.grad is not None
    whole = [torch.cat(gather_values(tensor)) for tensor in (out.detach(), part.grad)]
    sums = [sum_values(weight.grad) for weight in layer.parameters() if weight.grad is not None]
    return [*whole, *sums, layer.running_mean, layer.running_var]  # type: ignore[list-item]


WORKS: dict[str, Callable[[Path], Any]] = {
    "order": lambda pictures: list(merge_results(n * n for n in select_share(range(7)))),
    "parts": parts,
    "scores": scores,
    "norm": norm,
    **{f"train {name}": lambda pictures, name=name: train(name, pictures) for name in WAYS},
    "train classifier": train_classifier,
}


def main(pictures: Path, out: Path) -> None:
    hardware.KEEPS_FREED_MEMORY = False
    os.environ["DAELAB_RUNS"] = str(out.parent / "group-runs")
    with join_group():
        found = {name: work(pictures) for name, work in WORKS.items()}
        if is_first_process():
            out.write_bytes(pickle.dumps(found))
        assert gather_values(get_rank()) == list(range(count_processes()))
    # threads that outlive the group abort the process at its exit, now and then
    names = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in names if "gloo" in name], names


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
