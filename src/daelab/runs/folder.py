"""A run's folder, and what a result may depend on besides its recipe.

runs/NAME/
    recipe.toml  environment.json  metrics.csv  checkpoint.safetensors  best.safetensors
    samples.npz  curves.svg  samples.svg  report.html
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daelab._util.distributed import count_processes, get_group_id
from daelab._util.files import write_text
from daelab._util.hardware import collect_versions

METRIC_COLUMNS = (
    "epoch",
    "learning_rate",
    "train_loss",
    "val_loss",
    "val_psnr",
    "val_psnr_batch",
    "val_f1",
    "seconds",
    "images_per_second",
)
"""Of metrics.csv: losses as the recipe's, PSNR in dB (mean over images; the paper's), a judge's macro F1.

A column without any value, as `val_f1` where no judge looks, is left out."""


def get_runs_root() -> Path:
    """The folder of all runs: $DAELAB_RUNS, or `runs` here."""
    return Path(os.environ.get("DAELAB_RUNS", "runs"))


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what it makes."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def checkpoint(self) -> Path:
        """Everything that resuming needs."""
        return self.path / "checkpoint.safetensors"

    @property
    def best(self) -> Path:
        """The model with the lowest validation loss."""
        return self.path / "best.safetensors"

    def clear(self) -> None:
        """Remove what a killed process left half-written beside its place."""
        for left in self.path.glob(".*-*"):
            left.unlink(missing_ok=True)

    def write_metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write metrics.csv whole, so that a resumed run makes it agree with its checkpoint again."""
        text = io.StringIO()
        known = set().union(*rows) if rows else set(METRIC_COLUMNS) - {"val_f1"}
        columns = [column for column in METRIC_COLUMNS if column in known]
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.metrics, text.getvalue())

    def read_metrics(self) -> list[dict[str, float]]:
        """The rows of metrics.csv; none where there is none yet.

        Raises:
            ValueError: the file is damaged; names it.
        """
        if not self.metrics.is_file():
            return []
        try:
            with self.metrics.open(newline="", encoding="utf-8") as file:
                return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
        except (ValueError, TypeError, csv.Error) as error:
            raise ValueError(f"{self.metrics}: damaged: {error}; resuming the run writes it anew") from None


def get_run_folder(name: str, under: Path | None = None) -> RunFolder:
    """The folder of a run by its name.

    Raises:
        ValueError: the name is not one that every file system takes.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(f"run name {name!r}: use letters, digits, '.', '_' and '-', at most 100")
    return RunFolder((under or get_runs_root()) / name)


def choose_run_name(stem: str, under: Path | None = None) -> str:
    """`stem-1`, or the first number whose folder does not exist."""
    stem = re.sub(r"[^A-Za-z0-9._]+", "-", stem).strip("-.") or "run"
    number = 1
    while get_run_folder(f"{stem}-{number}", under).path.exists():
        number += 1
    return f"{stem}-{number}"


def find_runs_of_group(group: str | None, under: Path | None = None) -> list[str]:
    """The runs that a group of processes began, by what `processes.identity` calls it; none for None."""
    found = []
    for path in sorted((under or get_runs_root()).glob("*/environment.json")) if group else ():
        with suppress(ValueError, OSError):
            if json.loads(path.read_text(encoding="utf-8")).get("group") == group:
                found.append(path.parent.name)
    return found


def describe_environment() -> dict[str, Any]:
    """What a result may depend on besides its recipe: versions, processor, threads, commit."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "versions": collect_versions(),
        # without the kernel's build, which may name the machine or its host
        "platform": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": count_processes(),
        "group": get_group_id(),
        "gpu": gpu,
        "git_commit": _git_commit(),
    }


def write_environment(run: RunFolder) -> None:
    """Write environment.json."""
    write_text(run.environment, json.dumps(describe_environment(), indent=2) + "\n")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _git_commit() -> str | None:
    """Of the checkout this package runs from, where it does."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
