"""Several processes that train or evaluate together, as torchrun starts them.

    rank    the number of a process, from 0; the first process writes and prints
    count   the number of processes

A single process needs none of this, and every function here then does nothing. `work_sharing` divides the work.
"""

from __future__ import annotations

import gc
import hashlib
import os
import platform
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

_T = TypeVar("_T")
_PATIENCE = timedelta(seconds=5)
_LOOPBACK = Path("/sys/class/net/lo")
_joined = False
_joins = 0
"""How many groups this process has joined so far."""


class LostProcessError(Exception):
    """The loss of another process of the group, after which nothing can be agreed on."""


def read_world() -> tuple[int, int]:
    """Read the rank and the number of processes from torchrun's environment variables.

    Returns:
        (rank, count); (0, 1) without torchrun.
    """
    if "MASTER_ADDR" not in os.environ:
        return 0, 1
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def read_local_world() -> tuple[int, int]:
    """Read the rank and the number of processes on this computer from torchrun's environment variables.

    Returns:
        (rank, count); (0, 1) without torchrun.
    """
    return int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def get_rank() -> int:
    """Return this process's rank in the group it has joined, or 0 if it is alone."""
    return read_world()[0] if _joined else 0


def count_processes() -> int:
    """Return the number of processes in the group that this one has joined, or 1 if it is alone."""
    return read_world()[1] if _joined else 1


def is_first_process() -> bool:
    """Return whether this process is the one that writes files and prints."""
    return get_rank() == 0


def get_group_id() -> str | None:
    """Return an identifier of the group that stays the same if torchrun restarts the group.

    Returns:
        A hash of torchrun's `--rdzv-id`, or of the torchrun process if there is no such id. None without torchrun.
    """
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name is None:
        return None
    if name == "none":  # all groups without an id have this name, so the torchrun process identifies them
        name = f"{platform.node()} {os.getppid()}"
    # runs are published together with this identifier, which must not reveal the host's name
    return hashlib.sha256(name.encode()).hexdigest()[:16]


@contextmanager
def join_group() -> Iterator[None]:
    """Join the group that torchrun started, if any, and leave it at the end.

    Gloo carries tensors on CPUs, NCCL those on GPUs. Each process takes the GPU with its local rank.

    Raises:
        ValueError: This computer has fewer GPUs than processes.
        LostProcessError: Another process died. Every collective operation may raise it.
    """
    global _joined, _joins
    if read_world()[1] == 1 or _joined:
        yield
        return
    import torch
    import torch.distributed as dist

    # Its functions have the current group as a default argument. Imported later, as by DistributedDataParallel, they
    # would keep the group and its threads after its end, and such threads can abort the process at its exit.
    import torch.distributed.nn

    gpus = torch.cuda.is_available() and os.environ.get("DAELAB_DEVICE") != "cpu"
    local_rank, local_count = read_local_world()
    if gpus:
        if local_count > torch.cuda.device_count():
            raise ValueError(
                f"{local_count} processes for {torch.cuda.device_count()} GPUs: take a lower --nproc-per-node"
            )
        torch.cuda.set_device(local_rank)
    if local_count == read_world()[1] and _LOOPBACK.exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # on a single computer nothing needs to leave it
    _joins += 1
    store, own_rank, size = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
    # torchrun's store outlives a failed attempt, whose addresses would be mistaken for those of this attempt
    store = dist.PrefixStore(f"daelab/{_get_attempt()}/{size}", store)  # type: ignore[attr-defined]
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    dist.init_process_group(backend, store=store, rank=own_rank, world_size=size)
    _joined = True
    completed = False
    try:
        with detect_lost_process("another process of this group has gone"):
            yield
        completed = True
    except LostProcessError:
        raise
    except BaseException:
        _claim_note("somebody")  # the other processes will fail too, and need not report it
        raise
    finally:
        _joined = False
        # An open group aborts the process at its exit. Closing a group of GPUs would wait for a dead process.
        if completed or not gpus:
            dist.destroy_process_group()
            # A network in a cycle of references, as DistributedDataParallel makes them, would keep the group's threads.
            gc.collect()


def _get_attempt() -> str:
    """Return a text that tells this group from earlier ones: torchrun's restart count and this process's joins."""
    return f"{get_group_id()}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{_joins}"


@contextmanager
def detect_lost_process(message: str) -> Iterator[None]:
    """Turn network errors from the loss of another process into a LostProcessError.

    Args:
        message: The message of that error.

    Raises:
        LostProcessError: Another process has died.
    """
    try:
        yield
    except RuntimeError as error:
        if count_processes() == 1 or not re.search("gloo|nccl|connection|peer", str(error), flags=re.IGNORECASE):
            raise
        with suppress(ValueError):  # signals can be set only in the main thread
            # torchrun terminates the remaining processes, which must first report and save
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise LostProcessError(message) from error


def was_reported(text: str, *, loss: bool = False) -> bool:
    """Return whether another process has already reported a message, and claim the report otherwise.

    If all processes find the same fault, it is reported once. A lost process is reported only if nothing else was.

    Args:
        text: The message.
        loss: Whether the message reports a lost process.

    Returns:
        True if this process should not report it.
    """
    if read_world()[1] == 1:
        return False
    if loss:
        return not _claim_note("somebody")
    _claim_note("somebody")
    return not _claim_note(hashlib.sha256(text.encode()).hexdigest())


def _claim_note(note: str) -> bool:
    """Put a note where all processes can read it, and tell whether this process was the first to do so."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    own_rank = str(read_world()[0])
    key = f"daelab/{_get_attempt()}/{note}"
    try:
        store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=_PATIENCE)
        return bool(store.compare_set(key, "", own_rank).decode() == own_rank)
    except (RuntimeError, KeyError, ValueError):  # a message that is reported twice is better than a lost one
        return True


# Collective operations


def gather_values(value: _T) -> list[_T]:
    """Gather a value from every process.

    Args:
        value: This process's value. It must be picklable.

    Returns:
        The values by rank, the same in every process.
    """
    if count_processes() == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * count_processes()
    dist.all_gather_object(values, value)
    return values


def average_values(value: Tensor) -> Tensor:
    """Average a tensor over all processes.

    Args:
        value: This process's tensor. With several processes it must have the same shape in each.

    Returns:
        The mean, in float64 if there are several processes.
    """
    return value if count_processes() == 1 else sum_values(value.double()) / count_processes()


def sum_values(value: Tensor) -> Tensor:
    """Sum a tensor over all processes, in place.

    Args:
        value: This process's tensor, of the same shape in each process.

    Returns:
        The same tensor, which now holds the sum.
    """
    if count_processes() > 1:
        import torch.distributed as dist

        dist.all_reduce(value)
    return value


def run_on_first(make: Callable[[], _T]) -> _T:
    """Call a function in the first process and give its result to all.

    Args:
        make: The function. Its result must be picklable.

    Returns:
        The result, in every process.

    Raises:
        ValueError: The function raised it in the first process; likewise OSError.
    """
    if count_processes() == 1:
        return make()
    import torch.distributed as dist

    outcome: list[Any] = [None, None]  # the result, and the error
    if is_first_process():
        try:
            outcome[0] = make()
        except (ValueError, OSError) as error:
            outcome[1] = error
    # An error is sent as well, or the other processes would wait for a result that never comes.
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    result: _T = outcome[0]
    return result


def run_first_on_each_host(make: Callable[[], _T]) -> _T:
    """Call a function in one process of each computer, and afterwards in the others.

    A download, for example, is then made once, and the other processes find the files.

    Args:
        make: The function.

    Returns:
        The result of this process's own call.
    """
    if count_processes() == 1:
        return make()
    import torch.distributed as dist

    result = make() if read_local_world()[0] == 0 else None
    dist.barrier()
    return make() if result is None else result


def wrap_data_parallel(module: nn.Module) -> nn.Module:
    """Wrap a module so that its gradients become the means over all processes.

    The gradients are exchanged while the remaining ones are still being computed.

    Args:
        module: The module.

    Returns:
        The wrapped module, or the module itself if the process is alone.
    """
    if count_processes() == 1:
        return module
    from torch.nn.parallel import DistributedDataParallel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # `broadcast_buffers` was renamed in torch 2.13
        # the statistics of batch norms are equal already (models/normalization.py)
        return DistributedDataParallel(module, broadcast_buffers=False, gradient_as_bucket_view=True)
