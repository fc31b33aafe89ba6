"""The normalization layers, by name. Batch norm computes its statistics over all processes that share a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from daelab._util.distributed import count_processes, sum_values

_ignored = False


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize a batch.

        Args:
            x: The batch (N, C, H, W).
        """
        # `nn.LayerNorm` normalizes the last axis, so the channels are moved there and back.
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class BatchNorm(nn.BatchNorm2d):
    """Batch norm with the statistics of the whole batch, however many processes share it."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize a batch.

        Args:
            x: The batch (N, C, H, W).
        """
        if not self.training or count_processes() == 1:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        # PyTorch's SyncBatchNorm refuses CPUs (docs/decisions/0018-whole-batches.md).
        out, mean, variance, values = _WholeBatchNorm.apply(x, self.weight, self.bias, self.eps, not _ignored)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            # As in PyTorch, the running variance is unbiased, while the batch itself is normalized with the biased one.
            self.running_var.lerp_(variance * (values / (values - 1)).float(), self.momentum)
        return out  # type: ignore[no-any-return]


class _WholeBatchNorm(torch.autograd.Function):
    """A batch norm by PyTorch's kernels on this process's part of a batch, with one exchange of sums each way."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, counts: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalize this process's part, and return the mean, the variance and the number of values of the batch."""
        channels = x.shape[1]
        # in float64, so that no digit is lost if the mean is far from zero
        sums = torch.zeros(2 * channels + 1, dtype=torch.float64, device=x.device)  # (2C + 1,)
        if counts:
            scratch = torch.zeros_like(weight), torch.zeros_like(weight)
            mean, variance = (part.double() for part in torch.batch_norm_update_stats(x, *scratch, 0.0))
            values = x.numel() // channels
            sums[:channels], sums[channels:-1], sums[-1] = values * mean, values * (variance + mean * mean), values
        sum_values(sums)
        mean = sums[:channels] / sums[-1]
        # Rounding may make the difference slightly negative.
        variance = (sums[channels:-1] / sums[-1] - mean * mean).clamp_min_(0).float()
        mean, values_in_all = mean.float(), sums[-1].clone()
        ctx.eps, ctx.counts = eps, counts
        ctx.save_for_backward(x, weight, mean, variance, values_in_all)
        # The gradient through the statistics is already part of the input's gradient in `backward`.
        ctx.mark_non_differentiable(mean, variance, values_in_all)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance, values_in_all

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Return the gradients of the input, the weight and the bias."""
        x, weight, mean, variance, values = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        through, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        # A placeholder adds nothing to the sums, but its process must take part in the exchange.
        share = torch.cat([to_weight, to_bias]).double() * ctx.counts
        along, level = (sum_values(share) / values).float().chunk(2)
        if ctx.counts:
            # the gradient through the statistics, which is linear in the normalized x
            scale = weight * torch.rsqrt(variance + ctx.eps)
            through = through - F.batch_norm(x, mean, variance, scale * along, scale * level, eps=ctx.eps)
        return through, to_weight, to_bias, None, None


@contextmanager
def ignore_batch_statistics() -> Iterator[None]:
    """Exclude the images that pass through the norms in this block from the statistics of the batch.

    A process without images runs a placeholder in this block, so that all processes exchange their sums.
    """
    global _ignored
    _ignored = True
    try:
        yield
    finally:
        _ignored = False


NORM_LAYERS: dict[str, Callable[[int], nn.Module]] = {"batch": BatchNorm, "layer": ChannelNorm}
"""The functions that make a norm for a number of channels, by the norm's name."""
