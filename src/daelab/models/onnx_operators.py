"""Operators that PyTorch's tracing exporter cannot write as ONNX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

_Graph = Any
"""PyTorch's context of a graph, whose `op` adds an operator."""
_FLOAT, _INTEGER = 1, 7
"""The numbers of ONNX's types."""


@contextmanager
def extra_operators(opset: int) -> Iterator[None]:
    """Let the tracing exporter write `bincount`, `diff`, `nanmean`, `quantile` and `unfold` of whole windows.

    Args:
        opset: The version of ONNX's operators.
    """
    exporter: Any = torch.onnx  # its types leave these functions out
    for name, operator in _OPERATORS.items():
        exporter.register_custom_op_symbolic(f"aten::{name}", operator, opset)
    try:
        yield
    finally:
        for name in _OPERATORS:
            exporter.unregister_custom_op_symbolic(f"aten::{name}", opset)


def _constant(graph: _Graph, value: Any) -> Any:
    return graph.op("Constant", value_t=torch.as_tensor(value))


def _read(value: Any, kind: Literal["i", "is", "t"] = "i") -> Any:
    """Return the value of a constant argument, or None if it was left out."""
    from torch.onnx import symbolic_helper

    if symbolic_helper._is_none(value):
        return None
    found = symbolic_helper._maybe_get_const(value, kind)
    return int(found) if kind == "i" else found


def _rank(value: Any) -> int:
    from torch.onnx import symbolic_helper

    rank = symbolic_helper._get_tensor_rank(value)
    assert rank is not None, "the exporter lost the shape of a tensor"
    return int(rank)


def _cut(graph: _Graph, x: Any, axis: int, start: int, stop: int) -> Any:
    return graph.op("Slice", x, *(_constant(graph, [at]) for at in (start, stop, axis)))


def _bincount(graph: _Graph, x: Any, weights: Any, minlength: Any) -> Any:
    """Write a count of whole numbers below `minlength`."""
    if _read(weights, "t") is None:
        weights = graph.op("Expand", _constant(graph, 1.0), graph.op("Shape", x))
    zeros = _constant(graph, torch.zeros(_read(minlength)))
    return graph.op("ScatterElements", zeros, x, weights, axis_i=0, reduction_s="add")


def _diff(graph: _Graph, x: Any, _n: Any, axis: Any, _prepend: Any, _append: Any) -> Any:
    at = _read(axis) % _rank(x)
    return graph.op("Sub", _cut(graph, x, at, 1, 2**62), _cut(graph, x, at, 0, -1))


def _nanmean(graph: _Graph, x: Any, axes: Any, keepdim: Any, _dtype: Any) -> Any:
    unknown = graph.op("IsNaN", x)
    chosen = [] if _read(axes, "is") is None else [_constant(graph, list(_read(axes, "is")))]
    values = graph.op("Where", unknown, _constant(graph, 0.0), x)
    counts = graph.op("Cast", graph.op("Not", unknown), to_i=_FLOAT)
    sums = [graph.op("ReduceSum", part, *chosen, keepdims_i=_read(keepdim)) for part in (values, counts)]
    return graph.op("Div", *sums)


def _quantile(graph: _Graph, x: Any, shares: Any, axis: Any, _keepdim: Any, _interpolation: Any) -> Any:
    """Write quantiles along an axis, (Q, ...), of a tensor of at most two axes."""
    at = _read(axis)
    if at is None:
        x, at = graph.op("Reshape", x, _constant(graph, [-1])), 0
    count = graph.op("Gather", graph.op("Shape", x), _constant(graph, at), axis_i=0)
    ordered, _ = graph.op(
        "TopK", x, graph.op("Unsqueeze", count, _constant(graph, [0])), axis_i=at, largest_i=0, outputs=2
    )
    last = graph.op("Cast", graph.op("Sub", count, _constant(graph, 1)), to_i=_FLOAT)
    place = graph.op("Mul", shares, last)
    floor = graph.op("Floor", place)
    low, high = (
        graph.op("Gather", ordered, graph.op("Cast", one, to_i=_INTEGER), axis_i=at)
        for one in (floor, graph.op("Ceil", place))
    )
    between = graph.op("Mul", graph.op("Sub", high, low), graph.op("Sub", place, floor))
    found = graph.op("Add", low, between)
    return found if at == 0 else graph.op("Transpose", found, perm_i=[1, 0])


def _unfold(graph: _Graph, x: Any, axis: Any, size: Any, _step: Any) -> Any:
    """Write windows that lie side by side and fill the axis."""
    at, length, rank = _read(axis), _read(size), _rank(x)
    shape = graph.op("Shape", x)
    parts = [
        *([_cut(graph, shape, 0, 0, at)] if at else []),
        _constant(graph, [-1, length]),
        *([_cut(graph, shape, 0, at + 1, rank)] if at + 1 < rank else []),
    ]
    windows = graph.op("Reshape", x, graph.op("Concat", *parts, axis_i=0))
    return graph.op("Transpose", windows, perm_i=[*(place for place in range(rank + 1) if place != at + 1), at + 1])


_OPERATORS: dict[str, Callable[..., Any]] = {
    "bincount": _bincount,
    "diff": _diff,
    "nanmean": _nanmean,
    "quantile": _quantile,
    "unfold": _unfold,
}
