"""Train a list of recipes on a machine that can be had for minutes only; a cut loses one model at most.

    python tools/gpu/campaign.py --out OUT --limit 540 --data-root DATA

The runs of the plan (plan.toml) are trained by `daelab train`, one after the other, and two side by side while the
GPU is less than half busy. After each run, OUT/NAME.tar holds its model (half precision), metrics.csv, recipe and
environment, and OUT/summary.csv a row. The campaign ends before its limit: a run that would not end in time gets
the time that is left, or is left out. Started again, it goes on with the first run that OUT does not hold, and
resumes a run that was interrupted. `--rehearse` trains tiny parts of everything, on bundled photographs.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch._dynamo  # noqa: F401 -- each training needs it, and a forked process has it already
from PIL import Image

import daelab.experiments.train  # noqa: F401 -- likewise
from daelab.cli import main as run_command_line
from daelab.image_io.bundled_photos import PHOTOS
from daelab.models.model_file import load_network, save_model
from daelab.training.recipe import load_recipe

HERE = Path(__file__).parent
FORK = multiprocessing.get_context("fork")
"""A forked process needs no import of PyTorch, which takes several seconds."""
FILES = ("model.safetensors", "metrics.csv", "recipe.toml", "environment.json")
"""What is kept of a run."""
STARTUP = 15.0
"""Seconds that a run needs before its first step and after its last one, measured generously."""
LEAST = 20.0
"""Seconds of training below which a run is not worth starting."""
BUSY = 50
"""Percent of the GPU in use above which no second run is started beside the first."""
SETTLED = 20.0
"""Seconds after which a run's use of the GPU can be judged."""
COLUMNS = ("name", "seconds", "epochs", "images_per_second", "val_psnr", "val_psnr_batch", "megabytes", "ended")
REHEARSAL = ["training.epochs=1", "training.batch=2", "data.train=4", "data.val=2", "training.warmup=0"]
"""Changes that make any recipe train within seconds on a CPU."""


@dataclass(frozen=True)
class PlannedRun:
    """A run of the plan."""

    name: str
    recipe: str
    minutes: float
    start: str | None = None
    """An earlier run, whose model this one begins with."""


@dataclass
class RunningRun:
    """A run that is being trained."""

    planned: PlannedRun
    process: BaseProcess
    ends: float
    """The time at which it is to have ended."""
    began: float = field(default_factory=time.monotonic)


def read_plan(path: Path) -> list[PlannedRun]:
    """Read a plan and check that each start comes earlier.

    Args:
        path: A TOML file with one table `run` for each run.

    Raises:
        ValueError: A run has an unknown field, a name that occurs twice, or a start that does not come earlier.
    """
    runs: list[PlannedRun] = []
    for fields in tomllib.loads(path.read_text(encoding="utf-8"))["run"]:
        try:
            run = PlannedRun(**fields)
        except TypeError as error:
            raise ValueError(f"{path}: {error}") from None
        names = [earlier.name for earlier in runs]
        if run.name in names or (run.start and run.start not in names):
            raise ValueError(f"{path}: run {run.name}: its name occurs twice, or its start does not come before it")
        runs.append(run)
    return runs


def run_daelab(arguments: list[str], runs: Path, name: str) -> None:
    """Run a command of daelab in this process, with its output in a log file.

    Args:
        arguments: The command's arguments.
        runs: The folder of the runs.
        name: The name of the run, and of its log.
    """
    log = os.open(runs / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["DAELAB_RUNS"] = str(runs)
    sys.argv = ["daelab", *arguments]
    run_command_line()


def measure_gpu_use() -> int:
    """Return the percentage of the GPU in use, or 100 where nvidia-smi does not say."""
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
        return int(text.split()[0])
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return 100


class Campaign:
    """The runs of a plan, trained within a time limit.

    Args:
        plan: The runs, in order.
        out: The folder of the results.
        limit: Seconds from now until everything has ended.
        data: The folder of the data sets.
        rehearse: Whether to train tiny parts on the CPU.
    """

    def __init__(self, plan: list[PlannedRun], out: Path, limit: float, data: Path, rehearse: bool) -> None:
        """Note when the campaign ends."""
        self.plan, self.out, self.data, self.rehearse = plan, out, data, rehearse
        self.ends = time.monotonic() + limit
        self.runs = out / "runs"
        self.running: list[RunningRun] = []
        self.runs.mkdir(parents=True, exist_ok=True)

    def run(self) -> None:
        """Train everything that the time allows."""
        waiting = [run for run in self.plan if not self.archive(run).is_file()]
        while waiting or self.running:
            while waiting and self.has_room() and self.is_ready(waiting[0]):
                self.start(waiting.pop(0))
            for run in list(self.running):
                if run.process.exitcode is not None:
                    self.finish(run)
                elif time.monotonic() > run.ends:
                    # The run saves itself, and its best model so far is kept.
                    run.process.terminate()
                    run.ends = float("inf")
            time.sleep(0.2)

    def archive(self, run: PlannedRun) -> Path:
        """Return the file that holds the result of a run.

        Args:
            run: The run.
        """
        return self.out / f"{run.name}.tar"

    def has_room(self) -> bool:
        """Return whether another run may start: none is running, or one that leaves more than half of the GPU idle."""
        if len(self.running) != 1:
            return not self.running
        return time.monotonic() - self.running[0].began > SETTLED and measure_gpu_use() < BUSY

    def is_ready(self, run: PlannedRun) -> bool:
        """Return whether the run that this one begins with has ended.

        Args:
            run: The run.
        """
        return run.start not in [running.planned.name for running in self.running]

    def start(self, run: PlannedRun) -> None:
        """Start or resume a run with the time that is left, or leave it out.

        Args:
            run: The run.
        """
        left = self.ends - time.monotonic() - STARTUP
        seconds = min(60 * run.minutes, left)
        begins_with = self.runs / run.start / "best.safetensors" if run.start else None
        if seconds < (0 if self.rehearse else LEAST) or (begins_with and not begins_with.is_file()):
            print(f"{run.name}: left out, {left:.0f} s are left", flush=True)
            return
        command = ["train", "--data-root", str(self.data), "--checkpoint-every", "0.25m", "--no-report"]
        if (self.runs / run.name / "checkpoint.safetensors").is_file():
            command += ["--resume", run.name]
        else:
            # A run that was cut off before its first checkpoint begins anew.
            shutil.rmtree(self.runs / run.name, ignore_errors=True)
            changes = [f"training.minutes={seconds / 60:.3f}"]
            changes += [f"training.start={begins_with}"] if begins_with else []
            changes += self.make_rehearsal(run) if self.rehearse else []
            command += ["--recipe", run.recipe, "--name", run.name]
            command += [part for change in changes for part in ("--set", change)]
        print(f"{run.name}: {seconds:.0f} s of training, {left:.0f} s are left", flush=True)
        process = FORK.Process(target=run_daelab, args=(command, self.runs, run.name))
        process.start()
        self.running.append(RunningRun(run, process, min(self.ends - 5, time.monotonic() + seconds + 2 * STARTUP)))

    def make_rehearsal(self, run: PlannedRun) -> list[str]:
        """Return the changes that make a run small, and let it do without a downloaded data set.

        Args:
            run: The run.
        """
        if load_recipe(run.recipe).data.name == "cifar10":
            return [*REHEARSAL, "data.name=photos"]
        folder = self.out / "photographs"
        folder.mkdir(exist_ok=True)
        for photo in PHOTOS:
            with Image.open(photo.path()) as picture:
                picture.crop((0, 0, 80, 80)).save(folder / f"{photo.path().stem}.png")
        return [*REHEARSAL, f"data.name=folder:{folder}", "data.crops=1", "data.crop=64"]

    def finish(self, run: RunningRun) -> None:
        """Keep the result of a run that has ended, however it ended.

        Args:
            run: The run.
        """
        self.running.remove(run)
        folder, name = self.runs / run.planned.name, run.planned.name
        seconds = time.monotonic() - run.began
        if not (folder / "best.safetensors").is_file():
            lines = (self.runs / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
            print(f"{name}: no model after {seconds:.0f} s: {lines[-1] if lines else 'no output'}", flush=True)
            return
        network, metadata = load_network(folder / "best.safetensors")
        save_model(folder / "model.safetensors", network, replace(metadata, stored="float16"))
        part = self.out / f"{name}.tar.part"
        with tarfile.open(part, "w") as archive:
            for file in FILES:
                if (folder / file).is_file():
                    archive.add(folder / file, f"{name}/{file}")
        part.replace(self.archive(run.planned))
        row = self.summarize(name, seconds, run.process.exitcode or 0)
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)

    def summarize(self, name: str, seconds: float, code: int) -> dict[str, str]:
        """Add a run to summary.csv.

        Args:
            name: The name of the run.
            seconds: The time from its start to its end.
            code: The exit code of the training.

        Returns:
            The row.
        """
        with (self.runs / name / "metrics.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        best = max((row for row in rows if row.get("val_psnr")), key=lambda row: float(row["val_psnr"]), default={})
        row = {
            "name": name,
            "seconds": f"{seconds:.1f}",
            "epochs": str(len(rows)),
            "images_per_second": rows[-1]["images_per_second"] if rows else "",
            "val_psnr": best.get("val_psnr", ""),
            "val_psnr_batch": best.get("val_psnr_batch", ""),
            "megabytes": f"{self.archive(PlannedRun(name, '', 0)).stat().st_size / 1e6:.2f}",
            "ended": "finished" if code == 0 else f"exit code {code}",
        }
        path = self.out / "summary.csv"
        begun = path.is_file()
        with path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if not begun:
                writer.writeheader()
            writer.writerow(row)
        return row


def main() -> None:
    """Run the campaign of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder of the results")
    parser.add_argument("--limit", type=float, required=True, help="seconds until everything has ended")
    parser.add_argument("--data-root", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--plan", type=Path, default=HERE / "plan.toml", help="the runs (default: plan.toml)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="train these runs of the plan only")
    parser.add_argument("--rehearse", action="store_true", help="train tiny parts of everything, on a CPU")
    options = parser.parse_args()
    plan = [run for run in read_plan(options.plan) if not options.only or run.name in options.only]
    Campaign(plan, options.out, options.limit, options.data_root, options.rehearse).run()


if __name__ == "__main__":
    main()
