"""Trackio."""

import os
import re
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.training.loggers.logger import Logger, RunInfo, Status
from reverie.training.loggers.video import Video


class TrackioLogger(Logger):
    """Logs to the project `reverie`, or to `TRACKIO_PROJECT`, on this machine or in `TRACKIO_SPACE_ID`."""

    name = "trackio"

    def __init__(self) -> None:
        import trackio

        self._trackio: Any = trackio
        self._run: Any = None

    def open(self, run: RunInfo, config: Mapping[str, Any], resume_id: str | None) -> str:
        """Start a run, or continue one. Trackio knows a run by its name, so that it must be a new one."""
        name = resume_id or f"{re.sub(r'[^A-Za-z0-9_.-]', '-', run.name)[:64]}-{uuid.uuid4().hex[:6]}"
        self._run = self._trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", "reverie"),
            name=name,
            config={**config, "run": run.describe()},
            resume="allow",
            embed=False,
        )
        return name

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log a row."""
        self._run.log(dict(values), step=step)

    def video(self, step: int, name: str, video: Video) -> None:
        """Log an animated GIF."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "video.gif"
            file.write_bytes(video.gif)
            self._run.log({name: self._trackio.Video(file)}, step=step)

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Log a PNG."""
        self._run.log({name: self._trackio.Image(image)}, step=step)

    def close(self, status: Status) -> None:
        """Write, or upload, what is pending."""
        self._trackio.finish()
