"""Weights & Biases."""

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.training.loggers.logger import Logger, RunInfo, Status
from reverie.training.loggers.video import Video

_EXIT_CODES: dict[Status, int] = {"finished": 0, "failed": 1, "interrupted": 255}


class WandbLogger(Logger):
    """Logs to the project `reverie`, or to `WANDB_PROJECT`. `WANDB_MODE=offline` needs no network."""

    name = "wandb"

    def __init__(self) -> None:
        import wandb

        self._wandb: Any = wandb
        self._run: Any = None
        self._defined: set[str] = set()

    def open(self, run: RunInfo, config: Mapping[str, Any], resume_id: str | None) -> str:
        """Start a run, or continue one; local files are in `RUN/wandb`."""
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", "reverie"),
            dir=run.path,
            name=run.name,
            id=resume_id,
            resume="allow" if resume_id else None,
            config={**config, "run": run.describe()},
            reinit="create_new",
            # The display of the terminal is not part of the log.
            settings=self._wandb.Settings(console="off"),
        )
        return str(self._run.id)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log a row over `step`, or over `updates` in pretraining."""
        self._log(step, values)

    def video(self, step: int, name: str, video: Video) -> None:
        """Log an animated GIF."""
        self._log(step, {name: self._wandb.Video(io.BytesIO(video.gif), format="gif")})

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Log a PNG."""
        self._log(step, {name: self._wandb.Image(image)})

    def close(self, status: Status) -> None:
        """Upload what is pending. An interrupted run is shown as killed."""
        self._run.finish(exit_code=_EXIT_CODES[status])

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        # Not W&B's own step: it cannot go back to 0 for pretraining, and drops what comes late.
        axis = "updates" if all(name.startswith("pretraining/") for name in values) else "step"
        for name in values.keys() - self._defined:
            self._run.define_metric(name, step_metric=axis)
            self._defined.add(name)
        self._run.log({axis: step, **values})
