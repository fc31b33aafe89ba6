"""Fixtures that the tests of whole commands share."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("pages", "browsers")  # so that they say what differs
from browsers import launched, watched  # noqa: E402

Run = Callable[..., Any]


@pytest.fixture
def run(run_main: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that runs a command in its own folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("DAELAB_RUNS", "DAELAB_LEDGER"):
        monkeypatch.delenv(name, raising=False)
    return partial(run_main, "daelab.cli")


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
