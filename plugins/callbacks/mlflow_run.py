"""A callback that logs to a run of MLflow."""

from __future__ import annotations

import logging
import math
import os
import re
import warnings
from pathlib import Path
from typing import Any

from aip_plugins.callbacks.remote_params import MLflowParams, sqlite_file
from aip_plugins.callbacks.tracking import Point, Tracker

from aipcore.training.callbacks.callback_list import RunEnd
from aipcore.training.callbacks.context import RunContext
from aipcore.training.reporter import SAMPLES_PER_SECOND
from aipcore.training.tensorboard.events import TRAIN_STEPS

logger = logging.getLogger("aipcore.callbacks")

TAG = "aip.run"
"""The tag that identifies the run."""

STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}

SETTINGS = {
    # A failed request is tried again after the next epoch, so the default of seven tries would only delay.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Environment variables of MLflow with default values set here."""

MOST_PARAMS, LONGEST_PARAM, MOST_METRICS = 100, 6000, 1000
"""MLflow's limits: parameters per request, characters per parameter, and values per request."""

MEASURED = (f"{TRAIN_STEPS}/{SAMPLES_PER_SECOND}", "system/")
"""Values that differ in every repetition. MLflow keeps the first ones."""


class MLflow(Tracker):
    """One run of MLflow, identified by a tag.

    MLflow cannot remove a value. A resumed run skips values that MLflow already has. If parameters were changed and a
    value differs, it is logged in addition to the first one, with a warning.
    """

    def __init__(self, params: MLflowParams, context: RunContext) -> None:
        super().__init__("MLflow", params, context)
        self.mlflow = params
        self._client: Any = None
        self._run = ""
        self._known: dict[str, dict[int, float]] | None = None
        self._differs = False
        self._use = None
        if params.system_metrics:
            from aip_plugins.callbacks.system_metrics import SystemUse

            self._use = SystemUse()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Send the values of the epoch, and the use of the machine if it is requested. W&B reads that itself."""
        use = {} if self._use is None else {f"system/{name}": value for name, value in self._use.read().items()}
        super().on_epoch_end(epoch, {**(logs or {}), **use})

    def open(self) -> None:
        """Find or create the run."""
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        with warnings.catch_warnings():
            # MLflow's own deprecation warnings are not for users of aip.
            warnings.simplefilter("ignore")
            self._open()

    def _open(self) -> None:
        from mlflow.tracking import MlflowClient

        # Their long logs repeat the one-sentence warning issued here.
        for each in ("mlflow", "urllib3.connectionpool"):
            logging.getLogger(each).setLevel(logging.CRITICAL)
        uri, artifacts = self._places()
        client = MlflowClient(tracking_uri=uri)
        name = self.mlflow.experiment or self.context.scenario
        known = client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else client.create_experiment(name, artifact_location=artifacts)
        # Search also without a resumed checkpoint: an earlier failed attempt may have created the run.
        found = client.search_runs([experiment], filter_string=f"tags.`{TAG}` = '{self.run_id}'")
        if found:
            self._run = found[0].info.run_id
            client.update_run(self._run, status="RUNNING")
        else:
            tags = {TAG: self.run_id, "scenario": self.context.scenario, **self.mlflow.tags}
            self._run = client.create_run(experiment, tags=tags, run_name=self.run_name).info.run_id
        self._known = {} if found else None
        self._log_params(client, found[0].data.params if found else {})
        client.set_tag(self._run, "output_dir", str(self.context.output_dir.absolute()))
        self._client = client

    def _places(self) -> tuple[str, str | None]:
        """Return the locations of runs and of their files, unless the server defines them."""
        uri = self.mlflow.given_uri()
        if uri is None:
            folder = self.context.output_dir.absolute()
            return f"sqlite:///{folder / 'mlflow.db'}", str(folder / "mlartifacts")
        if uri.startswith("sqlite:"):
            return uri, str(sqlite_file(uri).absolute().parent / "mlartifacts")
        return uri, None

    def _log_params(self, client: Any, before: dict[str, str]) -> None:
        """Log the parameters. Parameters cannot change, so changes on resuming become tags."""
        from mlflow.entities import Param, RunTag

        params = {_key(name): value[:LONGEST_PARAM] for name, value in self.flat_params().items()}
        new = [Param(name, value) for name, value in params.items() if name not in before]
        changed = {name: value for name, value in params.items() if before.get(name, value) != value}
        tags = [RunTag(f"resumed.{name}", value) for name, value in changed.items()]
        for first in range(0, max(len(new), len(tags)), MOST_PARAMS):
            some = slice(first, first + MOST_PARAMS)
            client.log_batch(self._run, params=new[some], tags=tags[some])

    def log(self, points: list[Point]) -> None:
        """Log the values that the run lacks."""
        metrics = [metric for point in points for metric in self._lacking(point)]
        try:
            for first in range(0, len(metrics), MOST_METRICS):
                self._client.log_batch(self._run, metrics=metrics[first : first + MOST_METRICS])
        except Exception:
            # The request may still have arrived.
            self._known = {}
            raise

    def _lacking(self, point: Point) -> list[Any]:
        from mlflow.entities import Metric

        fresh = {_key(name): value for name, value in point.values.items()}
        if self._known is not None:
            had = {name: self._points(name).get(point.place) for name in fresh}
            fresh = {name: value for name, value in fresh.items() if not _same(name, had[name], value)}
            if any(had[name] is not None for name in fresh) and not self._differs:
                self._differs = True
                logger.warning(
                    "MLflow already has other values of %s %d, from before the run was resumed. It shows both.",
                    point.axis, point.place,
                )  # fmt: skip
        return [Metric(name, value, int(point.when * 1000), point.place) for name, value in fresh.items()]

    def _points(self, name: str) -> dict[int, float]:
        """Return the run's values of a metric: the newest value by epoch."""
        assert self._known is not None
        if name not in self._known:
            history = sorted(self._client.get_metric_history(self._run, name), key=lambda point: point.timestamp)
            self._known[name] = {point.step: point.value for point in history}
        return self._known[name]

    def finish(self, end: RunEnd, outcome: dict[str, Any], files: list[Path]) -> None:
        """End the run."""
        for name, value in outcome.items():
            self._client.set_tag(self._run, name, str(value))
        for path in files:
            if path.is_dir():
                self._client.log_artifacts(self._run, str(path), path.name)
            else:
                self._client.log_artifact(self._run, str(path))
        self._client.set_terminated(self._run, STATUS[end.status])


def _key(name: str) -> str:
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)


def _same(name: str, had: float | None, value: float) -> bool:
    if had is None:
        return False
    return had == value or (math.isnan(had) and math.isnan(value)) or name.startswith(MEASURED)


def build(params: MLflowParams, context: RunContext) -> MLflow:
    """Return the callback."""
    return MLflow(params, context)
