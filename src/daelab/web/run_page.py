"""What the page of a run and the page of a study show, read from their folders and the ledger."""

from __future__ import annotations

import html
import json
import re
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import inspect, text

from daelab._util.files import check_ordinary_file
from daelab._util.text import hide_passwords
from daelab.experiments.comparison_page import compute_importances
from daelab.experiments.fields import (
    flatten_fields,
    format_field_value,
    name_evaluation,
    name_model,
    shorten_field_names,
)
from daelab.experiments.search.goals import SEARCH_GOALS
from daelab.experiments.search.study_records import StudyRecords
from daelab.runs.folder import RunFolder, get_run_folder
from daelab.runs.ledger import Ledger
from daelab.runs.samples import read_samples
from daelab.web.run_store import RunStore, get_number, make_public, shorten_paths

_LARGEST_FILE = 32 << 20
"""Largest report or environment to read, in bytes."""


def describe_run(store: RunStore, name: str) -> dict[str, Any]:
    """Return what the page of a run shows besides its row and its curve.

    Args:
        store: The runs.
        name: The name of the run.

    Raises:
        LookupError: The ledger has no such run.
        RunsUnavailable: The ledger cannot be read, or another request waits for it.
    """
    row = store.read_row(name)
    folder = _find_folder(name)
    return {
        "recipe": {key: _show_value(value) for key, value in flatten_fields(row["recipe"] or {}).items()},
        "environment": _read_environment(folder),
        "commands": _list_commands(row, folder),
        "samples": _list_parts(folder),
        "report": folder is not None and (folder.path / "report.html").is_file(),
        "study": _find_study(store, name),
    }


def _find_folder(name: str) -> RunFolder | None:
    """Return the folder of a run if it is on this computer."""
    with suppress(ValueError, OSError):  # the names of imported runs may be no valid folder names
        folder = get_run_folder(name)
        return folder if folder.path.is_dir() else None
    return None


def _show_value(value: Any) -> str | float | None:
    """Return the value of a recipe's field as a short text, or as a number."""
    number = get_number(value)
    return number if number is not None else make_public(str(format_field_value(value)))


def _read_environment(folder: RunFolder | None) -> dict[str, str]:
    with suppress(OSError, ValueError, AttributeError, RecursionError):
        if folder is not None:
            values = flatten_fields(json.loads(_read_text(folder.environment)))
            # The group only tells apart processes that were started together.
            return {key: make_public(str(value)) for key, value in values.items() if value and key != "group"}
    return {}


def _read_text(path: Path, errors: str = "strict") -> str:
    """Read a file of a run's folder; raise an OSError if it is no ordinary one, or a large one."""
    check_ordinary_file(path)
    if path.stat().st_size >= _LARGEST_FILE:
        raise OSError(f"{path} is too large")
    return path.read_text(encoding="utf-8", errors=errors)


def _list_commands(row: dict[str, Any], folder: RunFolder | None) -> dict[str, str]:
    """Return the commands that go on with a run, by what they do."""
    if folder is None:
        return {}
    name, is_classifier = folder.name, str(row["architecture"]).startswith("classifier ")
    train = "daelab train-judge" if is_classifier else "daelab train"
    commands = {}
    if row["status"] != "running" and folder.checkpoint.is_file():
        commands["Resume"] = f"{train} --resume {name}"
    if folder.best.is_file() and not is_classifier:
        recipe = row["recipe"] or {}
        data = {"name": _name_data(recipe)}
        commands["Evaluate"] = " ".join(["daelab evaluate", *name_evaluation(name, {**recipe, "data": data})])
        commands["Use"] = f"daelab denoise PICTURE --model {name_model(name, recipe)}"
    if folder.recipe.is_file():
        commands["Repeat"] = f"{train} {'--recipe ' if is_classifier else ''}runs/{name}/recipe.toml"
    return commands


def _name_data(recipe: dict[str, Any]) -> str:
    """Return the data set of a recipe for a command: without its folder, and without what a shell would run."""
    name = re.match(r"[a-z]\w*(:?)", str(flatten_fields(recipe).get("data.name", "cifar10")))
    return "cifar10" if name is None else name[0] + "PATH" * len(name[1])


def read_report(store: RunStore, name: str) -> bytes:
    """Return the report of a run as HTML, without the folders of paths.

    Args:
        store: The runs.
        name: The name of the run.

    Raises:
        LookupError: There is no such run, or it has no report.
        RunsUnavailable: The ledger cannot be read, or another request waits for it.
    """
    store.read_row(name)
    folder = _find_folder(name)
    with suppress(OSError):
        if folder is not None:
            page = _read_text(folder.path / "report.html", errors="replace")
            return re.sub(r"(?<=<dd>)[^<]*", _hide_paths, page).encode()
    raise LookupError(f"run {name} has no report")


def _hide_paths(match: re.Match[str]) -> str:
    return html.escape(shorten_paths(hide_passwords(html.unescape(match[0]))))


def _list_parts(folder: RunFolder | None) -> dict[str, int]:
    """Return the number of sample images of each part: clean, noisy, `epoch_N` for some epochs, and denoised."""
    samples = _read_samples(folder)
    epochs = sorted((name for name in samples if name.startswith("epoch_")), key=lambda name: int(name[6:]))
    return {name: len(samples[name]) for name in ("clean", "noisy", *epochs, "denoised") if name in samples}


def _read_samples(folder: RunFolder | None) -> dict[str, npt.NDArray[np.uint8]]:
    return {} if folder is None else read_samples(folder.samples)


def read_sample_strip(store: RunStore, name: str, part: str) -> npt.NDArray[np.uint8]:
    """Return the sample images of one part next to each other, (H, N * W, 3).

    Args:
        store: The runs.
        name: The name of the run.
        part: A part that `describe_run` lists.

    Raises:
        LookupError: There is no such run or no such part.
        RunsUnavailable: The ledger cannot be read, or another request waits for it.
    """
    store.read_row(name)
    images = _read_samples(_find_folder(name)).get(part)
    if images is None or not images.size or images.shape[1] != 3:
        raise LookupError(f"run {name} has no samples {part}")
    return np.ascontiguousarray(np.concatenate(list(images.transpose(0, 2, 3, 1)), axis=1))


def list_studies(store: RunStore) -> list[str]:
    """Return the names of the studies in the ledger's database.

    Args:
        store: The runs.

    Raises:
        RunsUnavailable: The ledger cannot be read, or another request waits for it.
    """
    with store.reading() as ledger:
        return [] if ledger is None else _read_study_names(ledger)


def _read_study_names(ledger: Ledger) -> list[str]:
    # Read directly, since Optuna would create its tables.
    with ledger.engine.connect() as connection:
        if not inspect(connection).has_table("studies"):
            return []
        return sorted(map(str, connection.execute(text("SELECT study_name FROM studies")).scalars()))


def _find_study(store: RunStore, run: str) -> str | None:
    """Return the study that a run belongs to: the trials of a study are named STUDY-NUMBER."""
    study, _, number = run.rpartition("-")
    return study if number.isdecimal() and study in list_studies(store) else None


def describe_study(store: RunStore, name: str) -> dict[str, Any]:
    """Return the goals and the trials of a study, and the importance of each field.

    Args:
        store: The runs.
        name: The name of the study.

    Raises:
        LookupError: There is no such study.
        RunsUnavailable: The ledger cannot be read, or another request waits for it.
    """
    if name not in list_studies(store):
        raise LookupError(f"no study {name}")
    with store.reading():
        records = StudyRecords(name, store.url).open()
        rows, space = records.rows(), records.space
    titles = shorten_field_names(dict.fromkeys(field for row in rows for field in row.point))
    trials: list[dict[str, Any]] = [
        {
            "number": row.number,
            "run": row.run,
            "state": row.state,
            "epochs": row.epochs,
            "psnr": get_number(row.psnr),
            "reason": make_public(row.reason),
            "values": {titles[field]: _show_value(value) for field, value in row.point.items()},
        }
        for row in rows
    ]
    finished = [trial for trial in trials if trial["state"] == "finished" and trial["psnr"] is not None]
    cells = tuple((title, tuple(trial["values"].get(title) for trial in finished)) for title in titles.values())
    shares, reason = _compute_importances(cells, tuple(trial["psnr"] for trial in finished))
    return {
        "name": name,
        "space": make_public(space.name),
        "goals": [SEARCH_GOALS[goal].title for goal in space.search.goals],
        "fields": list(titles.values()),
        "trials": trials,
        "importances": shares,
        "note": reason,
    }


@lru_cache(maxsize=8)
def _compute_importances(
    cells: tuple[tuple[str, tuple[Any, ...]], ...], psnrs: tuple[float, ...]
) -> tuple[dict[str, float], str]:
    """Return the importance of each field, or the reason why there is none. It takes seconds to compute."""
    shares, reason = compute_importances(dict(cells), psnrs)
    return shares, make_public(reason[:1].upper() + reason[1:] + "." * bool(reason))


def find_crop(store: RunStore, crop: str, model: str) -> Path:
    """Return the picture of a model's result on a crop of the leaderboard.

    Args:
        store: The runs and the leaderboard.
        crop: The name of the crop.
        model: The name of the model's file.

    Raises:
        LookupError: There is no such picture.
    """
    # Only files that are listed are found, so the names cannot lead out of the folder.
    path = store.list_crops().get(crop, {}).get(model)
    if path is None:
        raise LookupError(f"no crop {crop} of {model}")
    return path
