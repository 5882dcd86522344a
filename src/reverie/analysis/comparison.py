"""Runs grouped into agents and environments, and scored where they can be compared: at common frames.

In an environment all scores are taken at the same number of frames F, the least that every counted run has reached. A
run that reached less than half of what the longest one there did would shorten the comparison too much: it is not
counted, and a note says so. With frames that the user names, the runs that reached these are counted.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reverie.analysis.labels import agent_label, agent_settings, setting_text, shared_settings
from reverie.analysis.runs import Run, Score, Unreadable

Floats = NDArray[np.float64]

COUNTED_SHARE = 0.5  # share of the longest run's frames below which a run does not take part


class Entry(NamedTuple):
    """One agent in one environment."""

    agent: str
    environment: str
    frames: float  # at which scores are taken
    runs: tuple[Run, ...]  # one a seed, in the order of seeds
    counted: tuple[Run, ...]  # those that reached the frames of the comparison
    scores: Mapping[int, Score]  # by seed, of the counted runs that have one

    @property
    def n(self) -> int:
        """Number of seeds that have a score."""
        return len(self.scores)

    @property
    def values(self) -> Floats:
        """Scores in the order of seeds, [n]."""
        return np.array([score.value for score in self.scores.values()], np.float64)

    @property
    def mean(self) -> float:
        """Mean over seeds; nan without any."""
        return float(self.values.mean()) if self.n else math.nan

    @property
    def std(self) -> float:
        """Sample standard deviation over seeds (divided by n - 1); nan for fewer than two."""
        return float(self.values.std(ddof=1)) if self.n > 1 else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Student's 95 % interval of the mean over seeds, mean ± t s / sqrt(n); nan for fewer than two."""
        reach = float(stats.t.ppf(0.975, self.n - 1)) * self.std / math.sqrt(self.n) if self.n > 1 else math.nan
        return self.mean - reach, self.mean + reach


@dataclass(frozen=True)
class Comparison:
    """The subject of a report."""

    agents: tuple[str, ...]  # labels, in the order of the first run of each
    environments: Mapping[str, tuple[Entry, ...]]  # by name, with scores at the same frames
    unreadable: tuple[Unreadable, ...]
    doubles: tuple[Run, ...]  # runs of a seed of which another run of the same agent and environment got farther
    shared: tuple[str, ...]  # settings of all agents, unless their variant says otherwise; labels omit them

    @property
    def entries(self) -> list[Entry]:
        """Entries of all environments."""
        return [entry for entries in self.environments.values() for entry in entries]

    @property
    def runs(self) -> list[Run]:
        """All that were read, without doubles."""
        return [run for entry in self.entries for run in entry.runs]


def compare(runs: Sequence[Run], unreadable: Sequence[Unreadable] = (), frames: float | None = None) -> Comparison:
    """Group runs and score them at some frames; None takes the most that the runs of an environment have in common."""
    labels, shared = label_agents(runs)
    agents = tuple(dict.fromkeys(labels[agent_settings(run.config)] for run in runs))
    groups: dict[str, dict[str, dict[int, Run]]] = {run.environment: {agent: {} for agent in agents} for run in runs}
    doubles = []
    for run in sorted(runs, key=lambda run: -run.frames):
        seeds = groups[run.environment][labels[agent_settings(run.config)]]
        if seeds.setdefault(run.seed, run) is not run:
            doubles.append(run)
    places = {}
    for name, here in groups.items():
        reached = [run.frames for seeds in here.values() for run in seeds.values()]
        at = frames or min(one for one in reached if one >= COUNTED_SHARE * max(reached))
        places[name] = tuple(_entry(agent, name, at, seeds) for agent, seeds in here.items() if seeds)
    texts = tuple(setting_text(path, value) for path, value in shared.items())
    return Comparison(agents, places, tuple(unreadable), tuple(doubles), texts)


def _entry(agent: str, name: str, frames: float, seeds: Mapping[int, Run]) -> Entry:
    runs = tuple(seeds[seed] for seed in sorted(seeds))
    counted = tuple(run for run in runs if run.frames >= frames)
    scores = {run.seed: found for run in counted if (found := run.score_at(frames))}
    return Entry(agent, name, frames, runs, counted, scores)


def label_agents(runs: Sequence[Run]) -> tuple[dict[Any, str], dict[str, Any]]:
    """Return labels by `agent_settings`, and the settings that all agents share and the labels leave out."""
    agents = {agent_settings(run.config): (run.config, run.preset, run.variant) for run in reversed(runs)}
    shared = shared_settings(list(agents.values()))
    short = {settings: agent_label(*agent, shared) for settings, agent in agents.items()}
    counts = Counter(short.values())
    return {
        settings: label if counts[label] == 1 else agent_label(*agents[settings], shared, shown=None)
        for settings, label in short.items()
    }, shared
