"""docs/models.md: a card for every model that ships, from its header, the leaderboard and the bundled photographs.

    python tools/cards.py                     write the document and docs/images/cards/
    python tools/cards.py --only model-c.table-1 --out DIR

Nothing is typed but what a model of a kind is for. Failures are measured on photographs that anybody may show: those
of scikit-image that are in the public domain or CC0.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
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
PHOTOS = ("astronaut", "cat", "coffee", "galaxies", "retina", "rocket")
"""NASA's and the eye are in the public domain, the others CC0."""
SIDE = 192
"""Of the middle that is taken of a photograph, pixels."""
WORST = 3
ELSEWHERE = ("awgn(25) > quantised", "salt-and-pepper(0.05)", "poisson(30)", "gaussian(0.5, 0.05)")
"""Noises that a card says what becomes of, beside the model's own."""


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
    parts += ["## Judges and the inspector", "", *other_cards()]
    write_text(args.out / "models.md", "\n".join(parts).rstrip() + "\n")


HEAD = """# Model cards

Written by `python tools/cards.py` from the headers of the weights, the leaderboard and the bundled photographs; not
by hand.

All weights are ours, under Apache-2.0 as daelab is. No picture that they were trained on is in any of the files.
CIFAR-10's were gathered from the web (Krizhevsky, 2009): whether a network that has seen them suits your use is for you
to judge. None of these models should decide about people, faces or medical pictures, and none is for evidence: what a
network puts in the place of noise is its guess.

A model is for the noise on its card. Under **Not for** stands what it makes worse: a network made for bright, strong
noise changes the brightness of a picture that has none, and takes detail away. `daelab inspect` says which noise a
picture has. None removes blur, scratches or text.
"""


def sha(path: Path) -> str:
    """Of a file's bytes, short: a card is of one file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def ranked(name: str, data: str) -> list[dict[str, str]]:
    """Return a model's records in the leaderboard of a data set; empty if there is no leaderboard."""
    path = BOARDS / data / "leaderboard.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [record for record in csv.DictReader(file) if record["model"] == shorten_model_name(name)]


def model_card(name: str, path: Path, out: Path) -> list[str]:
    """One model: what it is, what it reaches, and where it fails."""
    card = read_model_metadata(path)
    noisy = parse_noise(card.noise)
    measured = photographs(Denoiser.load(path), [str(noisy), *ELSEWHERE])
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
        *elsewhere(measured, str(noisy)),
        f"![{name}: clean, noisy, denoised](images/cards/{picture.name})",
        "",
        f"*The worst of the bundled photographs under its own noise: clean, noisy, denoised; from the top {said}. Look "
        "for what is gone: fine lines, texture, and what the noise had clipped.*",
        "",
    ]


def facts(card: ModelMetadata, path: Path) -> list[str]:
    """Return what the file's header says, as the lines of a list."""
    recipe, training = card.recipe, card.training
    split = {key: value for key, value in card.data.items() if key not in ("name", "terms") and value is not None}
    how = recipe.get("training", {})
    hours = training.get("epochs", 0) * training.get("seconds_per_epoch", math.nan) / 3600
    lines = {
        "for": f"pictures under `{card.noise}`",
        "network": f"{card.spec.parameters:,} parameters, {card.spec.macs() / 1e6:.1f} M MACs for 32 x 32 pixels, "
        f"{path.stat().st_size / 1000:,.0f} KB; sizes of any kind, padded to multiples of {card.spec.multiple}",
        "data": f"{card.data.get('name', '')}: {format_cell(split)}"
        + (f"; {card.data['terms']}" if "terms" in card.data else ""),
        "trained": f"{how.get('optimiser', '')}, loss {recipe.get('loss', '')}, {training.get('epochs')} epochs"
        + (f", {hours:.1f} hours" if math.isfinite(hours) else "")
        + f" on {training.get('device')}, {training.get('precision')}",
        "made by": f"`{training['command']}`; recipe sha256 `{card.recipe_sha256[:16]}`; "
        f"daelab {card.versions.get('daelab')}, torch {card.versions.get('torch')}",
        "file": f"sha256 `{sha(path)}`",
    }
    return [f"- **{key}**: {value}" for key, value in lines.items()]


def by_noise(name: str, card: ModelMetadata) -> list[str]:
    """Test scores by component from the header; under other noises from the leaderboard."""
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
    note = f"Test images of {test['data']}, noise seed {test['seed']}."
    return [Table(f"On {test['data']}", columns, cells, note).to_markdown()]


def elsewhere(measured: dict[str, list[dict[str, Any]]], own: str) -> list[str]:
    """Return the table of photographs denoised under the model's own noise and others."""
    rows, harmed = [], []
    for noise, found in measured.items():
        before, after = (float(np.mean([one[key] for one in found])) for key in ("noisy", "denoised"))
        rows.append([noise + (" (its own)" if noise == own else ""), f"{before:.2f}", f"{after:.2f}"])
        harmed += [f"`{noise}`"] if after < before else []
    made_worse = (
        f"pictures under {', '.join(harmed)}: it makes them worse." if harmed else "none of these was made worse."
    )
    note = f"The middle {SIDE} x {SIDE} pixels of {len(PHOTOS)} photographs, seed 0."
    table = Table("On photographs", ["noise", "PSNR noisy, dB", "PSNR denoised, dB"], rows, note)
    return [table.to_markdown(), f"**Not for**: {made_worse}", ""]


def photographs(denoiser: Denoiser, noises: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Noise -> for each photograph its name, PSNR before and after, and the three pictures."""
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
    """Rows of pictures side by side, as WebP."""
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
            f"- **for**: scoring denoisers of {card.data['name']}; classes: {', '.join(card.classes)}",
            "- **not for**: telling what is on pictures of yours",
            f"- **data**: {format_cell(card.data)}",
            f"- **accuracy**: {test['accuracy'][card.tta]:.2%} of {test['images']:,} clean test images",
            f"- **file**: {path.stat().st_size / 1000:,.0f} KB, sha256 `{sha(path)}`",
            "",
        )
    path = find_shipped_identifier()
    yield from (
        "### inspector",
        "",
        "- **for**: saying which family of noise is in a picture, and about how much (`daelab inspect`)",
        "- **not for**: pictures without any smooth place, and noise of no family in its table: it names the nearest",
        f"- **file**: {path.stat().st_size / 1000:,.0f} KB, sha256 `{sha(path)}`",
        "",
    )
    for table in make_identification_tables():
        yield table.to_markdown()


if __name__ == "__main__":
    main()
