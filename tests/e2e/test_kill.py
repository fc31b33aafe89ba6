"""Trainings that are killed at random moments resume exactly and leave no damaged file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

STRESS_TEST = Path(__file__).parents[2] / "benchmarks" / "kill_stress.py"
KILLS = 12


@pytest.mark.usefixtures("forked")
def test_killed_trainings_end_as_one_that_was_left_alone() -> None:
    # It forks, which needs a process without threads: the fork that it is in has none.
    command = [sys.executable, str(STRESS_TEST), "--kills", str(KILLS), "--seed", "1", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert result.stdout, result.stderr
    report = json.loads(result.stdout)
    assert (report["kills"], report["exact"], report["torn"]) == (KILLS, KILLS, 0), result.stderr
    assert len(report["moments"]) >= 5
    assert result.returncode == 0
