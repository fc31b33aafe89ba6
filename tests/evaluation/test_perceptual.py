"""Perceptual metrics, computed by a stub of pyiqa: only on request, with intervals, paired leads and errors."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from daelab.cli import main
from daelab.evaluation import metrics
from daelab.evaluation.metrics import METRICS, bootstrap_interval
from daelab.experiments.evaluate_model import evaluate
from daelab.experiments.leaderboard.boards import BOARDS, Board
from daelab.experiments.leaderboard.measure import LeaderboardRequest, measure_leaderboard
from daelab.experiments.leaderboard.tables import make_records, make_requested_tables

LIMIT = 12


@pytest.fixture
def pyiqa(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace pyiqa by a stub with simple metrics, and return the names of the metrics that were loaded."""
    loaded: list[str] = []

    def create_metric(name: str, device: torch.device) -> object:
        loaded.append(name)

        def compute(image: Tensor, clean: Tensor | None = None) -> Tensor:
            assert len(image) == 1
            assert image.min() >= 0 <= 1 - image.max()
            if name == "niqe":
                assert clean is None
                if min(image.shape[2:]) < 32:
                    raise AssertionError("too small\nfor this")
                return image.std()[None]
            assert clean is not None
            return (image - clean).abs().mean().reshape(1, 1)

        return compute

    module = ModuleType("pyiqa")
    module.__spec__ = ModuleSpec("pyiqa", None)
    module.create_metric = create_metric  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyiqa", module)
    for name in ("lpips", "dists", "niqe"):
        monkeypatch.setattr(METRICS[name].function, "_models", {})
    return loaded


def test_they_are_computed_only_on_request(pyiqa: list[str]) -> None:
    plain = evaluate("model-b-35", "photos", "awgn(25)", limit=LIMIT)
    assert pyiqa == []
    asked = evaluate("model-b-35", "photos", "awgn(25)", limit=LIMIT, metrics=["lpips", "niqe", "lpips"])
    assert sorted(pyiqa) == ["lpips", "niqe"]
    assert asked.scores.overall.metrics.keys() - plain.scores.overall.metrics.keys() == {"lpips", "niqe"}
    summary = asked.scores.overall.metrics["lpips"]
    values = asked.scores.values("lpips")
    assert len(values) == LIMIT
    assert summary.denoised == pytest.approx(values.mean())
    assert summary.ci95 == bootstrap_interval(values, seed=0)
    assert asked.scores.noisy_sha256 == plain.scores.noisy_sha256
    assert [row[0] for row in asked.table.rows][-2:] == ["LPIPS", "NIQE"]


def test_a_leaderboard_ranks_by_them_with_paired_leads_and_keeps_them(
    pyiqa: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(BOARDS, "photos", Board(("awgn(25)",), (), ()))
    request = LeaderboardRequest("photos", models=("model-b-35",), limit=LIMIT, kept=tmp_path, metrics=("lpips",))
    board, rows = measure_leaderboard(request, lambda text: None, lambda done, images: None)
    (table,) = make_requested_tables(board, rows)
    better, worse = sorted(rows, key=lambda row: row.values("lpips", board.noises).mean())
    assert [row[1] for row in table.rows] == [better.name, worse.name]
    lead = float((worse.values("lpips", board.noises) - better.values("lpips", board.noises)).mean())
    assert lead > 0
    assert str(table.rows[0][-1]).removeprefix("≈ ") == f"{lead:.4f}"
    assert {"lpips", "lpips_low", "lpips_high"} <= make_records(board, rows)[0].keys()
    said: list[str] = []
    _, again = measure_leaderboard(request, said.append, lambda done, images: None)
    assert [line for line in said if "already" in line] == ["noisy: already measured", "model-b-35: already measured"]
    for one in again:
        other = next(row for row in rows if row.name == one.name)
        np.testing.assert_array_equal(one.values("lpips", board.noises), other.values("lpips", board.noises))


def test_a_mistake_is_one_line(
    pyiqa: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "model-b-35", "--data", "photos", "--noise", "awgn(25)", "--limit", "2", "--metric"]

    def run(name: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["daelab", *words, name, "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    code, out, _ = run("dists")
    assert code == 0
    assert 0 < json.loads(out)["dists"]["denoised"] < 1
    code, _, err = run("lpisp")
    assert (code, err.count("\n")) == (2, 1)
    assert "did you mean 'lpips'" in err
    code, _, err = run("psnr")
    assert (code, err.count("\n")) == (2, 1)
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    code, _, err = run("niqe")
    assert (code, err.count("\n")) == (2, 1)
    assert "pip install pyiqa" in err
    assert "non-commercial" in err


def test_what_pyiqa_raises_is_one_line(pyiqa: list[str]) -> None:
    with pytest.raises(ValueError, match="^niqe of images of 8x9 pixels: pyiqa fails: AssertionError: too small$"):
        METRICS["niqe"].function(torch.zeros(1, 3, 8, 9), torch.zeros(1, 3, 8, 9))
