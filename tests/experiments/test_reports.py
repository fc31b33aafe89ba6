"""Figures are files of the right format with reproducible bytes, and a page needs no other file."""

from __future__ import annotations

import ast
import base64
import csv
import html
import io
import math
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from daelab.experiments import reports
from daelab.experiments.reports.charts import class_balance_figure, confusion_figure, curves_figure
from daelab.experiments.reports.images import noise_figure, samples_figure
from daelab.experiments.reports.log_chart import LoggedTest, log_figure
from daelab.experiments.reports.page import PictureGroup, ReportSection, write_markdown, write_page
from daelab.experiments.reports.table import Table

HOSTILE = "</title><script>alert(1)</script> $\\frac{ & \"' --> \N{SNOWMAN} 猫"


def _picture(height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _noisy(picture: np.ndarray, mean: float) -> np.ndarray:
    noise = np.random.default_rng(1).normal(mean, 0.05, picture.shape)
    return np.clip(picture / 255 + noise, 0.0, 1.0)


def _epochs(count: int, **changes: object) -> list[dict[str, object]]:
    rows = [
        {"epoch": e, "train_loss": 0.02 / e, "val_loss": 0.03 / e, "val_psnr": 20.0 + e} for e in range(1, count + 1)
    ]
    return [row | changes if row["epoch"] == 3 else row for row in rows]


def _noise(path: Path) -> None:
    noise_figure(_picture(), {"gaussian(0.3, 0.05)": _noisy(_picture(), 0.3)}, path)


def _balance(path: Path) -> None:
    class_balance_figure({"train": {"cat": 40, "dog": 41}, "validation": {"cat": 10}}, path)


def _curves(path: Path) -> None:
    curves_figure({"paper/38": _epochs(30)}, path)


def _samples(path: Path) -> None:
    clean = _picture()[None] / 255
    samples_figure(clean, _noisy(_picture(), 0.3)[None], clean, path, titles=["cat"])


FIGURES = [_noise, _balance, _curves, _samples]


def _texts(svg: Path) -> list[str]:
    """Return the texts of an SVG figure, which matplotlib writes as comments beside the outlines."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    tree = ElementTree.parse(svg, parser)
    return [
        html.unescape(node.text or "").strip().replace("- -", "--")
        for node in tree.iter()
        if node.tag is ElementTree.Comment
    ]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
@pytest.mark.parametrize("draw", FIGURES)
def test_a_figure_is_of_its_kind_and_always_the_same(draw: Callable[[Path], None], suffix: str, tmp_path: Path) -> None:
    first, second = tmp_path / f"first{suffix}", tmp_path / "folder" / f"second{suffix}"
    draw(first)
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "svg.fonttype": "none"}):
        draw(second)  # the reader's own settings change nothing
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in second.parent.iterdir()] == [second.name]
    if suffix == ".png":
        with Image.open(first) as image:
            assert image.format == "PNG"
            assert min(image.size) > 200
            assert not {"Software", "Creation Time"} & set(image.info)
    else:
        text = first.read_text(encoding="utf-8")
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "prefers-color-scheme: dark" in text
        assert not [needle for needle in ("Matplotlib v", "<dc:date>") if needle in text]


@pytest.mark.parametrize("draw", FIGURES)
def test_without_matplotlib_one_line_says_what_to_install(
    draw: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"^figures need matplotlib: pip install 'daelab\[report\]'$"):
        draw(tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())


def test_another_suffix_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown figure format '\.gif'.*\.png, \.svg"):
        _balance(tmp_path / "figure.gif")
    assert not list(tmp_path.iterdir())


def test_nothing_imports_torch_and_nothing_imports_matplotlib_at_the_top() -> None:
    for path in Path(reports.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert "torch" not in {_package(node) for node in ast.walk(tree)}, path
        assert "matplotlib" not in {_package(node) for node in tree.body}, path


def _package(node: ast.AST) -> str:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [""]
    return ((node.module or "") if isinstance(node, ast.ImportFrom) else names[0]).split(".")[0]


def test_noise_figure_says_what_is_clipped(tmp_path: Path) -> None:
    clean = np.full((20, 20, 3), 0.5)
    noisy = clean.copy()
    noisy[:5] = 1.0
    noisy[5:, :, 0] = 0.0
    noise_figure(clean, {"half > other": noisy}, tmp_path / "noise.svg")
    texts = _texts(tmp_path / "noise.svg")
    assert {"clean", "half > other", "red", "green", "blue", "at 1: R 25% G 25% B 25%"} <= set(texts)
    assert any(text.startswith("at 0: R 75% G 0% B 0%") for text in texts)


@pytest.mark.parametrize("shape, count", [((5, 700, 3), 2), ((700, 5, 3), 1), ((1, 1, 3), 5), ((400, 400, 3), 0)])
def test_noise_figure_takes_any_size_and_number(shape: tuple[int, int, int], count: int, tmp_path: Path) -> None:
    picture = _picture(*shape[:2])
    noise_figure(picture, {f"noise {i}": picture for i in range(count)}, tmp_path / "noise.png")
    with Image.open(tmp_path / "noise.png") as image:
        assert max(image.size) < 2400


def test_every_pixel_is_a_square_of_its_own_colour(tmp_path: Path) -> None:
    red_and_blue = np.zeros((1, 3, 2, 2), dtype=np.uint8)
    red_and_blue[0, 0, :, 0] = red_and_blue[0, 2, :, 1] = 255
    samples_figure(red_and_blue, red_and_blue, red_and_blue, tmp_path / "samples.png")
    with Image.open(tmp_path / "samples.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    # Three pictures of two halves, 1.2 inches wide at most, at 160 dots an inch.
    for color in ((255, 0, 0), (0, 0, 255)):
        assert (pixels == color).all(axis=1).sum() > 3 * 8_000
    assert not ((pixels[:, 0] > 60) & (pixels[:, 2] > 60) & (pixels[:, 1] < 30)).any(), "no blend of the two"


def test_samples_are_the_same_in_every_layout_and_type(tmp_path: Path) -> None:
    batch = np.stack([_picture(), _picture()[::-1]])
    forms = {
        "nhwc": batch,
        "nchw": batch.transpose(0, 3, 1, 2),
        "float": (batch / 255).transpose(0, 3, 1, 2),
    }
    for name, form in forms.items():
        samples_figure(form, form, form, tmp_path / f"{name}.svg")
    assert len({(tmp_path / f"{name}.svg").read_bytes() for name in forms}) == 1


def test_samples_figure_shows_the_psnr_of_each(tmp_path: Path) -> None:
    clean = np.full((2, 3, 8, 8), 0.5, dtype=np.float32)
    noisy = clean + np.array([0.1, 0.01], dtype=np.float32)[:, None, None, None]
    samples_figure(clean, noisy, clean, tmp_path / "samples.svg", titles=["frog", "a"])
    texts = _texts(tmp_path / "samples.svg")
    assert {"20.0 dB", "40.0 dB", "identical", "frog", "clean", "noisy", "denoised"} <= set(texts)


@pytest.mark.parametrize(
    "clean, message",
    [
        (np.zeros((2, 8, 8)), r"shape \(2, 8, 8\)"),
        (np.zeros((0, 3, 8, 8)), r"shape \(0, 3, 8, 8\)"),
        (np.zeros((1, 4, 8, 8)), r"expected \(N, 3, H, W\)"),
        (np.zeros((1, 3, 8, 8), dtype=np.int64), "int64"),
        (np.full((1, 3, 8, 8), 200.0), "from 0 to 200"),
        (np.full((1, 3, 8, 8), math.nan), "nan"),
        (np.zeros((1, 3, 8, 9)), "differ in shape"),
    ],
)
def test_samples_that_cannot_be_shown(clean: np.ndarray, message: str, tmp_path: Path) -> None:
    good = np.zeros((1, 3, 8, 8))
    with pytest.raises(ValueError, match=message):
        samples_figure(clean, good, good, tmp_path / "samples.png")


def test_what_else_cannot_be_drawn(tmp_path: Path) -> None:
    path, good = tmp_path / "figure.png", np.zeros((1, 3, 8, 8))
    with pytest.raises(ValueError, match="2 titles for 1 samples"):
        samples_figure(good, good, good, path, titles=["a", "b"])
    with pytest.raises(ValueError, match="'other' has shape"):
        noise_figure(_picture(), {"other": _picture(8, 8)}, path)
    with pytest.raises(ValueError, match="at least one class"):
        class_balance_figure({"train": {}}, path)
    with pytest.raises(ValueError, match="at least one run"):
        curves_figure({}, path)


@pytest.mark.parametrize(
    "rows, empty_panels, best_named, legend",
    [
        ({"none": []}, 2, 0, 1),
        ({"one": _epochs(1)}, 0, 2, 1),
        ({"diverged": _epochs(8, val_loss=math.inf, train_loss=math.nan, val_psnr=None)}, 0, 2, 1),
        ({"from csv": [{"epoch": "1", "val_loss": "0.1", "val_psnr": ""}]}, 1, 1, 1),
        ({"missing": [{"epoch": 1.0}, {"val_loss": 0.1}]}, 2, 0, 1),
        ({f"run {i}": _epochs(4) for i in range(13)}, 0, 0, 13),
        ({HOSTILE: _epochs(4)}, 0, 2, 1),
    ],
    ids=["none", "one", "diverged", "csv", "missing", "many", "hostile"],
)
def test_curves_of_any_rows(
    rows: dict[str, list[dict[str, object]]], empty_panels: int, best_named: int, legend: int, tmp_path: Path
) -> None:
    curves_figure(rows, tmp_path / "curves.svg")
    texts = _texts(tmp_path / "curves.svg")
    assert texts.count("no values yet") == empty_panels
    assert len([text for text in texts if text.startswith("best")]) == best_named
    assert len([text for text in texts if text in rows]) == legend


def test_curves_name_the_best_epoch_of_a_single_run(tmp_path: Path) -> None:
    curves_figure({"run": _epochs(30, val_loss=1e-5, val_psnr=99.0)}, tmp_path / "one.svg")
    assert {"best 1e-05 at epoch 3", "best 99 at epoch 3"} <= set(_texts(tmp_path / "one.svg"))


def test_curves_show_a_loss_that_is_negative(tmp_path: Path) -> None:
    rows = [{"epoch": float(n), "train_loss": -20.0 - n, "val_loss": -21.0 - n, "val_psnr": 21.0 + n} for n in range(3)]
    curves_figure({"run": rows}, tmp_path / "curves.svg")
    texts = _texts(tmp_path / "curves.svg")
    assert "no values yet" not in texts
    assert "best -23 at epoch 2" in texts


TABLE = Table(
    "Losses <of> runs",
    ["run", "loss", "epochs", "interval", "note"],
    [["a|b", 0.00204, 600, "26.9 [26.8, 27.0]", True], [HOSTILE, 0.1, 30, None, None]],
    note="lower is *better*",
)


def test_a_table_knows_its_numbers() -> None:
    assert TABLE.numeric == (False, True, True, True, False)
    assert TABLE.shown[0] == ("a|b", "0.002040", "600", "26.9 [26.8, 27.0]", "yes")
    assert TABLE.shown[1][1:] == ("0.100000", "30", "–", "–")


@pytest.mark.parametrize(
    "cells, expected",
    [
        ([1.0, 2.0, 12345.0], ["1", "2", "12,345"]),
        ([np.float32(0.5), np.int64(3), math.nan], ["0.5000", "3", "nan"]),
        ([1e-9, 1.5], ["1e-09", "1.5"]),
        ([26.9234, 111.5, 0.0], ["26.92", "111.50", "0.00"]),
        ([-math.inf, 1210.26, 80515], ["-inf", "1,210", "80,515"]),
        ([], []),
    ],
)
def test_a_columns_numbers_share_their_decimals(cells: list[object], expected: list[str]) -> None:
    table = Table("t", ["x"], [[cell] for cell in cells])
    assert [row[0] for row in table.shown] == expected
    assert table.numeric == (bool(cells),)


def test_csv_keeps_every_cell_in_full() -> None:
    first, *rest = csv.reader(io.StringIO(TABLE.to_csv()))
    assert first == list(TABLE.columns)
    assert rest == [
        ["a|b", "0.00204", "600", "26.9 [26.8, 27.0]", "True"],
        [HOSTILE, "0.1", "30", "", ""],
    ]


def test_markdown_keeps_cells_in_their_columns() -> None:
    lines = TABLE.to_markdown().splitlines()
    assert lines[0] == "**Losses &lt;of> runs**"
    assert lines[3] == "| :-- | ---: | ---: | ---: | :-- |"
    assert all(line.replace("\\|", "").count("|") == 6 for line in lines[2:6])
    assert "<script>" not in TABLE.to_markdown()
    assert lines[-1] == "lower is \\*better\\*"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Table("t", ["a", "b"], [[1]])


class _Page(HTMLParser):
    """A parser that collects the tags, the addresses and the visible text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "action"}]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    _curves(tmp_path / "curves.svg")
    _samples(tmp_path / "samples.png")
    figures = {"the curves": tmp_path / "curves.svg", "the samples": tmp_path / "samples.png"}
    sections = [ReportSection("Figures", figures=figures), ReportSection("Tables", tables=[TABLE])]
    write_page("a run", {"parameters": 80515}, sections, tmp_path / "page.html")
    page = _Page(tmp_path / "page.html")
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    source = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in source
    assert not [needle for needle in ("@import", "url(", "http://", "https://", "<script") if needle in source]
    kinds = {address.split(",")[0]: address.split(",")[1] for address in page.addresses}
    assert base64.b64decode(kinds["data:image/svg+xml;base64"]) == figures["the curves"].read_bytes()
    assert base64.b64decode(kinds["data:image/png;base64"]) == figures["the samples"].read_bytes()
    assert base64.b64decode(kinds["data:text/csv;charset=utf-8;base64"]).decode() == TABLE.to_csv()
    for shown in ("80,515", "Figure 1.", "the curves", "Figure 2.", "Table 1.", "0.002040"):
        assert shown in page.text


def test_a_page_prints_and_follows_the_readers_colours() -> None:
    source = (Path(reports.__file__).parent / "page.html").read_text(encoding="utf-8")
    for rule in ("@page", "@media print", "prefers-color-scheme: dark", "break-inside: avoid", "table-header-group"):
        assert rule in source


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    _balance(tmp_path / "f.png")
    table = Table(HOSTILE, [HOSTILE], [[HOSTILE]], note=HOSTILE)
    sections = [
        ReportSection(HOSTILE, HOSTILE, {HOSTILE: tmp_path / "f.png"}, [table]),
        ReportSection("b"),
        ReportSection(""),
    ]
    write_page(HOSTILE, {HOSTILE: HOSTILE}, sections, tmp_path / "page.html")
    page = _Page(tmp_path / "page.html")
    assert "script" not in page.tags
    assert page.tags.count("title") == 1
    assert page.text.count(HOSTILE) == 12


def test_pictures_to_compare_are_embedded_with_their_labels(tmp_path: Path) -> None:
    _samples(tmp_path / "cat.png")
    group = PictureGroup("Cat", {"noisy, 20.0 dB": tmp_path / "cat.png", HOSTILE: tmp_path / "cat.png"})
    sections = [ReportSection("Whole pictures", groups=[group])]
    write_page("a run", {}, sections, tmp_path / "page.html")
    page = _Page(tmp_path / "page.html")
    assert page.tags.count("img") == 2
    assert "figure" not in page.tags
    for shown in ("Cat", "noisy, 20.0 dB", HOSTILE):
        assert shown in page.text
    write_markdown("a run", {}, sections, tmp_path / "page.md")
    assert "**Cat**\n\n![noisy, 20.0 dB](cat.png)" in (tmp_path / "page.md").read_text()


def test_a_long_page_has_contents_that_lead_to_its_sections(tmp_path: Path) -> None:
    sections = [ReportSection("One", "first\n\nsecond"), ReportSection(""), ReportSection("Two"), ReportSection("Two")]
    write_page("a study", {}, sections, tmp_path / "page.html")
    page = _Page(tmp_path / "page.html")
    links = [address[1:] for address in page.addresses if address.startswith("#")]
    assert links == page.ids == ["1-one", "2-two", "3-two"]
    assert page.tags.count("p") == 2
    assert "dl" not in page.tags


def test_a_page_is_always_the_same_and_refuses_unknown_pictures(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_page("t", {"x": None}, [ReportSection("", tables=[TABLE])], tmp_path / f"{name}.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    (tmp_path / "f.tiff").touch()
    with pytest.raises(ValueError, match=r"unknown picture format for a page '\.tiff'"):
        write_page("t", {}, [ReportSection("", figures={"caption": tmp_path / "f.tiff"})], tmp_path / "c.html")
    with pytest.raises(FileNotFoundError):
        write_page("t", {}, [ReportSection("", figures={"caption": tmp_path / "none.png"})], tmp_path / "c.html")
    assert not (tmp_path / "c.html").exists()


def test_a_judges_curve_is_a_third_panel(tmp_path: Path) -> None:
    rows = [
        {"epoch": float(n), "val_loss": 0.1, "val_psnr": 20.0} | ({"val_f1": 0.5} if n % 2 else {}) for n in range(4)
    ]
    curves_figure({"run": rows}, tmp_path / "curves.svg")
    assert "macro F1 of the classifier on denoised images" in _texts(tmp_path / "curves.svg")


def test_a_log_shows_every_family_and_what_did_not_learn(tmp_path: Path) -> None:
    tests = [LoggedTest(1, "deep", 0.005, 22.0), LoggedTest(2, "deep", None, None), LoggedTest(3, "wide", 0.002, 26.0)]
    log_figure(tests, tmp_path / "log.svg")
    assert {"deep", "wide", "best so far", "did not learn"} <= set(_texts(tmp_path / "log.svg"))
    log_figure([LoggedTest(1, "deep", None, None)], tmp_path / "none.svg")
    assert "no values" in _texts(tmp_path / "none.svg")
    with pytest.raises(ValueError, match="at least one"):
        log_figure([], tmp_path / "log.svg")


def test_confusions_are_shares_of_the_rows_class(tmp_path: Path) -> None:
    confusion_figure(
        {"clean": np.array([[9, 1], [0, 0]]), "noisy": np.array([[1, 3], [2, 2]])}, ("a", "b"), tmp_path / "c.svg"
    )
    texts = _texts(tmp_path / "c.svg")
    assert {"90", "10", "25", "75", "50", "clean", "noisy"} <= set(texts)
    with pytest.raises(ValueError, match="at least one"):
        confusion_figure({}, (), tmp_path / "c.svg")


def test_markdown_says_what_the_page_says(tmp_path: Path) -> None:
    picture = tmp_path / "figures" / "a b.svg"
    picture.parent.mkdir()
    picture.write_text("<svg/>")
    parts = [ReportSection("One *star*", "First.\n\nSecond <b>.", {"What to see.": picture}, [TABLE])]
    write_markdown("Title", {"images": 10_000}, parts, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert text.startswith("# Title\n\n- images: 10,000\n")
    assert "## One \\*star\\*\n\nFirst.\n\nSecond \\<b>.\n" in text
    assert "![What to see.](figures/a%20b.svg)" in text
    assert TABLE.to_markdown().rstrip() in text


def test_thousands_are_set_apart_in_all_of_a_column_or_in_none() -> None:
    assert [row[0] for row in Table("", ["n"], [[4128], [18_496], [None]]).shown] == ["4,128", "18,496", "–"]
    assert [row[0] for row in Table("", ["n"], [[4128], [896]]).shown] == ["4128", "896"]
