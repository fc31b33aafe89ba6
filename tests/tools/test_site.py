"""The handbook's site builds without a warning, loads nothing from elsewhere, and all of its links work."""

from __future__ import annotations

import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from PIL import Image

from daelab import __all__
from daelab.denoising.noise_identification.network import find_shipped_identifier
from daelab.evaluation.classifiers.registry import list_shipped_classifiers
from daelab.models.registry import list_shipped_models

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


class Page(HTMLParser):
    """A parser that collects the links of a page, the files that it loads, and the anchors in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.places.add(value)
            elif name in {"src", "href"} and value is not None:
                (self.links if tag == "a" else self.loads).append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does, from a copy without figures."""
    pytest.importorskip("zensical")
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    place = tmp_path_factory.mktemp("handbook")
    shutil.copytree(DOCS, place / "docs", ignore=shutil.ignore_patterns("*.svg"))
    for name in ("zensical.toml", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, place)
    (place / "src").symlink_to(ROOT / "src")
    assert import_module("figures").draw_handbook_figures(place)
    handbook = import_module("handbook")
    handbook.ROOT = place
    handbook.main()
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "No issues found" in said, said
    return place / "site"


def test_every_link_leads_to_a_page_and_a_place_in_it(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 12
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name}: {link}"
            if parts.fragment and target in pages and not parts.fragment.startswith("__"):
                assert unquote(parts.fragment) in pages[target].places, f"{path.name}: {link}"


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        for address in Page(path).loads:
            parts = urlsplit(address)
            assert not parts.scheme or parts.scheme == "data", f"{path.name}: {address}"
            assert not parts.netloc, f"{path.name}: {address}"
            if path.name != "404.html":
                assert (path.parent / unquote(parts.path)).is_file(), f"{path.name}: {address}"
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not [needle for needle in ("@import", "url(http", "url(//") if needle in text], style.name


def test_the_api_and_every_command_are_on_their_pages(site: Path) -> None:
    reference = Page(site / "reference.html")
    assert set(__all__) <= {place.rpartition(".")[2] for place in reference.places}
    assert {"daelab.Denoiser.__call__", "daelab.evaluation.metrics.ssim"} <= reference.places
    assert {"denoise", "ledger-export"} <= Page(site / "commands.html").places


def shipped() -> dict[str, Path]:
    """Return the files of all weights that ship, by the title of their card."""
    judges = {f"judge:{name}": path for name, path in list_shipped_classifiers().items()}
    return {**list_shipped_models(), **judges, "inspector": find_shipped_identifier()}


@pytest.mark.parametrize("name", shipped())
def test_there_is_a_card_of_the_weights_as_they_are(name: str) -> None:
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    card = text.partition(f"# {name}\n")[2].partition("\n## ")[0]
    told = "python tools/cards.py writes it anew"
    assert card, f"docs/models.md has no card of {name}; {told}"
    assert import_module("cards").sha(shipped()[name]) in card, f"the card of {name} is of other weights; {told}"


def test_a_card_says_what_a_model_is_for_and_shows_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("skimage")
    monkeypatch.setattr(sys, "argv", ["cards.py", "--only", "model-b-35.published-code", "--out", str(tmp_path)])
    import_module("cards").main()
    text = (tmp_path / "models.md").read_text(encoding="utf-8")
    card = text.partition("## model-b-35.published-code\n")[2].partition("\n## ")[0]
    assert "**for**: pictures with the noise `published-code`" in card
    assert "**Not for**: pictures with the noise `awgn(25) > quantised`" in card
    assert card.count("| type-1 |") == 1
    with Image.open(tmp_path / "images/cards/model-b-35.published-code.webp") as picture:
        assert picture.size == (3 * 192 + 12, 3 * 192 + 12)


def test_the_figure_of_the_readme_is_there_and_small(tmp_path: Path) -> None:
    figures = import_module("figures")
    name = figures.README_PICTURE.as_posix()
    assert name in (ROOT / "README.md").read_text(encoding="utf-8")
    with Image.open(ROOT / name) as picture:
        assert picture.mode == "P"
        size = picture.size
    assert (ROOT / name).stat().st_size < figures.LARGEST_PICTURE
    pytest.importorskip("matplotlib")
    (tmp_path / "docs" / "images").mkdir(parents=True)
    (tmp_path / "docs" / "leaderboard").symlink_to(DOCS / "leaderboard")
    figures.draw_readme_picture(tmp_path)
    with Image.open(tmp_path / name) as picture:
        assert picture.size == size


def test_a_figure_without_data_is_named(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("![A figure](unknown.svg)")
    with pytest.raises(SystemExit, match=r"docs/unknown\.svg is shown on a page"):
        import_module("figures").draw_handbook_figures(tmp_path)


def test_the_pictures_of_the_readme_are_there_and_small() -> None:
    limit = import_module("screenshots").LARGEST
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("page-light", "page-dark", "page-phone", "report"):
        assert f"docs/images/{name}.png" in readme
        with Image.open(DOCS / "images" / f"{name}.png") as picture:
            assert picture.mode == "P"
        assert (DOCS / "images" / f"{name}.png").stat().st_size < limit


def test_the_pictures_before_and_after_are_drawn_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage")
    tool = import_module("before_after")
    assert {path.stem for path in tool.FOLDER.iterdir()} == set(tool.EXAMPLES)
    assert all(path.stat().st_size <= tool.LARGEST_FILE for path in tool.FOLDER.iterdir())
    monkeypatch.setattr(tool, "load_model", lambda name: lambda noisy, strength=0: noisy * strength)
    pixels = tool.draw(tool.Example("cat", "gaussian(0, 0.1)", (5, 9), (40, 30), ({}, {"strength": 1}), enlarged=2))
    assert pixels.shape == (80, 3 * 60 + 2 * tool.GAP, 3)
    noisy, black, same = (pixels[:, start : start + 60] for start in range(0, pixels.shape[1], 60 + tool.GAP))
    assert (noisy == same).all()
    assert noisy.any()
    assert not black.any()
    tool.save(pixels, tmp_path / "new" / "a.webp")
    with Image.open(tmp_path / "new" / "a.webp") as picture:
        assert picture.size == (pixels.shape[1], 80)
