"""Several processes that train or evaluate one thing, as torchrun starts them; alone, all of this does nothing.

    rank    a process's place, from 0; the first one writes and speaks
    count   how many there are

Work is dealt out so that no result depends on the number of processes: a batch is made whole by one
of them, exactly as one process alone would make it, and what comes of it is put together in order.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")
_PATIENCE = timedelta(seconds=5)
_LOOPBACK = Path("/sys/class/net/lo")
_joined = False
_joins = 0
"""How often this process has joined a group; each time the group is another."""


class LostProcessError(Exception):
    """Another process of the group is gone, so that nothing can be agreed on any more."""


def read_world() -> tuple[int, int]:
    """(rank, count) as torchrun says them in the environment; (0, 1) without it."""
    if "MASTER_ADDR" not in os.environ:
        return 0, 1
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def read_local_world() -> tuple[int, int]:
    """(rank, count) among the processes of this machine."""
    return int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def get_rank() -> int:
    """This process's place in the group it has joined; 0 alone."""
    return read_world()[0] if _joined else 0


def count_processes() -> int:
    """Processes in the group that this one has joined; 1 alone."""
    return read_world()[1] if _joined else 1


def is_first_process() -> bool:
    """Whether this process is the one that writes."""
    return get_rank() == 0


def get_group_id() -> str | None:
    """What stays the same when torchrun starts a group again, after a failure or in a job of the same `--rdzv-id`."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name is None:
        return None
    if name == "none":  # as all groups without an id: then it is the agent, which lives as long as they
        name = f"{platform.node()} {os.getppid()}"
    # runs are published, and with them this
    return hashlib.sha256(name.encode()).hexdigest()[:16]


@contextmanager
def join_group() -> Iterator[None]:
    """Join the group that torchrun started, if it did; leave it at the end.

    Gloo carries what lies on CPUs, NCCL what lies on GPUs; each process takes the GPU of its place on its machine.

    Raises:
        ValueError: there are fewer GPUs than processes on this machine.
        Lost: another process died; everything that is done together may raise it.
    """
    global _joined, _joins
    if read_world()[1] == 1 or _joined:
        yield
        return
    import torch
    import torch.distributed as dist

    gpus = torch.cuda.is_available()
    here, beside = read_local_world()
    if gpus:
        if beside > torch.cuda.device_count():
            raise ValueError(f"{beside} processes for {torch.cuda.device_count()} GPUs: take a lower --nproc-per-node")
        torch.cuda.set_device(here)
    if beside == read_world()[1] and _LOOPBACK.exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: nothing is sent out of it
    _joins += 1
    store, mine, size = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
    # torchrun's store outlives a failed attempt, whose addresses would be taken for this one's
    store = dist.PrefixStore(f"daelab/{_attempt()}/{size}", store)  # type: ignore[attr-defined]
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    dist.init_process_group(backend, store=store, rank=mine, world_size=size)
    _joined = True
    ended = False
    try:
        with detect_lost_process("another process of this group has gone"):
            yield
        ended = True
    except LostProcessError:
        raise
    except BaseException:
        _post("somebody")  # the others will be lost, and need not say so
        raise
    finally:
        _joined = False
        # a group left open aborts the process at its exit; one of GPUs with a dead member would wait for it
        if ended or not gpus:
            dist.destroy_process_group()


def _attempt() -> str:
    """What tells this group from those before it: how often torchrun has started it, and how often it has formed."""
    return f"{get_group_id()}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{_joins}"


@contextmanager
def detect_lost_process(message: str) -> Iterator[None]:
    """What the network raises when another process has gone becomes `Lost`, with this message."""
    try:
        yield
    except RuntimeError as error:
        if count_processes() == 1 or not re.search("gloo|nccl|connection|peer", str(error), flags=re.IGNORECASE):
            raise
        with suppress(ValueError):  # another thread than the main one
            # torchrun ends those that are left: what there is to say and to write comes first
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise LostProcessError(message) from error


def was_reported(text: str, *, loss: bool = False) -> bool:
    """Whether another process has said this: what all find wrong is told once, and a loss only if nothing else was."""
    if read_world()[1] == 1:
        return False
    if loss:
        return not _post("somebody")
    _post("somebody")
    return not _post(hashlib.sha256(text.encode()).hexdigest())


def _post(note: str) -> bool:
    """Put a note where all processes can read it; whether it is this process's, not another's of before."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    mine = str(read_world()[0])
    key = f"daelab/{_attempt()}/{note}"
    try:
        store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=_PATIENCE)
        return bool(store.compare_set(key, "", mine).decode() == mine)
    except (RuntimeError, KeyError, ValueError):  # said twice is better than never
        return True


# What all do together


def gather_values(value: T) -> list[T]:
    """The values of all processes, by rank, in each of them."""
    if count_processes() == 1:
        return [value]
    import torch.distributed as dist

    found: list[Any] = [None] * count_processes()
    dist.all_gather_object(found, value)
    return found


def average_values(value: Tensor) -> Tensor:
    """The mean over all processes, in float64."""
    return value if count_processes() == 1 else sum_values(value.double()) / count_processes()


def sum_values(value: Tensor) -> Tensor:
    """The sum over all processes, in place."""
    if count_processes() > 1:
        import torch.distributed as dist

        dist.all_reduce(value)
    return value


def run_on_first(make: Callable[[], T]) -> T:
    """What the first process makes, in every one; an error of it is raised in every one."""
    if count_processes() == 1:
        return make()
    import torch.distributed as dist

    found: list[Any] = [None, None]
    if is_first_process():
        try:
            found[0] = make()
        except (ValueError, OSError) as error:
            found[1] = error
    dist.broadcast_object_list(found, src=0)
    if found[1] is not None:
        raise found[1]
    made: T = found[0]
    return made


def run_first_on_each_host(make: Callable[[], T]) -> T:
    """Made by one process of each machine, and then by the others: what is downloaded is downloaded once."""
    if count_processes() == 1:
        return make()
    import torch.distributed as dist

    made = make() if read_local_world()[0] == 0 else None
    dist.barrier()
    return make() if made is None else made


# Work that is dealt out


def select_share(items: Iterable[T]) -> Iterator[T]:
    """Those of the items that are this process's to work on: every `count`-th."""
    return islice(iter(items), get_rank(), None, count_processes())


def merge_results(results: Iterable[T]) -> Iterator[T]:
    """The results of all processes for what `shared` gave them, in the order of the items."""
    if count_processes() == 1:
        yield from results
        return
    mine = iter(results)
    while True:
        for one in gather_values([_on_host(result) for result in islice(mine, 1)]):
            if not one:
                return
            yield one[0]


def _on_host(result: T) -> T:
    """Tensors of a GPU would come to the other processes on that same GPU."""
    if not isinstance(result, dict):
        return result
    return type(result)((key, value.cpu() if hasattr(value, "cpu") else value) for key, value in result.items())


def slice_share(images: int, of: int | None = None) -> slice:
    """The places in a batch of `images` that are a process's own: this one's, or those of another rank."""
    mine = get_rank() if of is None else of
    return slice(images * mine // count_processes(), images * (mine + 1) // count_processes())


def distribute_batches(
    batches: Iterable[tuple[Tensor, ...]], sizes: Sequence[int], none: Sequence[Tensor]
) -> Iterator[tuple[Tensor, ...]]:
    """This process's part of every batch of an epoch, each of which one process makes whole.

    Args:
        batches: those that are this process's to make (`shared`): tensors (N, C, H, W) of one size, any channels.
        sizes: images of every batch.
        none: a batch without images, of the others' kind: what a process gives that has none to make.

    Yields:
        for each batch its images in `part`; maybe none.
    """
    if count_processes() == 1:
        yield from batches
        return
    import torch
    import torch.distributed as dist

    mine, channels = iter(batches), [tensor.shape[1] for tensor in none]
    for at in range(0, len(sizes), count_processes()):
        # in a round every process makes one batch, and gives all others their parts of it
        made = torch.cat(tuple(next(mine, none)), 1)
        give = [_length(slice_share(len(made), of)) for of in range(count_processes())]
        take = [_length(slice_share(size)) for size in sizes[at : at + count_processes()]]
        took = torch.empty(sum(take), *made.shape[1:], dtype=made.dtype, device=made.device)
        dist.all_to_all_single(took, made, [*take, *[0] * (count_processes() - len(take))], give)
        yield from (torch.split(piece, channels, 1) for piece in torch.split(took, take))


def _length(places: slice) -> int:
    return int(places.stop - places.start)


def wrap_data_parallel(module: nn.Module) -> nn.Module:
    """A module whose gradients become the means over all processes, exchanged while others are still computed."""
    if count_processes() == 1:
        return module
    from torch.nn.parallel import DistributedDataParallel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # its newer name for the buffers is not there before torch 2.13
        # the norms' statistics are equal already (model/norm.py)
        return DistributedDataParallel(module, broadcast_buffers=False, gradient_as_bucket_view=True)
