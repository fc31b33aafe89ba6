"""docs/performance.md shows the figures that the benchmarks measured, and nothing else in its marked tables."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import performance_page

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
KIND = "AVX9 with bf16, 2 cores"


def start_up(over_torch: float, load: float = 0.1) -> dict[str, Any]:
    commands = {
        "daelab --help": {"cpu_seconds": 0.15, "over_torch": -1.2},
        "daelab denoise": {"cpu_seconds": 2.0, "over_torch": over_torch},
    }
    return {"commands": commands, "imports_ms": {"torch": 1300.0}, "load_before": load}


def machine(**steps: Any) -> dict[str, Any]:
    named = {name.replace("_", "-"): states for name, states in steps.items()}
    return {KIND: {"torch": "2.99", "date": "2030-01-31", "steps": named}}


def test_the_page_is_what_the_figures_say() -> None:
    data = json.loads((ROOT / "docs" / "performance.json").read_text(encoding="utf-8"))
    assert performance_page.write_page(PAGE, data) == PAGE


def test_every_region_is_on_the_page_once() -> None:
    assert sorted(re.findall(r"<!-- measured: ([\w-]+) -->", PAGE)) == sorted(performance_page.REGIONS)
    assert PAGE.count("<!-- end -->") == len(performance_page.REGIONS)


def test_a_missed_goal_is_computed_and_explained() -> None:
    found = performance_page.format_goals(
        machine(start_up={"idle": start_up(0.75), "loaded": start_up(0.4)})[KIND]["steps"]
    )
    assert "| `daelab --help`: CPU seconds | at most 0.3 | 0.15 | 0.15 |" in found
    assert "| at most 0.5 | 0.75 | 0.40 |" in found
    (missed,) = re.findall("^Missed: .*", found, re.MULTILINE)
    assert "The goal is 0.5; measured 0.75 (50%) idle. Most of it is the work itself" in missed


def test_a_benchmark_that_did_not_end_says_so() -> None:
    steps = machine(start_up={"idle": start_up(0.4), "loaded": "not finished in 300 s"})[KIND]["steps"]
    assert "| 0.40 | not finished in 300 s |" in performance_page.format_goals(steps)
    assert "not finished" in performance_page.format_training({"training-float32": {"idle": "not finished in 300 s"}})


def test_a_table_names_the_machine_and_how_idle_it_was() -> None:
    for load, sentence in ((0.1, "No other program computed."), (3.0, "3.0 to 3.0 cores")):
        text = performance_page.write_page(
            "before <!-- measured: start-up --> old <!-- end --> after",
            machine(start_up={"idle": start_up(0.4, load)}),
        )
        assert text.startswith("before <!-- measured: start-up -->")
        assert text.endswith("<!-- end --> after")
        assert "old" not in text
        assert f"**{KIND}** (torch 2.99, 2030-01-31)." in text
        assert sentence in text


def test_the_figure_of_sizes_is_drawn_from_the_kept_table() -> None:
    place = ROOT / "docs" / "results" / "cost-by-size" / "cost.csv"
    with place.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["axis"] for row in rows} == {"pixels", "images", "epochs", "rows", "trials", "workers"}
    largest = {row["axis"]: int(row["size"]) for row in rows}
    assert (largest["pixels"], largest["rows"], largest["trials"]) == (100, 100_000, 10_000)


def test_every_benchmark_of_the_page_is_there() -> None:
    # "performance.py" itself is only read here: it runs all others.
    text = (ROOT / "benchmarks" / "performance.py").read_text(encoding="utf-8")
    scripts = re.findall(r'Step\("(\w+\.py)', text)
    assert len(scripts) > 7
    assert all((ROOT / "benchmarks" / script).is_file() for script in scripts)
    assert "$(BIN)/python benchmarks/performance.py" in (ROOT / "Makefile").read_text(encoding="utf-8")
