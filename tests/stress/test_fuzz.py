"""Damaged files and texts end in success or in one clean error: a small part of `make fuzz`."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stress
from daelab.image_io.formats import FORMATS, find_format
from daelab.image_io.read import read_picture
from daelab.noise.grammar import parse_noise
from daelab.training.losses import parse_loss
from daelab.web import security
from daelab.web.run_store import RunStore
from http_requests import good_requests, make_request, send_request
from subjects import PICTURES, SUBJECTS, Subject, goods

BOUNDED = settings(
    max_examples=10, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SUBJECTS)
@BOUNDED
@given(seed=st.integers(0, 2**32))
def test_a_spoilt_input(name: str, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = SUBJECTS[name].spoilt(Random(seed))
    assert SUBJECTS[name].fault(tmp_path_factory.mktemp("fuzz"), content) is None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SUBJECTS)
@BOUNDED
@given(content=st.binary(max_size=300))
def test_any_bytes(name: str, content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert SUBJECTS[name].fault(tmp_path_factory.mktemp("fuzz"), content) is None


@settings(BOUNDED, max_examples=100)
@given(text=st.text(alphabet="()|>,.+*0123456789egaussinml -", max_size=60))
def test_any_text_is_a_noise_or_a_value_error(text: str) -> None:
    for read in (parse_noise, parse_loss):
        with suppress(ValueError):
            read(text)


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_is_spoilt_was_good(name: str, tmp_path: Path) -> None:
    for number, content in enumerate(goods(name)):
        (tmp_path / str(number)).mkdir()
        if name in PICTURES:  # not every format can hold what another one does
            assert FORMATS[read_picture(content).form] is find_format(name)
        else:
            SUBJECTS[name].run(tmp_path / str(number), content)


def test_good_requests_are_answered_and_a_failing_server_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in good_requests():
        assert set(send_request(tmp_path, content)) == {200}
    request = make_request("GET", "/api/runs")
    monkeypatch.setattr(RunStore, "list_changes", lambda *_: {}["missing"])
    with pytest.raises(AssertionError, match="status 500"):
        send_request(tmp_path, request)
    monkeypatch.setattr(RunStore, "list_changes", lambda *_: {})
    monkeypatch.setattr(security, "HEADERS", {})
    with pytest.raises(AssertionError, match="status 200 without"):
        send_request(tmp_path, request)


@pytest.mark.filterwarnings("ignore:.*fork")
def test_the_storm_counts_what_ends_in_another_way_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(folder: Path, content: bytes) -> None:
        if content == b"raw":
            raise KeyError
        while content == b"hang":
            pass
        if content == b"crash":
            os.abort()
        if content == b"clean":
            raise ValueError("a line")
        if content == b"vast":
            bytearray(1 << 33)

    wanted = {b"raw": "KeyError", b"hang": "hang, or killed", b"crash": "crash", b"vast": "MemoryError"}
    monkeypatch.setattr(Subject, "spoilt", lambda _, rng: rng.choice([*wanted, b"clean", b"good"]))
    monkeypatch.setitem(SUBJECTS, "bad", Subject("bad", lambda: [b"good"], run))
    monkeypatch.setattr(stress, "SUBJECTS", SUBJECTS)
    monkeypatch.setattr(stress, "HANG", 0.2)
    found = stress.StressTest(1, ["bad"], tmp_path).run(16, 1, show=False)
    faults = {
        path.with_suffix(".input").read_bytes(): path.read_text().splitlines()[1] for path in tmp_path.glob("*.txt")
    }
    assert {content: fault.partition(":")[0] for content, fault in faults.items()} == wanted
    assert (found["inputs"], found["subjects"]) == (16, {"bad": 16})
    assert found["failed"] == len(list(tmp_path.glob("*.txt"))) < 16
