"""One ledger for many processes, some of which are killed, and one server for many clients."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


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
    command = [sys.executable, str(BENCH / "ledger_load.py"), *words, *(["--postgres"] if database != "sqlite" else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["database"] == database
    assert found["rows"] == 120
    assert (found["lost"], found["doubled"], found["corrupt"]) == (0, 0, 0)
    assert done.returncode == 0


def test_a_server_refuses_honestly_and_mixes_nothing_up() -> None:
    words = ["--clients", "12", "--seconds", "3", "--side", "48", "--queue", "2", "--json"]
    command = [sys.executable, str(BENCH / "serve_load.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert (found["failed"], found["mixed_up"]) == (0, 0), found
    assert found["answered"] > 0
    assert found["refused_429"] > 0
    assert done.returncode == 0, found
