"""What each choice in the training loop buys: Model-C's images per second with the choice undone.

Every variant is a process of its own; they take turns, so that whatever slows the machine down
meets all of them. Ratios are medians over the rounds, against the loop as it is.

    python benchmarks/variants.py --data-root .data [--only NAME,NAME]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import train_speed
from common import pick_data, show, table
from daelab._util import hardware
from daelab.models import layers
from daelab.models.architectures.base import Layer
from daelab.models.autoencoder import AutoencoderNetwork
from daelab.models.layers import Network, SameConvTranspose2d
from train_speed import Commands, Reply, Worker, daelab_worker, serve

Patch = Callable[[argparse.Namespace], None]


def as_it_is(args: argparse.Namespace) -> None:
    """Nothing undone."""


def memory_given_back(args: argparse.Namespace) -> None:
    """Use the allocator's default, which returns freed memory to the kernel."""
    hardware.KEEPS_FREED_MEMORY = False


class PatchConv2d(nn.Conv2d):
    """A 2x2 convolution of stride 2, as one matrix product over the 2x2 patches."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to a batch."""
        n, c, h, w = x.shape
        patches = x.permute(0, 2, 3, 1).reshape(n, h // 2, 2, w // 2, 2, c).transpose(2, 3)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(patches.reshape(n, h // 2, w // 2, 4 * c), weight, self.bias).permute(0, 3, 1, 2)


def convolutions(choose: Callable[[Layer], type[nn.Conv2d | nn.ConvTranspose2d] | None]) -> Patch:
    """Another class of convolution for the layers that `choose` gives one for."""
    usual = layers._make_convolution

    def make(layer: Layer) -> nn.Conv2d | nn.ConvTranspose2d:
        kind = choose(layer)
        if kind is None:
            return usual(layer)
        return kind(layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.padding)

    def patch(args: argparse.Namespace) -> None:
        layers._make_convolution = make

    return patch


class NormRelu(torch.autograd.Function):
    """Batch norm and ReLU in one node: the ReLU in place, its mask taken from its output."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        """Apply the layer to a batch."""
        out, mean, scale = torch.native_batch_norm(
            x, norm.weight, norm.bias, norm.running_mean, norm.running_var, True, norm.momentum or 0.1, norm.eps
        )
        ctx.save_for_backward(x, out.relu_(), norm.weight, mean, scale)
        ctx.eps = norm.eps
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Return the gradient of the input."""
        x, out, weight, mean, scale = ctx.saved_tensors
        masked = torch.ops.aten.threshold_backward(gradient, out, 0)
        found = torch.ops.aten.native_batch_norm_backward(
            masked, x, weight, None, None, mean, scale, True, ctx.eps, [True, False, False]
        )
        return found[0], None


def one_node(args: argparse.Namespace) -> None:
    """Batch norm and ReLU as `NormRelu`; the norm's own gradients are left out, which flatters it."""

    def forward(self: Network, x: Tensor) -> Tensor:
        for name, (norm, activation) in self.after.items():
            x = self.get_submodule(name)(x)
            if norm == "batch" and self.training:
                x = NormRelu.apply(x, self.get_submodule(f"batch_{name}"))
            else:
                x = self.get_submodule(f"batch_{name}")(x) if norm == "batch" else x
                x = F.relu_(x) if activation == "relu" else torch.sigmoid(x.float())
        return x

    AutoencoderNetwork.forward = forward


def batch_of(size: int) -> Patch:
    """Return a patch that sets the batch size."""

    def patch(args: argparse.Namespace) -> None:
        args.batch = size

    return patch


def set_option(name: str, value: object) -> Patch:
    """Return a patch that sets an option of the recipe."""

    def patch(args: argparse.Namespace) -> None:
        setattr(args, name, value)

    return patch


VARIANTS: dict[str, Patch] = {
    "as it is": as_it_is,
    "freed memory given back": memory_given_back,
    "2x2 down as a matrix product": convolutions(
        lambda layer: PatchConv2d if layer.stride == 2 and not layer.transposed else None
    ),
    "2x2 up as PyTorch's": convolutions(
        lambda layer: nn.ConvTranspose2d if layer.stride == 2 and layer.transposed else None
    ),
    "3x3 transposed as PyTorch's": convolutions(
        lambda layer: nn.ConvTranspose2d if layer.stride == 1 and layer.transposed else None
    ),
    "last layer as a convolution": convolutions(
        lambda layer: SameConvTranspose2d if layer.transposed and layer.outputs == 3 else None
    ),
    "norm and ReLU in one node": one_node,
    "batch 32": batch_of(32),
    "batch 64": batch_of(64),
    "batch 256": batch_of(256),
    "batch 512": batch_of(512),
    "compiled": set_option("compile", True),
    "float32": set_option("precision", "float32"),
}


def worker(name: str) -> Callable[[argparse.Namespace, Commands, Reply], None]:
    """Return the worker of a variant."""

    def run(args: argparse.Namespace, commands: Commands, reply: Reply) -> None:
        VARIANTS[name](args)
        daelab_worker(args, commands, reply)

    return run


def main() -> None:
    """Measure the variants in turn."""
    train_speed.WORKERS.clear()
    train_speed.WORKERS.update({name: worker(name) for name in VARIANTS})
    options = train_speed.options()
    options.add_argument("--only", help="names of variants, separated by commas")
    args = options.parse_args()
    if args.worker:
        serve(args)
        return
    args.data = pick_data(args)
    names = [name for name in VARIANTS if args.only is None or name in ("as it is", *args.only.split(","))]
    arguments = [*sys.argv[1:], "--data", args.data]
    rounds: list[dict[str, float]] = []
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(name, arguments, __file__)) for name in names}
        for name, process in workers.items():
            print(f"warming up: {name}", file=sys.stderr)
            process.ask(args.warm_up)
        for number in range(args.rounds):
            order = names if number % 2 == 0 else names[::-1]
            rounds.append({name: workers[name].images_per_second(args.steps) for name in order})
    found = {
        name: {
            "images_per_second": median(found[name] for found in rounds),
            "ratio": median(found[name] / found["as it is"] for found in rounds),
        }
        for name in names
    }
    rows = [["variant", "images/s", "ratio"]]
    rows += [[name, f"{row['images_per_second']:,.0f}", f"{row['ratio']:.2f}"] for name, row in found.items()]
    show({"batch": args.batch, "threads": torch.get_num_threads(), "variants": found}, table(rows), args.json)


if __name__ == "__main__":
    main()
