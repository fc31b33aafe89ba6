"""Many processes write into one ledger at once and are killed at random: is a row lost, doubled or corrupt?

    python benchmarks/ledger_load.py                 a SQLite file
    python benchmarks/ledger_load.py --postgres      a PostgreSQL server, started on loopback for this

Each of the workers records its runs one after the other, each run as running, then as finished. Workers are killed
with SIGKILL at random moments and started again; a worker begins again with the first run that it had not finished.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import signal
import tempfile
import time
from contextlib import nullcontext
from multiprocessing.process import BaseProcess
from typing import Any

from daelab.runs.ledger import Ledger
from postgres import server


def main() -> None:
    """Load, kill, count."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--workers", type=int, default=8)
    options.add_argument("--runs", type=int, default=250, help="of each worker")
    options.add_argument("--kills", type=int, default=40)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--postgres", action="store_true")
    options.add_argument("--json", action="store_true")
    args = options.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        server() if args.postgres else nullcontext(f"sqlite:///{folder}/ledger.db") as url,
    ):
        found = load(url, args.workers, args.runs, args.kills, random.Random(args.seed))
    found["database"] = "postgresql" if args.postgres else "sqlite"
    print(json.dumps(found) if args.json else "\n".join(f"{key:<10}{value}" for key, value in found.items()))
    raise SystemExit(0 if not (found["lost"] or found["doubled"] or found["corrupt"]) else 1)


def load(url: str, workers: int, runs: int, kills: int, rng: random.Random) -> dict[str, Any]:
    """Write rows from several processes, kill some, and count what became of the rows."""
    began, context = time.perf_counter(), multiprocessing.get_context("spawn")
    counters = [context.Value("i", 0) for _ in range(workers)]

    def start(number: int) -> BaseProcess:
        process = context.Process(target=work, args=(url, number, runs, counters[number]))
        process.start()
        return process

    alive = {number: start(number) for number in range(workers)}
    killed = 0
    while alive:
        time.sleep(rng.uniform(0.02, 0.3))
        number = rng.choice(list(alive))
        process = alive[number]
        # half of them while they write, not while they start
        busy = 0 < counters[number].value < runs
        if killed < kills and process.is_alive() and (busy or rng.random() < 0.1):
            assert process.pid is not None
            process.kill()
            process.join()
            killed += process.exitcode == -signal.SIGKILL
        if not process.is_alive():
            if process.exitcode == 0:
                del alive[number]
            else:
                alive[number] = start(number)
    found = count(Ledger(url), workers, runs)
    return {
        "workers": workers,
        "rows": workers * runs,
        "kills": killed,
        **found,
        "seconds": round(time.perf_counter() - began, 1),
    }


def work(url: str, number: int, runs: int, done: Any) -> None:
    """Record this worker's runs, from the first that is not finished on."""
    ledger = Ledger(url)
    for run in range(done.value, runs):
        ledger.record(name(number, run), status="running", epochs=run, recipe={"worker": number, "run": run})
        ledger.record(name(number, run), status="finished", val_loss=value(number, run), comments="x" * (run % 50))
        done.value = run + 1


def name(number: int, run: int) -> str:
    """Of a run."""
    return f"worker-{number}-run-{run}"


def value(number: int, run: int) -> float:
    """Return a number that no other run has and that needs all its digits."""
    return (number * 1009 + run + 1) / 7


def count(ledger: Ledger, workers: int, runs: int) -> dict[str, int]:
    """Rows that are lost, doubled, or not what was recorded."""
    rows = ledger.list_runs()
    by_name = {row["name"]: row for row in rows}
    wanted = {name(number, run): (number, run) for number in range(workers) for run in range(runs)}
    corrupt = sum(
        (row["status"], row["val_loss"], row["epochs"], row["recipe"])
        != ("finished", value(*wanted[key]), wanted[key][1], dict(zip(("worker", "run"), wanted[key], strict=True)))
        for key, row in by_name.items()
        if key in wanted
    )
    lost, foreign = len(wanted.keys() - by_name.keys()), len(by_name.keys() - wanted.keys())
    return {"lost": lost, "doubled": len(rows) - len(by_name), "corrupt": corrupt + foreign}


if __name__ == "__main__":
    main()
