"""Damage good files of every format many thousand times, and check what daelab does with each: `make fuzz`.

    python tests/stress/stress.py --inputs 100000

Each input must end in success or in one clean error: not in a traceback, a crash, a hang, or in memory without
bound. The inputs depend on (seed, number) alone. An input that fails is saved, and can be repeated with

    python tests/stress/stress.py --seed S --only NUMBER

The inputs run in worker processes, so that the test notices a crash and goes on.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: a forked process has no thread pool

import torch

from subjects import SUBJECTS, Subject, goods

HANG = 30.0
"""Seconds of computing after which a worker is ended; or ten times as long if it computes nothing."""
SLOW = 5.0
"""Seconds of computing that no input of a few kilobytes may take."""
ROOM = 1 << 30
"""Bytes that a worker may take above what it has when it begins."""
_ARENAS = -8
"""The number of the option M_ARENA_MAX of `mallopt`."""
_SLOT = struct.Struct("qqdd")
"""Of each worker, seen by all: inputs done, the number of the present one, when it began, computing time until then."""


def main() -> None:
    """Run the stress test, and print its result."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--inputs", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    options.add_argument("--save", type=Path, default=Path("fuzz-findings"), help="folder for inputs that fail")
    options.add_argument("--subjects", nargs="*", choices=list(SUBJECTS), default=list(SUBJECTS), metavar="NAME")
    options.add_argument("--only", type=int, metavar="NUMBER", help="repeat one input, with its traceback")
    options.add_argument("--json", action="store_true")
    args = options.parse_args()
    stress = StressTest(args.seed, args.subjects, args.save)
    if args.only is not None:
        stress.repeat(args.only)
        return
    found = stress.run(args.inputs, args.workers, show=not args.json)
    text = "\n".join(f"{key:<10}{value}" for key, value in found.items())
    print(json.dumps(found) if args.json else text)
    raise SystemExit(1 if found["failed"] else 0)


class StressTest:
    """A series of inputs that follow from a seed; those that fail are saved."""

    def __init__(self, seed: int, names: list[str], save: Path) -> None:
        torch.set_num_threads(1)
        self.seed, self.save = seed, save
        self.deck = [SUBJECTS[name] for name in names for _ in range(SUBJECTS[name].share)]
        for name in names:  # before any process is forked
            for number, content in enumerate(goods(name)):
                with tempfile.TemporaryDirectory() as folder:
                    fault = SUBJECTS[name].fault(Path(folder), content)
                assert fault is None, f"{name}, good input {number}: {fault}"

    def input(self, number: int) -> tuple[Subject, bytes]:
        """Return the subject and the content of an input."""
        rng = random.Random(f"{self.seed} {number}")
        subject = self.deck[number % len(self.deck)]
        return subject, subject.spoilt(rng)

    def repeat(self, number: int) -> None:
        """Process one input in this process, and let its error pass."""
        subject, content = self.input(number)
        print(f"{subject.name}, {len(content)} bytes", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            subject.run(Path(folder), content)

    def run(self, inputs: int, workers: int, *, show: bool) -> dict[str, Any]:
        """Process the inputs 0, 1, ..., and count the outcomes."""
        began = time.monotonic()
        shared = mmap.mmap(-1, _SLOT.size * workers)
        alive = {self._fork(worker, workers, worker, inputs, shared): worker for worker in range(workers)}
        while alive:
            time.sleep(0.2)
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid and pid in alive:
                worker = alive.pop(pid)
                number = _SLOT.unpack_from(shared, _SLOT.size * worker)[1]
                if status:
                    code = os.waitstatus_to_exitcode(status)
                    self._note(number, "hang, or killed" if code == -signal.SIGKILL else f"crash: status {code}")
                    alive[self._fork(worker, workers, number + workers, inputs, shared)] = worker
            for pid, worker in alive.items():
                _, _, since, before = _SLOT.unpack_from(shared, _SLOT.size * worker)
                if since and (_computed(pid) - before > HANG or time.monotonic() - since > 10 * HANG):
                    os.kill(pid, signal.SIGKILL)
            if show:
                done = sum(_SLOT.unpack_from(shared, _SLOT.size * worker)[0] for worker in range(workers))
                print(f"\r{done}/{inputs}, {len(self._failed())} failed", end="", file=sys.stderr, flush=True)
        if show:
            print(file=sys.stderr)
        subjects = Counter(self.deck[number % len(self.deck)].name for number in range(inputs))
        return {
            "inputs": inputs,
            "failed": len(self._failed()),
            "seed": self.seed,
            "seconds": round(time.monotonic() - began, 1),
            "peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
            "subjects": dict(sorted(subjects.items())),
        }

    def _failed(self) -> list[Path]:
        return list(self.save.glob(f"{self.seed}-*.txt"))

    def _note(self, number: int, fault: str) -> None:
        """Save an input that failed, and how to repeat it."""
        self.save.mkdir(parents=True, exist_ok=True)
        subject, content = self.input(number)
        (self.save / f"{self.seed}-{number}.input").write_bytes(content)
        command = f"python tests/stress/stress.py --seed {self.seed} --only {number}"
        (self.save / f"{self.seed}-{number}.txt").write_text(f"{subject.name}\n{fault}\n{command}\n", encoding="utf-8")

    def _fork(self, worker: int, workers: int, first: int, inputs: int, shared: mmap.mmap) -> int:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                self._work(worker, workers, first, inputs, shared)
                status = 0
            finally:
                os._exit(status)
        return pid

    def _work(self, worker: int, workers: int, first: int, inputs: int, shared: mmap.mmap) -> None:
        """Process every `workers`-th input from `first` on, in bounded memory, each in an empty folder."""
        # Each thread of the server would reserve 64 MiB of the addresses that are bounded here.
        ctypes.CDLL(None).mallopt(_ARENAS, 1)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 2)  # native libraries write what they think of a file
        root = Path(tempfile.mkdtemp(prefix="daelab-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        folder = root / "here"
        done = _SLOT.unpack_from(shared, _SLOT.size * worker)[0]
        for number in range(first, inputs, workers):
            began = time.process_time()
            _SLOT.pack_into(shared, _SLOT.size * worker, done, number, time.monotonic(), began)
            folder.mkdir()
            subject, content = self.input(number)
            fault = subject.fault(folder, content)
            seconds = time.process_time() - began
            if fault is None and seconds > SLOW:
                fault = f"slow: {seconds:.1f} s"
            if fault is not None:
                self._note(number, fault)
            shutil.rmtree(folder)
            done += 1
        _SLOT.pack_into(shared, _SLOT.size * worker, done, inputs, time.monotonic(), time.process_time())
        shutil.rmtree(root)


def _computed(pid: int) -> float:
    """Return the seconds of processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
