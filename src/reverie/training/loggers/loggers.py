"""The loggers of a run, and the file with what each of them has."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import ReverieError
from reverie.runs.atomic_io import Unreadable, atomic_write, dumps_checksummed, loads_checksummed, read_file
from reverie.runs.layout import TRACKERS
from reverie.training.loggers.logger import Logger, RunInfo, Status
from reverie.training.loggers.registry import make_logger
from reverie.training.loggers.video import Video

_MAX_BYTES = 1 << 20
_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)


@dataclass
class _Progress:
    """State of one logger: the tracker's id of the run, and the last step of each metric, picture and video."""

    id: str | None = None
    steps: dict[str, int] = field(default_factory=dict)


class Loggers:
    """Sends everything to every logger, once.

    A logger that raises is named in one message and left out from then on. `trackers.json` in the run folder has each
    tracker's id and what was sent last, so that a resumed run continues there: the rows that it computes a second time
    are not sent a second time.

    Args:
        loggers: names of the registry, or loggers.
        run_dir: the run folder.
        log: prints a message to the user.

    Raises:
        ConfigError: if a name is unknown, or its package is missing.
    """

    def __init__(self, loggers: Sequence[str | Logger], run_dir: Path, log: Callable[[str], None]) -> None:
        self._path = Path(run_dir) / TRACKERS
        self._log = log
        self._active: dict[str, Logger] = {}
        self._failed: list[Logger] = []
        self._progress: dict[str, _Progress] = {}
        self._can_save = True
        for given in loggers:
            logger = make_logger(given) if isinstance(given, str) else given
            self._active.setdefault(logger.name or type(logger).__name__, logger)

    def open(self, run: RunInfo, config: Mapping[str, Any]) -> None:
        """Open all loggers; those of a resumed run continue under their old ids."""
        self._progress = {} if run.resumed_at is None else self._read()

        def open_one(name: str, logger: Logger) -> None:
            progress = self._progress.setdefault(name, _Progress())
            tracker_id = logger.open(run, config, progress.id)
            if tracker_id is not None and not _ID.fullmatch(tracker_id):
                raise ValueError(f"The tracker's id {tracker_id!r} has other characters than letters, digits, '_-.'")
            progress.id = tracker_id
            if logger.discards_later_rows and run.resumed_at is not None:
                progress.steps = {metric: min(step, run.resumed_at) for metric, step in progress.steps.items()}

        self._for_each(open_one)
        self._save()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Send metrics of one step. A name that a logger already has at this step or a later one is left out."""
        fresh = {name: self._unsent(name, step, values) for name in self._active}
        self._save()

        def send(name: str, logger: Logger) -> None:
            if fresh[name]:
                logger.scalars(step, {metric: float(values[metric]) for metric in fresh[name]})

        self._for_each(send)

    def video(self, step: int, name: str, frames: NDArray[np.uint8], fps: float, gif: bytes | None = None) -> None:
        """Send a video, uint8 [T, H, W, 3]; `gif` is the content of its file, if it was encoded before."""
        video = Video(frames, fps, gif)
        self._send_once(step, name, lambda logger: logger.video(step, name, video))

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Send a picture, uint8 [H, W, 3]."""
        self._send_once(step, name, lambda logger: logger.image(step, name, image))

    def close(self, status: Status) -> None:
        """Close all loggers. A second call does nothing."""
        self._for_each(lambda name, logger: logger.close(status))
        for logger in self._failed:
            # A tracker may hold the run's id until it is closed. Its failure was reported before.
            with suppress(Exception):
                logger.close(status)
        self._active, self._failed = {}, []

    def _send_once(self, step: int, name: str, send: Callable[[Logger], None]) -> None:
        fresh = {logger: self._unsent(logger, step, [name]) for logger in self._active}
        self._save()
        self._for_each(lambda key, logger: send(logger) if fresh[key] else None)

    def _unsent(self, logger: str, step: int, names: Mapping[str, float] | Sequence[str]) -> list[str]:
        """Return the names that a logger lacks at a step, and count them as sent."""
        steps = self._progress[logger].steps
        unsent = [name for name in names if step > steps.get(name, -1)]
        steps.update(dict.fromkeys(unsent, step))
        return unsent

    def _for_each(self, call: Callable[[str, Logger], None]) -> None:
        for name, logger in list(self._active.items()):
            try:
                call(name, logger)
            except Exception as error:  # whatever a tracker raises must not end the run
                self._failed.append(self._active.pop(name))
                words = " ".join(str(error).split()) or type(error).__name__
                self._log(f"Logger {name} failed ({words[:80]}). It gets no more of this run. Training continues.")

    def _save(self) -> None:
        # Before the values are sent: a killed run may lack a row in a tracker, but has none twice.
        content = {name: {"id": each.id, "steps": each.steps} for name, each in self._progress.items()}
        try:
            atomic_write(self._path, dumps_checksummed(content))
        except ReverieError as error:
            if self._can_save:
                self._log(f"{error} A resumed run may log rows twice.")
            self._can_save = False

    def _read(self) -> dict[str, _Progress]:
        if not self._path.exists():
            return {}
        try:
            return _parse(loads_checksummed(read_file(self._path, limit=_MAX_BYTES)))
        except Unreadable as error:
            self._log(f"{self._path} {error}. Trackers start a new run of their own.")
            return {}


def _parse(content: Any) -> dict[str, _Progress]:
    if not isinstance(content, dict):
        raise Unreadable("is damaged")
    result = {}
    for name, entry in content.items():
        if not isinstance(entry, dict) or entry.keys() != {"id", "steps"} or not isinstance(entry["steps"], dict):
            raise Unreadable("is damaged")
        is_id = entry["id"] is None or (isinstance(entry["id"], str) and _ID.fullmatch(entry["id"]))
        if not is_id or not all(type(step) is int for step in entry["steps"].values()):
            raise Unreadable("is damaged")
        result[name] = _Progress(entry["id"], entry["steps"])
    return result
