"""The licences of dependencies, and the page on reliability."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import audit
import reliability

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.mark.parametrize(
    "expression, allowed",
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT AND (GPL-3.0-only OR BSD-3-Clause)", True),
        ("GPL-3.0-only OR MIT AND BSD-3-Clause", True),
        ("(GPL-3.0-only OR MIT) AND GPL-2.0-only", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("Apache-2.0 WITH something-else", False),
        ("LGPL-3.0-only", False),
        ("", False),
    ],
)
def test_a_licence_is_allowed_or_not(expression: str, allowed: bool) -> None:
    assert audit.is_allowed("some-package", expression) is allowed


def test_every_dependency_has_an_allowed_licence() -> None:
    packages = audit.list_needed_packages()
    assert {"torch", "numpy", "pillow", "safetensors", "sqlalchemy", "pydantic-core"} <= set(packages)
    assert [name for name in packages if not audit.is_allowed(name, audit.read_licence(name))] == []


def test_an_audit_without_its_service_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip-audit reports success when its service skips every package."""

    def answer(*dependencies: dict[str, Any]) -> None:
        result = subprocess.CompletedProcess([], 0, stdout=json.dumps({"dependencies": dependencies}))
        monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: result)

    answer({"name": "torch", "skip_reason": "Dependency not found on PyPI"})
    assert audit.find_vulnerabilities({"torch"}) is None
    monkeypatch.setattr(sys, "argv", ["audit.py", "--json"])
    with pytest.raises(SystemExit) as end:
        audit.main()
    assert end.value.code
    answer({"name": "torch", "version": "1", "vulns": [{"id": "X-1"}]}, {"name": "else", "version": "1", "vulns": []})
    assert audit.find_vulnerabilities({"torch"}) == ["torch 1: X-1"]
    answer({"name": "torch", "version": "1", "vulns": []})
    assert audit.find_vulnerabilities({"torch"}) == []


def test_the_document_is_what_the_script_writes() -> None:
    kept = json.loads(reliability.KEPT.read_text(encoding="utf-8"))
    assert reliability.DOCUMENT.read_text(encoding="utf-8") == reliability.document(kept)
    for _, tested, _ in reliability.PROMISES:
        for name in tested.split("`")[1::2]:
            assert name == "failed" or (reliability.ROOT / name).exists(), name
