"""Status of a cell, read from its run folder."""

import json
import time
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from reverie.experiments.cells import Cell, changes
from reverie.experiments.run_progress import ProgressReader, RunProgress
from reverie.runs.atomic_io import atomic_path
from reverie.runs.checkpoints import Checkpoints
from reverie.runs.checkpoints.format import step_and_copy
from reverie.runs.run_folder import RunFolder

FAILURE = "failure.json"
"""File in a run folder with the last failure. The next start removes it."""


class Stage(Enum):
    """State of a run folder."""

    NEW = "new"
    """There is nothing to continue from."""
    PARTIAL = "partial"
    DONE = "done"
    """It has its planned steps, and its last evaluation."""
    OTHER = "other"
    """It holds a run with other settings."""


class RunStatus(NamedTuple):
    """A cell's run folder: its stage and its metrics so far."""

    stage: Stage
    progress: RunProgress
    differences: list[str]
    """Settings that differ, in words; for `Stage.OTHER`."""


def read_status(cell: Cell, folder: Path) -> RunStatus:
    """Read the status of a cell in the folder of a sweep.

    A run writes its last row of metrics after its last evaluation, so that with a row of the planned steps it is done.
    If there are checkpoints (they may be removed from a finished run), the newest must be of those steps, too.

    Raises:
        ConfigError: if the run's configuration cannot be read.
    """
    run = RunFolder(folder / cell.place)
    progress = ProgressReader(run.metrics).read()
    if not run.config_path.is_file():
        return RunStatus(Stage.NEW, progress, [])
    differences = changes(run.saved_config(), cell.config)
    if differences:
        return RunStatus(Stage.OTHER, progress, differences)
    newest = Checkpoints(run.checkpoints).latest()
    planned = cell.config.training.steps
    saved = planned if newest is None else step_and_copy(newest.name)[0]
    if min(progress.step, saved) >= planned:
        return RunStatus(Stage.DONE, progress, [])
    return RunStatus(Stage.PARTIAL if newest is not None else Stage.NEW, progress, [])


class Failure(NamedTuple):
    """Failed attempt at a cell."""

    error: str
    """Last line that it wrote."""
    time: float
    """Unix time."""


def record_failure(run: Path, error: str) -> None:
    """Record a failure in a run folder."""
    with atomic_path(run / FAILURE) as temporary:
        temporary.write_text(json.dumps({"error": error, "time": time.time()}) + "\n", encoding="utf-8")


def read_failure(run: Path) -> Failure | None:
    """Return the recorded failure; None if there is none."""
    try:
        said = json.loads((run / FAILURE).read_text(encoding="utf-8"))
        return Failure(str(said["error"]), float(said["time"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
