"""Fixtures that all tests share: separate runs, a tiny image set, and data that only some computers have."""

from __future__ import annotations

import base64
import csv
import io
import os
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from importlib import import_module, resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from forked import forking

from daelab._util import hardware
from daelab.datasets.base import ImageSet
from daelab.datasets.cifar10 import find_cifar10

REPOSITORY = Path(__file__).parents[1]
# Two processes run the tests, and threads that wait for a busy core cost more than they give: here and in subprocesses.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
LONGEST = (
    "e2e/test_page.py",
    "e2e/test_runs_page.py",
    "e2e/test_explore.py",
    "experiments/test_search.py",
    "denoising/test_automatic.py",
    "models/test_onnx.py",
    "_util/test_distributed.py",
    "test_benchmarks.py",
    "experiments/test_leaderboard.py",
    "tools/test_handbook.py",
    "experiments/test_paper.py",
    "evaluation/classifiers/test_classifiers.py",
    "training/test_training.py",
    "test_compatibility.py",
)
"""The files whose tests take longest, as `pytest --durations=0` shows.

They begin first, so that no process is left with one of them at the end.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the longest files first. `--no-loadscope-reorder` keeps this order."""
    rank = {REPOSITORY / "tests" / name: place for place, name in enumerate(LONGEST)}
    assert all(path.exists() for path in rank)
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(autouse=True)
def _own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the user's runs and ledger from the tests."""
    monkeypatch.setenv("DAELAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("DAELAB_LEDGER", raising=False)


@pytest.fixture(autouse=True)
def _no_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch off huge pages: a tiny training would pay for a gigabyte of them and gain nothing."""
    monkeypatch.setattr(hardware, "KEEPS_FREED_MEMORY", False)


@pytest.fixture
def forked() -> Iterator[None]:
    """Start processes of this Python as forks, which import nothing anew."""
    with forking():
        yield


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Return a function that runs `main` of a module with arguments, here: a process would import for two seconds."""

    def run(module: str, *words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", [module, *map(str, words)])
        capsys.readouterr()
        variables, code = dict(os.environ), None
        try:
            import_module(module).main()
        except SystemExit as end:
            code = end.code
        finally:
            torch.set_num_threads(1)
            os.environ.clear()
            os.environ.update(variables)
        out, err = capsys.readouterr()
        return Answer(code, out, err) if isinstance(code, int) else Answer(int(bool(code)), out, err + (code or ""))

    return run


def smooth_pictures(count: int, side: int = 16) -> np.ndarray:
    """Return colored waves, uint8 (N, 3, side, side), which a small network learns in seconds."""
    rng = np.random.default_rng(0)
    at = np.linspace(0, 1, side)
    fx, fy, phase = rng.uniform(0, 4, (3, count, 3, 1, 1))
    waves = np.sin(2 * np.pi * (fx * at[:, None] + fy * at + phase))
    return np.round(127.5 + 127.5 * waves).astype(np.uint8)


@pytest.fixture(scope="session")
def pictures() -> ImageSet:
    """Return 60 pictures of 16 x 16 pixels."""
    images = smooth_pictures(60)
    return ImageSet("waves", images, np.arange(len(images)) % 2, ("even", "odd"))


@pytest.fixture(scope="session")
def pictures_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write these pictures as `npz:PATH` for recipes. Six of them are the test part."""
    path = tmp_path_factory.mktemp("data") / "waves.npz"
    np.savez(path, images=smooth_pictures(60))
    return path


class _Page(HTMLParser):
    """A parser that collects the tags, addresses and captions of a report's page, and each table with its CSV."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.captions: list[str] = []
        self.rows: list[int] = []
        self.downloads: list[list[list[str]]] = []
        self.within = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.addresses += [value for name, value in found.items() if name in {"src", "href", "srcset", "action"}]
        self.within = tag if tag in {"figcaption", "tbody"} else self.within
        if tag == "figcaption":
            self.captions.append("")
        elif tag == "tbody":
            self.rows.append(0)
        elif tag == "tr" and self.within == "tbody":
            self.rows[-1] += 1
        elif tag == "a" and "download" in found:
            assert found["download"].endswith(".csv")
            text = base64.b64decode(found["href"].partition("base64,")[2]).decode()
            self.downloads.append(list(csv.reader(io.StringIO(text))))

    def handle_endtag(self, tag: str) -> None:
        self.within = "" if tag == self.within else self.within

    def handle_data(self, data: str) -> None:
        if self.within == "figcaption":
            self.captions[-1] += data


@pytest.fixture(scope="session")
def sound_page() -> Callable[[Path], None]:
    """Return a function that checks what all reports promise: one template, no other files, captions, CSV tables."""
    template = resources.files("daelab.experiments.reports").joinpath("page.html").read_text(encoding="utf-8")

    def check(path: Path) -> None:
        source = path.read_text(encoding="utf-8")
        assert (
            source.partition("</style>")[0].partition("<style>")[2]
            == (template.partition("</style>")[0].partition("<style>")[2])
        )
        page = _Page(source)
        assert all(address.startswith(("data:", "#")) for address in page.addresses)
        assert "script" not in page.tags
        # Pictures to compare have labels, and figures have captions.
        assert page.tags.count("figure") == len(page.captions) <= page.tags.count("img")
        for caption in page.captions:
            said = caption.removeprefix("Figure ").lstrip("0123456789. ")
            assert len(said.split()) >= 8, caption
            assert said.endswith("."), caption
        assert [len(table) - 1 for table in page.downloads] == page.rows

    return check


@pytest.fixture(scope="session")
def parsed() -> Callable[..., None]:
    """Return a function that parses the arguments after `daelab` as the command line does, without running anything."""
    import typer.main

    from daelab.cli import app

    def parse(*words: str) -> None:
        command, rest = typer.main.get_command(app), list(words)
        while hasattr(command, "commands"):
            assert rest, f"daelab {' '.join(words)} names no command"
            if rest[0] in {name for one in command.params for name in one.opts}:
                return
            if rest[0] not in command.commands and "run" in command.commands:  # as `daelab explore SPACE` means it
                rest.insert(0, "run")
            assert rest[0] in command.commands, f"daelab {' '.join(words)}: no command {rest[0]}"
            command = command.commands[rest.pop(0)]
        try:
            command.make_context("daelab", rest)
        except Exception as error:
            raise AssertionError(f"daelab {' '.join(words)}: {error}") from error

    return parse


@pytest.fixture(scope="session")
def cifar_root() -> Path:
    """Return the folder that holds CIFAR-10."""
    for root in (os.environ.get("DAELAB_DATA"), REPOSITORY / ".data"):
        if root and find_cifar10(Path(root)):
            return Path(root)
    pytest.skip("CIFAR-10 is neither in $DAELAB_DATA nor in .data")


@pytest.fixture(scope="session")
def paper() -> Path:
    """Return the folder of the files that the paper's author published: 35.pt, 37.pt, 38.pt, tests_fully.csv."""
    folder = os.environ.get("DAELAB_PAPER")
    if not folder:
        pytest.skip("$DAELAB_PAPER does not name the folder of the paper's files")
    return Path(folder)
