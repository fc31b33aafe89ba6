"""Folders of pictures give the same pixels from memory and from disk, with any number of workers."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from daelab._util.memory import get_free_memory
from daelab.datasets import decoding
from daelab.datasets.decoding import decode_rgb, pad_by_reflection
from daelab.datasets.image_folder import ImageFolder, draw_random_bits
from daelab.datasets.picture_names import PathList
from daelab.datasets.registry import load_dataset
from daelab.image_io.read import read_picture


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, array: np.ndarray | Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(path, **options)
    return path


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Write 23 pictures of many sizes in two classes, and two other files."""
    folder = tmp_path / "album"
    for i in range(23):
        save(folder / ("cats" if i % 3 else "dogs") / f"{i:02}.png", pixels(20 + i, 60 - 2 * i, 3, seed=i))
    (folder / "notes.txt").write_text("no picture")
    (folder / "cats" / "._00.png").write_bytes(b"what macOS leaves behind")
    return folder


def test_a_folder_has_classes_and_a_note(album: Path) -> None:
    loaded = load_dataset(f"folder:{album}", crop=16)
    assert loaded.classes == ("cats", "dogs")
    assert (len(loaded.train), len(loaded.test), loaded.val) == (21, 2, None)
    assert "23 pictures" in loaded.note
    assert "2 other files skipped" in loaded.note
    assert "kept in memory" in loaded.note
    assert "streamed from disk" in load_dataset(f"folder:{album}", memory_budget=1000).note


def test_a_folder_without_sub_folders_is_one_class(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "c.JPEG"):
        save(tmp_path / "holiday" / name, pixels(40, 40, 3), format="PNG" if name == "b.png" else "JPEG")
    loaded = load_dataset(f"folder:{tmp_path / 'holiday'}")
    assert loaded.classes == ("holiday",)
    assert isinstance(loaded.train, ImageFolder)
    assert [loaded.train.path(i).name for i in range(2)] == ["a.jpg", "b.png"]


def test_a_folder_with_parts_uses_them(tmp_path: Path) -> None:
    for part, kind, count in [("train", "a", 3), ("train", "b", 1), ("val", "b", 2), ("test", "a", 1)]:
        for i in range(count):
            save(tmp_path / part / kind / f"{i}.png", pixels(32, 32, 3))
    loaded = load_dataset(f"folder:{tmp_path}")
    assert loaded.val is not None
    assert loaded.train.count_classes() == {"a": 3, "b": 1}
    assert loaded.val.count_classes() == {"a": 0, "b": 2}
    assert loaded.test.count_classes() == {"a": 1, "b": 0}


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    for kind in ("car", "train"):
        save(tmp_path / kind / "1.png", pixels(32, 32, 3))
    assert load_dataset(f"folder:{tmp_path}").classes == ("car", "train")


@pytest.mark.parametrize("seed", [7, None])
def test_a_folder_gives_the_same_pixels_from_memory_disk_and_any_workers(seed: int | None, album: Path) -> None:
    in_memory = load_dataset(f"folder:{album}", crop=24).train
    streamed = load_dataset(f"folder:{album}", crop=24, memory_budget=0).train
    orders = [np.random.default_rng(i).permutation(len(in_memory))[:8] for i in range(4)]
    expected = list(in_memory.batches(orders, seed))
    assert expected[0].shape == (8, 3, 24, 24)
    for workers in (0, 1, 2):
        found = list(streamed.batches(iter(orders), seed, workers))
        assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    resumed = list(streamed.batches(orders[2:], seed, workers=1, start=16))
    assert all(np.array_equal(a, b) for a, b in zip(expected[2:], resumed, strict=True))


def test_a_streams_crops_differ_by_seed_and_position(album: Path) -> None:
    train = load_dataset(f"folder:{album}", crop=8).train
    first, second = train.batches([np.arange(10), np.arange(10)], seed=1)
    (other,) = train.batches([np.arange(10)], seed=2)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)
    generator = np.random.default_rng
    drawn = train.batch(np.arange(10), generator(0))
    assert np.array_equal(drawn, train.batch(np.arange(10), generator(0)))
    assert not np.array_equal(drawn, train.batch(np.arange(10), generator(1)))


def test_a_stream_leaves_torchs_generator_and_no_process_behind(album: Path) -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_rng_state()
    streamed = load_dataset(f"folder:{album}", memory_budget=0).train
    batches = streamed.batches((np.arange(4) for _ in range(1000)), seed=1, workers=1)
    next(batches)
    assert multiprocessing.active_children()
    batches.close()
    assert not multiprocessing.active_children()
    assert torch.equal(before, torch.get_rng_state())


def test_random_crops_reach_every_place_evenly() -> None:
    bits = draw_random_bits(3, 0, 60_000)
    for half in (bits >> np.uint64(32), bits & np.uint64(0xFFFFFFFF)):
        counts = np.bincount(((half * np.uint64(6)) >> np.uint64(32)).astype(int))
        assert counts == pytest.approx(np.full(6, 10_000), abs=400)
    assert len(np.unique(bits)) == 60_000
    assert not np.isin(draw_random_bits(4, 0, 60_000), bits).any()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_named(workers: int, album: Path) -> None:
    path = album / "cats" / "10.png"
    path.write_bytes(path.read_bytes()[:1500])
    streamed = load_dataset(f"folder:{album}", memory_budget=0).train
    with pytest.raises(ValueError, match=f"{path}: a broken picture: .*; remove or replace it") as error:
        list(streamed.batches([np.arange(len(streamed))], seed=1, workers=workers))
    assert "\n" not in str(error.value)
    assert not multiprocessing.active_children()
    path.write_bytes(b"not even a header")
    with pytest.raises(ValueError, match=f"{path}: not a picture, .*; remove or replace it"):
        load_dataset(f"folder:{album}")


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (5, 7), (31, 33), (90, 3)])
def test_a_small_picture_is_mirrored(shape: tuple[int, int], tmp_path: Path) -> None:
    picture = pixels(*shape, 3)
    for i in range(2):
        save(tmp_path / f"{i}.png", picture)
    batch = load_dataset(f"folder:{tmp_path}").train.batch(np.array([0]))
    assert batch.shape == (1, 3, 32, 32)
    padded = pad_by_reflection(picture, 32)
    assert np.array_equal(padded[: shape[0], : shape[1]], picture)
    assert {tuple(p) for p in padded.reshape(-1, 3)} == {tuple(p) for p in picture.reshape(-1, 3)}


GREY = np.linspace(0, 255, 16, dtype=np.uint8).reshape(4, 4)


@pytest.mark.parametrize(
    ("image", "suffix"),
    [
        (Image.fromarray(GREY), ".png"),
        (Image.fromarray(GREY).convert("LA"), ".png"),
        (Image.fromarray(GREY).convert("RGBA"), ".png"),
        (Image.fromarray(GREY).convert("P"), ".gif"),
        (Image.fromarray(GREY).convert("CMYK"), ".tif"),
        (Image.fromarray(GREY.astype(np.uint16) * 257), ".png"),
        (Image.fromarray(GREY.astype(np.int32)), ".tif"),
        (Image.fromarray(GREY.astype(np.float32) / 255), ".tif"),
        (Image.fromarray(GREY.astype(np.float32)), ".tif"),
    ],
    ids=["L", "LA", "RGBA", "P", "CMYK", "I;16", "I", "F in [0, 1]", "F in [0, 255]"],
)
def test_any_mode_becomes_rgb(image: Image.Image, suffix: str, tmp_path: Path) -> None:
    decoded = decode_rgb(save(tmp_path / f"picture{suffix}", image))
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, np.repeat(GREY[..., None], 3, axis=2))


def test_a_palette_with_transparency_gives_no_warning(tmp_path: Path) -> None:
    image = Image.fromarray(GREY).convert("P")
    path = save(tmp_path / "p.png", image, transparency=bytes(range(256)))
    assert decode_rgb(path).shape == (4, 4, 3)


NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "values", "options"),
    [
        ("int16.tif", NOISE[..., 0].astype(np.int16) * 8 - 1024, {}),
        ("int32.tif", NOISE[..., 0].astype(np.int32) * 1000, {}),
        ("uint32.tif", NOISE[..., 0].astype(np.uint32) * 1000, {}),
        ("ten.tif", NOISE[..., 0].astype(np.uint16) * 4 + 3, {}),
        ("twelve.tif", NOISE.astype(np.uint16) * 16, {"photometric": "rgb"}),
        ("white.tif", NOISE[..., 0].astype(np.uint16) * 257, {"photometric": "miniswhite"}),
        ("float.tif", NOISE.astype(np.float32) / 255, {"photometric": "rgb"}),
        ("hot.tif", np.where(np.arange(1024).reshape(32, 32) == 77, 1000, NOISE[..., 0] / 255), {}),
    ],
)
def test_a_file_means_the_same_to_train_and_to_denoise(
    name: str, values: np.ndarray, options: dict[str, object], tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / name, values, **options)
    decoded = decode_rgb(tmp_path / name)
    assert np.array_equal(decoded, read_picture(tmp_path / name).colour().pixels)
    expected = NOISE if np.ptp(decoded) and (decoded != decoded[..., :1]).any() else NOISE[..., :1]
    expected = 255 - expected if name == "white.tif" else expected
    # the scales of such files are not exact multiples
    assert np.median(np.abs(decoded.astype(int) - expected)) <= 6


def test_the_first_page_of_a_tiff_is_read(tmp_path: Path) -> None:
    first, second = Image.fromarray(NOISE), Image.fromarray(255 - NOISE)
    path = save(tmp_path / "a.tif", first, save_all=True, append_images=[second])
    assert np.array_equal(decode_rgb(path), NOISE)


@pytest.mark.parametrize("maximum", [255, 1023, 65535])
def test_a_portable_map_is_scaled_by_its_maximum(maximum: int, tmp_path: Path) -> None:
    values = (GREY / 255 * maximum).round().astype(">u2" if maximum > 255 else "u1")
    (tmp_path / "a.pgm").write_bytes(f"P5 4 4 {maximum}\n".encode() + values.tobytes())
    assert np.abs(decode_rgb(tmp_path / "a.pgm")[..., 0].astype(int) - GREY).max() <= 1


def test_hidden_pixels_are_filled_from_visible_ones(tmp_path: Path) -> None:
    image = np.dstack([np.full((4, 4, 3), 9), np.full((4, 4), 255)]).astype(np.uint8)
    image[1, 2] = [200, 100, 0, 0]
    assert (decode_rgb(save(tmp_path / "a.png", image)) == 9).all()


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture = pixels(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    path = save(tmp_path / "turned.png", Image.fromarray(picture), exif=exif)
    assert np.array_equal(decode_rgb(path), np.rot90(picture, -1))


@pytest.mark.parametrize(
    ("files", "crop", "message"),
    [
        (None, 32, "is not a folder"),
        ([], 32, "no pictures in .* \\(0 other files\\)"),
        (["a.txt"], 32, "no pictures in .* \\(1 other files\\)"),
        (["a.png"], 32, "give at least 2"),
        (["a.png", "b.png"], 0, "at least 1 pixel"),
        (["train/a.png", "test/readme.md"], 32, "no pictures in .*test"),
    ],
)
def test_an_unfit_folder_is_a_value_error(files: list[str] | None, crop: int, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in files or []:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text") if path.suffix != ".png" else save(path, pixels(4, 4, 3))
    if files is not None:
        folder.mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=message):
        load_dataset(f"folder:{folder}", crop=crop)


def test_free_memory_is_plausible() -> None:
    assert 1 << 24 < get_free_memory() < 1 << 46


# Streaming through a buffer


@pytest.mark.parametrize("workers", [0, 2])
def test_a_buffer_gives_the_same_pixels_and_decodes_a_picture_once_for_it(
    workers: int, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = load_dataset(f"folder:{album}", crop=24).train
    buffered = load_dataset(f"folder:{album}", crop=24, buffer=24).train
    assert "streamed" in load_dataset(f"folder:{album}", buffer=24).note
    pictures = len(in_memory)
    # three windows of three batches, each of few pictures, many times
    orders = [np.array([n // 3, n // 3 + 1, pictures - 1, n // 3] * 2) for n in range(9)]
    expected = list(in_memory.batches(orders, 5))
    decoded: list[Path] = []
    decode = decode_rgb
    monkeypatch.setattr(decoding, "decode_rgb", lambda path: (decoded.append(path), decode(path))[1])
    found = list(buffered.batches(orders, 5, workers))
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    if workers == 0:
        assert len(decoded) == 3 * 3
    shared = [list(buffered.batches(orders, 5, workers, share=(rank, 2))) for rank in (0, 1)]
    assert all(np.array_equal(expected[n], shared[n % 2][n // 2]) for n in range(9))


def test_a_million_names_take_little_memory_and_come_back() -> None:
    names = [f"klasse {i % 10}/bild-{i}ä.png" for i in range(10_000)]
    kept = PathList(Path("root"), names)
    assert [str(kept[i]) for i in (0, 77, 9_999)] == [str(Path("root") / names[i]) for i in (0, 77, 9_999)]
    assert len(kept) == 10_000
    assert len(kept._text) + kept._ends.nbytes < 40 * len(names)
