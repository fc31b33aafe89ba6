"""The folder of a run.

runs/NAME/
    recipe.toml  environment.json  metrics.csv  checkpoint.safetensors  best.safetensors
    samples.npz  curves.svg  samples.svg  report.html
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from daelab._util.files import TEMPORARY_NAME, is_reserved_name, write_text

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
"""The columns of metrics.csv: the recipe's losses, PSNR in dB (mean over images; the paper's), and macro F1.

A column without any value is left out, such as `val_f1` without a classifier."""


def get_runs_root() -> Path:
    """Return the folder of all runs: $DAELAB_RUNS, or `runs` in the current folder."""
    return Path(os.environ.get("DAELAB_RUNS", "runs"))


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run."""

    path: Path

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.path.name

    @property
    def recipe(self) -> Path:
        """The file of the recipe."""
        return self.path / "recipe.toml"

    @property
    def environment(self) -> Path:
        """The file of the environment that the result may depend on."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """The file with the metrics of each epoch."""
        return self.path / "metrics.csv"

    @property
    def checkpoint(self) -> Path:
        """The file with everything that resuming needs."""
        return self.path / "checkpoint.safetensors"

    @property
    def best(self) -> Path:
        """The file of the model with the lowest validation loss."""
        return self.path / "best.safetensors"

    @property
    def samples(self) -> Path:
        """The file of the sample images."""
        return self.path / "samples.npz"

    def clear(self) -> None:
        """Remove temporary files that a killed process left."""
        for path in self.path.glob(".*"):
            # Names with a hyphen are those of version 0.1.0.
            if TEMPORARY_NAME.fullmatch(path.name) or "-" in path.name:
                path.unlink(missing_ok=True)

    def write_metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write metrics.csv anew, so that a resumed run makes it agree with its checkpoint.

        Args:
            rows: The metrics of each epoch, by the names in `METRIC_COLUMNS`.
        """
        text = io.StringIO()
        known = set().union(*rows) if rows else set(METRIC_COLUMNS) - {"val_f1"}
        columns = [*(column for column in METRIC_COLUMNS if column in known), *sorted(known - set(METRIC_COLUMNS))]
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.metrics, text.getvalue())

    def read_metrics(self) -> list[dict[str, float]]:
        """Read the rows of metrics.csv.

        Returns:
            The metrics of each epoch by name; none if the file does not exist yet.

        Raises:
            ValueError: The file is damaged. The message names it.
        """
        if not self.metrics.is_file():
            return []
        try:
            with self.metrics.open(newline="", encoding="utf-8") as file:
                return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
        except (ValueError, TypeError, csv.Error) as error:
            raise ValueError(f"{self.metrics}: damaged: {error}; resume the run to write it again") from None


def get_run_folder(name: str, under: Path | None = None) -> RunFolder:
    """Return the folder of a run, which need not exist.

    Args:
        name: The name of the run.
        under: The folder of all runs; None means `get_runs_root()`.

    Returns:
        The folder.

    Raises:
        ValueError: Not every file system allows the name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(f"run name {name!r}: use letters, digits, '.', '_' and '-', at most 100")
    if is_reserved_name(name):
        raise ValueError(
            f"run name {name!r}: Windows does not allow this name; choose another, so that the run can move"
        )
    return RunFolder((under or get_runs_root()) / name)


def choose_run_name(stem: str, under: Path | None = None) -> str:
    """Choose a name for a new run.

    Args:
        stem: The start of the name. Characters that names may not have are replaced.
        under: The folder of all runs; None means `get_runs_root()`.

    Returns:
        `stem-1`, or the first number whose folder does not exist.
    """
    stem = re.sub(r"[^A-Za-z0-9._]+", "-", stem).strip("-.") or "run"
    number = 1
    while get_run_folder(f"{stem}-{number}", under).path.exists():
        number += 1
    return f"{stem}-{number}"


def find_runs_of_group(group: str | None, under: Path | None = None) -> list[str]:
    """Find the runs that a group of processes began.

    Args:
        group: The identifier of the group, from `get_group_id`. With None, no run is returned.
        under: The folder of all runs; None means `get_runs_root()`.

    Returns:
        The names of the runs.
    """
    names = []
    for path in sorted((under or get_runs_root()).glob("*/environment.json")) if group else ():
        with suppress(ValueError, OSError):
            if json.loads(path.read_text(encoding="utf-8")).get("group") == group:
                names.append(path.parent.name)
    return names
