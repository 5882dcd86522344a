"""How a cell stands, by what lies in its run folder."""

import json
import time
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from reverie.experiments.cells import Cell, changes
from reverie.experiments.track import Tail, Track
from reverie.runs.atomic_io import atomic_path
from reverie.runs.checkpoints import Checkpoints, step_and_copy
from reverie.runs.run_folder import RunFolder

FAILURE = "failure.json"
"""In a run folder: how the last attempt failed. The next start removes it."""


class Stage(Enum):
    """What a run folder says."""

    NEW = "new"
    """There is nothing to go on from."""
    PARTIAL = "partial"
    DONE = "done"
    """It has its planned steps, and its last evaluation."""
    OTHER = "other"
    """It holds a run with other settings."""


class Standing(NamedTuple):
    """A cell as found."""

    stage: Stage
    track: Track
    differences: list[str]
    """Of `Stage.OTHER`: in words."""


def look(cell: Cell, folder: Path) -> Standing:
    """How a cell stands in the folder of a sweep.

    A run writes its last row of metrics after its last evaluation, so that a row of the planned steps says that it is
    done. If there are checkpoints (they may be removed from a finished run), the newest must be of those steps, too.

    Raises:
        ConfigError: if the run's configuration cannot be read.
    """
    run = RunFolder(folder / cell.place)
    track = Tail(run.metrics).read()
    if not run.config_path.is_file():
        return Standing(Stage.NEW, track, [])
    differences = changes(run.saved_config(), cell.config)
    if differences:
        return Standing(Stage.OTHER, track, differences)
    newest = Checkpoints(run.checkpoints).latest()
    planned = cell.config.training.steps
    saved = planned if newest is None else step_and_copy(newest.name)[0]
    if min(track.step, saved) >= planned:
        return Standing(Stage.DONE, track, [])
    return Standing(Stage.PARTIAL if newest is not None else Stage.NEW, track, [])


class Failure(NamedTuple):
    """How an attempt at a cell failed."""

    error: str
    """Last line that it wrote."""
    time: float
    """Unix time."""


def note_failure(run: Path, error: str) -> None:
    """Leave a note in a run folder."""
    with atomic_path(run / FAILURE) as temporary:
        temporary.write_text(json.dumps({"error": error, "time": time.time()}) + "\n", encoding="utf-8")


def read_failure(run: Path) -> Failure | None:
    """The note of a failure, if there is one."""
    try:
        said = json.loads((run / FAILURE).read_text(encoding="utf-8"))
        return Failure(str(said["error"]), float(said["time"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
