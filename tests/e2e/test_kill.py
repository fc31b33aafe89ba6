"""Trainings that are killed at random moments resume exactly and leave no damaged file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

KILLS = 12


def test_killed_trainings_end_as_one_that_was_left_alone(run_main: Callable[..., Any]) -> None:
    result = run_main("kill_stress", "--kills", KILLS, "--seed", "1", "--json")
    report = json.loads(result.out)
    assert (report["kills"], report["exact"], report["torn"]) == (KILLS, KILLS, 0), result.err
    assert len(report["moments"]) >= 5
    assert result.code == 0
