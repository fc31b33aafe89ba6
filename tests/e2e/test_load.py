"""Many processes write to one ledger while some are killed, and many clients use one server."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def has_postgres() -> bool:
    return bool(shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb")))


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_four_processes_write_one_ledger_and_are_killed(database: str, run_main: Callable[..., Any]) -> None:
    if database == "postgresql":
        if not has_postgres():
            pytest.skip("PostgreSQL is not installed: Debian's package is `postgresql`")
        if importlib.util.find_spec("psycopg") is None:
            pytest.skip("psycopg is not installed: pip install 'daelab[postgres]'")
    words = ["--workers", "4", "--runs", "20", "--kills", "3", "--json"]
    result = run_main("ledger_load", *words, *(["--postgres"] if database != "sqlite" else []))
    report = json.loads(result.out)
    assert report["database"] == database
    assert report["rows"] == 80
    assert (report["lost"], report["doubled"], report["corrupt"]) == (0, 0, 0)
    assert result.code == 0


@pytest.mark.usefixtures("forked")
def test_a_server_refuses_honestly_and_mixes_nothing_up(run_main: Callable[..., Any]) -> None:
    words = ["--clients", "12", "--seconds", "3", "--side", "48", "--queue", "2", "--json"]
    result = run_main("serve_load", *words)
    report = json.loads(result.out)
    assert (report["failed"], report["mixed_up"]) == (0, 0), report
    assert report["answered"] > 0
    assert report["refused_429"] > 0
    assert result.code == 0, report
