"""Trainings that are killed at random moments resume exactly, and leave no torn file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

STORM = Path(__file__).parents[2] / "bench" / "kill_storm.py"
KILLS = 20


def test_twenty_killed_trainings_end_as_one_that_was_left_alone() -> None:
    command = [sys.executable, str(STORM), "--kills", str(KILLS), "--seed", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert (found["kills"], found["exact"], found["torn"]) == (KILLS, KILLS, 0), done.stderr
    assert len(found["moments"]) >= 5
    assert done.returncode == 0
