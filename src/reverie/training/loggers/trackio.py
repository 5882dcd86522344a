"""Trackio."""

import io
import os
import re
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from typing import Any

from typing_extensions import override

from reverie.training.loggers.logger import Logger, RunInfo, Status, Video


class TrackioLogger(Logger):
    """Logs to the project `reverie`, or to `TRACKIO_PROJECT`, on this machine or in `TRACKIO_SPACE_ID`."""

    name = "trackio"

    def __init__(self) -> None:
        import trackio

        self._trackio: Any = trackio
        self._run: Any = None
        self._is_quiet = False

    @override
    def open(self, run: RunInfo, config: Mapping[str, Any], resume_id: str | None) -> str:
        name = resume_id or f"{re.sub(r'[^A-Za-z0-9_.-]', '-', run.name)[:64]}-{uuid.uuid4().hex[:6]}"
        self._is_quiet = run.is_quiet
        with self._output():
            self._run = self._trackio.init(
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
    def video(self, step: int, name: str, video: Video) -> None:
        self._run.log({name: self._trackio.Video(video.path)}, step=step)

    @override
    def close(self, status: Status) -> None:
        with self._output():
            self._trackio.finish()

    def _output(self) -> AbstractContextManager[object]:
        return redirect_stdout(io.StringIO()) if self._is_quiet else nullcontext()
