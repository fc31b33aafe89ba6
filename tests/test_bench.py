"""Every script in bench/ runs, in sizes that measure nothing, and prints one JSON document."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
# script -> arguments, keys that its document has
SCRIPTS = {
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
        "--images 8 --same-images 4 --rounds 1 --seconds 0.01 --threads 1 --baselines median --megapixels 0.02 "
        "--crop 32",
        "ratio images picture baselines model noise threads",
    ),
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


# tried by test_reproduce.py, e2e/test_kill.py, e2e/test_load.py, test_audit.py, test_automatic.py and
# test_site.py; the last, which takes minutes and a browser, by nothing but what it made
ELSEWHERE = (
    *("results.py", "kill_storm.py", "ledger_load.py", "postgres.py", "audit.py", "reliability.py"),
    *("serve_load.py", "do_no_harm.py", "cards.py", "handbook.py", "screenshots.py"),
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_prints_one_json_document(script: str) -> None:
    arguments, keys = SCRIPTS[script]
    command = [sys.executable, str(BENCH / script), "--data", "photos", "--json", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(keys.split()) <= set(found)
    assert all(value for value in found.values() if isinstance(value, dict | list))
    speed = found.get("images_per_second", found.get("ms_per_step", 1))
    assert speed > 0
    if "rounds" in found:
        assert found["precision"] == "float32"
        assert found["ratio"] == pytest.approx(speed / found["plain_images_per_second"])
        assert 0 < found["validation"]["share_of_epoch"] < 1


def test_every_script_is_tried() -> None:
    assert {path.name for path in BENCH.glob("*.py")} - {"common.py", "beyond.py", *ELSEWHERE} == set(SCRIPTS)
