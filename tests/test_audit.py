"""The supply chain: licences on the list, and a bill of materials that names every package."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[1] / "bench"


def script(name: str) -> Any:
    """A script of bench/ as a module."""
    sys.path.insert(0, str(BENCH))
    try:
        spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCH))
    return module


@pytest.fixture(scope="module")
def audit() -> Any:
    return script("audit")


@pytest.mark.parametrize(
    "expression, wanted",
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT AND BSD-3-Clause", True),
        ("(GPL-3.0-only OR MIT) AND GPL-2.0-only", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("Apache-2.0 WITH something-else", False),
        ("MIT AND (BSD-3-Clause", False),
        ("", False),
    ],
)
def test_an_expression_is_allowed_or_not(expression: str, wanted: bool, audit: Any) -> None:
    assert audit.permitted(expression) is wanted


def test_every_dependency_is_allowed_and_in_the_bill(audit: Any) -> None:
    packages, _ = audit.installed()
    assert [package for package in packages if not package.allowed] == []
    assert {"torch", "numpy", "pillow", "safetensors", "sqlalchemy", "pydantic-core"} <= {one.name for one in packages}
    bill = audit.bill(packages)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    refs = {one["bom-ref"] for one in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    assert len(refs) == len(packages) + 1
    assert {one["ref"] for one in bill["dependencies"]} == refs
    assert {inner for one in bill["dependencies"] for inner in one["dependsOn"]} < refs
    assert audit.bill(packages) == bill
    assert audit.below_floors(packages) == []
    old = audit.Package("torch", "2.5.1", "MIT", "core", ())
    assert audit.below_floors([old]) == ["torch 2.5.1: CVE-2025-32434: weights_only=True runs code"]


def test_an_audit_that_asked_nobody_says_so(audit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip-audit calls it a success when its service skips every package."""

    def answer(*dependencies: dict[str, Any]) -> None:
        done = subprocess.CompletedProcess([], 0, stdout=json.dumps({"dependencies": dependencies}))
        monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: done)

    answer({"name": "torch", "skip_reason": "Dependency not found on PyPI"})
    assert audit.vulnerabilities({"torch"}) is None
    answer({"name": "torch", "version": "1", "vulns": [{"id": "X-1"}]}, {"name": "else", "version": "1", "vulns": []})
    assert audit.vulnerabilities({"torch"}) == ["torch 1: X-1"]
    answer({"name": "torch", "version": "1", "vulns": []})
    assert audit.vulnerabilities({"torch"}) == []


def test_the_document_is_what_the_script_writes() -> None:
    reliability = script("reliability")
    kept = json.loads(reliability.KEPT.read_text(encoding="utf-8"))
    assert reliability.DOCUMENT.read_text(encoding="utf-8") == reliability.document(kept)
    for _, tested, _ in reliability.PROMISES:
        for name in tested.split("`")[1::2]:
            assert name == "failed" or (reliability.ROOT / name).exists(), name
