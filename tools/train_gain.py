"""Train the gain estimator, which decides whether `daelab denoise` denoises a picture.

    python tools/train_gain.py --data-root DIR               # from cbsd432: examples, then the networks
    python tools/train_gain.py --data-root DIR --examples 500 --save gain.safetensors

Each example is a picture with or without noise, or a graphic; what `photo-s` gains on it is known. Examples are kept in
--cache, so an interrupted run goes on. One tenth of them is held out, and the last lines say how well the networks do
on these. No picture of a test set takes part.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from daelab._util.hardware import collect_versions
from daelab.datasets.base import Images
from daelab.datasets.registry import load_dataset
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.noise_identification.gain import (
    ENSEMBLE,
    FEATURES,
    REMOVER,
    GainNetwork,
    compute_gain_features,
    save_gain_network,
)
from daelab.noise.grammar import parse_noise
from daelab.noise.random_streams import BatchStream

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from graphics import GRAPHICS, make_graphics

Bytes = npt.NDArray[np.uint8]
SIDE = 192
"""The side of an example in pixels."""
EXAMPLES, PART = 5000, 50
"""The number of examples, and of those that are kept in one file."""
LIMITS = (-2.0, 4.0)
"""Gains in dB beyond these are learned as these: only those near zero decide."""
NOISES = (
    *("none",) * 5,
    *("camera-pipeline",) * 8,
    *("real",) * 4,
    "awgn(0.5..15)",
    "camera(0.00002..0.002, 0..0.005)",
    *("grain(0.003..0.05, 0.4..1.6)", "grain(0.03..0.12, 0.4..1.6)"),
    *("correlated(0.7..12, 0.4..1.6)", "correlated(4..30, 0.4..1.6)"),
    "salt-and-pepper(0.001..0.3)",
    "poisson(20..2000)",
)
"""The noises, of which each example draws one."""
GRAPHICS_SHARE, EPOCHS, BATCH, RATE = 0.05, 50, 256, 4e-3


def draw_clean(images: Images, remover: Denoiser, rng: np.random.Generator) -> Tensor:
    """Return a clean picture (1, 3, SIDE, SIDE): sharp or soft, light or dark, since photographs differ in these."""
    pixels = images.batch(np.array([rng.integers(len(images))]), rng)[0].transpose(1, 2, 0)
    # Reduced pictures hide the compression of their files; enlarged ones are soft, as those of cameras are.
    side = int(rng.choice([SIDE, rng.integers(SIDE, len(pixels) + 1), rng.integers(SIDE // 3, SIDE)]))
    top, left = rng.integers(0, len(pixels) - side + 1, 2)
    crop = pixels[top : top + side, left : left + side]
    if side < SIDE:
        # Grain that is enlarged with a picture would look like a camera's noise, but count as clean.
        crop = to_bytes(remover.batch(to_tensor(crop)))
    method = Image.Resampling.BICUBIC if rng.random() < 0.5 else Image.Resampling.LANCZOS
    y = to_tensor(np.asarray(Image.fromarray(crop).resize((SIDE, SIDE), method)))
    if rng.random() < 0.3:
        y = y ** rng.uniform(0.6, 2.2)
    if rng.random() < 0.25:
        y = sharpen(y, rng)
    if rng.random() < 0.08:
        y = y.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return to_tensor(to_bytes(y))


def draw_example(images: Images, remover: Denoiser, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return a picture and its truth, (1, 3, H, W) each."""
    if rng.random() < GRAPHICS_SHARE:
        y = to_tensor(make_graphics(str(rng.choice(list(GRAPHICS))), int(rng.integers(2**31)), SIDE))
        x = compress(y, int(rng.integers(60, 99))) if rng.random() < 0.3 else y
        return x, x
    y, text = draw_clean(images, remover, rng), str(rng.choice(NOISES))
    if text == "none":
        # Compression is no noise: whoever saved a picture like this wants it so.
        for _ in range(int(rng.integers(3))):
            y = compress(y, int(rng.integers(60, 100)))
        return y, y
    x = parse_noise(text).apply(y, BatchStream(1, int(rng.integers(2**62)))).clamp(0, 1)
    if rng.random() < 0.35:
        x = denoise_in_camera(x, rng)
    if rng.random() < 0.4:
        radius = rng.uniform(0.3, 1.1)
        x, y = smooth(x, radius), smooth(y, radius)
    if rng.random() < 0.15:
        factor = float(rng.uniform(0.5, 1.6))
        x, y = (F.interpolate(z, scale_factor=factor, mode="bicubic", antialias=True) for z in (x, y))
    if rng.random() < 0.2:
        state = rng.bit_generator.state
        x = sharpen(x, rng)
        rng.bit_generator.state = state
        y = sharpen(y, rng)
    if rng.random() < 0.55:
        quality = int(100 - 65 * rng.random() ** 1.5)
        x = compress(x, quality)
        y = compress(y, quality) if rng.random() < 0.5 else y
        if rng.random() < 0.25:
            # Cropped and saved again, so that the blocks of both files lie in different places.
            x, y = (z[..., 4:, 4:] for z in (x, y))
            x = compress(x, int(rng.integers(75, 99)))
    side = min(SIDE, x.shape[-1] // 8 * 8)
    x, y = (to_tensor(to_bytes(z))[..., :side, :side] for z in (x, y))
    return x, y


def denoise_in_camera(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Smooth the colours, and faint details of the brightness, as cameras do before they write a file."""
    luma = x.mean(1, keepdim=True)
    colour = torch.lerp(x - luma, smooth(x - luma, rng.uniform(0.5, 4)), rng.uniform(0.2, 1))
    low = smooth(luma.expand(-1, 3, -1, -1), rng.uniform(0.4, 1.5))[:, :1]
    faint = torch.exp(-(((luma - low) / np.exp(rng.uniform(np.log(0.005), np.log(0.06)))) ** 2) / 2)
    return (low + (luma - low) * (1 - rng.uniform(0, 0.9) * faint) + colour).clamp(0, 1)


def smooth(x: Tensor, radius: float) -> Tensor:
    """Smooth by a Gaussian."""
    reach = int(np.ceil(3 * radius))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / radius) ** 2)
    taps = taps / taps.sum()
    x = F.pad(x, (reach,) * 4, mode="reflect")
    x = F.conv2d(x, taps.view(1, 1, 1, -1).expand(3, 1, 1, -1), groups=3)
    return F.conv2d(x, taps.view(1, 1, -1, 1).expand(3, 1, -1, 1), groups=3)


def sharpen(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Sharpen by an unsharp mask."""
    radius, amount = rng.uniform(0.5, 1.5), rng.uniform(0.2, 1.2)
    return (x + amount * (x - smooth(x, radius))).clamp(0, 1)


def compress(x: Tensor, quality: int) -> Tensor:
    """Save as JPEG and read again; the quality also decides whether the colours are halved."""
    data = io.BytesIO()
    Image.fromarray(to_bytes(x)).save(data, "JPEG", quality=quality, subsampling=2 if quality % 3 else 0)
    return to_tensor(np.asarray(Image.open(data)))


def to_tensor(pixels: Bytes) -> Tensor:
    """(H, W, 3) to (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float().div(255)


def to_bytes(x: Tensor) -> Bytes:
    """(1, 3, H, W) to (H, W, 3)."""
    return x[0].clamp(0, 1).mul(255).round().permute(1, 2, 0).byte().numpy()


def measure_example(x: Tensor, y: Tensor, remover: Denoiser, rng: np.random.Generator) -> Tensor:
    """Return the statistics of the picture and of a smaller part of it, and the gain and the noise."""
    removed = remover.batch(x)
    errors = [float((to_tensor(to_bytes(z)) - y).mul(255).square().mean()) for z in (x, removed)]
    # A file is known to a rounding, whose error is 1/12 of a step squared.
    before, after = (error + 1 / 12 for error in errors)
    target = torch.tensor([10 * np.log10(before / after), 0.5 * np.log(errors[0] + 0.01)])
    # Files that were cropped have another grid of blocks.
    top, left = rng.integers(0, 8, 2) if rng.random() < 0.2 else (0, 0)
    whole = x.shape[-1] // 8 * 8
    sides = (whole - 8, min(int(rng.choice([32, 64, 96])), whole - 8 if top or left else whole))
    windows = [np.s_[..., top : top + side, left : left + side] for side in sides]
    return torch.stack([torch.cat([compute_gain_features(x[at], removed[at]), target.float()]) for at in windows])


def make_examples(images: Images, count: int, folder: Path, seed: int) -> Tensor:
    """Return (count, 2, FEATURES + 2); parts that exist are read."""
    folder.mkdir(parents=True, exist_ok=True)
    remover, parts = Denoiser.load(REMOVER, "cpu"), []
    for start in range(0, count, PART):
        path = folder / f"{seed}-{start:06d}.npy"
        if not path.is_file():
            rows = []
            for number in range(start, start + PART):
                rng = np.random.default_rng([seed, number])
                rows.append(measure_example(*draw_example(images, remover, rng), remover, rng))
            np.save(path, torch.stack(rows).numpy())
            print(f"{start + PART:,} of {count:,} examples", file=sys.stderr, flush=True)
        parts.append(torch.from_numpy(np.load(path)))
    return torch.cat(parts)


def fit(examples: Tensor, seed: int) -> GainNetwork:
    """Train the networks, each in its own order."""
    torch.manual_seed(seed)
    rows = examples.flatten(0, 1)
    network = GainNetwork()
    network.mean.copy_(rows[:, :FEATURES].mean(0))
    network.scale.copy_(rows[:, :FEATURES].std(0).clamp_min(1e-3))
    for weight in network.weights:
        torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    steps = EPOCHS * (len(rows) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps + 1)
    for _ in range(steps):
        batch = rows[torch.randint(len(rows), (BATCH,))]
        out = network.train()(batch[:, :FEATURES])
        gain, level = batch[:, FEATURES].clamp(*LIMITS), batch[:, FEATURES + 1]
        loss = F.smooth_l1_loss(out[..., 0], gain.expand(ENSEMBLE, -1))
        loss = loss + 0.3 * F.smooth_l1_loss(out[..., 1], level.expand(ENSEMBLE, -1), beta=0.3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval().requires_grad_(False)


def score(network: GainNetwork, examples: Tensor) -> dict[str, float]:
    """Return the errors on held-out examples, and what each threshold would mean."""
    out, gain = network(examples[:, 0, :FEATURES]).mean(0), examples[:, 0, FEATURES]
    found = {"mean_absolute_error": float((out[:, 0] - gain.clamp(*LIMITS)).abs().mean())}
    for threshold in (0.3, 0.5, 0.7, 1.0):
        acts = out[:, 0] >= threshold
        found[f"harmed at {threshold}"] = int((acts & (gain < -0.1)).sum())
        found[f"gain taken at {threshold}"] = float(gain[acts & (gain > 0)].sum() / gain[gain > 0].sum())
    return found


def main() -> None:
    """Make the examples, train, score, and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-root", type=Path, help="where cbsd432 and cbsd68 are")
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("gain-examples"))
    parser.add_argument("--save", type=Path, default=Path("gain.safetensors"))
    args = parser.parse_args()
    images = load_dataset("cbsd432", args.data_root, crop=320).train
    examples = make_examples(images, args.examples, args.cache, args.seed)
    held = torch.arange(len(examples)) % 10 == 0
    network = fit(examples[~held], args.seed)
    scores = score(network, examples[held])
    card = {"data": "cbsd432", "examples": len(examples), "seed": args.seed, "remover": REMOVER, "scores": scores}
    save_gain_network(network, args.save, card | {"versions": collect_versions()})
    for name, value in scores.items():
        print(f"{name}: {value:.3g}")


if __name__ == "__main__":
    main()
