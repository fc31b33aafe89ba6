"""What the tests of whole commands share: a way to run one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from daelab.cli import main


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run a command in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("DAELAB_RUNS", "DAELAB_LEDGER"):
        monkeypatch.delenv(name, raising=False)

    monkeypatch.setenv("DAELAB_DEVICE", "auto")  # `--device` changes it

    def command(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["daelab", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Answer(int(ended.value.code or 0), out, err)

    return command
