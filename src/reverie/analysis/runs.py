"""Runs for analysis, read from a run folder or a pair of exported files."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from reverie.analysis.curves import Curve, curve
from reverie.analysis.labels import agent_label
from reverie.config import Config, load_config
from reverie.errors import ReverieError, RunError
from reverie.runs.layout import CONFIG, METRICS, SWEEP, RunPaths
from reverie.runs.locks import is_locked
from reverie.runs.metrics import read_metrics
from reverie.runs.provenance import read_provenance

Source = Literal["evaluations", "training episodes"]

FINAL_SHARE = 0.1
"""A score at some number of frames is the mean of the evaluations in the last tenth of them."""
DEPTH = 4
"""Levels of folders that are searched for runs."""


class Score(NamedTuple):
    """A run's score at some number of frames."""

    value: float
    source: Source
    rows: int  # number of metric rows averaged


class Unreadable(NamedTuple):
    """A run that cannot be read, and why, in one sentence."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Run:
    """One run: a seed of an agent in an environment."""

    path: Path
    config: Config
    rows: Sequence[Mapping[str, float]]  # of metrics, oldest first; at least one
    status: Literal["finished", "running", "stopped"]
    """`running`: a process holds its lock. `stopped`: it ended, or was ended, before its planned steps."""
    preset: str | None = None
    variant: str | None = None
    starts: tuple[Mapping[str, Any], ...] = ()
    """From its `about.json`: time, step, command, commit and machine of each start."""

    @property
    def environment(self) -> str:
        """Gymnasium id."""
        return self.config.env.name

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.config.training.seed

    @property
    def label(self) -> str:
        """Label of the agent: preset, variant, and settings that differ from these."""
        return agent_label(self.config, self.preset, self.variant)

    @property
    def frames(self) -> float:
        """Environment frames reached."""
        return max(row["frames"] for row in self.rows)

    @property
    def frames_planned(self) -> int:
        """Environment frames of a finished run."""
        return self.config.training.steps * self.config.env.action_repeat

    def curve(self, metric: str) -> Curve:
        """Return a metric over environment frames."""
        return curve(self.rows, metric)

    def score_at(self, frames: float) -> Score | None:
        """Return the mean of the evaluations in the last tenth of the frames up to here, [0.9 F, F].

        Without any, it is the mean of the training episodes there, and says so; None if there are none of these either.
        """
        sources: dict[Source, str] = {"evaluations": "eval/return", "training episodes": "episode/return"}
        for source, metric in sources.items():
            line = self.curve(metric)
            inside = line.values[(line.frames >= (1 - FINAL_SHARE) * frames) & (line.frames <= frames)]
            if len(inside):
                return Score(float(inside.mean()), source, len(inside))
        return None

    @property
    def final_score(self) -> Score | None:
        """The score at the planned frames; None if the run did not get there, or has no episodes there."""
        return self.score_at(self.frames_planned) if self.status == "finished" else None


def find_runs(paths: Iterable[Path]) -> tuple[list[Run], list[Unreadable]]:
    """Read every run that these paths mean, and return those that cannot be read, too, in the order of the paths.

    They are run folders; their `metrics.jsonl`; `NAME.metrics.jsonl` next to `NAME.config.toml`; or folders that hold
    such runs, up to four levels down; those that the plan of their sweep does not name any more count as unreadable. A
    run that is meant twice is read once.

    Raises:
        RunError: if no run is left.
    """
    runs: dict[Path, Run | None] = {}
    broken: list[Unreadable] = []
    for given in map(Path, paths):
        try:
            found = _locate(given)
        except RunError as error:
            broken.append(Unreadable(given, str(error)))
            continue
        for path in found:
            if path.resolve() not in runs:
                runs[path.resolve()] = None
                if path != given and _is_dropped(path.resolve()):
                    broken.append(Unreadable(path, "The plan of its sweep does not name it any more."))
                    continue
                try:
                    runs[path.resolve()] = read_run(path)
                except ReverieError as error:
                    broken.append(Unreadable(path, str(error)))
    read = [run for run in runs.values() if run is not None]
    if not read:
        reason = broken[0].reason if broken else "Name at least one run folder."
        raise RunError(f"There is no run that can be read. {reason}")
    return read, broken


def read_run(path: Path) -> Run:
    """Read a run from its folder, or from a metrics file whose name starts as that of its configuration does.

    Raises:
        RunError: if it has no metrics, or they are damaged.
        ConfigError: if its configuration is missing or damaged.
    """
    paths = RunPaths(path) if path.is_dir() else RunPaths(path.parent, path.name.removesuffix(METRICS))
    config, metrics = load_config(paths.config_path), paths.metrics
    rows = read_metrics(metrics) if metrics.is_file() else []
    if not rows:
        raise RunError(f"{path} has no metrics yet: it stopped before its first row, or has just begun.")
    for number, row in enumerate(rows, 1):
        if not math.isfinite(row.get("frames", math.nan)):
            raise RunError(f"{metrics}, row {number} is damaged: it has no number of frames.")
    ended: Literal["finished", "stopped"] = "finished" if rows[-1]["step"] >= config.training.steps else "stopped"
    status = "running" if is_locked(paths.lock_path) else ended
    return Run(path, config, rows, status, *read_provenance(paths.provenance_path))


def _locate(path: Path) -> list[Path]:
    """Return the runs that a path means: run folders, and exported metrics files; raise RunError without any."""
    if not path.exists():
        raise RunError(f"There is nothing at {path}. Give the folder of a run, or one that holds runs.")
    if path.is_file():
        if path.name in (METRICS, CONFIG):
            return [path.parent]
        if path.name.endswith(f".{METRICS}"):
            return [path]
        raise RunError(f"{path} is not the {METRICS} of a run. Give the folder of a run, or one that holds runs.")
    found = list(run_folders(path, DEPTH))
    if not found:
        raise RunError(f"There is no run in {path}: no folder with a {CONFIG} or {METRICS}.")
    return found


def _is_dropped(run: Path) -> bool:
    """Return whether a run SWEEP/ENV/VARIANT/seed-N is not in the plan of its sweep."""
    try:
        planned = json.loads((run.parents[2] / SWEEP).read_text(encoding="utf-8"))["runs"]
        return run.relative_to(run.parents[2]).as_posix() not in planned
    except (OSError, ValueError, LookupError, TypeError):
        return False


def run_folders(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Yield the run folders and exported metrics files in a folder, so many levels down."""
    if (folder / METRICS).is_file() or (folder / CONFIG).is_file():
        yield folder
        return
    yield from sorted(folder.glob(f"*.{METRICS}"))
    if depth:
        for child in sorted(path for path in folder.iterdir() if path.is_dir()):
            yield from run_folders(child, depth - 1)
