"""Pictures per second, memory and PSNR of daelab beside the plain PyTorch module and the classical methods.

All clean the same noisy test images, and the same picture of 12 megapixels (the slow ones crops of it).
Each is a process of its own, which says how much memory it took at most; they take turns, so that
whatever slows the machine down meets all of them. Ratios are medians over the rounds.

    python benchmarks/inference_speed.py --data-root .data [--threads 2] [--large]

`--large` also measures the memory for 100 megapixels, and how time grows with a picture's size.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

import train_speed
from common import parser, pick_data, show, table
from daelab._util.hardware import keep_freed_memory
from daelab.datasets.registry import load_dataset
from daelab.datasets.splits import split_dataset
from daelab.denoising.classical import parse_classical_method, tune_classical_method
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.named_models import find_model
from daelab.evaluation import metrics
from daelab.experiments.export_model import export_model
from daelab.image_io.read import read_picture
from daelab.models.model_file import load_network
from daelab.noise.grammar import parse_noise
from daelab.noise.random_streams import BatchStream, IndexedStream
from train_speed import Commands, Reply, Worker, serve

BATCH = 128
"""Images that the plain module takes at once."""
PLAIN = "plain"
KEPT = "plain, keeping freed memory"
"""The plain module with the allocator's setting that daelab uses."""
OURS = ("daelab", "daelab, ONNX")
LEARNED = (PLAIN, KEPT, *OURS)
CLASSICAL = ("nlm", "nlm,patch_size=7,patch_distance=11", "tv", "wavelet", "bilateral", "median", "wiener")
"""The second is scikit-image's own choice of windows; what is not given is tuned."""
GOALS = {PLAIN: 2.0, KEPT: 2.5, "nlm": 100.0, "bm3d": 300.0}
"""How many times as fast the faster of daelab's two should be at least."""
LARGE_MEMORY = 1500.0
"""Megabytes that 100 megapixels may take, above those of an interpreter that imported daelab."""

Clean = Callable[[Tensor], Tensor]


def options() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = parser(__doc__)
    found.add_argument("--model", default="model-c", help="a shipped model, a model file, or a run")
    found.add_argument("--noise", default="table-1")
    found.add_argument("--threads", type=int, default=torch.get_num_threads())
    found.add_argument("--images", type=int, default=1024, help="noisy test images")
    found.add_argument("--same-images", type=int, default=64, help="of them, those that PSNR is measured on")
    found.add_argument("--rounds", type=int, default=5)
    found.add_argument("--seconds", type=float, default=2.0, help="of each process in each round, at least")
    found.add_argument("--learned", nargs="+", choices=LEARNED, default=LEARNED, help="forms of the network")
    found.add_argument("--baselines", nargs="*", help="classical methods; bm3d too where it is installed")
    found.add_argument("--megapixels", type=float, default=12.0, help="of the picture; 0: none")
    found.add_argument("--crop", type=int, default=256, help="side of what the classical methods get of it")
    found.add_argument("--large", action="store_true", help="also memory and time of large pictures; minutes")
    found.add_argument("--large-megapixels", type=float, default=100.0, help=argparse.SUPPRESS)
    found.add_argument("--growth", default="1,4,16,64", help="megapixels to compare times of, with --large")
    found.add_argument("--texts", default="{}", help=argparse.SUPPRESS)
    found.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    found.add_argument("--worker", help=argparse.SUPPRESS)
    return found


# What is measured


def contender(name: str, args: argparse.Namespace) -> Clean:
    """Return a function that denoises float32 images of shape (N, 3, H, W) on the CPU."""
    if name in (PLAIN, KEPT):
        if name == KEPT:
            keep_freed_memory()
        network, _ = load_network(find_model(args.model))

        def plain(x: Tensor) -> Tensor:
            with torch.no_grad():
                return network(x)

        return plain
    if name == "daelab":
        return Denoiser.load(args.model, "cpu").batch
    if name == "daelab, ONNX":
        return Denoiser.load(args.folder / "model.onnx").batch
    return Denoiser.load(json.loads(args.texts)[name]).batch


def images_worker(name: str, args: argparse.Namespace, commands: Commands, reply: Reply) -> None:
    """Clean test images for so many milliseconds; the first answer is the PSNR of the same images for all."""
    clean_images, noisy = np.load(args.folder / "clean.npy"), torch.from_numpy(np.load(args.folder / "noisy.npy"))
    run, step = contender(name, args), BATCH if name in LEARNED else 1
    same = slice(0, args.same_images)
    clean = torch.from_numpy(clean_images[same]).float().div_(255)
    made = torch.cat([run(part) for part in noisy[same].split(step)])
    psnr = float(metrics.psnr(made.clamp(0, 1), clean).mean())
    at = 0
    for milliseconds in commands:
        done, began = 0, time.perf_counter()
        while done == 0 or time.perf_counter() - began < milliseconds / 1e3:
            done += len(run(noisy[at : at + step]))
            at = (at + step) % len(noisy)
        seconds = time.perf_counter() - began
        reply({"work": done, "pixels": done * noisy[0, 0].numel(), "seconds": seconds, "psnr": psnr, **memory()})


def picture_worker(name: str, args: argparse.Namespace, commands: Commands, reply: Reply) -> None:
    """Clean the large picture, or crops of it, uint8 to uint8."""
    noisy, clean = (np.load(args.folder / f"picture-{kind}.npy", mmap_mode="r") for kind in ("noisy", "clean"))
    run, crop, psnr = contender(name, args), args.crop, 0.0
    corners = [(top, left) for top in range(0, noisy.shape[0], crop) for left in range(0, noisy.shape[1], crop)]
    at = 0
    for milliseconds in commands:
        pixels, passes, began = 0, 0, time.perf_counter()
        while pixels == 0 or time.perf_counter() - began < milliseconds / 1e3:
            top, left = (0, 0) if name in LEARNED else corners[at % len(corners)]
            given = noisy if name in LEARNED else noisy[top : top + crop, left : left + crop]
            made = on_bytes(run, np.asarray(given))
            pixels, passes, at = pixels + made.shape[0] * made.shape[1], passes + 1, at + 1
            psnr = psnr or psnr_of(made[:crop, :crop], clean[:crop, :crop])
        seconds = time.perf_counter() - began
        reply({"work": passes, "pixels": pixels, "seconds": seconds, "psnr": psnr, **memory()})


def on_bytes(run: Clean, image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 through what takes and gives tensors; a Denoiser does it tile by tile by itself."""
    denoiser = getattr(run, "__self__", None)
    if isinstance(denoiser, Denoiser):
        return denoiser(image)
    x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float().div_(255)
    made = run(x)[0].mul_(255).round_().to(torch.uint8)
    return made.permute(1, 2, 0).numpy()


def psnr_of(image: np.ndarray, clean: np.ndarray) -> float:
    """Return the PSNR of an image with values from 0 to 255, in dB."""
    error = float(np.square(image.astype(np.float64) - clean).mean()) / 255**2
    return float(-10 * np.log10(max(error, 1e-12)))


def memory() -> dict[str, float]:
    """Megabytes this process has had resident at most."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return {"memory": int(status.partition("VmHWM:")[2].split()[0]) / 1024}


# The process that asks them in turn


def names(args: argparse.Namespace) -> list[str]:
    """Return the names of everything that is compared."""
    extra = ["bm3d"] if importlib.util.find_spec("bm3d") else []
    return [*args.learned, *([*CLASSICAL, *extra] if args.baselines is None else args.baselines)]


def prepare(args: argparse.Namespace) -> dict[str, str]:
    """Write what all of them read: noisy images, the picture, the ONNX file. Tune the classical methods."""
    print("making noisy images, tuning the classical methods", file=sys.stderr)
    noise = parse_noise(args.noise)
    found = load_dataset(args.data, args.data_root, download=False)
    clean = found.test.batch(np.arange(min(args.images, len(found.test))))
    x = torch.from_numpy(clean).float().div_(255)
    np.save(args.folder / "clean.npy", clean)
    np.save(args.folder / "noisy.npy", noise.apply(x, IndexedStream(np.arange(len(x)), 0)).numpy())
    export_model(args.model, args.folder / "model.onnx")
    parts = split_dataset(found, None, None, seed=0)
    texts = {}
    for name in names(args):
        if name not in LEARNED:
            texts[name] = str(tune_classical_method(parse_classical_method(name), *parts, noise).baseline)
    if args.megapixels:
        write_picture(args.folder, args.megapixels, args.noise)
    return texts


def write_picture(folder: Path, megapixels: float, noise: str) -> None:
    """Write a bundled photograph at a size in megapixels and in the ratio 4:3, with and without noise.

    Band by band, each under the noise of the image it is part of, so that making it takes little memory.
    """
    from PIL import Image

    rows = max(4, round((megapixels * 1e6 * 3 / 4) ** 0.5 / 4) * 4)
    photo = Image.fromarray(read_picture("photo:coffee").colour().pixels)
    clean = np.asarray(photo.resize((rows * 4 // 3, rows), Image.Resampling.BICUBIC))
    kind = parse_noise(noise).options()[0]
    noisy = np.lib.format.open_memmap(folder / "picture-noisy.npy", "w+", np.uint8, clean.shape)
    for number, top in enumerate(range(0, rows, 256)):
        x = torch.from_numpy(clean[top : top + 256].copy()).permute(2, 0, 1)[None].float().div_(255)
        made = kind.apply(x, BatchStream(1, number))[0].mul_(255).round_().to(torch.uint8)
        noisy[top : top + 256] = made.permute(1, 2, 0).numpy()
    noisy.flush()
    np.save(folder / "picture-clean.npy", clean)


def measure(args: argparse.Namespace, arguments: list[str], part: str) -> dict[str, Any]:
    """Measure in rounds; every other round runs in reverse order, so that a drift cancels."""
    # One plain module is enough for the large picture, which takes it long.
    compared = [name for name in names(args) if part == "images" or name != KEPT]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in compared}
    milliseconds = round(1e3 * args.seconds)
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(f"{part}:{name}", arguments, __file__)) for name in compared}
        for worker in workers.values():
            worker.ask(min(milliseconds, 500))
        for number in range(args.rounds):
            for name in list(workers)[:: 1 if number % 2 == 0 else -1]:
                rounds[name].append(workers[name].ask(milliseconds))
            print(f"{part}: round {number + 1} of {args.rounds}", file=sys.stderr)
    speeds = {name: [found["pixels"] / found["seconds"] for found in rows] for name, rows in rounds.items()}
    return {
        name: {
            "per_second": median(found["work"] / found["seconds"] for found in rows),
            "megapixels_per_second": median(speeds[name]) / 1e6,
            "memory_mb": rows[-1]["memory"],
            "psnr": rows[-1]["psnr"],
            "ratio": {
                other: median(a / b for a, b in zip(speeds[name], speeds[other], strict=True))
                for other in speeds
                if other != name
            },
        }
        for name, rows in rounds.items()
    }


_LONE = """
import json, sys, time
import daelab
def resident(what):
    return int(open("/proc/self/status").read().partition(what)[2].split()[0])
before = resident("VmRSS:")
import numpy as np, torch
torch.set_num_threads(int(sys.argv[3]))
picture = np.load(sys.argv[1])
denoiser = daelab.load_model(sys.argv[2])
began = time.perf_counter()
denoiser(picture)
seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "memory_mb": (resident("VmHWM:") - before) / 1024}))
"""
"""One picture in a fresh interpreter: what a user's process takes, the picture and the result included."""


def lone(args: argparse.Namespace, model: str, megapixels: float, folder: Path) -> dict[str, float]:
    """Measure one denoising in a process of its own."""
    if not (folder / "picture-noisy.npy").exists():
        write_picture(folder, megapixels, args.noise)
    command = [sys.executable, "-c", _LONE, str(folder / "picture-noisy.npy"), model, str(args.threads)]
    found: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


def large(args: argparse.Namespace) -> dict[str, Any]:
    """Memory for one huge picture, and seconds per megapixel for a row of sizes, in turns."""
    models = {"daelab": args.model, "daelab, ONNX": str(args.folder / "model.onnx")}
    sizes = [float(size) for size in args.growth.split(",")]
    found: dict[str, Any] = {"megapixels": args.large_megapixels}
    with tempfile.TemporaryDirectory(prefix="daelab-bench-") as name:
        folder = {size: Path(name) / str(size) for size in (*sizes, args.large_megapixels)}
        for path in folder.values():
            path.mkdir(exist_ok=True)
        for label, model in models.items():
            print(f"large: {label}", file=sys.stderr)
            memory_mb = lone(args, model, args.large_megapixels, folder[args.large_megapixels])["memory_mb"]
            times: dict[float, list[float]] = {size: [] for size in sizes}
            for number in range(args.rounds):
                for size in sizes[:: 1 if number % 2 == 0 else -1]:
                    times[size].append(lone(args, model, size, folder[size])["seconds"] / size)
            each = {f"{size:g}": median(times[size]) for size in sizes}
            spread = median(max(row) / min(row) - 1 for row in zip(*times.values(), strict=True))
            found[label] = {"memory_mb": memory_mb, "seconds_per_megapixel": each, "spread": spread}
    return found


def human(found: dict[str, Any]) -> str:
    """Format the document for people."""
    lines = [
        f"{found['model']}, {found['threads']} threads, noise {found['noise']}, {found['data']}; "
        f"medians of {found['turns']} rounds; PSNR on the same {found['same_images']} images",
        "",
    ]
    for part in ("images", "picture"):
        if part not in found:
            continue
        if part == "picture":
            lines += ["", f"a picture of {found['megapixels']:g} megapixels; crops of it for the classical methods", ""]
        head = ["images/s"] if part == "images" else []
        rows = [["", *head, "megapixels/s", "peak MB", "PSNR, dB", "to plain", "to kept", "to nlm"]]
        for name, row in found[part].items():
            ratios = (f"{row['ratio'][other]:,.2f}" if other in row["ratio"] else "" for other in (PLAIN, KEPT, "nlm"))
            speed = [f"{row['per_second']:,.1f}"] if head else []
            speed.append(f"{row['megapixels_per_second']:,.3f}")
            rows.append([name, *speed, f"{row['memory_mb']:,.0f}", f"{row['psnr']:.2f}", *ratios])
        lines.append(table(rows))
    lines += ["", *(f"{name}: {text}" for name, text in found["baselines"].items()), "", *goals(found)]
    if "large" in found:
        lines += ["", *_large_lines(found["large"])]
    return "\n".join(lines)


def goals(found: dict[str, Any]) -> list[str]:
    """Return the goals for the test images beside what was measured."""
    rows = found["images"]
    best = max(rows.keys() & OURS, key=lambda name: rows[name]["megapixels_per_second"])
    lines = []
    for other, wanted in GOALS.items():
        if other in rows:
            ratio = rows[best]["ratio"][other]
            better = rows[best]["psnr"] - rows[other]["psnr"]
            said = "reached" if ratio >= wanted else "not reached"
            lines.append(f"{best} to {other}: {ratio:,.2f} times (wanted {wanted:g}: {said}), PSNR {better:+.2f} dB")
    return lines


def _large_lines(found: dict[str, Any]) -> list[str]:
    lines = []
    for name in OURS:
        row = found[name]
        times = ", ".join(f"{size} MP {seconds:.3f}" for size, seconds in row["seconds_per_megapixel"].items())
        lines += [
            f"{name}: {found['megapixels']:g} megapixels in {row['memory_mb']:,.0f} MB above the interpreter's "
            f"(wanted below {LARGE_MEMORY:,.0f})",
            f"  seconds per megapixel: {times}; the slowest {row['spread']:.0%} above the fastest (wanted within 20%)",
        ]
    return lines


def main() -> None:
    """Run the benchmark, or one of its workers."""
    args = options().parse_args()
    torch.set_num_threads(args.threads)
    if args.worker:
        part, _, name = args.worker.partition(":")
        run = {"images": images_worker, "picture": picture_worker}[part]
        train_speed.WORKERS[args.worker] = lambda *rest: run(name, *rest)
        serve(args)
        return
    args.data = pick_data(args)
    with tempfile.TemporaryDirectory(prefix="daelab-bench-") as folder:
        args.folder = Path(folder)
        texts = prepare(args)
        arguments = [*sys.argv[1:], "--data", args.data, "--texts", json.dumps(texts), "--folder", folder]
        found: dict[str, Any] = {
            key: getattr(args, key) for key in ("model", "threads", "noise", "data", "same_images", "megapixels")
        }
        found |= {"turns": args.rounds, "baselines": texts, "images": measure(args, arguments, "images")}
        if args.megapixels:
            found["picture"] = measure(args, arguments, "picture")
        if args.large:
            found["large"] = large(args)
    best = max(found["images"][name]["ratio"][PLAIN] for name in found["images"].keys() & OURS)
    show(found | {"ratio": best}, human(found), args.json)


if __name__ == "__main__":
    main()
