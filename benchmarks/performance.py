"""Run the benchmarks and write the tables of docs/performance.md; no figure in them is typed.

Each benchmark runs on the machine as it is, and again while one more process computes without a pause. A benchmark
that takes more than five minutes is ended, and its rows say so. The figures are kept in docs/performance.json, by the
kind of machine, so that a run on another kind adds to them.

    make benchmarks                                     all, in an hour at most
    python benchmarks/performance.py --only start-up    one of them
    python benchmarks/performance.py --only ""          only write the tables again
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common import count_cores, measure_load, occupy_cores
from daelab._util.files import write_text
from daelab._util.hardware import has_native_bf16
from performance_page import STATES, write_page

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "performance.json"
PAGE = ROOT / "docs" / "performance.md"
LIMIT = 300
"""The longest time of a benchmark, in seconds."""


@dataclass(frozen=True)
class Step:
    """A benchmark."""

    command: str
    """The script and its arguments."""
    states: tuple[str, ...] = ("idle", "loaded")
    needs_bf16: bool = False


STEPS = {
    "training-bf16": Step("train_speed.py --rounds 5 --warm-up 20 --precision bf16", needs_bf16=True),
    "training-float32": Step("train_speed.py --rounds 5 --warm-up 20 --precision float32"),
    # The benchmark itself occupies a core.
    "threads": Step("threads.py --rounds 3 --others 0,1", ("idle",)),
    "start-up": Step("start_up.py --rounds 5"),
    "photographs": Step("photo_speed.py --rounds 3 --files 1"),
    "inference": Step("inference_speed.py --rounds 3 --baselines --megapixels 0"),
    "methods": Step("inference_speed.py --rounds 3 --baselines nlm --images 256 --megapixels 4", ("idle",)),
    "variants": Step("variants.py --rounds 3 --steps 6 --warm-up 8", ("idle",)),
    "sizes": Step("cost_by_size.py --csv docs/results/cost-by-size/cost.csv", ("idle",)),
}


def describe_kind() -> str:
    """Return the kind of machine, by which figures are kept."""
    bf16 = "with" if has_native_bf16(torch.device("cpu")) else "without"
    return f"{torch.backends.cpu.get_cpu_capability()} {bf16} bf16, {count_cores()} cores"


def run_step(name: str, others: int, extra: list[str]) -> dict[str, Any] | str:
    """Run a benchmark; return what it printed, or why there is nothing."""
    script, *arguments = STEPS[name].command.split()
    command = [sys.executable, f"benchmarks/{script}", "--json", *arguments, *extra]
    # Compiled modules are kept, as in an installed package.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    load = measure_load()
    with occupy_cores(others):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment, start_new_session=True
        )
        try:
            output, _ = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return f"not finished in {LIMIT} s"
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        return f"failed with exit code {process.returncode}"
    found: dict[str, Any] = json.loads(output)
    found.pop("rounds", None)
    return {**found, "load_before": round(load, 2)}


def measure(names: list[str], extra: list[str], machine: dict[str, Any]) -> None:
    """Run benchmarks in each of their states, and keep what they printed in the record of this kind of machine."""
    for name in names:
        if STEPS[name].needs_bf16 and not has_native_bf16(torch.device("cpu")):
            continue
        for state in STEPS[name].states:
            print(f"== {name}, {state}", file=sys.stderr)
            takes_data = STEPS[name].command.startswith(("start_up", "photo_speed"))
            found = run_step(name, STATES[state], [] if takes_data else extra)
            machine["steps"].setdefault(name, {})[state] = found
            machine["torch"], machine["date"] = torch.__version__, datetime.date.today().isoformat()


def main() -> None:
    """Measure and write."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--data-root", help="where CIFAR-10 is; without it, bundled photographs take its place")
    options.add_argument("--only", help=f"the benchmarks to run, of {','.join(STEPS)}")
    args = options.parse_args()
    names = list(STEPS) if args.only is None else [name for name in args.only.split(",") if name]
    if unknown := [name for name in names if name not in STEPS]:
        options.error(f"no benchmark {unknown[0]}; there are {', '.join(STEPS)}")
    data: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8")) if DATA.is_file() else {}
    machine = data.setdefault(describe_kind(), {"steps": {}}) if names else {}
    for name in names:
        measure([name], ["--data-root", args.data_root] if args.data_root else [], machine)
        # After each, so that an interrupted run loses nothing.
        write_text(DATA, json.dumps(data, indent=1) + "\n")
        write_text(PAGE, write_page(PAGE.read_text(encoding="utf-8"), data))
    write_text(PAGE, write_page(PAGE.read_text(encoding="utf-8"), data))


if __name__ == "__main__":
    main()
