"""The loggers of a run, and the file with what each of them has."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reverie.errors import ReverieError
from reverie.runs.atomic_io import Unreadable, atomic_write, dumps_checksummed, loads_checksummed, read_file
from reverie.runs.layout import TRACKERS
from reverie.training.loggers.logger import Logger, RunInfo, Status, Video
from reverie.training.loggers.registry import make_logger

_MAX_BYTES = 1 << 20
_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)


@dataclass
class _Progress:
    """State of one logger: the tracker's id of the run, and the last step of each metric and video."""

    id: str | None = None
    steps: dict[str, int] = field(default_factory=dict)


class Loggers:
    """Sends everything to every logger, once.

    A logger that raises is named in one message and left out from then on. `trackers.json` in the run folder has each
    tracker's id and what was sent last, so that a resumed run continues there: the rows that it computes a second time
    are not sent a second time.

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
        self._send(step, values, lambda logger, names: logger.scalars(step, {n: float(values[n]) for n in names}))

    def video(self, step: int, name: str, video: Video) -> None:
        """Send a video."""
        self._send(step, [name], lambda logger, _: logger.video(step, name, video))

    def close(self, status: Status) -> None:
        """Close all loggers. A second call does nothing."""
        self._for_each(lambda name, logger: logger.close(status))
        for logger in self._failed:
            # A tracker may hold the run's id until it is closed. Its failure was reported before.
            with suppress(Exception):
                logger.close(status)
        self._active, self._failed = {}, []

    def _send(self, step: int, names: Iterable[str], send: Callable[[Logger, list[str]], None]) -> None:
        """Send each logger the names that it lacks at a step."""
        unsent: dict[str, list[str]] = {}
        for key in self._active:
            steps = self._progress[key].steps
            unsent[key] = [name for name in names if step > steps.get(name, -1)]
            steps.update(dict.fromkeys(unsent[key], step))
        # Before the values are sent: a killed run may lack a row in a tracker, but has none twice.
        self._save()
        self._for_each(lambda key, logger: send(logger, unsent[key]) if unsent[key] else None)

    def _for_each(self, call: Callable[[str, Logger], None]) -> None:
        for name, logger in list(self._active.items()):
            try:
                call(name, logger)
            except Exception as error:  # whatever a tracker raises must not end the run
                self._failed.append(self._active.pop(name))
                words = " ".join(str(error).split()) or type(error).__name__
                self._log(f"Logger {name} failed ({words[:80]}). It gets no more of this run. Training continues.")

    def _save(self) -> None:
        content = {name: asdict(progress) for name, progress in self._progress.items()}
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


def _parse(content: Mapping[str, Any]) -> dict[str, _Progress]:
    try:
        progress = {name: _Progress(**entry) for name, entry in content.items()}
        are_ids = all(each.id is None or _ID.fullmatch(each.id) for each in progress.values())
        are_steps = all(type(step) is int for each in progress.values() for step in each.steps.values())
    except (AttributeError, TypeError):
        are_ids = are_steps = False
    if not are_ids or not are_steps:
        raise Unreadable("is damaged")
    return progress
