"""The results in README.md and docs/results.md, from a reproduction's report, leaderboards, studies and headers.

    daelab reproduce --data-root .data --paper-checkpoints DIR --out report
    daelab leaderboard --data-root .data --paper-checkpoints DIR --out docs/leaderboard/cifar10
    daelab leaderboard --data cbsd68 --data-root DIR --out docs/leaderboard/cbsd68
    python tools/results.py --report report

Without --report, the sections about the reproduction stay as they are in docs/results.md. The studies are in
docs/results/, with the commands that made them. No figure is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from beyond import STUDY, TASK, elsewhere, family, parts, photographs, ranked, records, short, transfer, weights
from daelab._util.files import write_text
from daelab.evaluation.classifiers.classifier_file import ClassifierFile, read_classifier_file
from daelab.evaluation.classifiers.registry import list_shipped_classifiers
from daelab.experiments.reports.noise_identification import make_identification_tables
from daelab.experiments.reports.table import Table
from daelab.models.model_file import ModelMetadata, read_model_metadata
from daelab.models.registry import list_shipped_models, shorten_model_name
from daelab.training.recipe import load_recipe
from figures import README_PICTURE, draw_readme_picture

ROOT = Path(__file__).parents[1]
BOARDS = {name: ROOT / "docs" / "leaderboard" / name / "leaderboard.csv" for name in ("cifar10", "cbsd68")}
"""The leaderboards that the repository keeps, by data set."""
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
"""The tables of the report, by the beginning of their titles, in this order."""
DIFFERENCE = "What the schedule and the optimizer change"


def main() -> None:
    """Write both documents."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--report", type=Path, help="folder that `daelab reproduce` wrote")
    options.add_argument("--check", action="store_true", help="write nothing, and fail if a document would change")
    args = options.parse_args()
    boards = {name: records(path) for name, path in BOARDS.items() if path.is_file()}
    for missing in set(BOARDS) - set(boards):
        print(
            f"README.md is not changed: {BOARDS[missing]} is missing; daelab leaderboard --data {missing} "
            f"--out {BOARDS[missing].parent} writes it",
            file=sys.stderr,
        )
    tables = made_beyond(boards)
    head, reproduced = reproduction(args.report) if args.report else keep_reproduction()
    wanted = {ROOT / "docs" / "results.md": results(head, [*map(section, tables), *reproduced])}
    if len(boards) == len(BOARDS):
        wanted[ROOT / "README.md"] = readme([short(ranked(boards["cifar10"])), photographs(ranked(boards["cbsd68"]))])
    changed = [path for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
    if not args.check:
        for place in changed:
            write_text(place, wanted[place])
        if ROOT / "README.md" in wanted:
            draw_readme_picture(ROOT)
    print("changed: " + (", ".join(str(place.relative_to(ROOT)) for place in changed) or "nothing"))
    if args.check and changed:
        raise SystemExit(1)


FIGURES = {
    "psnr-over-multiplications": "CIFAR-10: PSNR against multiplications per pixel; up and to the left is better",
    "recognised-over-psnr": "CIFAR-10: the recovered F1 of three classifiers against PSNR",
}
"""The figures of CIFAR-10's leaderboard: name -> caption."""


def figure(name: str, path: str) -> str:
    """Return the Markdown of a figure of CIFAR-10's leaderboard.

    Args:
        name: a key of `FIGURES`.
        path: the picture, as the document refers to it.
    """
    return f"![{FIGURES[name]}]({path})"


MORE = {
    "The dae models and their goals": "\n\n".join(figure(name, f"leaderboard/cifar10/{name}.svg") for name in FIGURES),
    "What each part gains": "[The study](results/frontier-cifar10/README.md) says how it was run, what the results "
    "mean, and what each part costs.",
    "PSNR and recovered F1": "[The study](results/task-cifar10/README.md) says how it was run.",
}
"""The texts after a table, by its title."""


def made_beyond(boards: dict[str, list[dict[str, Any]]]) -> list[Table]:
    """Make the tables of the results beyond the paper: the `dae` models, their parts, photographs."""
    found = []
    if "cifar10" in boards:
        board = boards["cifar10"]
        found += [family(ranked(board)), elsewhere(board)]
    if STUDY.is_file():
        found.append(parts())
    if (TASK / "leaderboard.csv").is_file():
        found.append(weights())
    if (TASK / "transfer.csv").is_file():
        found.append(transfer())
    if "cbsd68" in boards:
        found.append(photographs(ranked(boards["cbsd68"])))
    return found


def reproduction(folder: Path) -> tuple[str, list[str]]:
    """Return the line on the hardware and the sections from a report of `daelab reproduce`."""
    path = folder / "report.json"
    if not path.is_file():
        print(f"{path} is missing; daelab reproduce --out {folder} writes it", file=sys.stderr)
        raise SystemExit(2)
    document = json.loads(path.read_text(encoding="utf-8"))
    if document["quick"]:
        print(f"{path} is that of a quick reproduction; run daelab reproduce without --quick", file=sys.stderr)
        raise SystemExit(2)
    tables = [Table(**table) for table in document["tables"]]
    found = [section(table) for title in TABLES if (table := pick(tables, title))]
    environment = document["environment"]
    head = (
        f"The reproduction ran on: {environment['processor']}, threads: {environment['threads']}, GPU: "
        f"{environment['gpu'] or 'none'}; "
        + ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
        + f". Its noisy pixels: {document['facts']['noisy pixels']}."
    )
    return head, [*found, *difference(tables)]


def keep_reproduction() -> tuple[str, list[str]]:
    """Return the same as `reproduction`, from docs/results.md as it is now."""
    head, *sections = re.split(
        r"^(?=## )", (ROOT / "docs" / "results.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    ours = tuple(f"## {title}" for title in (*TABLES, DIFFERENCE))
    return head.strip().splitlines()[-1], [text.strip() for text in sections if text.startswith(ours)]


def section(table: Table) -> str:
    """Return a table under its title, followed by its figures or links."""
    more = f"\n\n{MORE[table.title]}" if table.title in MORE else ""
    return f"## {table.title}\n\n{table.to_markdown().partition(chr(10) * 2)[2].strip()}{more}"


def pick(tables: list[Table], title: str) -> Table | None:
    """Return the first table whose title begins with a text, or None."""
    return next((table for table in tables if table.title.startswith(title)), None)


def readme(tables: list[Table]) -> str:
    """Return README.md with these tables in its block `results`."""
    old = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = "\n\n".join(table.to_markdown().partition("\n\n")[2].strip() for table in tables)
    blocks += "\n\nEverything else: [docs/results.md](docs/results.md).\n\n" + figure(
        "psnr-over-multiplications", README_PICTURE.as_posix()
    )
    new, times = re.subn(
        r"(<!-- results\b[^>]*-->\n).*?(<!-- /results -->)",
        lambda match: match[1] + "\n" + blocks + "\n\n" + match[2],
        old,
        flags=re.DOTALL,
    )
    assert times == 1, "README.md: expected one block `results`"
    return new


def results(head: str, sections: list[str]) -> str:
    """Return the whole of docs/results.md.

    Args:
        head: the line on the hardware of the reproduction.
        sections: the sections before those on the shipped weights, as Markdown.
    """
    parts = [
        "# Results",
        "",
        "`python tools/results.py` writes this page from the report of `daelab reproduce`, the leaderboards "
        "(`docs/leaderboard/`, written by `daelab leaderboard`), the studies (`docs/results/`) and the headers of the "
        "weights that ship.",
        "",
        head,
        "",
    ]
    for text in sections:
        parts += [text, ""]
    for found in make_identification_tables():
        parts += [section(found), ""]
    parts += ["## How the weights were made", ""]
    for name, path in list_shipped_models().items():
        parts += describe_training(name, read_model_metadata(path))
    for name, path in list_shipped_classifiers().items():
        parts += describe_classifier(name, read_classifier_file(path))
    return "\n".join(parts)


def difference(tables: list[Table]) -> list[str]:
    """Return the section on the schedule and the optimizer; empty if the report has no study."""
    runs = pick(tables, "Every run of the study")
    losses = {row[0]: row[3] for row in runs.rows} if runs else {}
    if not losses:
        return []
    paper, ours, muon = (losses[f"study/{name}"] for name in ("shallowest", "ours", "muon"))
    deep, deep_ours, deep_muon = (losses[f"study/{name}"] for name in ("increasing", "deep-ours", "deep-muon"))
    schedule = (
        "All of these runs have ten epochs of 10,000 images. With the paper's constant learning rate and Adam, the "
        f"network of test 35 reaches a validation loss of {paper:.5f}. With our schedule it reaches {ours:.5f} "
        f"({ours / paper - 1:+.0%}), and with Muon instead of AdamW {muon:.5f} ({muon / paper - 1:+.0%}). Our schedule "
        "is AdamW, a learning rate that rises in the first steps and then falls along a cosine to zero, and a moving "
        "average of the weights, which is validated and kept. In the same order, the four stages of Model-B reach "
        f"{deep:.5f}, {deep_ours:.5f} and {deep_muon:.5f}. When the learning rate falls to zero, the validation loss "
        "also stops jumping from epoch to epoch."
    )
    return [f"## {DIFFERENCE}\n\n{schedule}"]


def describe_training(name: str, card: ModelMetadata) -> list[str]:
    """Return the lines on the training of a shipped model, from its header."""
    data, metrics, training = card.data, card.metrics, card.training
    versions = ", ".join(f"{key} {value}" for key, value in card.versions.items())
    # Older files do not hold the command; their recipe has the name of the model.
    command = training.get("command", f"daelab train --recipe {shorten_model_name(name)}")
    time = ""
    if "seconds_per_epoch" in training:
        minutes = training["epochs"] * training["seconds_per_epoch"] / 60
        time = f"; epochs: {training['epochs']}, {training['seconds_per_epoch']:.1f} s each (median), {minutes:.0f} min"
    return [
        f"### {name}",
        "",
        f"- command: `{command}`, seed {card.recipe.get('seed')}; recipe sha256 `{card.recipe_sha256[:16]}`",
        f"- {load_recipe(command.split()[-1]).note}",
        f"- data: {data.get('name')}, {data.get('train'):,} training and {data.get('val'):,} validation images, "
        f"seed {data.get('seed')}; noise: {card.noise}",
        *([f"- terms of the data: {data['terms']}"] if "terms" in data else []),
        f"- best epoch: {metrics['epoch']}, validation loss {metrics['val_loss']:.6f}, "
        f"PSNR {metrics['val_psnr']:.2f} dB, batch PSNR {metrics['val_psnr_batch']:.2f} dB",
        f"- computed in {training.get('precision')} on {training.get('device')}, "
        f"threads: {training.get('threads')}{time}",
        f"- {versions}",
        "",
    ]


def describe_classifier(name: str, file: ClassifierFile) -> list[str]:
    """Return the lines on a shipped classifier, from its header."""
    card = file.card
    test = card.metrics["test"]
    accuracy = ", ".join(f"{tta} {share:.2%}" for tta, share in test["accuracy"].items())
    recipe = {"builtin": "judge/cifar10"}.get(name, f"judge/{name}")
    return [
        f"### judge:{name}",
        "",
        f"- command: `daelab train-judge --recipe {recipe}`",
        f"- {sum(t.numel() for t in file.network.parameters()):,} parameters; test-time augmentation: {card.tta}",
        f"- accuracy on {test['images']:,} test images of {card.data['name']}, by test-time augmentation: {accuracy}",
        f"- {card.training.get('epochs')} epochs, {card.training.get('precision')}",
        "",
    ]


if __name__ == "__main__":
    main()
