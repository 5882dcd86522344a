"""Weights & Biases, MLflow and Trackio."""

import io
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from typing_extensions import override

from reverie.training.loggers.logger import Logger, RunInfo, Status


class _Tracker(Logger):
    """A logger with a package of its name, imported when the logger is created."""

    def __init__(self) -> None:
        self._package: Any = import_module(self.name)
        self._run: Any = None


class WandbLogger(_Tracker):
    """Logs to the project `reverie`, or to `WANDB_PROJECT`. `WANDB_MODE=offline` needs no network."""

    name = "wandb"

    @override
    def open(self, run: RunInfo, config: Mapping[str, Any], resume_id: str | None) -> str:
        settings = self._package.Settings(console="off")  # The display of the terminal is not part of the log.
        if run.is_quiet:
            settings.silent = True
        self._defined: set[str] = set()
        self._run = self._package.init(
            project=os.environ.get("WANDB_PROJECT", "reverie"),
            dir=run.path,
            name=run.name,
            id=resume_id,
            resume="allow" if resume_id else None,
            config={**config, "run": run.describe()},
            reinit="create_new",
            settings=settings,
        )
        return str(self._run.id)

    @override
    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        # Not W&B's own step: it cannot go back to 0 for pretraining, and drops what comes late.
        axis = "updates" if all(name.startswith("pretraining/") for name in values) else "step"
        for name in values.keys() - self._defined:
            self._run.define_metric(name, step_metric=axis)
            self._defined.add(name)
        self._run.log({axis: step, **values})

    @override
    def video(self, step: int, name: str, path: Path) -> None:
        self.scalars(step, {name: self._package.Video(str(path), format="gif")})

    @override
    def close(self, status: Status) -> None:
        self._run.finish(exit_code={"finished": 0, "failed": 1, "interrupted": 255}[status])


class MlflowLogger(_Tracker):
    """Logs to the experiment `reverie`, or `MLFLOW_EXPERIMENT_NAME`, of the server in `MLFLOW_TRACKING_URI`."""

    name = "mlflow"

    @override
    def open(self, run: RunInfo, config: Mapping[str, Any], resume_id: str | None) -> str:
        self._client = self._package.MlflowClient()
        if resume_id is None:
            experiment = self._package.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "reverie"))
            tags = {f"reverie.{name}": value for name, value in run.describe().items()}
            self._run = self._client.create_run(experiment.experiment_id, tags=tags, run_name=run.name).info.run_id
            params = [self._package.entities.Param(name, str(value)) for name, value in _flatten(config)]
            for start in range(0, len(params), 100):  # MLflow takes 100 at a time
                self._client.log_batch(self._run, params=params[start : start + 100])
        else:
            self._run = resume_id
            self._client.update_run(self._run, "RUNNING")
        # Parameters cannot change; a resumed run's settings may.
        self._client.log_dict(self._run, dict(config), "config.json")
        return self._run

    @override
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._package.entities.Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    @override
    def video(self, step: int, name: str, path: Path) -> None:
        self._client.log_artifact(self._run, str(path), f"videos/{name}")

    @override
    def close(self, status: Status) -> None:
        names = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
        self._client.set_terminated(self._run, names[status])


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


class TrackioLogger(_Tracker):
    """Logs to the project `reverie`, or to `TRACKIO_PROJECT`, on this machine or in `TRACKIO_SPACE_ID`."""

    name = "trackio"

    @override
    def open(self, run: RunInfo, config: Mapping[str, Any], resume_id: str | None) -> str:
        name = resume_id or f"{re.sub(r'[^A-Za-z0-9_.-]', '-', run.name)[:64]}-{uuid.uuid4().hex[:6]}"
        self._output = io.StringIO() if run.is_quiet else sys.stdout
        with redirect_stdout(self._output):
            self._run = self._package.init(
                project=os.environ.get("TRACKIO_PROJECT", "reverie"),
                name=name,
                config={**config, "run": run.describe()},
                resume="allow",
                embed=False,
            )
        return name

    @override
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    @override
    def video(self, step: int, name: str, path: Path) -> None:
        self._run.log({name: self._package.Video(path)}, step=step)

    @override
    def close(self, status: Status) -> None:
        with redirect_stdout(self._output):
            self._package.finish()
