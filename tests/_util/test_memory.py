"""The memory that a process keeps."""

from __future__ import annotations

import os

import pytest

from daelab._util.memory import limit_prepared_convolutions


def test_a_number_of_prepared_convolutions_that_the_user_has_chosen_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, "1")
    monkeypatch.delenv(name)  # so that it is removed after the test
    limit_prepared_convolutions()
    assert int(os.environ[name]) < 1024
    os.environ[name] = "7"
    limit_prepared_convolutions()
    assert os.environ[name] == "7"
