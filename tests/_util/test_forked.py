"""A forked process is told apart from a started one by nothing that the tests rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from forked import ForkedPopen

SAID = """
import json, os, sys
found = [sys.argv[1:], os.getcwd(), os.environ.get("FOUND"), __name__, sys.stdin.read(), os.getpid()]
print(json.dumps(found))
print("to the other stream", file=sys.stderr)
sys.exit(7)
"""


@pytest.fixture(params=[subprocess.Popen, ForkedPopen])
def popen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", request.param)


@pytest.mark.usefixtures("popen")
@pytest.mark.parametrize("how", ["-c", "file"])
def test_it_has_its_own_arguments_variables_folder_and_streams(how: str, tmp_path: Path) -> None:
    (tmp_path / "said.py").write_text(SAID)
    words = ["-c", SAID] if how == "-c" else [str(tmp_path / "said.py")]
    environment = os.environ | {"FOUND": "yes"}
    done = subprocess.run(
        [sys.executable, *words, "a", "b"],
        input="given",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    *found, pid = json.loads(done.stdout)
    assert found == [["a", "b"], str(tmp_path), "yes", "__main__", "given"]
    assert pid != os.getpid()
    assert (done.returncode, done.stderr) == (7, "to the other stream\n")


@pytest.mark.usefixtures("popen")
def test_errors_and_signals_end_it() -> None:
    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    wrong = run("1 / 0")
    assert wrong.returncode == 1
    assert wrong.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)").returncode == -9
    said = run("raise SystemExit('a reason')")
    assert (said.returncode, said.stderr) == (1, "a reason\n")
    assert run("pass").returncode == 0
