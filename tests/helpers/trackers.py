"""A small run for loggers, and a logger that keeps what it gets."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.training.loggers import Logger, Loggers, RunInfo
from reverie.video import save_video

CONFIG = {"env": {"name": "ALE/Pong-v5"}, "training": {"seed": 3, "steps": 100}}
FRAMES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)


class Recorder(Logger):
    """Keeps every call. `fail_at` is the step at which it raises, once."""

    name = "recorder"

    def __init__(self, fail_at: int | None = None) -> None:
        self.fail_at = fail_at
        self.calls: list[tuple[str, Any]] = []

    def open(self, run: RunInfo, config: Mapping[str, Any], resume_id: str | None) -> str:
        self.calls.append(("open", resume_id))
        return resume_id or "id-1"

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if step == self.fail_at:
            raise RuntimeError("the server is\naway")
        self.calls.append(("scalars", (step, dict(values))))

    def video(self, step: int, name: str, path: Path) -> None:
        self.calls.append(("video", (step, name, path.name)))

    def close(self, status: str) -> None:
        self.calls.append(("close", status))

    @property
    def rows(self) -> list[tuple[int, dict[str, float]]]:
        return [content for kind, content in self.calls if kind == "scalars"]


def video_at(path: Path, frames: NDArray[np.uint8] = FRAMES, fps: float = 15) -> Path:
    """Write a GIF of random pixels, or of other frames."""
    return save_video(frames, path, fps)


def open_loggers(
    loggers: Sequence[str | Logger], path: Path, resumed_at: int | None = None
) -> tuple[Loggers, list[str]]:
    """Open loggers for a run folder; the messages that they print are in the list."""
    messages: list[str] = []
    opened = Loggers(loggers, path, messages.append)
    opened.open(RunInfo("my run", path, "ALE/Pong-v5", preset="atari", resumed_at=resumed_at), CONFIG)
    return opened, messages


def log_run(
    logger: str,
    path: Path,
    steps: Sequence[int],
    resumed_at: int | None = None,
    before: Callable[[int], None] = lambda step: None,
) -> tuple[Recorder, list[str]]:
    """Log training rows, evaluations and videos to a tracker and to a recorder.

    Args:
        logger: name of the tracker.
        path: the run folder.
        steps: of the rows; `episode/return` is the step, `eval/return` twice that.
        resumed_at: step of the checkpoint that the run continues from.
        before: called with each step before its rows are logged.

    Returns:
        The recorder, and the messages.
    """
    recorder = Recorder()
    loggers, messages = open_loggers([logger, recorder], path, resumed_at)
    for update in (1, 2):
        loggers.scalars(update, {"pretraining/kl": 10.0 - update})
    for step in steps:
        before(step)
        loggers.scalars(step, {"episode/return": float(step), "model/kl": float("nan")})
        loggers.scalars(step, {"eval/return": 2.0 * step})
        loggers.video(step, "model/dream", video_at(path / f"dream-{step:09d}.gif", fps=10))
    loggers.close("finished")
    return recorder, messages
