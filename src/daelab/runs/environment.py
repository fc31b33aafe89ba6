"""The environment that a result depends on besides its recipe."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from daelab._util.distributed import count_processes, get_group_id
from daelab._util.files import write_text
from daelab._util.hardware import collect_versions, get_accelerator_name
from daelab.runs.folder import RunFolder


def describe_environment() -> dict[str, Any]:
    """Describe the environment that a result may depend on: versions, processor, threads, commit and more."""
    return {
        "versions": collect_versions(),
        # without the kernel's build, which may contain the host's name
        "platform": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "processor": _get_processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": count_processes(),
        "group": get_group_id(),
        "gpu": get_accelerator_name(),
        "git_commit": _get_git_commit(),
    }


def write_environment(run: RunFolder) -> None:
    """Write environment.json.

    Args:
        run: The run's folder.
    """
    write_text(run.environment, json.dumps(describe_environment(), indent=2) + "\n")


def _get_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _get_git_commit() -> str | None:
    """Return the commit of the checkout that this package runs from, if any."""
    package = Path(__file__).parent
    try:
        result = subprocess.run(
            ["git", "-C", str(package), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None
