"""Runs as the studio shows them: read while they are written, and never changed."""

import base64
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import numpy as np

from reverie.analysis import published
from reverie.analysis.diagnose import examine, find
from reverie.analysis.diagnose.picture import draw
from reverie.analysis.labels import agent_label
from reverie.analysis.runs import run_folders
from reverie.config import PRESETS, Config, as_text, diff, flatten, load_config, preset
from reverie.errors import ReverieError
from reverie.runs.checkpoint import is_checkpoint
from reverie.runs.layout import CHECKPOINTS, RunPaths
from reverie.runs.locks import is_locked
from reverie.runs.metrics import MetricsTail
from reverie.runs.provenance import read_provenance
from reverie.studio.example_agents import PREFIX, example_path

POINTS = 1_000
"""Points of a curve that are sent to a page."""
STALE = 600
"""Seconds without a row of metrics after which a run that still holds its lock counts as stale."""
MESSAGES = 100
"""Newest messages of a run that are sent to a page."""
KEPT = ("step", "frames", "time", "updates")


@dataclass
class WatchedRun:
    """A run whose files are read as they grow."""

    path: Path
    name: str
    """Path relative to the studio's folder."""
    config: Config | None = None
    problem: str = ""
    """Why it cannot be read; empty if it can."""
    columns: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    """Frames and values of each metric."""
    last: dict[str, Any] = field(default_factory=dict)
    """The latest row."""
    _paths: RunPaths = field(init=False)
    _tail: MetricsTail | None = None
    _config_time: float = -1.0

    def __post_init__(self) -> None:
        self._paths = RunPaths(self.path)

    def refresh(self) -> None:
        """Read what is new."""
        paths = self._paths
        try:
            changed = paths.config_path.stat().st_mtime
            if changed != self._config_time:
                self.config, self._config_time = load_config(paths.config_path), changed
            self.problem = ""
        except OSError:
            self.problem = "Its config.toml is missing."
        except ReverieError as error:
            self.problem = str(error)
        self._tail = self._tail or MetricsTail(paths.metrics)
        restarted, rows = self._tail.read()
        if restarted:
            self.columns, self.last = {}, {}
        for row in rows:
            frames = row.get("frames")
            if not isinstance(frames, int | float):
                continue
            self.last = row
            for name, value in row.items():
                if name not in KEPT and isinstance(value, int | float):
                    places, values = self.columns.setdefault(name, ([], []))
                    places.append(float(frames))
                    values.append(float(value))

    def state(self) -> str:
        """Return finished, running, stale, failed or stopped."""
        paths = self._paths
        planned = 0 if self.config is None else self.config.training.steps
        if is_locked(paths.lock_path):
            return "stale" if time.time() - self._written() > STALE else "running"
        if self.last and self.last.get("step", 0) >= planned > 0:
            return "finished"
        return "failed" if any(paths.failures.glob("update-*")) else "stopped"

    def summary(self) -> dict[str, Any]:
        """Return the row of the table of runs."""
        config, last = self.config, self.last
        about = read_provenance(self._paths.provenance_path)
        scores = self.columns.get("eval/return") or self.columns.get("episode/return")
        speeds = self.columns.get("perf/fps")
        return {
            "name": self.name,
            "problem": self.problem,
            "env": "" if config is None else config.env.name,
            "preset": about.preset or "",
            "variant": about.variant or "",
            "seed": None if config is None else config.training.seed,
            "state": self.state(),
            "step": last.get("step", 0),
            "planned": 0 if config is None else config.training.steps,
            "frames": last.get("frames", 0),
            "fps": speeds[1][-1] if speeds else None,
            "return": scores[1][-1] if scores else None,
            "written": self._written(),
            "has_agent": any((self.path / CHECKPOINTS).glob("[!.]*")),
        }

    def series(self, metrics: Iterable[str], points: int = POINTS) -> dict[str, Any]:
        """Return curves over frames, with at most so many points each: means of equally many rows."""
        return {name: thin(*self.columns[name], points) for name in metrics if name in self.columns}

    def details(self) -> dict[str, Any]:
        """Return what the page of the run shows beside its curves."""
        about = read_provenance(self._paths.provenance_path)
        config = self.config
        videos = sorted(path.name for path in (self.path / "videos").glob("*.gif"))
        found: dict[str, Any] = {
            **self.summary(),
            "label": self.name if config is None else agent_label(config, about.preset, about.variant),
            "metrics": sorted(self.columns),
            "has_replay": self._paths.replay.exists(),
            "starts": [dict(start) for start in about.starts],
            "videos": videos[::-1],
            "messages": last_lines(self._paths.messages, MESSAGES),
            "settings": [],
            "changed": [],
            "references": {},
        }
        if config is not None:
            found["settings"] = [[path, as_text(value)] for path, value in flatten(config).items()]
            base = preset(about.preset) if about.preset in PRESETS else None
            changes = [] if base is None else diff(config, base.for_env(config.env.name))
            found["changed"] = [[path, as_text(now), as_text(then)] for path, then, now in changes]
            found["references"] = references(config.env.name)
        return found

    def _written(self) -> float:
        try:
            return self._paths.metrics.stat().st_mtime
        except OSError:
            return 0.0


class RunIndex:
    """All runs in a folder, up to four levels down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._runs: dict[str, WatchedRun] = {}
        self._lock, self._look = Lock(), Lock()
        self._summaries: list[dict[str, Any]] = []
        self._looked = float("-inf")

    def refresh(self) -> list[WatchedRun]:
        """Find new runs, forget those that are gone, and read what is new in the others."""
        with self._lock:
            found = {}
            for path in run_folders(self.folder):
                if not path.is_dir():
                    continue
                name = path.relative_to(self.folder).as_posix()
                found[name] = self._runs.get(name) or WatchedRun(path, name)
            self._runs = found
            for run in found.values():
                run.refresh()
            return list(found.values())

    def summaries(self, max_age: float = 0.0) -> list[dict[str, Any]]:
        """Return the rows of the table of runs, those of the last look if that was less than `max_age` seconds ago."""
        with self._look:
            if time.monotonic() - self._looked > max_age:
                self._summaries = [run.summary() for run in self.refresh()]
                self._looked = time.monotonic()
            return self._summaries

    def get(self, name: str) -> WatchedRun | None:
        """Return a run, a checkpoint of one, a saved agent, or an example agent, by its name; None if there is none."""
        with self._lock:
            run = self._runs.get(name)
            if run is None and name.startswith(PREFIX):
                with suppress(ReverieError):
                    run = WatchedRun(example_path(name.removeprefix(PREFIX)), name)
            elif run is None:
                with suppress(OSError, ValueError):  # a name that no file can have
                    path = (self.folder / name).resolve()
                    run = WatchedRun(path, name) if path.is_relative_to(self.folder) and is_checkpoint(path) else None
            if run is None or not run.path.is_dir():
                return None
            run.refresh()
            return run


def diagnosis(run: Path) -> dict[str, Any]:
    """Return the findings about a run's newest checkpoint, worst first, and their picture as PNG in base64.

    Raises:
        RunError: if it cannot be examined.
    """
    report = examine(run, device="cpu")
    findings = find(report)
    with TemporaryDirectory() as folder:
        picture = draw(report, findings, Path(folder, "diagnosis.png")).read_bytes()
    return {
        "steps": report.agent_steps,
        "findings": [finding._asdict() for finding in findings],
        "picture": base64.b64encode(picture).decode(),
    }


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a text file, the newest first; none if there is no such file."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return list(deque(file, count))[::-1]
    except OSError:
        return []


def thin(places: list[float], values: list[float], points: int) -> list[list[float]]:
    """Return the means of groups of neighbours: frames, and values."""
    number = -(-len(places) // points)
    if number <= 1:
        return [places, values]
    starts = np.arange(0, len(places), number)
    sizes = np.diff(np.append(starts, len(places)))
    return [(np.add.reduceat(np.asarray(each), starts) / sizes).round(6).tolist() for each in (places, values)]


def references(environment: str) -> dict[str, Any]:
    """Return what is published for a task: lines by name, and the curve of the published agent."""
    found: dict[str, Any] = {"lines": {}}
    if (scores := published.game_scores(environment)) is not None:
        lines = {"random": scores.random, "human": scores.gamer, "record": scores.record}
        found["lines"] = {name: float(value) for name, value in lines.items() if np.isfinite(value)}
    if (curve := published.curve(environment, "release")) is not None:
        found["curve"] = thin(curve.frames.tolist(), curve.mean.tolist(), POINTS)
    return found
