"""The division of work among several processes.

No result depends on the number of processes: each batch is made completely by one process, exactly as a
single process would make it, and the results are put together in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from daelab._util.distributed import count_processes, gather_values, get_rank

if TYPE_CHECKING:
    from torch import Tensor

_T = TypeVar("_T")


def select_share(items: Iterable[_T]) -> Iterator[_T]:
    """Select the items that this process works on: every `count`-th, starting at its rank.

    Args:
        items: All items, in the same order in every process.

    Returns:
        This process's items.
    """
    return islice(iter(items), get_rank(), None, count_processes())


def merge_results(results: Iterable[_T]) -> Iterator[_T]:
    """Merge the results of all processes for the items that `select_share` gave them.

    Args:
        results: This process's results.

    Yields:
        The results of all processes, in the order of the items.
    """
    if count_processes() == 1:
        yield from results
        return
    own_results = iter(results)
    while True:
        # A process without results left still takes part, with an empty list, or the others would wait forever.
        for gathered in gather_values([_move_to_host(result) for result in islice(own_results, 1)]):
            if not gathered:
                return
            yield gathered[0]


def _move_to_host(result: _T) -> _T:
    """Move tensors to the CPU, since other processes would receive a GPU's tensors on that same GPU."""
    if not isinstance(result, dict):
        return result
    return type(result)((key, value.cpu() if hasattr(value, "cpu") else value) for key, value in result.items())


def slice_share(images: int, of: int | None = None) -> slice:
    """Return the places in a batch that belong to a process.

    Args:
        images: The number of images in the batch.
        of: The rank of the process; None for this one.

    Returns:
        The slice of the batch.
    """
    rank = get_rank() if of is None else of
    return slice(images * rank // count_processes(), images * (rank + 1) // count_processes())


def distribute_batches(
    batches: Iterable[tuple[Tensor, ...]], sizes: Sequence[int], none: Sequence[Tensor]
) -> Iterator[tuple[Tensor, ...]]:
    """Yield this process's part of every batch of an epoch, while each batch is made completely by one process.

    Args:
        batches: The batches that this process makes (see `select_share`): tensors (N, C, H, W) that agree in N,
            H and W, and may differ in C.
        sizes: The number of images in every batch of the epoch.
        none: A batch without images, with the channels of the others. A process that has no batch to make yields it.

    Yields:
        This process's images of each batch (see `slice_share`), which may be none.
    """
    if count_processes() == 1:
        yield from batches
        return
    import torch
    import torch.distributed as dist

    own_batches, channels = iter(batches), [tensor.shape[1] for tensor in none]
    for at in range(0, len(sizes), count_processes()):
        # in each round every process makes one batch and sends all others their parts of it
        batch = torch.cat(tuple(next(own_batches, none)), 1)
        sent = [_count_places(slice_share(len(batch), of)) for of in range(count_processes())]
        received = [_count_places(slice_share(size)) for size in sizes[at : at + count_processes()]]
        parts = torch.empty(sum(received), *batch.shape[1:], dtype=batch.dtype, device=batch.device)
        dist.all_to_all_single(parts, batch, [*received, *[0] * (count_processes() - len(received))], sent)
        yield from (torch.split(part, channels, 1) for part in torch.split(parts, received))


def _count_places(places: slice) -> int:
    return int(places.stop - places.start)
