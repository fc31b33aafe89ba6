"""Fixtures that the tests of whole commands share."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from daelab.cli import main

pytest.register_assert_rewrite("pages", "browsers")  # so that they say what differs
from browsers import launched, watched  # noqa: E402


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Return a function that runs a command in its own folder."""
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


def _find_browsers() -> list[str]:
    """Return Chromium, or the browsers that `DAELAB_BROWSERS` names, such as `chromium,firefox`."""
    return os.environ.get("DAELAB_BROWSERS", "chromium").split(",")


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed: pip install playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as found:
        yield found


# Not of the whole session: Playwright's event loop runs as long as it does, and other tests have loops of their own.
@pytest.fixture(scope="module", params=_find_browsers())
def browser(playwright: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    with launched(playwright, request.param) as found:
        yield found


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    with watched(browser) as found:
        yield found
