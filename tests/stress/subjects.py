"""The kinds of files and texts that are fuzzed: good examples, and all that daelab does with one from a stranger."""

from __future__ import annotations

import gzip
import io
import pickle
import random
import re
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import mutations
from daelab._util.files import list_shipped_configs
from daelab.datasets.cifar10 import unpickle
from daelab.datasets.decoding import count_pixels, decode_rgb
from daelab.datasets.download import unpack_archive
from daelab.datasets.registry import load_dataset
from daelab.denoising.backends import Backend
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.noise_identification.network import find_shipped_identifier, load_noise_identifier
from daelab.denoising.pipeline import DenoiseOptions, run_file
from daelab.errors import describe_error
from daelab.evaluation.classifiers.classifier_file import ClassifierFile
from daelab.evaluation.classifiers.classifier_file import ClassifierMetadata as JudgeCard
from daelab.evaluation.classifiers.network import build_classifier as build_judge
from daelab.evaluation.classifiers.recipe import ClassifierNetworkConfig as JudgeNetwork
from daelab.evaluation.classifiers.recipe import list_classifier_recipes, load_classifier_recipe
from daelab.evaluation.classifiers.registry import CLASSIFIERS, load_classifier
from daelab.experiments.search.search_space import list_search_spaces, load_search_space
from daelab.image_io.formats import list_suffixes
from daelab.image_io.picture import Picture
from daelab.image_io.write import encode_picture
from daelab.models.architectures.autoencoder import Autoencoder, Stage
from daelab.models.architectures.external import ModuleArchitecture
from daelab.models.architectures.presets import parse_architecture
from daelab.models.build import build_network
from daelab.models.model_file import ModelMetadata, load_network, save_model
from daelab.models.registry import find_shipped_model
from daelab.noise.grammar import parse_noise
from daelab.noise.presets import FORMULAS
from daelab.noise.random_streams import BatchStream
from daelab.runs.folder import RunFolder
from daelab.runs.ledger import Ledger
from daelab.training.checkpoint import BestEpoch
from daelab.training.losses import parse_loss
from daelab.training.recipe import Recipe, load_recipe, parse_recipe
from daelab.training.tasks.denoising import create_training_state
from http_requests import good_requests, send_request

MAX_PIXELS = 100_000
CLEAN = (ValueError, OSError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
"""Errors with a line of ours. A subclass, such as UnicodeDecodeError, is another library's word."""
IDENTITY = Denoiser(Backend("identity", lambda x: x.clone()))


@dataclass(frozen=True)
class Subject:
    """A kind of input."""

    name: str
    good: Callable[[], list[bytes]]
    """Inputs to spoil, each of which passes."""
    run: Callable[[Path, bytes], object]
    """Takes an empty folder and a content, and does with it what daelab would."""
    mutations: tuple[mutations.Mutation, ...] = ()
    share: int = 1
    """How often it is chosen, beside the others."""

    def spoilt(self, rng: random.Random) -> bytes:
        """Return a damaged copy of a good input."""
        content = mutations.mutated(rng.choice(goods(self.name)), self.mutations, rng)
        return mutations.mutated(content, self.mutations, rng) if rng.random() < 0.2 else content

    def fault(self, folder: Path, content: bytes) -> str | None:
        """Return None after success or one clean error, and otherwise what is wrong with the outcome."""
        try:
            self.run(folder, content)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            line = describe_error(error) if isinstance(error, Exception) else ""
            if type(error) in CLEAN and line.strip() and line.count("\n") <= 2 and not re.search(r"\bmemory\b", line):
                return None
            return f"{type(error).__name__}: {error}"[:2000]
        return None


@cache
def goods(name: str) -> list[bytes]:
    """Return the good inputs of a subject, which are made once."""
    return SUBJECTS[name].good()


def _pixels(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    return values if dtype == np.uint8 else values * dtype(257 if np.issubdtype(dtype, np.integer) else 1 / 255)


def _saved(form: str, image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.copy().save(stream, form, **options)  # Pillow leaves an encoder's options at an image
    return stream.getvalue()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x011A] = 6, "a picture", 72.0
    exif.get_ifd(0x8769)[0x829A] = 0.25
    return exif.tobytes()


COLOUR, GREY = Image.fromarray(_pixels(17, 13, 3)), Image.fromarray(_pixels(9, 11))
PALETTE = COLOUR.quantize(16)
ICC = bytes(range(256)) * 2


def _png() -> list[bytes]:
    text = PngInfo()
    text.add_text("Title", "a title", zip=True)
    text.add_itxt("Comment", "ein Bild", "de")
    deep = io.BytesIO()
    encode_picture(deep, Picture(_pixels(8, 9, 3, dtype=np.uint16), _pixels(8, 9, dtype=np.uint16)), "PNG")
    alpha = COLOUR.convert("RGBA")
    alpha.putalpha(GREY.resize(alpha.size))
    return [
        _saved("PNG", COLOUR, pnginfo=text, icc_profile=ICC, exif=_exif(), dpi=(72, 72)),
        _saved("PNG", alpha),
        _saved("PNG", PALETTE, transparency=3),
        _saved("PNG", GREY.convert("1")),
        _saved("PNG", COLOUR, save_all=True, append_images=[PALETTE.convert("RGB")]),
        _saved("PNG", Image.fromarray(_pixels(8, 9, dtype=np.uint16))),
        deep.getvalue(),
        *(_low_png(bits) for bits in (1, 2, 4)),
    ]


def _low_png(bits: int) -> bytes:
    """Return a grey PNG of a few bits with a transparent level."""
    rows = b"".join(b"\0" + row.tobytes() for row in _pixels(9, bits))

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    head = (8).to_bytes(4, "big") + (9).to_bytes(4, "big") + bytes([bits, 0, 0, 0, 0])
    parts = ((b"IHDR", head), (b"tRNS", b"\0\1"), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def _jpeg() -> list[bytes]:
    said = {"exif": _exif(), "icc_profile": ICC, "comment": b"a comment", "dpi": (72, 72)}
    return [
        _saved("JPEG", COLOUR, **said),
        _saved("JPEG", GREY, progressive=True),
        _saved("JPEG", COLOUR.convert("CMYK")),
        _saved("JPEG", COLOUR, subsampling=0, quality=30, xmp=b"<x:xmpmeta/>"),
        _saved("JPEG", COLOUR, progressive=True),
        _saved("MPO", COLOUR, save_all=True, append_images=[COLOUR.rotate(180)]),
    ]


def _webp() -> list[bytes]:
    said = {"exif": _exif(), "icc_profile": ICC, "xmp": b"<x:xmpmeta/>"}
    return [
        _saved("WEBP", COLOUR, **said),
        _saved("WEBP", COLOUR.convert("RGBA"), lossless=True),
        _saved("WEBP", COLOUR, save_all=True, append_images=[COLOUR.rotate(180)]),
    ]


def _tiffs() -> list[bytes]:
    def made(values: np.ndarray, **options: object) -> bytes:
        stream = io.BytesIO()
        tifffile.imwrite(stream, values, **options)
        return stream.getvalue()

    return [
        _saved("TIFF", COLOUR, exif=_exif(), icc_profile=ICC, dpi=(72, 72)),
        *(_saved("TIFF", COLOUR, compression=way) for way in ("tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits")),
        *(_saved("TIFF", GREY.convert("1"), compression=way) for way in ("group3", "group4", "tiff_ccitt")),
        _saved("TIFF", COLOUR.convert("CMYK")),
        _saved("TIFF", PALETTE),
        _saved("TIFF", COLOUR, save_all=True, append_images=[GREY.copy(), PALETTE.copy()]),
        made(_pixels(9, 8, 3, dtype=np.uint16), photometric="rgb", byteorder=">"),
        made(_pixels(9, 8, 3, dtype=np.float32), photometric="rgb", bigtiff=True),
        made(_pixels(32, 32, 4), photometric="rgb", extrasamples=["unassalpha"], tile=(16, 16)),
        made(_pixels(3, 9, 8, dtype=np.uint16), photometric="rgb", planarconfig="separate"),
        *(
            made(_pixels(9, 8, bands, dtype=dtype), photometric="minisblack", planarconfig="contig", compression=way)
            for bands, dtype, way in ((2, np.uint8, None), (4, np.float32, "zlib"), (5, np.uint16, None))
        ),
        made(_pixels(6, 9, 8), photometric="minisblack", planarconfig="separate"),
        # values of 12 bits, declared and not; negative ones; one far from the others
        made(_pixels(9, 8).astype(np.uint16) * 16, extratags=[(281, 3, 1, 4095, True)]),
        made(_pixels(9, 8).astype(np.uint16) * 16, photometric="miniswhite"),
        made(_pixels(9, 8).astype(np.int16) * 8 - 1024),
        made(np.where(np.arange(72).reshape(9, 8) == 40, np.float32(1e9), _pixels(9, 8, dtype=np.float32))),
        made(_pixels(9, 8, dtype=np.float16), byteorder=">"),
        made(_pixels(9, 8, dtype=np.float32), photometric="miniswhite"),
        made(_pixels(9, 8, 3, dtype=np.uint16), photometric="rgb", compression="zlib", predictor=2, byteorder=">"),
        made(_pixels(9, 8, 5), photometric="separated", extrasamples=["unassalpha"]),
        made(_pixels(9, 8, 5), photometric="rgb", extrasamples=["unspecified", "unassalpha"]),
        _pages(),
    ]


def _pages() -> bytes:
    """Return a TIFF with reduced copies in SubIFDs, and pages of several sizes and types."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        file.write(_pixels(16, 16, 3), photometric="rgb", subifds=1)
        file.write(_pixels(8, 8, 3), photometric="rgb", subfiletype=1)
        for values in (_pixels(5, 7), _pixels(3, 4, dtype=np.float32), _pixels(9, 2, dtype=np.uint16)):
            file.write(values, photometric="minisblack")
    return stream.getvalue()


def _bmp() -> list[bytes]:
    return [_saved("BMP", image) for image in (COLOUR, GREY, PALETTE, GREY.convert("1"))]


def _gif() -> list[bytes]:
    animated = _saved("GIF", PALETTE, save_all=True, append_images=[PALETTE.rotate(180)], duration=10, comment=b"hm")
    return [_saved("GIF", PALETTE, transparency=2), _saved("GIF", GREY), animated]


def _npy() -> list[bytes]:
    found = []
    for values in (_pixels(5, 6), _pixels(5, 6, 3, dtype=np.uint16), _pixels(2, 5, 6, 3, dtype=np.float32)):
        stream = io.BytesIO()
        np.save(stream, values)
        found.append(stream.getvalue())
    return found


def _picture(suffix: str, folder: Path, content: bytes) -> None:
    """Denoise a picture into a file of some format, and read it as a data set does."""
    source = folder / f"source{suffix}"
    source.write_bytes(content)
    kinds = list_suffixes()
    target = folder / f"target{kinds[zlib.crc32(content) % len(kinds)]}"
    options = DenoiseOptions(max_pixels=MAX_PIXELS, overwrite=True, compare=len(content) % 8 == 0)
    try:
        run_file(IDENTITY, str(source), target, options)
    finally:
        if suffix != ".npy" and count_pixels(source, 1) <= MAX_PIXELS:
            decode_rgb(source)


def _file(name: str, read: Callable[[Path], object], folder: Path, content: bytes) -> None:
    path = folder / name
    path.write_bytes(content)
    read(path)


def _text(read: Callable[[str], object], folder: Path, content: bytes) -> None:
    read(content.decode("utf-8", "replace"))


SMALL = Autoencoder((Stage(4), Stage(3, down=False)))
UNET = {"kind": "unet", "widths": [4, 5], "blocks": [1, 1], "context": 2, "block": "gated", "norm": "layer"}


def _written(write: Callable[[Path], object], suffix: str = ".safetensors") -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        write(path)
        return path.read_bytes()


def _models() -> list[bytes]:
    card = ModelMetadata(
        SMALL, "small", "type-1", {"name": "photos"}, {"test": {"psnr": {"denoised": 1.5}}}, recipe={"seed": 0}
    )
    specs = (SMALL, parse_architecture(UNET))
    return [_written(lambda path, spec=spec: save_model(path, build_network(spec), card)) for spec in specs]


def _load_model(path: Path) -> None:
    """Load a model as `denoise` does: its metadata, its tensors, and one picture."""
    method = Denoiser.load(path)
    method(np.zeros((9, 10, 3), np.uint8))
    parse_noise(method.method.noise or "none")


def _judges() -> list[bytes]:
    network = JudgeNetwork(widths=(2, 3))
    card = JudgeCard(
        name="j", network=network, classes=("a", "b"), size=(8, 8), tta="none", metrics={"test": {"accuracy": {}}}
    )
    return [_written(ClassifierFile(build_judge(network, 2).eval(), card).save)]


def _load_judge(path: Path) -> None:
    found = load_classifier(str(path))
    assert found.note
    found.logits(torch.zeros(1, 3, 8, 8))


def _checkpoint_recipe() -> Recipe:
    return parse_recipe({"data": {"name": "photos"}, "spec": {"stages": [4]}, "training": {"ema": 0.9}})


def _checkpoints() -> list[bytes]:
    wanted = _checkpoint_recipe()
    state = create_training_state(wanted, torch.device("cpu"))
    state.network(torch.zeros(1, 3, 4, 4)).sum().backward()
    state.optimizer.step()
    state.rows, state.best = [{"epoch": 1, "val_loss": 0.1}], BestEpoch(1, 0.1, 20.0)
    return [_written(lambda path: state.save(path, wanted))]


def _restore(path: Path) -> None:
    wanted = _checkpoint_recipe()
    create_training_state(wanted, torch.device("cpu")).restore(path, wanted)


def _paper() -> list[bytes]:
    stream, old = io.BytesIO(), io.BytesIO()
    torch.save(build_network(SMALL).state_dict(), stream)
    torch.save(build_network(SMALL).state_dict(), old, _use_new_zipfile_serialization=False)
    return [stream.getvalue(), old.getvalue()]


def _onnx() -> list[bytes]:
    from daelab.models.onnx import write_onnx

    network = build_network(Autoencoder((Stage(2),)))
    card = ModelMetadata(network.spec, "small", "type-1")
    return [_written(lambda path: write_onnx(path, network.eval(), card), ".onnx")]


def _npz() -> list[bytes]:
    found = []
    for arrays in (
        {"images": _pixels(12, 8, 8, 3), "labels": np.arange(12)},
        {"train_images": _pixels(12, 8, 8), "test_images": _pixels(4, 8, 8)},
    ):
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        found.append(stream.getvalue())
    return found


def _tars() -> list[bytes]:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in ("a", "b"):
            info = tarfile.TarInfo(f"set/{name}")
            info.size = 700
            tar.addfile(info, io.BytesIO(bytes(700)))
    return [stream.getvalue()]


def _unpack(folder: Path, content: bytes) -> None:
    (folder / "in").mkdir()
    (folder / "in" / "a.tar.gz").write_bytes(gzip.compress(content, 1))
    try:
        unpack_archive(folder / "in" / "a.tar.gz", "set", ["a", "b"], folder / "in" / "target")
    finally:
        left = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
        assert left <= {"in", "in/a.tar.gz", "in/target", "in/target/a", "in/target/b"}, left


def _recipes() -> list[bytes]:
    names = ("quick", "paper/1", "paper/38", "model-c")
    unet = b'[data]\nname = "photos"\n[spec]\nkind = "unet"\nwidths = [8, 16]\nblocks = [1, 2]\n[training]\nlr = 0.1\n'
    named = b'seed = 1\n[judge]\nname = "builtin"\n[teacher]\nmodel = "dae-m"\n[training]\nstart = "dae-s"\n'
    return [list_shipped_configs()[name].read_bytes() for name in names] + [unet, named]


def _load_recipe(path: Path) -> None:
    """Load a recipe, and check without `find_external_names` that it names only what ships."""
    recipe = load_recipe(path)
    names = [recipe.training.start, recipe.teacher and recipe.teacher.model]
    assert all(find_shipped_model(name) for name in names if name is not None), names
    judge = recipe.judge
    assert judge is None or (judge.path is None and judge.name.removeprefix("judge:") in CLASSIFIERS), judge
    assert ":" not in recipe.loss, recipe.loss
    assert not isinstance(recipe.spec, ModuleArchitecture), recipe.spec


def _spaces() -> list[bytes]:
    return [path.read_bytes() for path in list_search_spaces().values()]


def _noise(text: str) -> None:
    found = parse_noise(text)
    assert parse_noise(str(found)) == found
    draws = BatchStream(2, 1, torch.device("cpu"))
    noisy = found.apply(torch.full((2, 3, 8, 8), 0.5), draws)
    assert noisy.shape == (2, 3, 8, 8)


def _loss(text: str) -> None:
    found = parse_loss(text)
    if "judge_features" not in text and ":" not in text:  # nor code of the user
        x = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
        found(x, torch.zeros_like(x))


def _log() -> bytes:
    head = "test_id,batch_size,learning_rate,epochs,amsgrad,Val Loss,Val PSNR,Val F1,Train Size,Val Size"
    head += ",weight_decay,beta_1,beta_2,Comments"
    rows = '1,128,0.001,10,False,0.01,20.5,,40000,10000,0.0,0.9,0.999,"Model, A"\n2,4,0.1,1,True,,,,1,1,,,,x'
    return f"{head}\n{rows}\n".encode()


def _import(path: Path) -> None:
    ledger = Ledger(f"sqlite:///{path.parent / 'ledger.db'}")
    ledger.import_csv(path)
    ledger.export_csv()


PICTURES: dict[str, tuple[Callable[[], list[bytes]], tuple[mutations.Mutation, ...], int]] = {
    ".png": (_png, (mutations.png_chunks, mutations.repeated_part), 8),
    ".jpg": (_jpeg, (mutations.repeated_part,), 5),
    ".webp": (_webp, (mutations.repeated_part,), 3),
    ".tif": (_tiffs, (), 8),
    ".bmp": (_bmp, (), 2),
    ".gif": (_gif, (mutations.repeated_part,), 3),
    ".npy": (_npy, (), 2),
}
TEXTS: dict[str, tuple[list[bytes], Callable[[str], object]]] = {
    "noise": ([text.encode() for text in FORMULAS.values()] + [b"salt-and-pepper(0..0.1) > poisson(30)"], _noise),
    "loss": ([b"mse + 0.1 * dssim", b"l1", b"2*charbonnier + psnr", b"judge_features"], _loss),
    "--set": (
        [b"training.lr=0.01", b"spec=model-c", b"noise=type-1", b"data.name=photos", b"spec.stages=[8, 16]"],
        lambda text: parse_recipe({}, [text]),
    ),
}
_HEADER = (mutations.tensor_header,)
SUBJECTS: dict[str, Subject] = {
    subject.name: subject
    for subject in (
        *(Subject(end, good, partial(_picture, end), ways, share) for end, (good, ways, share) in PICTURES.items()),
        *(
            Subject(name, lambda good=good: good, partial(_text, read), (mutations.textual,), 4)
            for name, (good, read) in TEXTS.items()
        ),
        Subject("model", _models, partial(_file, "file.safetensors", _load_model), _HEADER, 6),
        Subject("judge", _judges, partial(_file, "file.safetensors", _load_judge), _HEADER, 3),
        Subject(
            "inspector",
            lambda: [find_shipped_identifier().read_bytes()],
            partial(_file, "file.safetensors", load_noise_identifier),
            _HEADER,
        ),
        Subject("checkpoint", _checkpoints, partial(_file, "file.safetensors", _restore), _HEADER, 2),
        Subject("paper's .pt", _paper, partial(_file, "file.pt", load_network), (mutations.zip_members,), 5),
        Subject("ONNX", _onnx, partial(_file, "file.onnx", _load_model)),
        Subject("recipe", _recipes, partial(_file, "file.toml", _load_recipe), (mutations.textual,), 5),
        Subject("space", _spaces, partial(_file, "file.toml", load_search_space), (mutations.textual,), 3),
        Subject(
            "judge's recipe",
            lambda: [path.read_bytes() for path in list_classifier_recipes().values()],
            partial(_file, "file.toml", load_classifier_recipe),
            (mutations.textual,),
        ),
        Subject("ledger CSV", lambda: [_log()], partial(_file, "file.csv", _import), (mutations.textual,), 2),
        Subject(
            "metrics.csv",
            lambda: [b"epoch,learning_rate,train_loss,val_loss\n1,0.1,0.2,0.3\n2,0.1,0.1,0.2\n"],
            partial(_file, "metrics.csv", lambda path: RunFolder(path.parent).read_metrics()),
            (mutations.textual,),
        ),
        Subject(
            ".npz",
            _npz,
            partial(_file, "file.npz", lambda path: load_dataset(f"npz:{path}")),
            (mutations.zip_members,),
            2,
        ),
        Subject("archive", _tars, _unpack),
        Subject("request", good_requests, send_request, (mutations.http_request,), 8),
        Subject(
            "CIFAR-10",
            lambda: [pickle.dumps({b"data": _pixels(2, 12), b"labels": [1, 2]}, protocol=3)],
            lambda _, content: unpickle(content, "batch"),
        ),
    )
}
