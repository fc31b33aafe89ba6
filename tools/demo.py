"""The parts of `make demo` that are not commands of daelab: its training crops, its pictures side by side, its page.

python tools/demo.py crops FILE.npz                          crops of seven photographs, and of the three shown ones
python tools/demo.py panel OUT.png NAME NOISY DENOISED       a photograph and two versions side by side
python tools/demo.py page FOLDER                             the page of the demo, FOLDER/index.html
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from daelab._util.files import write_file
from daelab.datasets.registry import load_dataset
from daelab.experiments.reports.page import ReportSection, write_page
from daelab.experiments.reports.run import write_run_report
from daelab.image_io.bundled_photos import PHOTOS, find_photo
from daelab.runs.folder import RunFolder
from daelab.training.recipe import load_recipe

SHOWN = ("cat", "astronaut", "coffee")
"""The photographs that the demo denoises. The network is trained on crops of the others."""
LABEL = 28
"""The height of the line of text above a picture, in pixels."""


def write_crops(path: Path) -> None:
    """Write the crops of the bundled photographs: training and validation without the shown ones, test with them."""
    photos, arrays = load_dataset("photos"), {}
    shown = [photos.classes.index(name) for name in SHOWN]
    for part, images in (("train", photos.train), ("val", photos.val), ("test", photos.test)):
        kept = np.flatnonzero(np.isin(images.labels, shown) == (part == "test"))
        arrays[f"{part}_images"] = images.batch(kept)
        arrays[f"{part}_labels"] = np.array(photos.classes)[images.labels[kept]]
    write_file(path, lambda part: np.savez_compressed(part, **arrays))


def write_panel(path: Path, name: str, noisy: Path, denoised: Path) -> None:
    """Write a bundled photograph and two versions of it side by side, each under its name and its PSNR."""
    versions = {"original": find_photo(name), "with noise": noisy, "denoised": denoised}
    pictures = {title: Image.open(file).convert("RGB") for title, file in versions.items()}
    width, height = pictures["original"].size
    panel = Image.new("RGB", (3 * width, height + LABEL), "white")
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(16)
    truth = np.asarray(pictures["original"]) / 255
    for place, (title, picture) in enumerate(pictures.items()):
        error = float(np.mean((np.asarray(picture) / 255 - truth) ** 2))
        score = f", PSNR {-10 * np.log10(error):.1f} dB" if error else ""
        panel.paste(picture, (place * width, LABEL))
        draw.text((place * width + 6, 4), title + score, "black", font)
    write_file(path, panel.save)


def write_demo_page(folder: Path) -> None:
    """Write the page of the demo, with a panel of each shown photograph."""
    run = RunFolder(folder / "runs" / "demo")
    write_run_report(run)
    recipe, rows = load_recipe(run.recipe, trusted=True), run.read_metrics()
    others = ", ".join(photo.name for photo in PHOTOS if photo.name not in SHOWN)
    panels = {}
    for name in SHOWN:
        panel = folder / f"{name}.png"
        write_panel(panel, name, folder / "noisy" / panel.name, folder / "clean" / panel.name)
        panels[f"The photograph {name}, denoised by the trained network. None of its crops was used in training."] = (
            panel
        )
    sections = [
        ReportSection(
            "A photograph, denoised by default",
            "daelab denoise identifies the noise of a picture and chooses the model. Nothing but the noisy picture was "
            "given to it.",
            {"Original, with noise, and denoised by daelab denoise without options.": folder / "before-and-after.png"},
        ),
        ReportSection(
            "The paper's network, trained just now",
            f"Model-C has {recipe.spec.parameters:,} parameters. It was trained for {len(rows)} epochs under the noise "
            f"{recipe.noise}, on crops of 32x32 pixels of seven photographs: {others}. The pictures below show three "
            "other photographs.",
            panels,
        ),
        ReportSection(
            "Its training",
            "runs/demo/report.html has all figures and facts of the run.",
            {
                "Loss and PSNR by epoch, on validation crops of the seven photographs.": run.path / "curves.svg",
                "Validation crops: clean, noisy, and denoised by the trained network.": run.path / "samples.svg",
            },
        ),
    ]
    write_page("The demo of daelab", {}, sections, folder / "index.html")


def main(command: str, path: str, *arguments: str) -> None:
    """Run one of the three commands."""
    if command == "panel":
        name, noisy, denoised = arguments
        write_panel(Path(path), name, Path(noisy), Path(denoised))
    else:
        {"crops": write_crops, "page": write_demo_page}[command](Path(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
