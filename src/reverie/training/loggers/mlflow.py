"""MLflow."""

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from typing_extensions import override

from reverie.training.loggers.logger import Logger, RunInfo, Status, Video

_STATUS: dict[Status, str] = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_BATCH = 100
"""Parameters that MLflow takes at a time."""


class MlflowLogger(Logger):
    """Logs to the experiment `reverie`, or `MLFLOW_EXPERIMENT_NAME`, of the server in `MLFLOW_TRACKING_URI`."""

    name = "mlflow"

    def __init__(self) -> None:
        import mlflow

        self._mlflow: Any = mlflow
        self._client: Any = None
        self._id = ""

    @override
    def open(self, run: RunInfo, config: Mapping[str, Any], resume_id: str | None) -> str:
        self._client = self._mlflow.MlflowClient()
        if resume_id is None:
            experiment = self._mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "reverie"))
            tags = {f"reverie.{name}": value for name, value in run.describe().items()}
            self._id = self._client.create_run(experiment.experiment_id, tags=tags, run_name=run.name).info.run_id
            params = [self._mlflow.entities.Param(name, str(value)) for name, value in _flatten(config)]
            for start in range(0, len(params), _BATCH):
                self._client.log_batch(self._id, params=params[start : start + _BATCH])
        else:
            self._id = resume_id
            self._client.update_run(self._id, "RUNNING")
        # Parameters cannot change; a resumed run's settings may.
        self._client.log_dict(self._id, dict(config), "config.json")
        return self._id

    @override
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._mlflow.entities.Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    @override
    def video(self, step: int, name: str, video: Video) -> None:
        self._client.log_artifact(self._id, str(video.path), f"videos/{name}")

    @override
    def close(self, status: Status) -> None:
        self._client.set_terminated(self._id, _STATUS[status])


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
