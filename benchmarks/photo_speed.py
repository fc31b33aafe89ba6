"""CPU seconds per megapixel for photographs, with one thread, and a large JPEG from file to file with all cores.

The methods take turns in one process. Their PSNR is in the leaderboard of CBSD68 (docs/results.md).

    python benchmarks/photo_speed.py [--megapixels 12]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from common import count_cores, show, table
from daelab._util.hardware import keep_freed_memory
from daelab.denoising.denoiser import Denoiser
from daelab.image_io.bundled_photos import find_photo

METHODS = {
    "photo-s": "photo-s",
    "photo-m": "photo-m",
    "photo-s, float32": "photo-s",
    "photo-m, float32": "photo-m",
    "nlm": "baseline:nlm,h=0.08,patch_size=5,patch_distance=5,raw",
    "wavelet": "baseline:wavelet,sigma=0.08,wavelet=db2,ycbcr=1,raw",
}
"""The methods, with the settings of the leaderboard of photographs. Models compute in int8 where the CPU can."""
SIZE = (480, 320)


def options() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    found.add_argument("--rounds", type=int, default=5)
    found.add_argument("--megapixels", type=float, default=12.0, help="of the JPEG; 0: none")
    found.add_argument("--files", type=int, default=2, help="how often the JPEG is denoised")
    found.add_argument("--data", help=argparse.SUPPRESS)
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


def add_noise(pixels: np.ndarray, seed: int) -> np.ndarray:
    """Add Gaussian noise with a standard deviation of 25 to pixels from 0 to 255."""
    noise = np.random.default_rng(seed).standard_normal(pixels.shape, np.float32)
    return (pixels + 25 * noise).clip(0, 255).astype(np.uint8)


def measure_methods(rounds: int) -> dict[str, dict[str, Any]]:
    """Return the CPU seconds per megapixel of each method, and their ratio to non-local means."""
    torch.set_num_threads(1)
    keep_freed_memory()
    picture = add_noise(np.asarray(Image.open(find_photo("coffee")).crop((0, 0, *SIZE))), 0)
    run = {
        name: Denoiser.load(text, precision="float32" if name.endswith("float32") else "auto")
        for name, text in METHODS.items()
    }
    for denoiser in run.values():
        denoiser(picture)
    seconds: dict[str, list[float]] = {name: [] for name in run}
    for number in range(rounds):
        for name in list(run)[:: 1 if number % 2 == 0 else -1]:
            began = time.process_time()
            run[name](picture)
            seconds[name].append((time.process_time() - began) / (SIZE[0] * SIZE[1] / 1e6))
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    nlm = seconds["nlm"]
    return {
        name: {
            "cpu_seconds_per_megapixel": median(each),
            "precision": run[name].method.precision,
            "to_nlm": median(one / other for one, other in zip(each, nlm, strict=True)),
        }
        for name, each in seconds.items()
    }


def measure_file(megapixels: float, files: int) -> dict[str, Any]:
    """Return the seconds that the command takes for a JPEG of a noisy photograph, with its defaults."""
    rows = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    with tempfile.TemporaryDirectory(prefix="daelab-bench-") as folder:
        path = Path(folder) / "picture.jpg"
        large = Image.open(find_photo("coffee")).resize((rows * 4 // 3, rows), Image.Resampling.BICUBIC)
        Image.fromarray(add_noise(np.asarray(large), 1)).save(path, quality=95)
        seconds, said = [], ""
        for _ in range(files):
            began = time.perf_counter()
            command = [sys.executable, "-m", "daelab", "denoise", str(path), "--overwrite"]
            said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            seconds.append(time.perf_counter() - began)
            print(f"{path.name}: {seconds[-1]:.1f} s", file=sys.stderr)
    return {
        "megapixels": megapixels,
        "cores": count_cores(),
        "seconds": median(seconds),
        "said": said.strip().partition(": ")[2],
    }


def human(found: dict[str, Any]) -> str:
    """Format the document for people."""
    rows = [["method", "precision", "CPU seconds per megapixel", "to non-local means"]]
    rows += [
        [name, row["precision"], f"{row['cpu_seconds_per_megapixel']:.2f}", f"{row['to_nlm']:.2f}"]
        for name, row in found["methods"].items()
    ]
    lines = [table(rows)]
    if "file" in found:
        file = found["file"]
        work = f"a JPEG of {file['megapixels']:g} megapixels, {file['cores']} cores"
        lines.append(f"{work}: {file['seconds']:.1f} s ({file['said']})")
    return "\n\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    args = options().parse_args()
    found: dict[str, Any] = {"methods": measure_methods(args.rounds)}
    if args.megapixels:
        found["file"] = measure_file(args.megapixels, args.files)
    show(found, human(found), args.json)


if __name__ == "__main__":
    main()
