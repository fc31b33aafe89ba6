"""docs/reliability.md: what is promised, how it is tested, and what was measured last.

    python tools/reliability.py                          write the document from docs/reliability.json
    python tools/reliability.py --measure kills fuzz     run these first, and keep their figures; `all` for all
    python tools/reliability.py --take fuzz=found.json   keep what the same command printed elsewhere

No figure is typed.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daelab._util.files import write_text
from daelab.runs.folder import describe_environment

ROOT = Path(__file__).parents[1]
KEPT, DOCUMENT = ROOT / "docs" / "reliability.json", ROOT / "docs" / "reliability.md"

MEASURES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "kills": (
        "python benchmarks/kill_stress.py --kills 200",
        lambda f: f"{f['kills']} killed: {f['exact']} resumed exactly, {f['torn']} torn files",
    ),
    "sqlite": ("python benchmarks/ledger_load.py", lambda f: _rows(f, "SQLite")),
    "postgresql": ("python benchmarks/ledger_load.py --postgres", lambda f: _rows(f, "PostgreSQL")),
    "fuzz": (
        "python tests/stress/stress.py --inputs 100000",
        lambda f: (
            f"{f['inputs']:,} inputs of {len(f['subjects'])} kinds, seed {f['seed']}: {f['failed']} failed;"
            f" {f['seconds']:.0f} s, {f['peak_mb']} MB at most"
        ),
    ),
    "serve": (
        "python benchmarks/serve_load.py",
        lambda f: (
            f"{f['clients']} clients for {f['seconds']:.0f} s: {f['answered']:,} answered, {f['refused_429']:,} refused"
            f" (429), {f['failed']} failed, {f['mixed_up']} mixed up; {f['memory_before_mb']} MB and at most"
            f" {f['memory_growth_mb']} MB more"
        ),
    ),
    "audit": (
        "python tools/audit.py",
        lambda f: f"{f['packages']} packages: {len(f['forbidden_licences'])} licences not on the list, {_flaws(f)}",
    ),
}
"""What is measured: the command, to which `--json` is added, and its figures in words."""

SUITE = "holds in every run of the suite"
PROMISES: list[tuple[str, str, str]] = [
    (
        "A training killed at any moment resumes to the same bits: weights, `metrics.csv`; no file is torn.",
        "`tests/e2e/test_kill.py` (20 kills), `tests/training/test_training.py` (interrupted after every step)",
        "kills",
    ),
    (
        "A full disk, a read-only folder, data that vanished, memory that ends: one line with the file's name,"
        " exit code 2, the last good state intact, `failed` and the reason in the ledger.",
        "`tests/e2e/test_disk.py`: a tmpfs that gets full before each kind of file, each command",
        "",
    ),
    (
        "A checkpoint takes its predecessor's place only after it has been read back and is equal.",
        "`tests/training/test_training.py`, `tests/runs/test_runs.py`",
        "",
    ),
    (
        "Many processes write one ledger and are killed: no row is lost, doubled or corrupt.",
        "`tests/e2e/test_load.py` (4 processes, both databases)",
        "sqlite",
    ),
    ("The same in PostgreSQL.", "`tests/e2e/test_load.py`; skipped, and said, where there is none", "postgresql"),
    (
        "A ledger of an older version is brought forward; a run of a dead process becomes `interrupted`.",
        "`tests/runs/test_runs.py`",
        "",
    ),
    (
        "A spoilt file or text of any kind ends in success or in one clean line: no traceback, crash, hang, or memory"
        " without bound.",
        "`tests/stress/`, `tests/test_untrusted_input.py`, `tests/denoising/test_pipeline.py`",
        "fuzz",
    ),
    (
        "A model file's header is checked against its spec before anything is allocated; nothing in a file runs.",
        "`tests/test_untrusted_input.py`, `tests/models/test_model_file.py` (a pickle that tries), "
        "`tests/datasets/test_cifar10.py`",
        "",
    ),
    (
        "No connection that the user did not ask for; no telemetry.",
        "`tests/test_untrusted_input.py`: the source, and a session of commands under an audit hook",
        "",
    ),
    (
        "A server is asked by more than it can serve: each gets its own picture or an honest 429, in bounded memory.",
        "`tests/e2e/test_load.py`, `tests/web/test_server.py`",
        "serve",
    ),
    (
        "What a server is sent stays in memory and in bounds, other sites' pages and rebound names are refused, and no"
        " answer says where something lies.",
        "`tests/web/test_server.py`, `tests/e2e/test_openapi.py` (schemathesis), `tests/e2e/test_page.py`",
        "",
    ),
    (
        "The same recipe, machine and number of threads: the same weights, bit for bit.",
        "`tests/training/test_training.py`: float32 and bf16, 1 and 2 threads",
        "",
    ),
    ("Every dependency's licence is on the list; none has a known flaw.", "`tests/tools/test_audit.py`", "audit"),
]
"""Promise, how it is tested, and the measure that goes beyond the suite."""


def main() -> None:
    """Measure, keep, write."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--measure", nargs="+", choices=[*MEASURES, "all"], default=[])
    options.add_argument("--take", nargs="+", metavar="NAME=FILE.json", default=[])
    options.add_argument("--check", action="store_true", help="write nothing; fail where the document would change")
    args = options.parse_args()
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
    for name in MEASURES if "all" in args.measure else args.measure:
        print(MEASURES[name][0], file=sys.stderr)
        command = [sys.executable, *MEASURES[name][0].split()[1:], "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
        kept[name] = _kept(json.loads(done.stdout))
    for name, _, file in (text.partition("=") for text in args.take):
        kept[name] = _kept(json.loads(Path(file).read_text(encoding="utf-8")))
    text = document(kept)
    if args.check:
        raise SystemExit(DOCUMENT.read_text(encoding="utf-8") != text)
    write_text(KEPT, json.dumps(kept, indent=2) + "\n")
    write_text(DOCUMENT, text)


def _kept(found: dict[str, Any]) -> dict[str, Any]:
    """Return the figures with the hardware and the commit that they were measured on."""
    here = describe_environment()
    machine = f"{here['processor']}, Python {platform.python_version()}, torch {here['versions']['torch']}"
    return {"found": found, "commit": (here["git_commit"] or "")[:12], "machine": machine}


def document(kept: dict[str, Any]) -> str:
    """docs/reliability.md."""
    rows = []
    for promise, tested, name in PROMISES:
        figure, command = SUITE, "`make test`"
        if name:
            command = f"`{MEASURES[name][0]}`"
            one = kept.get(name)
            figure = f"{MEASURES[name][1](one['found'])} (commit {one['commit']})" if one else "not measured yet"
        rows.append(f"| {promise} | {tested} | {figure} | {command} |")
    machines = sorted({one["machine"] for one in kept.values()})
    parts = [
        "# Reliability",
        "",
        "Written by `python tools/reliability.py`; not by hand. `--measure all` takes the figures anew.",
        "",
        "| promise | how it is tested | last measured | command |",
        "| :-- | :-- | :-- | :-- |",
        *rows,
        "",
        f"Measured on: {'; '.join(machines) or 'nothing yet'}.",
        "",
    ]
    return "\n".join(parts)


def _rows(found: dict[str, Any], database: str) -> str:
    return (
        f"{found['workers']} processes, {found['rows']:,} rows, {found['kills']} kills, {database}:"
        f" {found['lost']} lost, {found['doubled']} doubled, {found['corrupt']} corrupt; {found['seconds']:.0f} s"
    )


def _flaws(report: dict[str, Any]) -> str:
    known = report["vulnerabilities"]
    source = report.get("vulnerabilities_from", "pip-audit")
    return "known flaws not checked" if known is None else f"{len(known)} known flaws ({source})"


if __name__ == "__main__":
    main()
