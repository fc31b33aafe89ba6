"""The view of a denoiser, an evaluation and a comparison in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import daelab
from daelab.datasets.arrays import make_dataset
from daelab.experiments.reports.table import Table
from daelab.training.recipe import parse_recipe

IMAGES = make_dataset(np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8), "<i>mine</i>")


def frame(rows: list[list[object]], columns: list[str]) -> SimpleNamespace:
    return SimpleNamespace(columns=columns, rows=rows)


@pytest.fixture
def pandas(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Replace pandas by a stub with one class, since it need not be installed."""
    return lambda: monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=frame))


def test_a_denoiser_shows_its_facts() -> None:
    html = daelab.load_model("model-c")._repr_html_()
    assert "<caption>Denoiser model-c.published-code</caption>" in html
    assert "<td>trained on</td><td>published-code</td>" in html
    assert "how they are known" not in html
    html = daelab.Denoiser(torch.nn.Identity())._repr_html_()
    assert "measured on random pictures" in html
    assert "trained on" not in html


def test_an_evaluation_shows_its_metrics(pandas: Callable[[], None]) -> None:
    found = daelab.evaluate("model-c", IMAGES)
    html = found._repr_html_()
    assert "&lt;i&gt;mine" in html
    assert "<i>" not in html
    psnr = found.scores.overall.metrics["psnr"]
    pandas()
    row = next(row for row in found.to_dataframe().rows if row[0] == "PSNR, dB")
    assert row == ["PSNR, dB", psnr.noisy, psnr.denoised, *psnr.ci95]


def test_a_comparison_shows_its_runs_and_the_verdict(pandas: Callable[[], None]) -> None:
    for name, lr in (("one", 0.01), ("two", 0.001)):
        fields = {"training": {"epochs": 1, "batch": 16, "lr": lr}, "spec": {"stages": [4]}}
        daelab.train(parse_recipe(fields), name, dataset=IMAGES)
    compared = daelab.compare(["one", "two"])
    html = compared._repr_html_()
    assert "<td>one</td>" in html
    assert "<td>0.001</td>" in html
    assert compared.verdict[:20] in html
    pandas()
    frames = compared.to_dataframe()
    assert {row[0] for row in frames.rows} == {"one", "two"}
    assert "run" in frames.columns


def test_a_missing_pandas_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ValueError, match="pip install pandas"):
        Table("t", ["a"], [[1]]).to_dataframe()
