"""MLflow."""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.training.loggers.logger import Logger, RunInfo, Status
from reverie.training.loggers.video import Video

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

    def open(self, run: RunInfo, config: Mapping[str, Any], resume_id: str | None) -> str:
        """Start a run with the settings as its parameters, or continue one."""
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

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log all values in one request."""
        now = int(time.time() * 1000)
        metrics = [self._mlflow.entities.Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def video(self, step: int, name: str, video: Video) -> None:
        """Save a GIF as the artifact `videos/NAME/STEP.gif`."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{step:09d}.gif"
            file.write_bytes(video.gif)
            self._client.log_artifact(self._id, str(file), f"videos/{name}")

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Save a picture, shown over steps."""
        self._client.log_image(self._id, image, key=name, step=step, synchronous=True)

    def close(self, status: Status) -> None:
        """Set the status of the run."""
        self._client.set_terminated(self._id, _STATUS[status])


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
