"""Loggers by name, and those of a run with the file of what each of them has."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reverie.errors import ConfigError, ReverieError
from reverie.runs.atomic_io import Unreadable, atomic_write, dumps_checksummed, loads_checksummed, read_file
from reverie.runs.layout import TRACKERS
from reverie.training.loggers.logger import Logger, RunInfo, Status
from reverie.training.loggers.tensorboard import TensorBoardLogger
from reverie.training.loggers.trackers import MlflowLogger, TrackioLogger, WandbLogger

_MAX_BYTES = 1 << 20
_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)

LOGGERS: dict[str, type[Logger]] = {
    kind.name: kind for kind in (TensorBoardLogger, WandbLogger, MlflowLogger, TrackioLogger)
}
"""By the name that `--log` takes. An own class can be added."""


def make_logger(name: str) -> Logger:
    """Create a logger; raise ConfigError if the name is unknown, or its package is missing."""
    if name not in LOGGERS:
        raise ConfigError(f"There is no logger '{name}'. Nothing was started. Choose from: {', '.join(LOGGERS)}.")
    try:
        return LOGGERS[name]()
    except ImportError as error:
        raise ConfigError(
            f"Logger '{name}' is not installed ({error}). Nothing was started. Run: pip install 'reverie[{name}]'"
        ) from error


@dataclass
class _Progress:
    """Last step of each metric and video that was sent to a logger."""

    id: str | None = None
    """The tracker's id of the run."""
    steps: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        is_id = self.id is None or (isinstance(self.id, str) and _ID.fullmatch(self.id))
        if not is_id or not all(type(step) is int for step in self.steps.values()):
            raise TypeError


class Loggers:
    """Sends everything to every logger, once.

    A logger that raises is named in one message and left out from then on. `trackers.json` in the run folder has each
    tracker's id and what was sent last, so that a resumed run continues there: the rows that it computes a second time
    are not sent a second time.

    Raises:
        ConfigError: if a name is unknown, or its package is missing.
    """

    def __init__(self, loggers: Sequence[str | Logger], run_dir: Path, log: Callable[[str], None]) -> None:
        self._path = run_dir / TRACKERS
        self._log = log
        made = [make_logger(logger) if isinstance(logger, str) else logger for logger in loggers]
        self._active = {logger.name or type(logger).__name__: logger for logger in made}
        self._failed: list[Logger] = []
        self._progress: dict[str, _Progress] = {}
        self._can_save = True

    def open(self, run: RunInfo, config: Mapping[str, Any]) -> None:
        """Open all loggers; those of a resumed run continue under their old ids."""
        self._progress = {} if run.resumed_at is None else self._read()

        def open_one(name: str, logger: Logger) -> None:
            progress = self._progress.setdefault(name, _Progress())
            tracker_id = logger.open(run, config, progress.id)
            if tracker_id is not None and not _ID.fullmatch(tracker_id):
                raise ValueError(f"The tracker's id {tracker_id!r} has other characters than letters, digits, '_-.'")
            progress.id = tracker_id

        self._for_each(open_one)
        self._save()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Send metrics of one step. A name that a logger already has at this step or a later one is left out."""
        self._send(step, values, lambda logger, names: logger.scalars(step, {n: float(values[n]) for n in names}))

    def video(self, step: int, name: str, path: Path) -> None:
        """Send a GIF."""
        self._send(step, [name], lambda logger, _: logger.video(step, name, path))

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
        try:
            atomic_write(self._path, dumps_checksummed({name: asdict(sent) for name, sent in self._progress.items()}))
        except ReverieError as error:
            if self._can_save:
                self._log(f"{error} A resumed run may log rows twice.")
            self._can_save = False

    def _read(self) -> dict[str, _Progress]:
        if not self._path.exists():
            return {}
        try:
            content = loads_checksummed(read_file(self._path, limit=_MAX_BYTES))
            return {name: _Progress(**entry) for name, entry in content.items()}
        except (Unreadable, AttributeError, TypeError) as error:
            words = error if isinstance(error, Unreadable) else "is damaged"
            self._log(f"{self._path} {words}. Trackers start a new run of their own.")
            return {}
