"""Many clients at once against `daelab serve` on loopback: does one fail, is an answer another's, does memory grow?

    python benchmarks/serve_load.py                     32 clients for 60 seconds

Each client sends noisy pictures of its own, one after the other, and compares every answer with what its first
answer to the same picture was; a refusal of 429 is honest, and waited out. Exit code 1 where another status came,
a connection broke, an answer was another's, or memory passed `--most-growth` beyond the warmed-up server's.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def main() -> None:
    """Load, watch, print."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--clients", type=int, default=32)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--side", type=int, default=128, help="of a picture, in pixels")
    options.add_argument("--queue", type=int, default=8)
    options.add_argument("--most-growth", type=float, default=300, help="megabytes")
    options.add_argument("--json", action="store_true")
    args = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="daelab-bench-") as place:
        found = load(Path(place), args.clients, args.seconds, args.side, args.queue)
    good = not (found["failed"] or found["mixed_up"]) and found["memory_growth_mb"] <= args.most_growth
    print(json.dumps(found) if args.json else "\n".join(f"{key:<20}{value}" for key, value in found.items()))
    raise SystemExit(0 if good else 1)


def load(place: Path, clients: int, seconds: float, side: int, queue: int) -> dict[str, Any]:
    """Load a server and return what became of the requests and of its memory."""
    environment = os.environ | {"DAELAB_RUNS": str(place / "runs")}
    command = [sys.executable, "-m", "daelab", "serve", "--port", "0", "--queue", str(queue)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=place, env=environment) as server:
        assert server.stdout is not None
        found = re.search(r"http://([\d.]+):(\d+)/", server.stdout.readline())
        assert found, "the server did not start"
        address = found[1], int(found[2])
        try:
            for number in range(8):  # the model and the kernels are loaded once
                Client(address, number, side).ask()
            return measured(server.pid, address, clients, seconds, side)
        finally:
            server.terminate()


def measured(pid: int, address: tuple[str, int], clients: int, seconds: float, side: int) -> dict[str, Any]:
    """Run all clients; return their counts and latencies, and the server's peak memory."""
    before, most = memory(pid), 0.0
    began = time.monotonic()
    crowd = [Client(address, number, side) for number in range(clients)]
    threads = [threading.Thread(target=client.work, args=(began + seconds,)) for client in crowd]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, memory(pid))
        time.sleep(0.2)
    took = time.monotonic() - began
    counts: Counter[str] = sum((client.counts for client in crowd), Counter())
    waits = np.array([wait for client in crowd for wait in client.waits] or [np.nan])
    return {
        "clients": clients,
        "seconds": round(took, 1),
        "answered": counts["200"],
        "per_second": round(counts["200"] / took, 2),
        "refused_429": counts["429"],
        "failed": sum(counts.values()) - counts["200"] - counts["429"] - counts["mixed up"],
        "failures": {key: count for key, count in counts.items() if key not in ("200", "429", "mixed up")},
        "mixed_up": counts["mixed up"],
        "without_answer": sum(client.counts["200"] == 0 for client in crowd),
        "median_ms": round(float(np.median(waits)) * 1000),
        "p99_ms": round(float(np.quantile(waits, 0.99)) * 1000),
        "memory_before_mb": round(before),
        "memory_growth_mb": round(most - before),
    }


class Client:
    """One that sends its own picture again and again."""

    def __init__(self, address: tuple[str, int], number: int, side: int) -> None:
        """Make the picture that this client sends."""
        self.address = address
        rng = np.random.default_rng(number)
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(stream, "PNG")
        self.picture, self.first = stream.getvalue(), b""
        self.counts: Counter[str] = Counter()
        self.waits: list[float] = []

    def work(self, until: float) -> None:
        """Ask until the time is over."""
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                status, body = self.ask()
            except (OSError, http.client.HTTPException) as error:
                self.counts[type(error).__name__] += 1
                continue
            self.counts[str(status)] += 1
            if status == 429:
                time.sleep(0.1)
            elif status == 200:
                self.waits.append(time.monotonic() - began)
                self.first = self.first or body
                self.counts["mixed up"] += body != self.first

    def ask(self) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(*self.address, timeout=150)
        try:
            connection.request("POST", "/api/denoise?name=a.png", self.picture)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def memory(pid: int) -> float:
    """Megabytes that a process and its worker processes hold in memory."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return 0.0
    held = re.search(r"VmRSS:\s+(\d+)", text)
    return (int(held[1]) / 1000 if held else 0.0) + sum(memory(int(worker)) for worker in workers)


if __name__ == "__main__":
    main()
