"""A run's folder, and the ledger of all runs (SQLite by default, any SQLAlchemy URL).

runs/NAME/
    recipe.toml  environment.json  metrics.csv  checkpoint.safetensors  best.safetensors
    curves.png  samples.png  report.html
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from daelab.files import write_text

METRIC_COLUMNS = (
    "epoch",
    "learning_rate",
    "train_loss",
    "val_loss",
    "val_psnr",
    "val_psnr_batch",
    "seconds",
    "images_per_second",
)
"""Of metrics.csv: losses as the recipe's, PSNR in dB (mean over images; the paper's)."""


def root() -> Path:
    """The folder of all runs: $DAELAB_RUNS, or `runs` here."""
    return Path(os.environ.get("DAELAB_RUNS", "runs"))


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what it makes."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def checkpoint(self) -> Path:
        """Everything that resuming needs."""
        return self.path / "checkpoint.safetensors"

    @property
    def best(self) -> Path:
        """The model with the lowest validation loss."""
        return self.path / "best.safetensors"

    def write_metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write metrics.csv whole, so that it always agrees with the checkpoint."""
        text = io.StringIO()
        writer = csv.DictWriter(text, METRIC_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.metrics, text.getvalue())

    def read_metrics(self) -> list[dict[str, float]]:
        """The rows of metrics.csv; none where there is none yet."""
        if not self.metrics.is_file():
            return []
        with self.metrics.open(newline="", encoding="utf-8") as file:
            return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def folder(name: str, under: Path | None = None) -> RunFolder:
    """The folder of a run by its name.

    Raises:
        ValueError: the name is not one that every file system takes.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(f"run name {name!r}: use letters, digits, '.', '_' and '-', at most 100")
    return RunFolder((under or root()) / name)


def free_name(stem: str, under: Path | None = None) -> str:
    """`stem-1`, or the first number whose folder does not exist."""
    stem = re.sub(r"[^A-Za-z0-9._]+", "-", stem).strip("-.") or "run"
    number = 1
    while folder(f"{stem}-{number}", under).path.exists():
        number += 1
    return f"{stem}-{number}"


def environment() -> dict[str, Any]:
    """What a result may depend on besides its recipe: versions, processor, threads, commit."""
    import torch

    from daelab.modelfile import versions

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "git_commit": _git_commit(),
    }


def write_environment(run: RunFolder) -> None:
    """Write environment.json."""
    write_text(run.environment, json.dumps(environment(), indent=2) + "\n")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _git_commit() -> str | None:
    """Of the checkout this package runs from, where it does."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


_metadata = MetaData()
_schema = Table("daelab_schema", _metadata, Column("version", Integer, nullable=False))
_runs = Table(
    "runs",
    _metadata,
    Column("id", Integer, primary_key=True),
    # the paper's columns, in its log's order
    Column("test_id", Integer),
    Column("batch_size", Integer),
    Column("learning_rate", Float(53)),
    Column("epochs", Integer),
    Column("amsgrad", Boolean),
    Column("val_loss", Float(53)),
    Column("val_psnr", Float(53)),
    Column("val_f1", Float(53)),
    Column("train_size", Integer),
    Column("val_size", Integer),
    Column("weight_decay", Float(53)),
    Column("beta_1", Float(53)),
    Column("beta_2", Float(53)),
    Column("comments", String, nullable=False, default=""),
    # ours
    Column("name", String, nullable=False, unique=True),
    Column("status", String, nullable=False),
    Column("reason", String, nullable=False, default=""),
    Column("started", String, nullable=False),
    Column("finished", String),
    Column("epochs_done", Integer, nullable=False, default=0),
    Column("val_psnr_image", Float(53)),
    Column("architecture", String),
    Column("parameters", Integer),
    Column("noise", String),
    Column("optimiser", String),
    Column("seed", Integer),
    Column("precision", String),
    Column("seconds", Float(53)),
    Column("images_per_second", Float(53)),
    Column("folder", String),
    Column("recipe", JSON),
    Column("recipe_sha256", String),
)
PAPER_COLUMNS = {
    "test_id": "test_id",
    "batch_size": "batch_size",
    "learning_rate": "learning_rate",
    "epochs": "epochs",
    "amsgrad": "amsgrad",
    "Val Loss": "val_loss",
    "Val PSNR": "val_psnr",
    "Val F1": "val_f1",
    "Train Size": "train_size",
    "Val Size": "val_size",
    "weight_decay": "weight_decay",
    "beta_1": "beta_1",
    "beta_2": "beta_2",
    "Comments": "comments",
}
"""A column of the paper's log -> ours. Its "Val PSNR" is the batch PSNR."""
SCHEMA = 1
STATUSES = ("running", "finished", "interrupted", "failed", "imported")


class Ledger:
    """One row per run, in a database that many processes may share.

    Args:
        url: of SQLAlchemy, or None for $DAELAB_LEDGER or `ledger.db` among the runs.

    Raises:
        ValueError: the database cannot be opened, or is of a newer daelab.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = url or os.environ.get("DAELAB_LEDGER") or f"sqlite:///{root() / 'ledger.db'}"
        try:
            self.engine = _engine(self.url)
            self._prepare()
        except SQLAlchemyError as error:
            raise ValueError(f"ledger {self.url}: {_first_line(error)}") from None
        except ModuleNotFoundError as error:
            raise ValueError(f"ledger {self.url}: this database needs the package {error.name}") from None

    def _prepare(self) -> None:
        _metadata.create_all(self.engine)
        with self.engine.begin() as connection:
            found = connection.execute(select(_schema.c.version)).scalar()
            if found is None:
                connection.execute(insert(_schema).values(version=SCHEMA))
            elif found > SCHEMA:
                raise ValueError(f"ledger {self.url}: schema {found} is of a newer daelab; this one knows {SCHEMA}")

    def record(self, name: str, **values: Any) -> None:
        """Write what is known of a run; a first call needs `status`, later ones change the row."""
        with self.engine.begin() as connection:
            changed = connection.execute(update(_runs).where(_runs.c.name == name).values(**values))
            if changed.rowcount == 0:
                connection.execute(insert(_runs).values({"name": name, "started": now(), **values}))

    def rows(self) -> list[dict[str, Any]]:
        """Every run, in the order of their first record."""
        with self.engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(select(_runs).order_by(_runs.c.id))]

    def row(self, name: str) -> dict[str, Any]:
        """One run.

        Raises:
            ValueError: unknown; lists the names and the nearest match.
        """
        with self.engine.connect() as connection:
            found = connection.execute(select(_runs).where(_runs.c.name == name)).first()
            if found is None:
                from daelab.errors import unknown

                raise unknown("run", name, connection.execute(select(_runs.c.name)).scalars())
            return dict(found._mapping)

    def export_csv(self) -> str:
        """The runs in the columns of the paper's log; what was imported comes out byte for byte."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(PAPER_COLUMNS)
        for row in self.rows():
            writer.writerow([_cell(row[column]) for column in PAPER_COLUMNS.values()])
        return text.getvalue()

    def import_csv(self, path: Path, prefix: str = "") -> int:
        """Add the rows of a log in the paper's columns, named PREFIX-TEST_ID; gives their number.

        A row that is there already is replaced, so importing twice changes nothing.

        Raises:
            ValueError: names the file, the line and what is wrong; nothing is imported then.
        """
        try:
            rows = list(_read_log(path))
        except csv.Error as error:
            raise ValueError(f"{path}: {error}") from None
        prefix = prefix or Path(path).stem
        with self.engine.begin() as connection:
            for row in rows:
                name = f"{prefix}-{row['test_id']}"
                values = {"status": "imported", **row}
                changed = connection.execute(update(_runs).where(_runs.c.name == name).values(**values))
                if changed.rowcount == 0:
                    connection.execute(insert(_runs).values(name=name, started=now(), **values))
        return len(rows)


def _engine(url: str) -> Engine:
    options: dict[str, Any] = {"poolclass": NullPool}
    if url.startswith("sqlite"):
        place = url.partition("///")[2]
        if place:
            Path(place).parent.mkdir(parents=True, exist_ok=True)
        options["connect_args"] = {"timeout": 60}
    engine = create_engine(url, **options)
    if url.startswith("sqlite"):
        event.listen(engine, "connect", _take_part_in_transactions)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _take_part_in_transactions(connection: Any, _record: object) -> None:
    # Python's sqlite3 starts transactions too late; SQLAlchemy begins them itself, and at once
    # takes the write lock, so that two processes wait for each other instead of failing
    connection.isolation_level = None


def _read_log(path: Path) -> Iterable[dict[str, Any]]:
    readers: dict[str, Any] = {
        column.name: {Integer: _whole, Float: float, Boolean: _boolean}.get(type(column.type), str)
        for column in _runs.columns
    }
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file in UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if list(reader.fieldnames or ()) != list(PAPER_COLUMNS):
        raise ValueError(f"{path}: line 1 must name the columns {','.join(PAPER_COLUMNS)}")
    for cells in reader:
        row: dict[str, Any] = {}
        for title, column in PAPER_COLUMNS.items():
            cell = cells.get(title)
            if cell is None or None in cells:
                raise ValueError(f"{path}: line {reader.line_num} has not {len(PAPER_COLUMNS)} cells")
            try:
                row[column] = readers[column](cell) if cell or column == "comments" else None
            except ValueError:
                raise ValueError(f"{path}: line {reader.line_num}, {title}: cannot read {cell!r}") from None
        if row["test_id"] is None:
            raise ValueError(f"{path}: line {reader.line_num} has no test_id")
        yield row


def _whole(text: str) -> int:
    number = int(text)
    if abs(number) >= 2**63:  # more than a database's integer holds
        raise ValueError(text)
    return number


def _boolean(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(text)
    return text == "True"


def _cell(value: object) -> object:
    return "" if value is None else value


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def now() -> str:
    """UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
