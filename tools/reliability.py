"""Write docs/reliability.md: what is promised, how it is tested, and what was measured last.

    python tools/reliability.py                          write the document from docs/reliability.json
    python tools/reliability.py --measure kills fuzz     run these first, and keep their figures; `all` runs all
    python tools/reliability.py --take fuzz=found.json   keep what the same command printed on another machine

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
from daelab.runs.environment import describe_environment

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

SUITE = "passes in every run of the suite"
PROMISES: list[tuple[str, str, str]] = [
    (
        "A training that is killed at any moment resumes to the same weights and the same `metrics.csv`, bit for "
        "bit, and leaves no damaged file.",
        "`tests/e2e/test_kill.py` (20 kills), `tests/training/test_training.py` (interrupted after every step)",
        "kills",
    ),
    (
        "A full disk, a read-only folder, data that vanished or memory that runs out ends in one line with the "
        "file's name and exit code 2. The last good state remains, and the ledger holds the reason.",
        "`tests/e2e/test_disk.py`: a file system that fills up before each kind of file, with each command",
        "",
    ),
    (
        "A checkpoint replaces its predecessor only after it was read back and found equal.",
        "`tests/training/test_training.py`, `tests/runs/test_runs.py`",
        "",
    ),
    (
        "Two processes never write to one run, even if its lock file is deleted. The second one names the process and "
        "the host of the first, and changes nothing.",
        "`tests/runs/test_process_lock.py`, `tests/training/callbacks/test_record.py`",
        "",
    ),
    (
        "A training is stopped from the page only with the server's token, and only if the ledger and the lock name "
        "the same living process of this computer.",
        "`tests/web/test_run_pages.py`, `tests/runs/test_process_lock.py`",
        "",
    ),
    (
        "A ledger that is locked, deleted, damaged, full or read-only does not end a training; its row is written"
        " later.",
        "`tests/runs/test_run_row.py`, `tests/training/callbacks/test_record.py`",
        "",
    ),
    (
        "Many processes write to one ledger and are killed: no row is lost, doubled or damaged.",
        "`tests/e2e/test_load.py` (4 processes, both databases)",
        "sqlite",
    ),
    (
        "The same holds in PostgreSQL.",
        "`tests/e2e/test_load.py`; skipped with a message where there is no PostgreSQL",
        "postgresql",
    ),
    (
        "A ledger of an older version is migrated. A run of a dead process becomes `interrupted`.",
        "`tests/runs/test_runs.py`",
        "",
    ),
    (
        "A damaged row, run, model file, study or line hides no other one in any list.",
        "`tests/web/test_server.py`, `tests/cli/test_ledger.py`, `tests/experiments/test_search_storage.py`",
        "",
    ),
    (
        "Damaged sample images, environments and reports of a run are left out, and the rest of its page is shown.",
        "`tests/web/test_run_pages.py`",
        "",
    ),
    (
        "A damaged file or text of any kind ends in success or in one clear line: no traceback, crash, hang, or "
        "unbounded memory.",
        "`tests/stress/`, `tests/test_untrusted_input.py`, `tests/denoising/test_pipeline.py`",
        "fuzz",
    ),
    (
        "A mistake of the user is one line of less than 400 printable characters with exit code 2, and changes no"
        " file.",
        "`tests/cli/test_mistakes.py` (100 mistakes), `tests/cli/test_console.py` (hostile names and texts)",
        "",
    ),
    (
        "A recipe, run folder, search space or study names no code, download or file that could run code. Only "
        "the command line and Python do.",
        "`tests/training/test_external_names.py`",
        "",
    ),
    (
        "The name of an installed package's module or function is never taken from a file, and a broken plugin hides "
        "no other row and ends in one line.",
        "`tests/_util/test_plugins.py`, `tests/training/test_external_names.py`, `tests/models/test_model_file.py`",
        "",
    ),
    (
        "A network or a loss of the user's own runs only if the user names it again. Its tiles equal the whole "
        "picture. Its mistakes, and those of a plugin's noise, are one line.",
        "`tests/models/test_external.py`, `tests/training/test_losses.py`, `tests/noise/test_noise.py`",
        "",
    ),
    (
        "A model file's header is checked before anything is allocated, nothing in a file is executed, and "
        "weights that are NaN or infinite are refused.",
        "`tests/test_untrusted_input.py`, `tests/models/test_model_file.py`, `tests/datasets/test_cifar10.py`",
        "",
    ),
    (
        "No sample, band, page or pixel that was read is missing in what is written; a result that is not finite "
        "is never written.",
        "`tests/image_io/test_bands.py`, `tests/denoising/test_planes.py`, `tests/denoising/test_pipeline.py`",
        "",
    ),
    (
        "`--in-place` keeps permissions, owner and links, and needs no longer file name than the picture's.",
        "`tests/_util/test_files.py`",
        "",
    ),
    (
        "Strength, detail and color strength blend the result with its source within the picture's type: 0 changes "
        "nothing, alpha is kept, and a value out of range is refused.",
        "`tests/denoising/test_blending.py`, `tests/denoising/test_denoiser.py`",
        "",
    ),
    (
        "Names of 255 bytes, names that are not UTF-8, links in a circle, names that differ only in their case and "
        "names that Windows reserves harm no picture and end no batch.",
        "`tests/_util/test_files.py`, `tests/_util/test_other_systems.py`, `tests/denoising/test_sources.py`",
        "",
    ),
    (
        "A picture's numbers have one range in files, arrays and training: 10 to 14 bits in 16-bit files, "
        "outliers and white-is-zero of every type are understood.",
        "`tests/image_io/test_value_range.py`, `tests/datasets/test_image_folder.py`",
        "",
    ),
    (
        "Pixels that are hidden by transparency influence no visible one, and a grey picture stays grey.",
        "`tests/denoising/test_planes.py`, `tests/denoising/test_denoiser.py`",
        "",
    ),
    (
        "A file that asks for unreasonable work, such as 5,000 JPEG scans, is refused before it is decoded.",
        "`tests/image_io/test_limits.py`",
        "",
    ),
    (
        "Every model that ships gives the same picture as ONNX, at five sizes. A page is exported as a whole or "
        "not at all.",
        "`tests/models/test_onnx.py`, `tests/web/test_static_page.py`",
        "",
    ),
    (
        "Runs that were scored under different noises or on different images are not ranked against each other.",
        "`tests/experiments/test_search.py`, `tests/evaluation/test_image_selection.py`",
        "",
    ),
    (
        "There is no connection that the user did not ask for, and no telemetry.",
        "`tests/test_untrusted_input.py`: the source, and a session of commands under an audit hook",
        "",
    ),
    (
        "A server that is asked for more than it can do gives each client its own picture or the status 429, in "
        "bounded memory.",
        "`tests/e2e/test_load.py`, `tests/web/test_server.py`",
        "serve",
    ),
    (
        "Work on any picture ends at the server's time limit, and the next request is answered. Slow clients hold"
        " no place.",
        "`tests/web/test_worker.py`, `tests/web/test_protocol.py`",
        "",
    ),
    (
        "Every request, whatever its bytes, gets a status below 500, the security headers and at most one reason.",
        "`tests/web/test_protocol.py`, `tests/stress/http_requests.py`",
        "fuzz",
    ),
    (
        "What is sent to a server stays in memory and within limits. Other sites' pages and rebound names are "
        "refused, and no answer holds a path or a password.",
        "`tests/web/test_server.py`, `tests/_util/test_text.py`, `tests/e2e/test_openapi.py` (schemathesis), "
        "`tests/e2e/test_page.py`",
        "",
    ),
    (
        "The same recipe, machine and number of threads give the same weights, bit for bit.",
        "`tests/training/test_training.py`: float32 and bf16, 1 and 2 threads",
        "",
    ),
    (
        "Every dependency's licence is on the list, and none has a known vulnerability.",
        "`tests/tools/test_audit.py`",
        "audit",
    ),
]
"""Promise, how it is tested, and the measurement that goes beyond the suite."""


def main() -> None:
    """Measure what is asked for, and write the document."""
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
        "This page is written by `python tools/reliability.py`. `--measure all` measures the figures again.",
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
