"""docs/models.md: a card for every model that ships, from its header, the leaderboard and the bundled photographs.

    python tools/cards.py                     write the document and docs/images/cards/
    python tools/cards.py --only model-c.table-1 --out DIR

No figure is typed by hand. Failures are measured on photographs that anybody may show: those of scikit-image that are
in the public domain or CC0.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from daelab._util.files import replace_file, write_text
from daelab.denoising.denoiser import Denoiser
from daelab.denoising.noise_identification.network import find_shipped_identifier
from daelab.denoising.noisy_images import make_noisy
from daelab.evaluation.classifiers.classifier_file import read_classifier_metadata
from daelab.evaluation.classifiers.registry import list_shipped_classifiers
from daelab.evaluation.metrics import convert_mse_to_psnr
from daelab.experiments.reports.noise_identification import make_identification_tables
from daelab.experiments.reports.table import Table, format_cell
from daelab.image_io.read import read_picture
from daelab.models.model_file import ModelMetadata, read_model_metadata
from daelab.models.registry import list_shipped_models, shorten_model_name
from daelab.noise.grammar import parse_noise

ROOT = Path(__file__).parents[1]
BOARDS = ROOT / "docs" / "leaderboard"
REAL_PAIRS = ROOT / "docs" / "results" / "real-photographs.json"
"""The mean PSNR of each model on pairs of real photographs, measured by `daelab evaluate MODEL --data paired:DIR`."""
PHOTOS = ("astronaut", "cat", "coffee", "galaxies", "retina", "rocket")
"""The photographs. Those of NASA and of the eye are in the public domain; the others are CC0."""
SIDE = 192
"""The side of the square in the middle of a photograph that is denoised, in pixels."""
WORST = 3
ELSEWHERE = ("awgn(25) > quantised", "salt-and-pepper(0.05)", "poisson(30)", "gaussian(0.5, 0.05)")
"""The noises that a card tests the model with, beside its own."""


def main() -> None:
    """Write the document."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--only", nargs="*", help="the cards of these models alone")
    options.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of models.md")
    args = options.parse_args()
    parts = [HEAD]
    for name, path in list_shipped_models().items():
        if not args.only or name in args.only:
            print(name)
            parts += model_card(name, path, args.out)
    parts += ["## Classifiers and noise identification", "", *other_cards()]
    write_text(args.out / "models.md", "\n".join(parts).rstrip() + "\n")


HEAD = """# Model cards

`python tools/cards.py` writes this page from the headers of the weights, the leaderboards and the bundled photographs.

All weights were trained by this project and are licensed under Apache-2.0, as daelab is. The files contain none of the
pictures that the models were trained on. The pictures of CIFAR-10 were collected from the web (Krizhevsky, 2009), so
decide for yourself whether a network that was trained on them suits your use. Do not use these models to decide about
people, for medical pictures, or as evidence, because a network replaces noise by a guess.

Use a model for the noise on its card. **Not for** lists the noises that it makes worse: a network that was trained for
strong noise that brightens pictures also changes the brightness of a picture without it, and removes detail.
`daelab inspect` identifies the noise in a picture. No model removes blur, scratches or text.
"""


def sha(path: Path) -> str:
    """Return the start of the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def ranked(name: str, data: str) -> list[dict[str, str]]:
    """Return a model's records in the leaderboard of a data set; empty if there is no leaderboard."""
    path = BOARDS / data / "leaderboard.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [record for record in csv.DictReader(file) if record["model"] == shorten_model_name(name)]


def model_card(name: str, path: Path, out: Path) -> list[str]:
    """Return the card of a model as lines: what it is, how it scores, and where it fails."""
    card = read_model_metadata(path)
    noisy = parse_noise(card.noise)
    measured = photographs(Denoiser.load(path, precision="float32"), [str(noisy), *ELSEWHERE])
    worst = sorted(measured[str(noisy)], key=lambda one: one["denoised"])[:WORST]
    picture = out / "images" / "cards" / f"{name}.webp"
    mosaic([one["pixels"] for one in worst], picture)
    said = ", ".join(f"{one['photo']} ({one['noisy']:.1f} to {one['denoised']:.1f} dB)" for one in worst)
    return [
        f"## {name}",
        "",
        *facts(card, path),
        "",
        *by_noise(name, card),
        *on_real_pairs(name),
        *elsewhere(measured, str(noisy)),
        f"![{name}: clean, noisy, denoised](images/cards/{picture.name})",
        "",
        f"*The {WORST} photographs with the lowest PSNR after denoising, under the model's own noise, each clean, "
        f"noisy and denoised. From the top: {said}. Look at fine lines, texture, and areas that the noise has "
        "clipped.*",
        "",
    ]


def facts(card: ModelMetadata, path: Path) -> list[str]:
    """Return what the file's header says, as the lines of a list."""
    recipe, training = card.recipe, card.training
    split = {key: value for key, value in card.data.items() if key not in ("name", "terms") and value is not None}
    how = recipe.get("training", {})
    hours = training.get("epochs", 0) * training.get("seconds_per_epoch", math.nan) / 3600
    lines = {
        "for": f"pictures with the noise `{card.noise}`",
        "network": f"{card.spec.parameters:,} parameters, {card.spec.macs() / 1e6:.1f} M MACs for 32 x 32 pixels, "
        f"{path.stat().st_size / 1000:,.0f} KB; pictures of any size, padded to multiples of {card.spec.multiple}",
        "data": f"{card.data.get('name', '')}: {format_cell(split)}"
        + (f"; {card.data['terms']}" if "terms" in card.data else ""),
        "training": f"{how.get('optimiser', '')}, loss {recipe.get('loss', '')}, epochs: {training.get('epochs')}"
        + (f", {hours:.1f} hours" if math.isfinite(hours) else "")
        + f" on {training.get('device')}, {training.get('precision')}",
        "command": f"`{training['command']}`; recipe sha256 `{card.recipe_sha256[:16]}`; "
        f"daelab {card.versions.get('daelab')}, torch {card.versions.get('torch')}",
        "file": f"sha256 `{sha(path)}`",
    }
    return [f"- **{key}**: {value}" for key, value in lines.items()]


def by_noise(name: str, card: ModelMetadata) -> list[str]:
    """Return the table of test scores: by component from the header, and under other noises from the leaderboard."""
    test = card.metrics.get("test")
    if not test:
        return []
    rows: list[list[Any]] = [
        [part["noise"], part["images"], *(part["psnr"][key] for key in ("noisy", "denoised")), part["ssim"]["denoised"]]
        for part in [*(test["components"] if len(test["components"]) > 1 else []), test]
    ]
    rows += [
        [record["noise"], int(record["images"]), None, float(record["psnr"]), float(record["ssim"])]
        for record in ranked(name, test["data"])
        if record["noise"] != test["noise"]
    ]
    cells = [
        [noise, images, *(None if value is None else f"{value:.2f}" for value in (before, after)), f"{ssim:.4f}"]
        for noise, images, before, after, ssim in rows
    ]
    columns = ["noise", "images", "PSNR noisy, dB", "PSNR denoised, dB", "SSIM denoised"]
    note = f"Means over test images of {test['data']}, with noise of seed {test['seed']}."
    return [Table(f"On {test['data']}", columns, cells, note).to_markdown()]


def on_real_pairs(name: str) -> list[str]:
    """Return the scores on pairs of real photographs, which the repository keeps without the pictures."""
    real = json.loads(REAL_PAIRS.read_text(encoding="utf-8"))
    scores = real["models"].get(shorten_model_name(name))
    if scores is None:
        return []
    values = [f"{scores[key]:.2f} dB" for key in ("noisy", "denoised")]
    return [f"- **on real photographs**: PSNR {values[0]} before and {values[1]} after, on {real['data']}", ""]


def elsewhere(measured: dict[str, list[dict[str, Any]]], own: str) -> list[str]:
    """Return the table of photographs denoised under the model's own noise and others."""
    rows, harmed = [], []
    for noise, found in measured.items():
        before, after = (float(np.mean([one[key] for one in found])) for key in ("noisy", "denoised"))
        rows.append([noise + (" (its own)" if noise == own else ""), f"{before:.2f}", f"{after:.2f}"])
        harmed += [f"`{noise}`"] if after < before else []
    made_worse = (
        f"pictures with the noise {', '.join(harmed)}, which it makes worse."
        if harmed
        else "none of these noises, since it makes none of them worse."
    )
    note = f"Means over the middle {SIDE} x {SIDE} pixels of {len(PHOTOS)} photographs, with noise of seed 0."
    table = Table("On photographs", ["noise", "PSNR noisy, dB", "PSNR denoised, dB"], rows, note)
    return [table.to_markdown(), f"**Not for**: {made_worse}", ""]


def photographs(denoiser: Denoiser, noises: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Return, for each noise, the name, the PSNR before and after, and the three pictures of each photograph."""
    return {text: list(_photographs(denoiser, text)) for text in noises}


def _photographs(denoiser: Denoiser, text: str) -> Iterator[dict[str, Any]]:
    for index, name in enumerate(PHOTOS):
        whole = read_picture(f"photo:{name}").colour().pixels
        top, left = ((side - SIDE) // 2 for side in whole.shape[:2])
        clean = np.ascontiguousarray(whole[top : top + SIDE, left : left + SIDE])
        noisy = make_noisy(clean, parse_noise(text), 0, index)
        denoised = denoiser(noisy)
        scores = [_psnr(picture, clean) for picture in (noisy, denoised)]
        pixels = (clean, noisy, denoised)
        yield {"photo": name, "noisy": scores[0], "denoised": scores[1], "pixels": pixels}


def _psnr(picture: np.ndarray[Any, Any], clean: np.ndarray[Any, Any]) -> float:
    import torch

    error = np.square((picture.astype(float) - clean.astype(float)) / 255).mean()
    return float(convert_mse_to_psnr(torch.tensor(error)))


def mosaic(rows: list[tuple[np.ndarray[Any, Any], ...]], path: Path) -> None:
    """Write rows of pictures side by side, as WebP."""
    gap = 6
    height, width = len(rows) * (SIDE + gap) - gap, len(rows[0]) * (SIDE + gap) - gap
    sheet = np.full((height, width, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            top, left = r * (SIDE + gap), c * (SIDE + gap)
            sheet[top : top + SIDE, left : left + SIDE] = picture
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as part:
        Image.fromarray(sheet).save(part, "WEBP", quality=80, method=6)


def other_cards() -> Iterator[str]:
    """Yield the lines on the classifiers and on the noise identification."""
    for name, path in list_shipped_classifiers().items():
        card = read_classifier_metadata(path)
        test = card.metrics["test"]
        yield from (
            f"### judge:{name}",
            "",
            f"- **for**: scoring denoisers on {card.data['name']}; classes: {', '.join(card.classes)}",
            "- **not for**: recognizing what your own pictures show",
            f"- **data**: {format_cell(card.data)}",
            f"- **accuracy**: {test['accuracy'][card.tta]:.2%} of {test['images']:,} clean test images",
            f"- **file**: {path.stat().st_size / 1000:,.0f} KB, sha256 `{sha(path)}`",
            "",
        )
    path = find_shipped_identifier()
    yield from (
        "### inspector",
        "",
        "- **for**: identifying the family and the strength of the noise in a picture (`daelab inspect`)",
        "- **not for**: pictures without smooth areas, and noise of another family than those in the table below",
        f"- **file**: {path.stat().st_size / 1000:,.0f} KB, sha256 `{sha(path)}`",
        "",
    )
    for table in make_identification_tables():
        yield table.to_markdown()


if __name__ == "__main__":
    main()
