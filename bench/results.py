"""The results tables of README.md and docs/results.md, measured here and written in place.

    python bench/results.py --data-root .data --paper DIR

DIR holds the paper's checkpoints (35.pt, 37.pt, 38.pt); without it their rows are left out.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from common import parser, pick_data, show
from daelab import api, modelfile
from daelab.files import write_text
from daelab.report import Table

ROOT = Path(__file__).parents[1]
NOISE = "published-code"
PAPER = {
    "35": "Model-B-35, the paper's test 35",
    "37": "Model-C, the paper's test 37",
    "38": "Model-C, the paper's test 38",
}
README_COLUMNS = ("model", "parameters", "MSE", "PSNR, dB", "batch PSNR, dB", "SSIM")


def main() -> None:
    """Evaluate every model on the full test set and write both documents."""
    options = parser(__doc__)
    options.add_argument("--paper", type=Path, help="folder of the paper's checkpoints")
    options.add_argument("--limit", type=int, help="only the first so many images; writes nothing")
    args = options.parse_args()
    models = {label: args.paper / f"{number}.pt" for number, label in PAPER.items()} if args.paper else {}
    models |= {f"{name}, ours": path for name, path in modelfile.shipped().items()}
    if not models:
        print("no model ships yet; --paper names the folder of the paper's checkpoints", file=sys.stderr)
        raise SystemExit(2)
    data, found = pick_data(args), {}
    for label, path in models.items():
        print(f"evaluating {label}", file=sys.stderr)
        found[label] = api.evaluate(path, data, NOISE, limit=args.limit, data_root=args.data_root)
    overall, parts = _overall(found), _components(found)
    if args.limit is None and data == "cifar10":
        _replace(ROOT / "README.md", "results", overall.to_markdown().partition("\n\n")[2])
        write_text(ROOT / "docs" / "results.md", _document(overall, parts))
    documents = {"models": {label: result.to_dict() for label, result in found.items()}}
    show(documents, overall.to_text(), args.json)


def _overall(found: dict[str, api.Evaluated]) -> Table:
    rows: list[list[Any]] = []
    for label, result in found.items():
        metrics = result.scores.overall.metrics
        if not rows:
            rows.append(["noisy", "", *(_cell(name, metrics[name].noisy) for name in metrics)])
        rows.append([label, f"{result.parameters:,}", *(_cell(name, metrics[name].denoised) for name in metrics)])
    first = next(iter(found.values()))
    one = first.scores
    note = (
        f"{first.data}, {one.overall.images:,} test images, noise {NOISE}, seed {one.seed}, noisy pixels sha256 "
        f"{one.noisy_sha256[:16]}. PSNR: mean over images; batch PSNR: the paper's metric."
    )
    return Table("results", README_COLUMNS, rows, note)


def _cell(metric: str, value: float) -> str:
    return f"{value:.{ {'mse': 5, 'ssim': 4}.get(metric, 2) }f}"


def _components(found: dict[str, api.Evaluated]) -> Table:
    first = next(iter(found.values())).scores.components
    columns = ("model", *(part.noise for part in first))
    rows = [["noisy", *(f"{part.metrics['psnr'].noisy:.2f}" for part in first)]]
    for label, result in found.items():
        rows.append([label, *(f"{part.metrics['psnr'].denoised:.2f}" for part in result.scores.components)])
    return Table("by component", columns, rows, "PSNR in dB, mean over the images that drew this component.")


def _document(overall: Table, parts: Table) -> str:
    cards = {name: modelfile.read_card(path) for name, path in modelfile.shipped().items()}
    lines = ["# Results", "", "Written by `python bench/results.py --data-root .data --paper DIR`; not by hand.", ""]
    lines += [overall.to_markdown(), parts.to_markdown(), "## How the shipped weights were made", ""]
    for name, card in cards.items():
        lines += _made(name, card)
    return "\n".join(lines)


def _made(name: str, card: modelfile.Card) -> list[str]:
    """What a shipped file's header says of its training."""
    data, metrics, training = card.data, card.metrics, card.training
    versions = ", ".join(f"{key} {value}" for key, value in card.versions.items())
    return [
        f"### {name}",
        "",
        f"- made by `daelab train --recipe {name}`; recipe sha256 `{card.recipe_sha256[:16]}`",
        f"- {card.recipe.get('note', '')}",
        f"- data: {data.get('name')}, {data.get('train'):,} to train on, {data.get('val'):,} to validate on, "
        f"seed {data.get('seed')}; noise: {card.noise}",
        f"- kept: epoch {metrics['epoch']}, validation loss {metrics['val_loss']:.6f}, "
        f"PSNR {metrics['val_psnr']:.2f} dB, batch PSNR {metrics['val_psnr_batch']:.2f} dB",
        f"- {training.get('precision')} on {training.get('device')}, {training.get('threads')} threads",
        f"- {versions}",
        "",
    ]


def _replace(path: Path, mark: str, text: str) -> None:
    """Put a text between `<!-- mark... -->` and `<!-- /mark -->`."""
    pattern = re.compile(rf"(<!-- {mark}\b[^>]*-->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    old = path.read_text(encoding="utf-8")
    new, times = pattern.subn(lambda match: match[1] + "\n" + text.strip() + "\n\n" + match[2], old)
    if times != 1:
        raise ValueError(f"{path}: expected one block `{mark}`, found {times}")
    write_text(path, new)


if __name__ == "__main__":
    main()
