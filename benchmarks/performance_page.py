"""The tables of docs/performance.md, written from the figures in docs/performance.json, and the goals beside them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

STATES = {"idle": 0, "loaded": 1}
"""The number of other busy processes in each state of the machine."""
QUIET = 0.5
"""The number of busy cores up to which a machine counts as idle."""

Documents = dict[str, Any]
"""What a benchmark printed, by the state of the machine; a text where it did not end in time."""


@dataclass(frozen=True)
class Goal:
    """A row of the table of goals."""

    work: str
    step: str
    read: Callable[[dict[str, Any], str], float | None]
    """Reads the figure from what the benchmark printed, for a state; None if it is not there."""
    goal: float
    why: str
    """Why the goal is missed, if it is."""
    is_least: bool = True
    """Whether the goal is the least value that is good enough, and not the largest."""
    digits: int = 2


def read_threads(work: str) -> Callable[[dict[str, Any], str], float | None]:
    """Return a reader of the ratio of the default number of threads to the better of it and one thread."""
    return lambda found, state: found["works"][work][str(STATES[state])]["default"]["to_best"]


def make_photo_goal(model: str, most: float) -> Goal:
    """Return the goal for a model for photographs."""
    return Goal(
        f"photographs with {model}, one thread: CPU seconds per megapixel",
        "photographs",
        lambda found, _: found["methods"][model]["cpu_seconds_per_megapixel"],
        most,
        "Nearly all of the time goes into convolutions near the processor's peak.",
        is_least=False,
    )


GOALS = (
    Goal(
        "training of Model-C, bf16: times the speed of a plain loop",
        "training-bf16",
        lambda found, _: found["ratio"],
        3.5,
        "Half of a step are convolutions near the processor's peak; see What was tried.",
    ),
    Goal(
        "training of Model-C, float32: times the speed of a plain loop",
        "training-float32",
        lambda found, _: found["ratio"],
        2.2,
        "Both loops spend most of a step in the same convolutions near the processor's peak; see What was tried.",
    ),
    Goal(
        "training with the default threads (one for each core): share of the better of one thread and these",
        "threads",
        read_threads("training"),
        0.9,
        "The threads wait for the one that shares its core.",
    ),
    Goal(
        "denoising with the default threads (one for each core): share of the better of one thread and these",
        "threads",
        read_threads("denoising"),
        0.9,
        "The threads wait for the one that shares its core.",
    ),
    Goal(
        "`daelab denoise` on one 450 x 300 picture: CPU seconds over `import torch`",
        "start-up",
        lambda found, _: found["commands"]["daelab denoise"]["over_torch"],
        0.5,
        "Most of it is the work itself: the network photo-m.camera on this picture, and photo-s on the tiles that"
        " decide about it. The rest is mainly the import of daelab's modules and of pydantic, which typer needs to read"
        " options.",
        is_least=False,
    ),
    Goal(
        "`daelab --help`: CPU seconds",
        "start-up",
        lambda found, _: found["commands"]["daelab --help"]["cpu_seconds"],
        0.3,
        "Half of it is the import of typer, and a tenth is the start of Python itself.",
        is_least=False,
    ),
    make_photo_goal("photo-s", 1.0),
    make_photo_goal("photo-m", 3.0),
    Goal(
        "inference of Model-C: times the speed of the plain module that keeps freed memory too",
        "inference",
        lambda found, _: found["images"]["daelab"]["ratio"]["plain, keeping freed memory"],
        2.5,
        "What is left to gain over that module are folded norms, the layout in memory and the split of the last layer.",
    ),
    Goal(
        "`daelab denoise` on a JPEG of 12 megapixels, all cores: seconds",
        "photographs",
        lambda found, _: found.get("file", {}).get("seconds"),
        15.0,
        "photo-m, the default, takes nearly all of it.",
        is_least=False,
        digits=1,
    ),
)


def format_table(head: list[str], rows: list[list[str]]) -> str:
    """Format a Markdown table, with numbers to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])


def read_value(goal: Goal, documents: Documents, state: str) -> float | str | None:
    """Return the figure of a goal in a state; a text if the benchmark failed; None if it has no such state."""
    found = documents.get(state)
    if found is None and state == "loaded" and goal.step == "threads":
        found = documents.get("idle")
    return found if found is None or isinstance(found, str) else goal.read(found, state)


def format_goals(steps: dict[str, Documents]) -> str:
    """Format the goals beside the figures, and a sentence for each goal that was missed."""
    rows, missed = [], []
    for goal in GOALS:
        values = [read_value(goal, steps.get(goal.step, {}), state) for state in STATES]
        if values == [None, None]:
            continue
        cells = [f"{value:.{goal.digits}f}" if isinstance(value, float) else value or "" for value in values]
        rows.append([goal.work, f"{'at least' if goal.is_least else 'at most'} {goal.goal:g}", *cells])
        for state, value, cell in zip(STATES, values, cells, strict=True):
            if isinstance(value, float) and (value < goal.goal if goal.is_least else value > goal.goal):
                missed.append((goal, state, abs(value / goal.goal - 1), cell))
    lines = [format_table(["work", "goal", *STATES], rows)]
    for goal in dict.fromkeys(goal for goal, *_ in missed):
        each = [f"{cell} ({share:.0%}) {state}" for other, state, share, cell in missed if other is goal]
        lines.append(
            f"Missed: {goal.work}. The goal is {goal.goal:g}; measured {' and '.join(each)}. {goal.why}".strip()
        )
    return "\n\n".join(lines)


def format_training(steps: dict[str, Documents]) -> str:
    """Format the speeds of both loops."""
    rows: list[list[str]] = []
    for name in ("training-bf16", "training-float32"):
        for state, found in steps.get(name, {}).items():
            if isinstance(found, str):
                rows.append([f"{name}, {state}", found, "", "", ""])
                continue
            plain = found["plain_images_per_second"]
            share = found["mflop_per_image"] * plain / 1e3 / found["peak_gflops"]["float32"]
            ours = found["precision"], f"{found['images_per_second']:,.0f}", f"{found['share_of_peak']:.0%}"
            rows.append([f"daelab, {state}", *ours, f"{found['ratio']:.2f}"])
            rows.append([f"plain, {state}", "float32", f"{plain:,.0f}", f"{share:.0%}", "1"])
    return format_table(["loop", "precision", "images/s", "share of the peak", "ratio"], rows)


def format_threads(steps: dict[str, Documents]) -> str:
    """Format the speeds by the number of threads."""
    found = steps["threads"]["idle"]
    if isinstance(found, str):
        return f"The benchmark has {found}."
    rows = []
    for work, loads in found["works"].items():
        for others, table in loads.items():
            for threads, row in table.items():
                name = f"{work}, {threads} thread{'' if threads == '1' else 's'}"
                rows.append([name, others, f"{row['per_second']:,.1f}", f"{row['to_best']:.2f}"])
    return format_table(["work", "other busy processes", "images/s", "to the better of one and the default"], rows)


def format_start_up(steps: dict[str, Documents]) -> str:
    """Format the CPU seconds of commands, in each state that was measured."""
    found = {state: one for state, one in steps["start-up"].items() if not isinstance(one, str)}
    names = dict.fromkeys(name for one in found.values() for name in one["commands"])
    rows = [[f"`{name}`", *(f"{one['commands'][name]['cpu_seconds']:.2f}" for one in found.values())] for name in names]
    head = [f"CPU seconds, {state}" for state in found]
    spent = list(found.values())[-1]["imports_ms"]
    shares = ", ".join(f"{name} {share / sum(spent.values()):.0%}" for name, share in spent.items())
    return f"{format_table(['command', *head], rows)}\n\nShares of the imports of `daelab denoise`: {shares}."


def format_photographs(steps: dict[str, Documents]) -> str:
    """Format the speed for photographs."""
    rows = []
    for state, found in steps["photographs"].items():
        if isinstance(found, str):
            rows.append([state, found, "", ""])
            continue
        rows += [
            [
                f"{name}, {state}",
                row.get("precision", "float32"),
                f"{row['cpu_seconds_per_megapixel']:.2f}",
                f"{row['to_nlm']:.2f}",
            ]
            for name, row in found["methods"].items()
        ]
    return format_table(["method, one thread", "precision", "CPU seconds per megapixel", "to non-local means"], rows)


def format_inference(steps: dict[str, Documents]) -> str:
    """Format the speed of inference, of test images and of a large picture."""
    parts = []
    for title, name, state, part in (
        ("test images", "inference", "idle", "images"),
        ("test images, loaded", "inference", "loaded", "images"),
        ("test images, with a classical method", "methods", "idle", "images"),
        ("a large picture", "methods", "idle", "picture"),
    ):
        found = steps.get(name, {}).get(state)
        if found is None or isinstance(found, str) or part not in found:
            continue
        others = [other for other in ("plain", "plain, keeping freed memory", "nlm") if other in found[part]]
        rows = [
            [other, f"{row['megapixels_per_second']:.2f}", f"{row['memory_mb']:,.0f}", f"{row['psnr']:.2f}"]
            + [f"{row['ratio'].get(one, 1):.2f}" for one in others]
            for other, row in found[part].items()
        ]
        parts.append(
            format_table([title, "megapixels/s", "peak MB", "PSNR, dB", *(f"to {other}" for other in others)], rows)
        )
    return "\n\n".join(parts)


def format_variants(steps: dict[str, Documents]) -> str:
    """Format the variants of the training step."""
    found = steps["variants"]["idle"]
    if isinstance(found, str):
        return f"The benchmark has {found}."
    rows = [
        [name, f"{row['images_per_second']:,.0f}", f"{row['ratio']:.2f}"] for name, row in found["variants"].items()
    ]
    return format_table(["variant", "images/s", "relative to the loop as it is"], rows)


def format_sizes(steps: dict[str, Documents]) -> str:
    """Format time and memory against the size."""
    found = steps["sizes"]["idle"]
    if isinstance(found, str):
        return f"The benchmark has {found}."
    rows = []
    for axis in found["axes"].values():
        ends = [f"{axis[key][0]:,.{digits}f} to {axis[key][-1]:,.{digits}f}" for key, digits in COLUMNS.items()]
        rows.append([axis["what"], *ends, f"{axis['slope']:.2f}"])
    return format_table(["size", "from, to", "seconds", "CPU seconds", "peak MB", "slope"], rows)


COLUMNS = {"sizes": 0, "seconds": 1, "cpu_seconds": 1, "peak_mb": 0}
"""The columns of the table of sizes, with their digits."""
REGIONS: dict[str, tuple[str, Callable[[dict[str, Documents]], str]]] = {
    "goals": ("", format_goals),
    "training": ("training-float32", format_training),
    "threads": ("threads", format_threads),
    "start-up": ("start-up", format_start_up),
    "photographs": ("photographs", format_photographs),
    "inference": ("inference", format_inference),
    "variants": ("variants", format_variants),
    "sizes": ("sizes", format_sizes),
}
"""The marked regions of the page: the benchmark that each needs, and what writes it."""


def write_page(page: str, data: dict[str, Any]) -> str:
    """Return the page with its regions written anew.

    Args:
        page: The text of the page. A region stands between `<!-- measured: NAME -->` and `<!-- end -->`.
        data: The figures by the kind of machine.
    """

    def write_region(match: re.Match[str]) -> str:
        step, write = REGIONS[match[1]]
        parts = []
        for kind, machine in data.items():
            steps = machine["steps"]
            if step in steps or not step:
                mine = [steps[step]] if step else list(steps.values())
                loads = [one["load_before"] for each in mine for one in each.values() if not isinstance(one, str)]
                parts.append(f"**{kind}** (torch {machine['torch']}, {machine['date']}). {describe_load(loads)}")
                parts.append(write(steps))
        body = "\n\n".join(parts or ["This table has not been measured yet."])
        return f"<!-- measured: {match[1]} -->\n\n{body}\n\n<!-- end -->"

    return re.sub(r"<!-- measured: ([\w-]+) -->.*?<!-- end -->", write_region, page, flags=re.DOTALL)


def describe_load(loads: list[float]) -> str:
    """Describe how many cores were busy before benchmarks, in a sentence."""
    if not loads or max(loads) <= QUIET:
        return "No other program computed."
    return (
        f"Other programs computed too ({min(loads):.1f} to {max(loads):.1f} cores before the benchmarks), so "
        "idle means busy with these, and only ratios and CPU seconds count."
    )
