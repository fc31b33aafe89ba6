"""Operators that PyTorch's tracing exporter lacks: traced at one size, they give PyTorch's values at others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from daelab._util.hardware import open_onnx_session
from daelab.models.onnx import OPSET, trace_graph
from daelab.models.onnx_operators import extra_operators

SHARES = torch.tensor((0.02, 0.25, 0.5, 0.9))


def gappy(x: Tensor) -> Tensor:
    """Some values are unknown."""
    return torch.where(x > 0.5, x, torch.nan)


OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "bincount": lambda x: torch.bincount((x.flatten() * 8).long(), minlength=8).float(),
    "bincount with weights": lambda x: torch.bincount((x.flatten() * 8).long(), x.flatten(), 8),
    "diff of the last axis": lambda x: x.diff(dim=-1),
    "diff of the first axis": lambda x: x.diff(dim=0),
    "nanmean of all": lambda x: gappy(x).nanmean(),
    "nanmean of an axis": lambda x: gappy(x).nanmean(1),
    "quantile of all": lambda x: torch.quantile(x, SHARES),
    "quantile of rows": lambda x: torch.quantile(x, SHARES, dim=1),
    "unfold": lambda x: x[None, None].unfold(2, 4, 4).unfold(3, 4, 4),
}


class Applied(nn.Module):
    def __init__(self, operator: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, x: Tensor) -> Tensor:
        return self.operator(x)


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_gives_the_values_of_pytorch_at_any_size(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    module, path = Applied(OPERATORS[name]), tmp_path / "graph.onnx"
    generator = torch.Generator().manual_seed(0)
    examples = [torch.rand(*shape, generator=generator) for shape in ((8, 12), (4, 20), (32, 4))]
    with extra_operators(OPSET):
        trace_graph(module, examples[0], path, ("x", "y"), [{0: "height", 1: "width"}])
    session = open_onnx_session(path)
    for x in examples:
        torch.testing.assert_close(torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), module(x))
