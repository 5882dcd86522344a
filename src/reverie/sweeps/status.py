"""Progress of a sweep, read from the folders of its runs, and the table that shows it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table
from rich.text import Text

from reverie.runs.checkpoint import step_and_copy
from reverie.runs.checkpoints import Checkpoints
from reverie.runs.metrics import MetricsTail
from reverie.runs.run_folder import RunFolder
from reverie.sweeps.planned_runs import PlannedRun
from reverie.training.numbers import format_duration, format_number


class State(Enum):
    """State of a run, in the words of the display."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


STYLES = {State.RUNNING: "cyan", State.DONE: "green", State.FAILED: "bold red"}


class RunStatus:
    """A run of a sweep: its folder, its state, and the newest value of each of its metrics."""

    def __init__(self, run: PlannedRun, sweep: Path) -> None:
        self.run = run
        self.folder = RunFolder(sweep / run.path)
        self.state = State.WAITING
        self.error = ""
        self.latest: dict[str, Any] = {}
        self._tail = MetricsTail(self.folder.metrics)

    def read_metrics(self) -> None:
        """Read the rows of metrics that are new."""
        is_new_file, rows = self._tail.read()
        if is_new_file:
            self.latest.clear()
        for row in rows:
            self.latest |= {name: value for name, value in row.items() if value is not None}

    def read(self) -> None:
        """Set the state to what the folder says: DONE, RUNNING (in any process) or WAITING.

        A run writes its last row of metrics after its last evaluation, so that with a row of the planned steps it is
        done. If there are checkpoints (they may be removed from a finished run), the newest must be of those steps.

        Raises:
            ConfigError: if the run's configuration cannot be read.
            RunError: if the folder holds a run with other settings than planned.
        """
        self.read_metrics()
        self.state, planned = State.WAITING, self.run.config.training.steps
        if self.folder.config_path.is_file():
            self.run.check_settings(self.folder.saved_config())
            newest = Checkpoints(self.folder.checkpoints).latest()
            saved = planned if newest is None else step_and_copy(newest.name)[0]
            if min(self.step, saved) >= planned:
                self.state = State.DONE
        if self.state is State.WAITING and self.folder.is_locked():
            self.state = State.RUNNING

    @property
    def step(self) -> int:
        """Agent steps of the newest row."""
        return int(self.latest.get("step", 0))

    @property
    def saved_step(self) -> int:
        """Agent steps of the newest checkpoint; 0 if there is none."""
        newest = Checkpoints(self.folder.checkpoints).latest()
        return 0 if newest is None else step_and_copy(newest.name)[0]

    @property
    def fraction(self) -> float:
        """Share of its steps that is done, 0 to 1."""
        return min(self.step / self.run.config.training.steps, 1.0)

    @property
    def score(self) -> str:
        """Last score; that of training episodes, before there is an evaluation, says so."""
        for name, ending in (("eval/return", ""), ("episode/return", " (training)")):
            if name in self.latest:
                return format_number(self.latest[name]) + ending
        return ""


@dataclass
class Sweep:
    """All runs of a sweep, in the order in which they start; `workers` of them at a time."""

    name: str
    folder: Path
    workers: int
    runs: list[RunStatus]

    def of(self, *states: State) -> list[RunStatus]:
        """Return the runs in one of these states."""
        return [status for status in self.runs if status.state in states]

    @property
    def unfinished(self) -> list[RunStatus]:
        """Runs that are waiting or running, in this process or another one."""
        return self.of(State.WAITING, State.RUNNING)

    def seconds_left(self) -> float | None:
        """Return an estimate, from the mean time that a frame takes now in the runs that learn; None without any."""
        speeds = [status.latest.get("perf/fps") for status in self.runs if status.latest.get("updates")]
        frames = sum((1 - status.fraction) * status.run.frames for status in self.unfinished)
        if not any(speeds):
            return None
        return frames * fmean(1 / speed for speed in speeds if speed) / min(self.workers, len(self.unfinished))

    def summary(self) -> str:
        """Return `NAME: 3 done, 2 running, 7 waiting, about 2:10:07 left`."""
        counts = Counter(status.state.value for status in self.runs)
        parts = [f"{count} {state}" for state, count in counts.items()]
        if self.unfinished:
            left = self.seconds_left()
            parts.append("time left unknown" if left is None else f"about {format_duration(left)} left")
        return f"{self.name}: {', '.join(parts)}"


def status_table(runs: Iterable[RunStatus], caption: str) -> Table:
    """Return a table of runs, with what each has reached, its speed and its last score."""
    columns = ("environment", "preset", "agent", "seed", "state", "done", "frames/s", "last score")
    table = Table(*columns, caption=caption, caption_justify="left")
    for status in runs:
        run, state = status.run, status.state.value
        if status.state is State.WAITING and status.step:
            state = "interrupted"
        shown = Text(state, STYLES.get(status.state, "dim"))
        speed = format_number(status.latest["perf/fps"]) if "perf/fps" in status.latest else ""
        cells = (shown, f"{status.fraction:.0%}", speed, status.score)
        table.add_row(run.env, run.preset, run.agent, str(run.seed), *cells)
    return table
