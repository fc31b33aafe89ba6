"""The trackers MLflow, Weights & Biases and Trackio, which have a server or a database of their own."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from daelab._util.config import ConfigDocument
from daelab.runs.folder import RunFolder
from daelab.training.checkpoint import BestEpoch

PROJECT = "daelab"
"""The default name of the project, or of the experiment, that runs are grouped under."""


class MLflow:
    """A tracker that sends parameters, metrics and, at the end, the recipe and the best model to MLflow.

    The experiment is $MLFLOW_EXPERIMENT_NAME, or `daelab`.

    Args:
        place: The tracking URI. Default: $MLFLOW_TRACKING_URI.
        run: The folder of the run.
        recipe: The recipe of the training.
        first: The first epoch to report, from 1; from 2 on, the MLflow run of the earlier epochs goes on.
    """

    def __init__(self, place: str | None, run: RunFolder, recipe: ConfigDocument, first: int) -> None:
        """Find or create the MLflow run, and send the parameters."""
        # MLflow reports to its maker unless it is told not to; a server that does not answer is not waited for.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self.run, self.metric = run, Metric
        self.client: Any = MlflowClient(place or os.environ["MLFLOW_TRACKING_URI"])
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self.client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self.client.create_experiment(name)
        tags = {"daelab.run": run.name, "daelab.recipe_sha256": recipe.sha256}
        same = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        earlier = self.client.search_runs([experiment], same, max_results=1) if first > 1 else []
        tracked = earlier[0] if earlier else self.client.create_run(experiment, run_name=run.name, tags=tags)
        self.id = tracked.info.run_id
        self.client.update_run(self.id, status="RUNNING")
        params = [Param(key, str(value)) for key, value in flatten_recipe(recipe).items()]
        self.client.log_batch(self.id, params=params)

    def epoch(self, row: Mapping[str, float], best: BestEpoch) -> None:
        """Send the row's columns as metrics.

        Args:
            row: The epoch's row of metrics.csv.
            best: Not used.
        """
        now, step = time.time_ns() // 1_000_000, int(row["epoch"])
        self.client.log_batch(self.id, [self.metric(key, float(value), now, step) for key, value in row.items()])

    def end(self, status: str, best: BestEpoch) -> None:
        """Send the run's files and its status.

        Args:
            status: The ledger's status of the run.
            best: Not used.
        """
        for path in (self.run.recipe, self.run.best, self.run.metrics):
            if path.is_file():
                self.client.log_artifact(self.id, str(path))
        names = {"finished": "FINISHED", "interrupted": "KILLED"}
        self.client.set_terminated(self.id, names.get(status, "FAILED"))


class _OpenRun:
    """A run of a tracker that takes the values of an epoch at once."""

    tracked: Any

    def epoch(self, row: Mapping[str, float], best: BestEpoch) -> None:
        """Record the row's columns.

        Args:
            row: The epoch's row of metrics.csv.
            best: Not used.
        """
        self.tracked.log(dict(row), step=int(row["epoch"]))


class WandB(_OpenRun):
    """A tracker that records parameters and metrics with Weights & Biases.

    Nothing leaves the computer unless $WANDB_MODE is `online`; `wandb sync` uploads the folder later.

    Args:
        place: The project. Default: $WANDB_PROJECT, or `daelab`.
        run: The folder of the run, which gets a folder `wandb`.
        recipe: The recipe of the training.
        first: The first epoch to report, from 1; from 2 on, the run of the earlier epochs goes on.
    """

    def __init__(self, place: str | None, run: RunFolder, recipe: ConfigDocument, first: int) -> None:
        """Open the run, and record the parameters."""
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        import wandb

        # Only the numbers are recorded: neither the source, its repository, the machine nor the terminal.
        settings = wandb.Settings(
            mode=os.environ.get("WANDB_MODE", "offline"),
            console="off",
            silent=True,
            disable_code=True,
            disable_git=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
        )
        self.tracked = wandb.init(
            project=place or os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=f"{run.name}-{recipe.sha256[:8]}",
            dir=str(run.path),
            config=flatten_recipe(recipe),
            resume="allow" if first > 1 else None,
            settings=settings,
        )

    def end(self, status: str, best: BestEpoch) -> None:
        """Record the scores of the best epoch and the status.

        Args:
            status: The ledger's status of the run.
            best: The best epoch; its number is 0 where there is none.
        """
        if best.epoch:
            self.tracked.summary.update({"best_val_loss": best.val_loss, "best_val_psnr": best.val_psnr})
        self.tracked.finish(exit_code=int(status != "finished"))


class Trackio(_OpenRun):
    """A tracker that records parameters and metrics in the local database of Trackio, in $TRACKIO_DIR.

    Args:
        place: The project. Default: `daelab`.
        run: The folder of the run.
        recipe: The recipe of the training.
        first: The first epoch to report, from 1; from 2 on, the run of the earlier epochs goes on.
    """

    def __init__(self, place: str | None, run: RunFolder, recipe: ConfigDocument, first: int) -> None:
        """Open the run, and record the parameters."""
        import trackio

        # It prints to standard output, which belongs to the results of the command.
        with contextlib.redirect_stdout(io.StringIO()):
            # The module closes the run, since it would close it again at the end of the process, and print so.
            self._close = trackio.finish
            self.tracked = trackio.init(
                place or PROJECT,
                name=run.name,
                config=flatten_recipe(recipe),
                resume="allow" if first > 1 else "never",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def end(self, status: str, best: BestEpoch) -> None:
        """Close the run.

        Args:
            status: Not used.
            best: Not used.
        """
        with contextlib.redirect_stdout(io.StringIO()):
            self._close()


def flatten_recipe(recipe: ConfigDocument) -> dict[str, str | int | float | bool]:
    """Return the fields of a recipe that have a value, with dotted names.

    Args:
        recipe: The recipe.
    """
    fields: dict[str, Any] = {}

    def take(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                take(f"{prefix}.{key}" if prefix else key, inner)
        elif value is not None:
            fields[prefix] = value if isinstance(value, str | int | float | bool) else str(value)

    take("", recipe.to_dict())
    return fields
