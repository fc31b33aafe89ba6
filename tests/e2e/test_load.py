"""Many processes write to one ledger while some are killed, and many clients use one server."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def has_postgres() -> bool:
    return bool(shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb")))


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_four_processes_write_one_ledger_and_are_killed(database: str) -> None:
    if database == "postgresql":
        if not has_postgres():
            pytest.skip("PostgreSQL is not installed: Debian's package is `postgresql`")
        if importlib.util.find_spec("psycopg") is None:
            pytest.skip("psycopg is not installed: pip install 'daelab[postgres]'")
    words = ["--workers", "4", "--runs", "30", "--kills", "4", "--json"]
    command = [
        sys.executable,
        str(BENCHMARKS / "ledger_load.py"),
        *words,
        *(["--postgres"] if database != "sqlite" else []),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.stdout, result.stderr
    report = json.loads(result.stdout)
    assert report["database"] == database
    assert report["rows"] == 120
    assert (report["lost"], report["doubled"], report["corrupt"]) == (0, 0, 0)
    assert result.returncode == 0


def test_a_server_refuses_honestly_and_mixes_nothing_up() -> None:
    words = ["--clients", "12", "--seconds", "3", "--side", "48", "--queue", "2", "--json"]
    command = [sys.executable, str(BENCHMARKS / "serve_load.py"), *words]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.stdout, result.stderr
    report = json.loads(result.stdout)
    assert (report["failed"], report["mixed_up"]) == (0, 0), report
    assert report["answered"] > 0
    assert report["refused_429"] > 0
    assert result.returncode == 0, report
