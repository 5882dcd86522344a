"""Weights & Biases."""

import os
from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from reverie.training.loggers.logger import Logger, RunInfo, Status, Video

_EXIT_CODES: dict[Status, int] = {"finished": 0, "failed": 1, "interrupted": 255}


class WandbLogger(Logger):
    """Logs to the project `reverie`, or to `WANDB_PROJECT`. `WANDB_MODE=offline` needs no network."""

    name = "wandb"

    def __init__(self) -> None:
        import wandb

        self._wandb: Any = wandb
        self._run: Any = None
        self._defined: set[str] = set()

    @override
    def open(self, run: RunInfo, config: Mapping[str, Any], resume_id: str | None) -> str:
        settings = self._wandb.Settings(console="off")  # The display of the terminal is not part of the log.
        if run.is_quiet:
            settings.silent = True
        self._run = self._wandb.init(
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
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._log(step, values)

    @override
    def video(self, step: int, name: str, video: Video) -> None:
        self._log(step, {name: self._wandb.Video(str(video.path), format="gif")})

    @override
    def close(self, status: Status) -> None:
        self._run.finish(exit_code=_EXIT_CODES[status])

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        # Not W&B's own step: it cannot go back to 0 for pretraining, and drops what comes late.
        axis = "updates" if all(name.startswith("pretraining/") for name in values) else "step"
        for name in values.keys() - self._defined:
            self._run.define_metric(name, step_metric=axis)
            self._defined.add(name)
        self._run.log({axis: step, **values})
