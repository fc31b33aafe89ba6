"""The results in README.md and docs/results.md, from a reproduction's report, leaderboards, studies and headers.

    daelab reproduce --data-root .data --paper-checkpoints DIR --out report
    daelab leaderboard --data-root .data --paper-checkpoints DIR --out docs/leaderboard/cifar10
    daelab leaderboard --data cbsd68 --data-root DIR --out docs/leaderboard/cbsd68
    python bench/results.py --report report

Without --report, what came of the reproduction stays as it stands in docs/results.md. The studies are in docs/results/,
with the commands that made them. No figure is measured here and none is typed.
"""

from __future__ import annotations

import argparse
import csv
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
BOARDS = {name: ROOT / "docs" / "leaderboard" / name / "leaderboard.csv" for name in ("cifar10", "cbsd68")}
"""The leaderboards that the repository keeps, by data set."""
FAMILY = {"dae-s": (26.95, 27.3, 0.15), "dae-m": (27.3, 27.8, 0.35), "dae-l": (27.6, 28.2, 0.5)}
"""Batch PSNR at least and aimed at, dB, and the share of the F1 lost by model-c that is to be regained."""
LEVELS = ("awgn(15)", "awgn(25)", "awgn(50)")
PUBLISHED = {"CBM3D, as published": (33.52, 30.71, 27.38), "CDnCNN-B, as published": (33.89, 31.23, 27.92)}
"""PSNR on CBSD68 under `LEVELS`, dB: Zhang et al., 2017, Beyond a Gaussian denoiser."""
STUDY = ROOT / "docs" / "results" / "frontier-cifar10" / "points.csv"
"""What each part of dae-s buys: `daelab compare --study frontier --against frontier-0 --plot DIR`."""
TASK = ROOT / "docs" / "results" / "task-cifar10"
"""Weights of a classifier's features: `runs.csv` of a comparison, and `leaderboard.csv` of the same runs."""
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
DIFFERENCE = "What made the difference"


def main() -> None:
    """Write both documents."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--report", type=Path, help="folder that `daelab reproduce` wrote")
    options.add_argument("--check", action="store_true", help="write nothing; fail where a document would change")
    args = options.parse_args()
    boards = {name: records(path) for name, path in BOARDS.items() if path.is_file()}
    for missing in set(BOARDS) - set(boards):
        print(
            f"README.md stays: {BOARDS[missing]} is not there; daelab leaderboard --data {missing} "
            f"--out {BOARDS[missing].parent} writes it",
            file=sys.stderr,
        )
    tables = beyond(boards)
    head, reproduced = reproduction(args.report) if args.report else stands()
    wanted = {ROOT / "docs" / "results.md": results(head, [*map(section, tables), *reproduced])}
    if len(boards) == len(BOARDS):
        wanted[ROOT / "README.md"] = readme([short(ranked(boards["cifar10"])), photographs(ranked(boards["cbsd68"]))])
    changed = [path for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
    if not args.check:
        for place in changed:
            write_text(place, wanted[place])
    print("changed: " + (", ".join(str(place.relative_to(ROOT)) for place in changed) or "nothing"))
    if args.check and changed:
        raise SystemExit(1)


FIGURES = {
    "psnr-over-multiplications": "CIFAR-10: PSNR against multiplications per pixel; up and to the left is better",
    "recognised-over-psnr": "CIFAR-10: what two classifiers recover of the macro F1 that noise takes, against PSNR",
}
"""Of CIFAR-10's leaderboard: name -> what it shows."""


def figure(name: str, root: str) -> str:
    """A figure of CIFAR-10's leaderboard, as a document in a folder shows it whose path to docs/ is `root`."""
    return f"![{FIGURES[name]}]({root}leaderboard/cifar10/{name}.svg)"


MORE = {
    "The family against its goals": "\n\n".join(figure(name, "") for name in FIGURES),
    "What each part buys": "How it was run, what it means and what each costs: "
    "[results/frontier-cifar10](results/frontier-cifar10/README.md).",
    "Pixels against recognition": "How it was run: [results/task-cifar10](results/task-cifar10/README.md).",
}
"""Behind a table, by its title."""


def beyond(boards: dict[str, list[dict[str, Any]]]) -> list[Table]:
    """What lies beyond the paper: the family, what it was made of, photographs."""
    found = []
    if "cifar10" in boards:
        board = boards["cifar10"]
        found += [family(ranked(board)), elsewhere(board)]
    if STUDY.is_file():
        found.append(parts())
    if (TASK / "leaderboard.csv").is_file():
        found.append(weights())
    if "cbsd68" in boards:
        found.append(photographs(ranked(boards["cbsd68"])))
    return found


def reproduction(folder: Path) -> tuple[str, list[str]]:
    """The machine, and the sections that a report of `daelab reproduce` gives."""
    path = folder / "report.json"
    if not path.is_file():
        print(f"{path} is not there; daelab reproduce --out {folder} writes it", file=sys.stderr)
        raise SystemExit(2)
    document = json.loads(path.read_text(encoding="utf-8"))
    if document["quick"]:
        print(f"{path} is of a quick look; run daelab reproduce without --quick", file=sys.stderr)
        raise SystemExit(2)
    tables = [Table(**table) for table in document["tables"]]
    found = [section(table) for title in TABLES if (table := pick(tables, title))]
    environment = document["environment"]
    head = (
        f"The reproduction's machine: {environment['processor']}, threads: {environment['threads']}, GPU: "
        f"{environment['gpu'] or 'none'}; "
        + ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
        + f". Noisy pixels: {document['facts']['noisy pixels']}."
    )
    return head, [*found, *difference(tables)]


def stands() -> tuple[str, list[str]]:
    """The same as docs/results.md has it now."""
    head, *sections = re.split(
        r"^(?=## )", (ROOT / "docs" / "results.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    ours = tuple(f"## {title}" for title in (*TABLES, DIFFERENCE))
    return head.strip().splitlines()[-1], [text.strip() for text in sections if text.startswith(ours)]


def section(table: Table) -> str:
    """A table under its title, and where more is said of it."""
    more = f"\n\n{MORE[table.title]}" if table.title in MORE else ""
    return f"## {table.title}\n\n{table.to_markdown().partition(chr(10) * 2)[2].strip()}{more}"


def pick(tables: list[Table], title: str) -> Table | None:
    """The table whose title begins so."""
    return next((table for table in tables if table.title.startswith(title)), None)


def records(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file; numbers as numbers, None where there is none."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _value(text) for key, text in each.items()} for each in csv.DictReader(file)]


def ranked(board: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of a leaderboard's records, best first, those under the noises that it ranks by."""
    return [each for each in board if each["seen"] == "True"]


def _value(text: str) -> Any:
    try:
        return float(text) if text else None
    except ValueError:
        return text


def readme(tables: list[Table]) -> str:
    """README.md with these tables in its block."""
    old = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = "\n\n".join(table.to_markdown().partition("\n\n")[2].strip() for table in tables)
    blocks += "\n\nEverything else: [docs/results.md](docs/results.md).\n\n" + figure(
        "psnr-over-multiplications", "docs/"
    )
    new, times = re.subn(
        r"(<!-- results\b[^>]*-->\n).*?(<!-- /results -->)",
        lambda match: match[1] + "\n" + blocks + "\n\n" + match[2],
        old,
        flags=re.DOTALL,
    )
    assert times == 1, "README.md: expected one block `results`"
    return new


def short(board: list[dict[str, Any]]) -> Table:
    """CIFAR-10's leaderboard; of the classical methods, the best."""
    classical = [each["model"] for each in board if each["model"].startswith("baseline:")]
    shown = [each for each in board if each["model"] not in classical[1:]]
    columns = ["model", "parameters", "M MACs", "batch PSNR, dB", "PSNR, dB", "SSIM"]
    judges = [key.removeprefix("recovered_") for key in board[0] if re.fullmatch("recovered_[a-z]+", key)]
    rows = [
        [
            each["model"],
            None if not each["parameters"] else f"{each['parameters']:,.0f}",
            millions(each["model"], each["macs_per_pixel"]),
            f"{each['psnr_batch']:.2f}",
            f"{each['psnr']:.2f} ± {(each['psnr_high'] - each['psnr_low']) / 2:.2f}",
            f"{each['ssim']:.4f}",
            *(f"{100 * each[f'f1_{judge}']:.1f}" for judge in judges),
        ]
        for each in shown
    ]
    first = board[0]
    note = (
        f"CIFAR-10's {first['images']:,.0f} test images under the noise {first['noise']}, seed {first['seed']:.0f}. "
        "MACs: for one image. Batch PSNR: the paper's metric; PSNR: mean over images, with its 95% interval. F1: macro "
        "F1, %, that a classifier reaches on the denoised images; no denoiser was trained against the judge holdout. "
        "paper/N: the paper's own weights."
    )
    return Table("CIFAR-10", [*columns, *(f"F1, {judge}" for judge in judges)], rows, note)


def millions(model: str, per_pixel: float | None) -> str | None:
    """Millions of multiplications for an image of CIFAR-10, which a context of means covers at once."""
    path = modelfile.shipped_file(model)
    if path:
        return f"{modelfile.read_card(path).spec.macs(32, 32) / 1e6:.1f}"
    return None if per_pixel is None else f"{per_pixel * 32 * 32 / 1e6:.1f}"


def photographs(board: list[dict[str, Any]]) -> Table:
    """CBSD68's leaderboard beside what is published."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for record in board:
        found.setdefault(record["model"], {})[record["noise"]] = record
    rows: list[list[Any]] = []
    for model, by_noise in found.items():
        middle = by_noise[LEVELS[1]]
        rows.append(
            [
                model,
                None if not middle["parameters"] else f"{middle['parameters']:,.0f}",
                *(f"{by_noise[level]['psnr']:.2f}" for level in LEVELS),
                f"{middle['ssim']:.4f}",
            ]
        )
    rows += [[name, None, *(f"{value:.2f}" for value in levels), None] for name, levels in PUBLISHED.items()]
    rows.sort(key=lambda row: -sum(map(float, row[2:5])))
    first = board[0]
    note = (
        f"CBSD68, {first['images']:.0f} photographs, unclipped Gaussian noise of a standard deviation of 15, 25 and 50 "
        "of 255 (the literature's protocol): mean PSNR, dB; SSIM at 25. Each network is one, told nothing of the "
        "level; the classical methods are tuned to each. As published: Zhang et al., 2017. Speed: docs/performance.md."
    )
    columns = ["model", "parameters", "sigma 15", "25", "50", "SSIM"]
    return Table("Photographs", columns, rows, note)


def family(board: list[dict[str, Any]]) -> Table:
    """What the family was to reach, and what it does."""
    found = {each["model"]: each for each in board}
    base = found["model-c"]["recovered_holdout"]
    rows = []
    for name, (floor, goal, share) in FAMILY.items():
        for each in (found[key] for key in (name, f"{name}.task") if key in found):
            regained = (each["recovered_holdout"] - base) / (1 - base)
            rows.append(
                [
                    each["model"],
                    f"{each['psnr_batch']:.2f}",
                    f"{floor:.2f}",
                    f"{goal:.2f}",
                    f"{100 * each['recovered_holdout']:.1f}",
                    f"{100 * regained:.0f}",
                    f"{100 * share:.0f}",
                ]
            )
    columns = ["model", "batch PSNR, dB", "floor", "goal", "recovered, %", "regained, %", "to regain, %"]
    note = (
        "Recovered: (F1 denoised - F1 noisy) / (F1 clean - F1 noisy) by judge:holdout, against which nothing is "
        f"trained. Regained: the share of what model-c leaves lost by it ({100 * (1 - base):.1f}%)."
    )
    return Table("The family against its goals", columns, rows, note)


def elsewhere(board: list[dict[str, Any]]) -> Table:
    """What CIFAR-10's models do under noises that they were not made for."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for record in board:
        if record["seen"] != "True":
            found.setdefault(record["model"], {})[record["noise"]] = record
    noises = list(next(iter(found.values())))
    images = next(iter(found.values()))[noises[0]]["images"]
    rows = [[model, *(f"{by_noise[noise]['psnr']:.2f}" for noise in noises)] for model, by_noise in found.items()]
    note = (
        f"Mean PSNR of {images:,.0f} test images, dB; noisy: of the images as they are. What stands below it makes "
        "pictures worse. The classical methods are tuned under each noise anew; the networks are as they ship."
    )
    return Table("Under other noise", ["model", *noises], rows, note)


def parts() -> Table:
    """What each part of the small network and its training buys."""
    with STUDY.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    columns = [column for column in found[0] if column != "time, times"]  # other work shared the core
    rows = [[f"{int(row[key]):,}" if row[key].isdigit() else row[key] for key in columns] for row in found]
    note = "One thing changed at a time, the best first; ≈: no further from frontier-0 than seeds lie apart."
    return Table("What each part buys", columns, rows, note)


def weights() -> Table:
    """What a classifier's features buy, and what they cost in pixels."""
    losses = {each["run"]: each["loss"] for each in records(TASK / "runs.csv")}
    rows = []
    for each in ranked(records(TASK / "leaderboard.csv")):
        if each["model"] not in losses:
            continue
        weight = re.search(r"([\d.]+) \* judge_features", losses[each["model"]])
        scores = [f"{100 * each[f'recovered_{judge}']:.1f}" for judge in ("builtin", "holdout")]
        rows.append([float(weight[1]) if weight else 0.0, f"{each['psnr_batch']:.2f}", f"{each['psnr']:.2f}", *scores])
    rows.sort(key=lambda row: row[0])
    columns = ["weight", "batch PSNR, dB", "PSNR, dB", "recovered, %, builtin", "recovered, %, holdout"]
    note = (
        "dae-s taught further with the loss psnr + weight * judge_features, features of judge:builtin; judge:holdout "
        "was never trained against."
    )
    return Table("Pixels against recognition", columns, [[f"{row[0]:g}", *row[1:]] for row in rows], note)


def results(head: str, sections: list[str]) -> str:
    """docs/results.md, whole.

    Args:
        head: which machine the reproduction was made on.
    """
    parts = [
        "# Results",
        "",
        "Written by `python bench/results.py` from the report of `daelab reproduce`, the leaderboards "
        "(`docs/leaderboard/`, of `daelab leaderboard`), the studies (`docs/results/`) and the headers of the weights "
        "that ship; not by hand.",
        "",
        head,
        "",
    ]
    for text in sections:
        parts += [text, ""]
    for found in inspector.results_tables():
        parts += [section(found), ""]
    parts += ["## How the weights were made", ""]
    for name, path in modelfile.shipped().items():
        parts += made(name, modelfile.read_card(path))
    for name, path in judge.shipped().items():
        parts += judged(name, judge.file.load(path))
    return "\n".join(parts)


def difference(tables: list[Table]) -> list[str]:
    """The section on what made the difference, with the study's figures for it; none without a study."""
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
    return [f"## {DIFFERENCE}\n\n{schedule}"]


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
        *([f"- its data: {data['terms']}"] if "terms" in data else []),
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
