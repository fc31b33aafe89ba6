"""CPU seconds that commands take beside the import of PyTorch, and the packages that they import.

The commands take turns, each in a process of its own; numbers are medians over the rounds. Modules are compiled before
the first round, as in an installed package.

    python benchmarks/start_up.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from PIL import Image

from common import show, table
from daelab.image_io.bundled_photos import find_photo

SIZE = (450, 300)
"""Width and height of the picture, in pixels."""


def options() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    found.add_argument("--rounds", type=int, default=9)
    found.add_argument(
        "--only", help="commands to measure, such as --help,denoise; their imports too if denoise is one"
    )
    found.add_argument("--data", help=argparse.SUPPRESS)
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


def count_cpu_seconds(command: list[str], environment: dict[str, str]) -> float:
    """Run a command and return the CPU seconds that it took."""
    before = psutil.Process().cpu_times()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after = psutil.Process().cpu_times()
    return float(after.children_user + after.children_system - before.children_user - before.children_system)


def list_imports(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Return the milliseconds that a command spends on importing each package, PyTorch with all that it imports."""
    command = [command[0], "-X", "importtime", *command[1:]]
    # Without the variable, daelab leads what libraries print nowhere.
    done = subprocess.run(command, env={**environment, "DAELAB_DEBUG": "1"}, capture_output=True, text=True, check=True)
    lines = re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|( +)(\w+)", done.stderr, re.MULTILINE)
    found: Counter[str] = Counter()
    owners: list[tuple[int, str]] = []
    # A module is printed after those that it imports, which are indented further.
    for own, indent, package in reversed(lines):
        depth = len(indent)
        while owners and owners[-1][0] >= depth:
            owners.pop()
        owner = "torch" if any(name == "torch" for _, name in owners) else package
        owners.append((depth, package))
        found[owner] += int(own)
    return {name: microseconds / 1000 for name, microseconds in found.items()}


def main() -> None:
    """Run the benchmark."""
    args = options().parse_args()
    with tempfile.TemporaryDirectory(prefix="daelab-bench-") as folder:
        picture = Path(folder) / "picture.png"
        clean = Path(folder) / "clean.png"
        Image.open(find_photo("coffee")).crop((0, 0, *SIZE)).save(clean)
        daelab = [sys.executable, "-m", "daelab"]
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            "daelab --help": [*daelab, "--help"],
            "daelab inspect": [*daelab, "inspect", str(picture)],
            "daelab denoise": [*daelab, "denoise", str(picture), "--overwrite"],
        }
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        if args.only:
            wanted = {"import torch", *(f"daelab {name}" for name in args.only.split(","))}
            commands = {name: command for name, command in commands.items() if name in wanted}
        if {"daelab inspect", "daelab denoise"} & set(commands):
            noise = ["noise", str(clean), "--noise", "awgn(30)", "--out", str(picture)]
            count_cpu_seconds([*daelab, *noise], environment)
        for command in commands.values():
            count_cpu_seconds(command, environment)
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(args.rounds):
            for name, command in commands.items():
                seconds[name].append(count_cpu_seconds(command, environment))
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
        # The least of three, since these are not CPU seconds, and other programs would count.
        repeats = min(3, args.rounds) if "daelab denoise" in commands else 0
        times = [list_imports(commands["daelab denoise"], environment) for _ in range(repeats)] or [{}]
        least = {name: min(one.get(name, spent) for one in times) for name, spent in times[0].items()}
        imports = dict(sorted(least.items(), key=lambda item: -item[1])[:8])
    torch = seconds["import torch"]
    found: dict[str, Any] = {
        "commands": {
            name: {
                "cpu_seconds": median(each),
                "over_torch": median(one - other for one, other in zip(each, torch, strict=True)),
            }
            for name, each in seconds.items()
        },
        **({"imports_ms": imports} if imports else {}),
    }
    show(found, human(found), args.json)


def human(found: dict[str, Any]) -> str:
    """Format the document for people."""
    rows = [["command", "CPU seconds", "over import torch"]]
    rows += [
        [name, f"{row['cpu_seconds']:.2f}", f"{row['over_torch']:+.2f}"] for name, row in found["commands"].items()
    ]
    imports = ", ".join(f"{name} {spent:.0f}" for name, spent in found.get("imports_ms", {}).items())
    return f"{table(rows)}\n\nmilliseconds of imports of `daelab denoise`: {imports}"


if __name__ == "__main__":
    main()
