"""Debian's Chromium and Firefox, driven by Playwright."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pages import PATIENCE


@contextmanager
def launched(playwright: Any, name: str) -> Iterator[Any]:
    """Return a browser, or the reason to skip the test."""
    programs = {"chromium": ("chromium", "chromium-browser"), "firefox": ("firefox-esr",)}[name]
    program = next(filter(None, map(shutil.which, programs)), None)
    if program is None:
        pytest.skip(f"{name} is not installed: Debian's package is `{programs[0]}`")
    if name == "chromium":
        # a container's root has no sandbox
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()
        return
    with tempfile.TemporaryDirectory() as folder:
        starter = Path(folder) / "firefox"
        words = [sys.executable, str(Path(__file__).with_name("firefox.py")), program]
        starter.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        starter.chmod(0o755)
        found = playwright.firefox.launch(executable_path=starter, channel="moz-firefox")
        yield found
        found.close()


@contextmanager
def watched(browser: Any) -> Iterator[Any]:
    """Open a page that records errors and requests. Animations are off, so that colors are final when they are read."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE)
    found = context.new_page()
    wrong: list[str] = []
    hosts: set[str] = set()
    is_chromium = browser.browser_type.name == "chromium"
    # Firefox tells of its own pages too.
    kinds = ("error", "warning") if is_chromium else ()
    found.on("console", lambda message: wrong.append(message.text) if message.type in kinds else None)
    found.on("pageerror", lambda error: wrong.append(str(error)))
    context.on("request", lambda request: hosts.add(re.sub(r"^(blob|data):.*|^(https?://[^/]+).*", r"\2", request.url)))
    yield found
    expected = {re.sub(r"^(https?://[^/]+).*", r"\1", found.url)}
    context.close()
    assert hosts - {""} <= expected
    refused = re.compile(r"the server responded with a status of (401|422)")
    assert [text for text in wrong if not refused.search(text)] == []
