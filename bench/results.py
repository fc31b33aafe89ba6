"""The results in README.md and docs/results.md, from a reproduction's report and the headers of the shipped weights.

    daelab reproduce --data-root .data --paper-checkpoints DIR --out report
    python bench/results.py --report report

No figure is measured here and none is typed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from daelab import inspector, judge, modelfile
from daelab.files import write_text
from daelab.judge.file import JudgeFile
from daelab.report import Table

ROOT = Path(__file__).parents[1]
TABLES = (
    "The paper's Table 2",
    "Weights that ship",
    "By component of the noise",
    "By class: model-c",
    "The paper's Table 3",
    "The paper's conclusions, checked",
    "Every run of the study",
    "Tolerances",
)
"""Of the report, by the beginning of their titles, in this order."""


def main() -> None:
    """Write both documents."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--report", type=Path, default=Path("report"), help="folder that `daelab reproduce` wrote")
    options.add_argument("--check", action="store_true", help="write nothing; fail where a document would change")
    args = options.parse_args()
    path = args.report / "report.json"
    if not path.is_file():
        print(f"{path} is not there; daelab reproduce --out {args.report} writes it", file=sys.stderr)
        raise SystemExit(2)
    document = json.loads(path.read_text(encoding="utf-8"))
    if document["quick"]:
        print(f"{path} is of a quick look; run daelab reproduce without --quick", file=sys.stderr)
        raise SystemExit(2)
    tables = [Table(**table) for table in document["tables"]]
    wanted = {ROOT / "README.md": readme(tables), ROOT / "docs" / "results.md": results(document, tables)}
    changed = [path for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
    if not args.check:
        for place in changed:
            write_text(place, wanted[place])
    print("changed: " + (", ".join(str(place.relative_to(ROOT)) for place in changed) or "nothing"))
    if args.check and changed:
        raise SystemExit(1)


def pick(tables: list[Table], title: str) -> Table | None:
    """The table whose title begins so."""
    return next((table for table in tables if table.title.startswith(title)), None)


def readme(tables: list[Table]) -> str:
    """README.md with the rows of Table 2 that were measured, in its block."""
    whole = pick(tables, "The paper's Table 2")
    assert whole is not None
    keep = [whole.columns.index(c) for c in ("test MSE", "batch PSNR, dB", "PSNR, dB", "SSIM", "macro F1, %")]
    rows = [
        [f"{row[0]}: {row[1]}" if row[0] != "noisy images" else row[0], *(row[c] for c in keep)]
        for row in whole.rows
        if row[1] != "paper"
    ]
    note = (
        "CIFAR-10's 10,000 test images under the noise published-code, seed 0. PSNR: mean over images; batch PSNR: "
        "the "
        "paper's metric. Macro F1: by judge:builtin, a classifier of ours."
    )
    short = Table("", ["model", *(whole.columns[c] for c in keep)], rows, note)
    old = (ROOT / "README.md").read_text(encoding="utf-8")
    block = short.to_markdown().partition("\n\n")[2].strip()
    new, times = re.subn(
        r"(<!-- results\b[^>]*-->\n).*?(<!-- /results -->)",
        lambda match: match[1] + "\n" + block + "\n\n" + match[2],
        old,
        flags=re.DOTALL,
    )
    assert times == 1, "README.md: expected one block `results`"
    return new


def results(document: dict[str, Any], tables: list[Table]) -> str:
    """docs/results.md, whole."""
    environment = document["environment"]
    parts = [
        "# Results",
        "",
        "Written by `python bench/results.py --report DIR` from the report of `daelab reproduce` and the headers of "
        "the weights that ship; not by hand.",
        "",
        f"Machine: {environment['processor']}, threads: {environment['threads']}, GPU: "
        f"{environment['gpu'] or 'none'}; "
        + ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
        + f". Noisy pixels: {document['facts']['noisy pixels']}.",
        "",
    ]
    for title in TABLES:
        table = pick(tables, title)
        if table is not None:
            parts += [f"## {table.title}", "", table.to_markdown().partition("\n\n")[2].strip(), ""]
    parts += difference(tables)
    for found in inspector.results_tables():
        parts += [f"## {found.title}", "", found.to_markdown().partition("\n\n")[2].strip(), ""]
    parts += ["## How the weights were made", ""]
    for name, path in modelfile.shipped().items():
        parts += made(name, modelfile.read_card(path))
    for name, path in judge.shipped().items():
        parts += judged(name, judge.file.load(path))
    return "\n".join(parts)


def difference(tables: list[Table]) -> list[str]:
    """What made the difference, with the study's figures for it."""
    runs = pick(tables, "Every run of the study")
    losses = {row[0]: row[3] for row in runs.rows} if runs else {}
    if not losses:
        return []
    paper, ours, muon = (losses[f"study/{name}"] for name in ("shallowest", "ours", "muon"))
    deep, deep_ours, deep_muon = (losses[f"study/{name}"] for name in ("increasing", "deep-ours", "deep-muon"))
    schedule = (
        "The schedule, and the optimiser. At the same budget of ten epochs of 10,000 images, the network of test 35 "
        f"comes to a validation loss of {paper:.5f} by the paper's constant rate with Adam; of {ours:.5f} "
        f"({ours / paper - 1:+.0%}) by ours: AdamW, a rate that rises for the first steps and then falls along a "
        "cosine to zero, and a moving average of the weights, which is what is validated and kept; and of "
        f"{muon:.5f} ({muon / paper - 1:+.0%}) with Muon in AdamW's place. In the same order, the four stages of "
        f"Model-B come to {deep:.5f}, {deep_ours:.5f} and {deep_muon:.5f}. A rate that ends at zero also ends the "
        "leaps of the validation loss."
    )
    return ["## What made the difference", "", schedule, ""]


def made(name: str, card: modelfile.Card) -> list[str]:
    """What a shipped file's header says of its training."""
    data, metrics, training = card.data, card.metrics, card.training
    versions = ", ".join(f"{key} {value}" for key, value in card.versions.items())
    recipe = modelfile.short(name)
    time = ""
    if "seconds_per_epoch" in training:
        minutes = training["epochs"] * training["seconds_per_epoch"] / 60
        time = (
            f": {training['epochs']} epochs of {training['seconds_per_epoch']:.1f} s (median), {minutes:.0f} min in all"
        )
    return [
        f"### {name}",
        "",
        f"- made by `daelab train --recipe {recipe}`, seed {card.recipe.get('seed')}; recipe sha256 "
        f"`{card.recipe_sha256[:16]}`",
        f"- {card.recipe.get('note', '')}",
        f"- data: {data.get('name')}, {data.get('train'):,} to train on, {data.get('val'):,} to validate on, "
        f"seed {data.get('seed')}; noise: {card.noise}",
        f"- kept: epoch {metrics['epoch']}, validation loss {metrics['val_loss']:.6f}, "
        f"PSNR {metrics['val_psnr']:.2f} dB, batch PSNR {metrics['val_psnr_batch']:.2f} dB",
        f"- {training.get('precision')} on {training.get('device')}, threads: {training.get('threads')}{time}",
        f"- {versions}",
        "",
    ]


def judged(name: str, file: JudgeFile) -> list[str]:
    """What a shipped judge's header says."""
    card = file.card
    test = card.metrics["test"]
    accuracy = ", ".join(f"{tta} {share:.2%}" for tta, share in test["accuracy"].items())
    recipe = {"builtin": "judge/cifar10"}.get(name, f"judge/{name}")
    return [
        f"### judge:{name}",
        "",
        f"- made by `daelab train-judge --recipe {recipe}`",
        f"- {sum(t.numel() for t in file.network.parameters()):,} parameters; test-time augmentation: {card.tta}",
        f"- accuracy on {test['images']:,} test images of {card.data['name']}, by test-time augmentation: {accuracy}",
        f"- {card.training.get('epochs')} epochs, {card.training.get('precision')}",
        "",
    ]


if __name__ == "__main__":
    main()
