"""Every benchmark runs with tiny sizes and prints one JSON document, and every tool has a test."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS, TOOLS = ROOT / "benchmarks", ROOT / "tools"
# script -> its arguments, and the keys of its document
SCRIPTS = {
    "adapt_gain.py": (
        "--minutes 0.001 --pictures 10 --limit 2 --start model-c",
        "noise start minutes pictures steps psnr share",
    ),
    "plain_loop.py": ("--images 16 --batch 8", "images_per_second images precision threads loss psnr_batch"),
    "train_speed.py": (
        "--batch 8 --rounds 1 --steps 3 --plain-steps 1 --warm-up 1 --images 16 --peak-size 64 "
        "--precision float32 --validation",
        "ratio images_per_second plain_images_per_second precision share_of_peak peak_gflops rounds validation",
    ),
    "variants.py": (
        "--batch 8 --rounds 1 --steps 2 --warm-up 1 --images 16 --precision float32 --only float32",
        "batch threads variants",
    ),
    "inference_speed.py": (
        "--images 8 --same-images 4 --rounds 1 --seconds 0.01 --threads 1 --learned plain daelab "
        "--baselines median --megapixels 0.02 --crop 32",
        "ratio images picture baselines model noise threads",
    ),
    "threads.py": (
        "--work denoising --others 0 --rounds 1 --seconds 0.01 --warm-up 1 --precision float32",
        "cores works load_before machine",
    ),
    "start_up.py": ("--rounds 1 --only=--help", "commands"),
    "photo_speed.py": ("--rounds 1 --megapixels 0", "methods"),
    "cost_by_size.py": ("--only trials --sizes 3", "axes"),
    "crops_speed.py": ("--pictures 6 --crops 2 --crop 16 --batch 8 --rounds 1", "crop batch works"),
    "processes.py": (
        "--cores 0 --rounds 1 --steps 2 --warm-up 1 --batch 8 --precision float32",
        "one shared apart shared_ratio efficiency gradient_bytes norms model",
    ),
    "streaming_memory.py": ("--pictures 300 --buffer 64 --validation 8", "buffer sets growth"),
    "profile_step.py": (
        "paper/35 --steps 1 --top 4 --set training.batch=8",
        "recipe precision ms_per_step operators",
    ),
}


# script -> the test that runs it, or that checks what it wrote
ELSEWHERE = {
    "do_no_harm.py": "denoising/test_automatic.py",
    "kill_stress.py": "e2e/test_kill.py",
    "ledger_load.py": "e2e/test_load.py",
    "performance.py": "tools/test_performance_page.py",
    "postgres.py": "e2e/test_explore.py",
    "serve_load.py": "e2e/test_load.py",
}
TOOLS_TESTED = {
    "audit.py": "tools/test_audit.py",
    "before_after.py": "tools/test_site.py",
    "calibrate.py": "tools/test_calibrate.py",
    "cards.py": "tools/test_site.py",
    "demo.py": "tools/test_shipping.py",
    "figures.py": "tools/test_site.py",
    "handbook.py": "tools/test_site.py",
    "reliability.py": "tools/test_audit.py",
    "results.py": "experiments/test_paper.py",
    "screenshots.py": "tools/test_site.py",
    "structure.py": "tools/test_structure.py",
}


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("script", SCRIPTS)
def test_prints_one_json_document(script: str, run_main: Callable[..., Any]) -> None:
    arguments, keys = SCRIPTS[script]
    result = run_main(script.removesuffix(".py"), "--data", "photos", "--json", *arguments.split())
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert set(keys.split()) <= set(document)
    assert all(value for value in document.values() if isinstance(value, dict | list))
    speed = document.get("images_per_second", document.get("ms_per_step", 1))
    assert speed > 0
    if "rounds" in document:
        assert document["precision"] == "float32"
        assert document["ratio"] == pytest.approx(speed / document["plain_images_per_second"])
        assert 0 < document["validation"]["share_of_epoch"] < 1


def test_every_script_is_tested() -> None:
    assert {path.name for path in BENCHMARKS.glob("*.py")} - {"common.py", "graphics.py", "performance_page.py"} == {
        *SCRIPTS,
        *ELSEWHERE,
    }
    assert {path.name for path in TOOLS.glob("*.py")} - {"beyond.py", "train_gain.py"} == set(TOOLS_TESTED)
    for script, test in (ELSEWHERE | TOOLS_TESTED).items():
        text = (ROOT / "tests" / test).read_text(encoding="utf-8")
        assert re.search(rf'(["/]|import ){script.removesuffix(".py")}\b', text), script


def test_the_handbook_states_the_measured_gain_of_adapting() -> None:
    measured = json.loads((ROOT / "docs" / "results" / "adapt-gain.json").read_text(encoding="utf-8"))
    text = " ".join((ROOT / "docs" / "train.md").read_text(encoding="utf-8").split())
    for score in ("start", "adapted", "clean"):
        assert f" {measured['psnr'][score]:.2f} dB" in text
    assert f" {measured['share']:.0%} of the gain" in text
    assert f"Adapted to {measured['pictures']} noisy photographs for {measured['minutes']:g} minutes" in text
    assert f"`{measured['noise']}`" in text
