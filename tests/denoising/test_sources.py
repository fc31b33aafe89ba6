"""The files that a batch reads, those that it names without reading them, and where results may be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daelab.denoising import batch
from daelab.denoising.batch import BatchRequest, describe_unread, find_unread, plan_batch, run_batch
from daelab.denoising.pipeline import DenoiseResult
from daelab.denoising.sources import find_files


def plant(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def targets(*pictures: str, **request: object) -> list[str]:
    return [str(job.target) for job in plan_batch(BatchRequest(pictures, **request)) if not job.fault]  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_link_to_a_folder_is_entered(tmp_path: Path) -> None:
    plant(tmp_path, "album/a.png", "elsewhere/b.png")
    Path("album/link").symlink_to(tmp_path / "elsewhere")
    assert [str(path) for path in find_files("album", True, None).pictures] == ["album/a.png", "album/link/b.png"]
    assert [str(path) for path in find_files("album", False, None).not_entered] == ["album/link"]


def test_each_folder_is_entered_once_under_its_own_name(tmp_path: Path) -> None:
    plant(tmp_path, "album/real/b.png", "album/a.png")
    Path("album/a-link-that-comes-first").symlink_to("real")
    Path("album/real/up").symlink_to("..")
    Path("album/self").symlink_to(".")
    expected = ["album/a.png", "album/real/b.png"]
    assert [str(path) for path in find_files("album", True, None).pictures] == expected
    assert [str(path) for path in find_files("album/**/*.png", False, None).pictures] == expected


def test_a_broken_link_is_named(tmp_path: Path) -> None:
    plant(tmp_path, "album/a.png")
    Path("album/b.png").symlink_to("nowhere")
    Path("album/c.png").symlink_to("c.png")
    assert [path.name for path in find_files("album", True, None).unread] == ["b.png", "c.png"]


def test_results_beside_their_sources_are_no_sources_whatever_the_suffix(tmp_path: Path) -> None:
    plant(tmp_path, "a.JPG", "a_clean.JPG", "b.tif", "b_clean.png", "c.fits", "c_clean.png", "d_clean.png")
    found = [job.source for job in plan_batch(BatchRequest(["*.*"]))]
    assert [name for name in found if "clean" in name] == ["d_clean.png"]


def test_what_is_not_read_is_counted_and_named(tmp_path: Path) -> None:
    plant(tmp_path, "album/a.png", "album/.hidden", *(f"album/{number}.heic" for number in range(6)), "album/x/b.png")
    request = BatchRequest(["album", "album/a.png"])
    assert describe_unread(find_unread(request)) == [
        "6 files were skipped (0.heic, 1.heic, 2.heic, 3.heic, 4.heic, ...),"
        " because only pictures of supported formats are read",
        "1 folder was skipped (x), because --recursive is not given",
    ]
    assert describe_unread(find_unread(BatchRequest(["album"], recursive=True)))[0].startswith("6 files")
    assert describe_unread(find_unread(BatchRequest(["album/*.png"]))) == []


def test_a_folder_of_other_files_is_refused_with_their_names(tmp_path: Path) -> None:
    plant(tmp_path, "album/a.heic")
    with pytest.raises(ValueError, match=r"^no picture in album; 1 file was skipped \(a\.heic\), because"):
        list(run_batch(BatchRequest(["album"]), lambda *_: DenoiseResult()))


@pytest.mark.parametrize("out", [".", "..", "album", "new"])
def test_a_folder_inside_the_folder_of_results_is_read(out: str, tmp_path: Path) -> None:
    plant(tmp_path, "album/raw/a.png", "album/raw/deep/b.png")
    expected = [str(Path(out) / "a.png"), str(Path(out) / "deep/b.png")]
    assert targets("album/raw", out=Path(out), recursive=True) == expected
    assert targets("album/raw/*.png", out=Path(out)) == expected[:1]


@pytest.mark.parametrize("out", ["album/clean", "album/clean/deep", "link"])
def test_results_inside_the_folder_are_not_read(out: str, tmp_path: Path) -> None:
    plant(tmp_path, "album/a.png", "album/clean/deep/b.png")
    Path("link").symlink_to("album/clean")
    for pictures in ("album", "album/**/*.png"):
        assert str(Path(out) / "a.png") in targets(pictures, out=Path(out), recursive=True)
        assert str(Path(out) / "b.png") not in targets(pictures, out=Path(out), recursive=True)


def test_a_picture_is_not_replaced_twice_under_two_names(tmp_path: Path) -> None:
    plant(tmp_path, "a.png")
    Path("b.png").symlink_to("a.png")
    first, second = plan_batch(BatchRequest(["a.png", "b.png"], in_place=True))
    assert (first.fault, second.fault) == ("", "b.png: its result would be b.png, which is the result of a.png too")


def test_links_in_a_circle_are_no_pictures(tmp_path: Path) -> None:
    plant(tmp_path, "a.png")
    Path("loop.png").symlink_to("loop.png")
    for request in (
        BatchRequest(["loop.png"], in_place=True),
        BatchRequest(["loop.png"], out=Path("clean.png")),
        BatchRequest(["a.png", "loop.png"], in_place=True),
    ):
        assert plan_batch(request)[-1].fault == "no picture loop.png"
    assert targets("*.png", out=Path("loop.png"), out_is_folder=True) == ["loop.png/a.png"]
    assert plan_batch(BatchRequest(["loop.png/*.png"], out=Path("clean")))[0].fault.endswith("no picture matches")


def test_an_address_is_not_opened(tmp_path: Path) -> None:
    (job,) = plan_batch(BatchRequest(["https://host/a.png"]))
    assert job.fault == "no picture https://host/a.png; addresses are not opened, so download it first"


def test_freed_memory_is_returned_after_each_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "a.png", "b.png", "c.png")
    calls = []
    monkeypatch.setattr(batch, "release_freed_memory", lambda: calls.append(len(results)))
    results: list[str] = []

    def work(source: str, *_: object) -> DenoiseResult:
        results.append(source)
        if source == "b.png":
            raise ValueError("broken")
        return DenoiseResult()

    list(run_batch(BatchRequest(["a.png", "b.png", "c.png"]), work))
    assert calls == [1, 2, 3]


def test_a_name_that_is_not_utf_8_is_like_any_other(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe.png")
    try:
        plant(tmp_path, f"album/{name}", "album/a.png")
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    found = [path for part in (1, 2) for path in targets("album", out=Path("clean"), shard=(part, 2))]
    assert sorted(found) == sorted([f"clean/{name}", "clean/a.png"])


def test_a_slash_makes_a_folder(tmp_path: Path) -> None:
    plant(tmp_path, "a.png", "b.png")
    assert targets("a.png", out=Path("results.2024-05-01"), out_is_folder=True) == ["results.2024-05-01/a.png"]
    assert targets("a.png", out=Path("b.png")) == ["b.png"]
    assert targets("a.png", "b.png", out=Path("c.png"), out_is_folder=True) == ["c.png/a.png", "c.png/b.png"]
    (tmp_path / "folder.png").mkdir()
    assert targets("a.png", out=Path("folder.png")) == ["folder.png/a.png"]


@pytest.mark.parametrize(
    ("pictures", "out", "is_folder", "message"),
    [
        (["a.png"], "results.2024-05-01", False, "to name a folder, write results.2024-05-01/"),
        (["a.png"], "notes.txt/b.png", False, "notes.txt is a file, not a folder"),
        (["a.png"], "notes.txt/deep/b.png", False, "notes.txt is a file, not a folder"),
        (["a.png"], "notes.txt", True, "notes.txt is a file, not a folder"),
        (["album"], "notes.txt/deep", False, "notes.txt is a file, not a folder"),
        (["a.png", "album"], "c.png", False, "several pictures need a folder; write c.png/"),
    ],
)
def test_a_wrong_place_for_results_is_refused_at_once(
    pictures: list[str], out: str, is_folder: bool, message: str, tmp_path: Path
) -> None:
    plant(tmp_path, "a.png", "album/b.png", "notes.txt")
    with pytest.raises(ValueError, match=message):
        plan_batch(BatchRequest(pictures, out=Path(out), out_is_folder=is_folder))


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "album/a.png", "album/locked/b.png")
    iterate = Path.iterdir

    def refuse(path: Path) -> object:  # the superuser, who runs some tests, may read everything
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return iterate(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    found = find_files("album", True, None)
    assert ([path.name for path in found.pictures], [path.name for path in found.unread]) == (["a.png"], ["locked"])
    with pytest.raises(PermissionError):
        find_files("album/locked", True, None)


def test_a_folder_that_cannot_be_written_to_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "a.png", "album/b.png")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="--out clean: the folder . cannot be written to"):
        plan_batch(BatchRequest(["a.png"], out=Path("clean")))
