"""A file that is replaced keeps its permissions and its links."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from daelab._util.files import replace_file, write_text


def get_mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_a_replaced_file_keeps_its_mode(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(mode)
    write_text(path, "new")
    assert (path.read_text(), get_mode(path)) == ("new", mode)


def test_a_new_file_of_a_writer_of_private_files_has_the_usual_mode(tmp_path: Path) -> None:
    usual, model = tmp_path / "usual.txt", tmp_path / "model.safetensors"
    usual.write_text("")
    with replace_file(model) as temporary:
        save_file({"a": torch.zeros(1)}, temporary)
        temporary.chmod(0o600)
    assert get_mode(model) == get_mode(usual)


def test_nobody_else_may_read_a_private_file_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o644)
    with replace_file(path) as part:
        assert get_mode(part) == 0o600
    assert get_mode(path) == 0o644


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root may give a file away")
def test_a_replaced_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    os.chown(path, 12345, 54321)
    path.chmod(0o660)
    write_text(path, "new")
    assert (path.stat().st_uid, path.stat().st_gid, get_mode(path)) == (12345, 54321, 0o660)


def test_an_owner_that_may_not_be_set_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    write_text(tmp_path / "a", "old")
    write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"


def test_extended_attributes_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    try:
        os.setxattr(path, "user.note", b"mine")
    except (OSError, AttributeError):
        pytest.skip("the file system has no extended attributes")
    write_text(path, "new")
    assert os.getxattr(path, "user.note") == b"mine"


@pytest.mark.parametrize("relative", [True, False])
def test_a_link_stays_and_its_file_is_replaced(relative: bool, tmp_path: Path) -> None:
    real, link, second = tmp_path / "store" / "real.txt", tmp_path / "link.txt", tmp_path / "second.txt"
    real.parent.mkdir()
    real.write_text("old")
    link.symlink_to("store/real.txt" if relative else real)
    second.symlink_to(link)
    write_text(second, "new")
    assert link.is_symlink()
    assert second.is_symlink()
    assert real.read_text() == "new"
    assert [path.name for path in real.parent.iterdir()] == ["real.txt"]


def test_a_link_to_nothing_is_filled(tmp_path: Path) -> None:
    link = tmp_path / "link.txt"
    link.symlink_to("store/real.txt")
    write_text(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "store" / "real.txt").read_text() == "new"


@pytest.mark.parametrize("name", ["a" * 251 + ".png", "a." + "b" * 253, "é" * 125 + ".png"])
def test_a_name_of_the_greatest_length_is_written(name: str, tmp_path: Path) -> None:
    for text in ("old", "new"):
        write_text(tmp_path / name, text)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "new"


def refuse(path: Path, *_: object) -> None:
    raise OSError(errno.EROFS, "read-only file system", str(path))


def test_errors_name_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(OSError, match="disk") as caught, replace_file(tmp_path / "a.txt") as part:
        raise OSError(28, "the disk is full", str(part))
    assert caught.value.filename == str(tmp_path / "a.txt")
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "a.txt" / "b.txt", "new")
    with pytest.MonkeyPatch.context() as patch:
        # As a read-only disk does, which refuses to remove even what does not exist.
        patch.setattr(os, "open", refuse)
        patch.setattr(Path, "unlink", lambda self, **_: refuse(self))
        with pytest.raises(OSError, match="read-only") as caught:
            write_text(tmp_path / "a.txt", "new")
        assert caught.value.filename == str(tmp_path / "a.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"
