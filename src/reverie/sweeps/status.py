"""Status of a sweep: what each of its runs has reached, and the time that is left.

A run takes `Pace.overhead` seconds until steps and updates are interleaved, and from there a constant time for every
frame. Both are measured on runs as similar as there are: of the same environment and variant, else of the same
environment, else of the same preset. The pace of a run that resembles nothing measured is unknown.
"""

import heapq
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from reverie.runs.checkpoint import step_and_copy
from reverie.runs.checkpoints import Checkpoints
from reverie.runs.locks import is_locked
from reverie.runs.metrics import MetricsTail
from reverie.runs.run_folder import RunFolder
from reverie.sweeps.planned_runs import PlannedRun, setting_changes

LOCK = ".sweep.lock"
"""In a run folder: locked by the sweep that runs it."""
FAILURE = "failure.json"
"""In a run folder: the last failure, which the next start removes."""


class State(Enum):
    """State of a run, in the words of the display."""

    WAITING = "waiting"
    RUNNING = "running"
    ELSEWHERE = "elsewhere"
    """A process that another sweep started runs it."""
    DONE = "done"
    FAILED = "failed"
    CHANGED = "changed"
    """Its folder holds a run with other settings."""
    DUPLICATE = "duplicate"
    """An earlier run is run in its place."""


OPEN = (State.WAITING, State.ELSEWHERE)
"""States of the runs that are unfinished and do not run here."""


@dataclass(frozen=True)
class RunProgress:
    """The rows of a run's metrics so far, summed up."""

    step: int = 0
    """Agent steps of the last row."""
    frames: float = 0.0
    """Environment frames of the last row."""
    seconds: float = 0.0
    """Wall seconds of the run at the last row."""
    updates: int = 0
    """Updates at the last row."""
    first: tuple[float, float] | None = None
    """Frames and seconds of the last row before steps and updates are interleaved: pretraining has another pace."""
    score: float | None = None
    """Mean return of the last evaluation, or of the last training episodes where there was no evaluation."""
    evaluated: bool = False
    """True if `score` is of an evaluation."""

    def after(self, row: dict[str, Any]) -> "RunProgress":
        """Return the progress with one more row."""
        frames, seconds = float(row["frames"]), float(row["time"])
        is_first = row["updates"] and (self.first is None or frames == self.first[0])
        score, evaluated = self.score, self.evaluated
        if (returned := row.get("eval/return")) is not None:
            score, evaluated = float(returned), True
        elif not evaluated and (returned := row.get("episode/return")) is not None:
            score = float(returned)
        first = (frames, seconds) if is_first else self.first
        return RunProgress(int(row["step"]), frames, seconds, int(row["updates"]), first, score, evaluated)


class Pace(NamedTuple):
    """Speed of runs of one kind."""

    overhead: float
    """Seconds until steps and updates are interleaved."""
    base: float
    """Frames at that moment."""
    per_frame: float
    """Seconds for each frame after it."""

    def left(self, frames: float, progress: RunProgress) -> float:
        """Return the seconds that a run of so many frames took from its last row on."""
        if progress.first is None:
            return max(self.overhead - progress.seconds, 0.0) + max(frames - self.base, 0.0) * self.per_frame
        return (frames - progress.frames) * self.per_frame


class RunStatus:
    """A run of a sweep and its state.

    Args:
        run: the planned run.
        folder: the folder of the sweep.
        clock: seconds, rising.
    """

    def __init__(self, run: PlannedRun, folder: Path, clock: Callable[[], float]) -> None:
        self.run = run
        self.folder = RunFolder(folder / run.path)
        self.state = State.DUPLICATE if run.duplicate_of else State.WAITING
        self.progress = RunProgress()
        self.error = ""
        """Why it failed, last."""
        self.attempts = 0
        """Starts by this process."""
        self._clock, self._seen = clock, clock()
        self._tail = MetricsTail(self.folder.metrics)

    def start(self) -> None:
        """Set the state to RUNNING."""
        self.state, self._seen = State.RUNNING, self._clock()

    def read_metrics(self) -> None:
        """Add the new rows of its metrics to the progress."""
        is_new, rows = self._tail.read()
        progress = RunProgress() if is_new else self.progress
        for row in rows:
            with suppress(KeyError, TypeError, ValueError):  # Lacks a counter, or has null for it.
                progress = progress.after(row)
        if progress != self.progress:
            self.progress, self._seen = progress, self._clock()

    def read(self) -> None:
        """Set the state to what the folder says: DONE, CHANGED or WAITING.

        A run writes its last row of metrics after its last evaluation, so that with a row of the planned steps it is
        done. If there are checkpoints (they may be removed from a finished run), the newest must be of those steps.

        Raises:
            ConfigError: if the run's configuration cannot be read.
        """
        self.read_metrics()
        self.state, planned = State.WAITING, self.run.config.training.steps
        if self.folder.config_path.is_file():
            newest = Checkpoints(self.folder.checkpoints).latest()
            saved = planned if newest is None else step_and_copy(newest.name)[0]
            if changes := setting_changes(self.folder.saved_config(), self.run.config):
                self.state, self.error = State.CHANGED, changes[0]
            elif min(self.progress.step, saved) >= planned:
                self.state = State.DONE

    def is_locked(self) -> bool:
        """Return whether a process runs it."""
        return is_locked(self.folder.path / LOCK) or self.folder.is_locked()

    def read_failure(self) -> tuple[str, float]:
        """Return the last line that the recorded failure wrote, and its Unix time; empty and 0 if there is none."""
        try:
            recorded = json.loads((self.folder.path / FAILURE).read_text(encoding="utf-8"))
            return str(recorded["error"]), float(recorded["time"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", 0.0

    @property
    def fraction(self) -> float:
        """Share of its frames that is done, 0 to 1."""
        return 1.0 if self.state is State.DONE else min(self.progress.frames / max(self.run.frames, 1), 1.0)

    @property
    def pretraining(self) -> float | None:
        """Share of its updates before behavior begins to act that is done, while frames do not rise."""
        settings, progress = self.run.config.training, self.progress
        planned = settings.pretrain_world_model + settings.pretrain
        is_paused = progress.first is not None and progress.frames == progress.first[0]
        return progress.updates / planned if is_paused and progress.updates < planned else None

    @property
    def pace(self) -> Pace | None:
        """Its own pace; None before its second row after an update."""
        progress = self.progress
        if progress.first is None or progress.frames <= progress.first[0] or progress.seconds <= progress.first[1]:
            return None
        frames, seconds = progress.first
        return Pace(seconds, frames, (progress.seconds - seconds) / (progress.frames - frames))

    @property
    def frames_per_second(self) -> float | None:
        """Speed since its first update; None before it was measured."""
        return None if self.pace is None else 1 / self.pace.per_frame

    @property
    def kinds(self) -> tuple[tuple[str, ...], ...]:
        """Keys by which runs are compared, closest first."""
        run = self.run
        return ("variant", run.env, run.variant), ("env", run.env), ("preset", run.preset)

    def left(self, pace: Pace) -> float:
        """Return the seconds that it still takes at a pace."""
        passed = self._clock() - self._seen if self.state is State.RUNNING else 0.0
        return max(pace.left(self.run.frames, self.progress) - passed, 0.0)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        run = self.run
        return {
            **{name: getattr(run, name) for name in ("env", "variant", "seed", "preset", "id", "duplicate_of")},
            **asdict(self.progress),
            "folder": str(self.folder.path),
            "state": self.state.value,
            "steps": run.config.training.steps,
            "frames_per_second": self.frames_per_second,
            "error": self.error,
        }


class Estimate(NamedTuple):
    """Time until a sweep is finished."""

    seconds: float | None
    """Estimate from the runs whose pace is known; None if no pace of a remaining run is known."""
    unknown: int
    """Runs left that resemble nothing measured."""
    borrowed: int = 0
    """Runs left whose pace is that of another environment."""


@dataclass
class SweepStatus:
    """All runs of a sweep, in the order in which they start."""

    name: str
    folder: Path
    workers: int
    """Runs at a time."""
    runs: list[RunStatus] = field(default_factory=list)

    def of(self, *states: State) -> list[RunStatus]:
        """Return the runs in one of these states."""
        return [status for status in self.runs if status.state in states]

    def counts(self) -> dict[State, int]:
        """Return the number of runs in each state; states without any are left out."""
        return {state: len(found) for state in State if (found := self.of(state))}

    @property
    def fraction(self) -> float:
        """Share of all frames that is done, 0 to 1; duplicates do not count."""
        counted = [status for status in self.runs if status.state is not State.DUPLICATE]
        frames = sum(status.run.frames for status in counted)
        return sum(status.fraction * status.run.frames for status in counted) / frames if frames else 1.0

    def paces(self) -> Callable[[RunStatus], tuple[Pace | None, bool]]:
        """Return a function: mean pace of the runs most similar to one, and whether these have another environment."""
        measured: dict[tuple[str, ...], list[Pace]] = {}
        for status in self.runs:
            if (pace := status.pace) is not None:
                for kind in status.kinds:
                    measured.setdefault(kind, []).append(pace)

        def pace_of(status: RunStatus) -> tuple[Pace | None, bool]:
            for kind in status.kinds:
                if found := measured.get(kind):
                    return Pace(*map(fmean, zip(*found, strict=True))), kind[0] == "preset"
            return None, False

        return pace_of

    def estimate(self) -> Estimate:
        """Return the time until all runs are finished, from the measurements so far."""
        pace_of = self.paces()
        found = [(status, *pace_of(status)) for status in self.of(State.RUNNING, *OPEN)]
        unknown = sum(pace is None for _, pace, _ in found)
        if found and unknown == len(found):
            return Estimate(None, unknown)
        left: dict[bool, list[float]] = {True: [], False: []}  # By whether they run here.
        for status, pace, _ in found:
            left[status.state is State.RUNNING].append(0.0 if pace is None else status.left(pace))
        seconds = makespan(left[True], left[False], self.workers)
        return Estimate(seconds, unknown, sum(is_borrowed for *_, is_borrowed in found))

    def failures(self) -> str:
        """Return a sentence that names the failed runs; empty if there are none."""
        failed = self.of(State.FAILED)
        if not failed:
            return ""
        named = "; ".join(f"{status.run.name}: {status.error.rstrip('.')}" for status in failed[:3])
        more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
        return (
            f"{len(failed)} of {len(self.runs) - len(self.of(State.DUPLICATE))} runs failed ({named}{more}); each "
            "one's output.log says more, and the same command tries them again."
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        estimate = self.estimate()
        return {
            "name": self.name,
            "folder": str(self.folder),
            "workers": self.workers,
            "counts": {state.value: count for state, count in self.counts().items()},
            "fraction": self.fraction,
            "estimate": estimate._asdict(),
            "runs": [status.to_json() for status in self.runs],
        }


def makespan(running: Sequence[float], waiting: Sequence[float], workers: int) -> float:
    """Return the seconds until the last of some jobs ends; each waiting one starts as soon as a worker is free."""
    free = [*running, *[0.0] * max(workers - len(running), 0)]
    heapq.heapify(free)
    last = max(running, default=0.0)
    for seconds in waiting:
        end = heapq.heappop(free) + seconds
        heapq.heappush(free, end)
        last = max(last, end)
    return last
