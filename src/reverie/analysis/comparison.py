"""Runs grouped into agents and environments, and scored where they can be compared: at common frames.

In an environment all scores are taken at the same number of frames F, the least that every counted run has reached. A
run that reached less than half of what the longest one there did would shorten the comparison too much: it is not
counted, and said so. With frames that the user names, the runs that reached these are counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.analysis.labels import SHOWN, agent_label, agent_settings, setting_text, shared_settings
from reverie.analysis.published import Suite, game_scores, task
from reverie.analysis.runs import Run, Score, Unreadable, score_at

Floats = NDArray[np.float64]

COUNTED_SHARE = 0.5
"""Runs that reached less than this share of the longest one's frames do not take part."""


@dataclass(frozen=True)
class Entry:
    """One agent in one environment."""

    agent: str
    environment: str
    runs: tuple[Run, ...]
    """One a seed, in the order of seeds."""
    counted: tuple[Run, ...]
    """Those that reached the frames of the comparison."""
    scores: Mapping[int, Score]
    """Of the counted runs that have one, by seed."""

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
        """Over seeds; nan without any."""
        return float(self.values.mean()) if self.n else float("nan")

    @property
    def std(self) -> float:
        """Sample standard deviation over seeds (divided by n - 1); nan for fewer than two."""
        return float(self.values.std(ddof=1)) if self.n > 1 else float("nan")


@dataclass(frozen=True)
class Environment:
    """All agents in one environment, at the same frames."""

    name: str
    frames: float
    """At which the scores are taken."""
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Comparison:
    """What a report is about."""

    agents: tuple[str, ...]
    """Labels, in the order of the first run of each."""
    environments: tuple[Environment, ...]
    unreadable: tuple[Unreadable, ...]
    doubles: tuple[Run, ...]
    """Runs of a seed that another run of the same agent and environment has, and that got less far."""
    frames_given: bool
    shared: tuple[str, ...] = ()
    """Settings that all agents have, unless their variant says otherwise; the labels leave them out."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Of all environments."""
        return tuple(entry for place in self.environments for entry in place.entries)

    @property
    def runs(self) -> tuple[Run, ...]:
        """All that were read, without doubles."""
        return tuple(run for entry in self.entries for run in entry.runs)


@dataclass(frozen=True)
class Matrix:
    """Scores of several agents over the same environments, each agent with as many seeds in each of them."""

    suite: Suite
    environments: tuple[str, ...]
    scores: Mapping[str, Floats]
    """By agent: raw scores, [seeds, environments]."""
    without: tuple[str, ...]
    """Environments of the suite that some agent has no score in."""
    unused: Mapping[str, tuple[tuple[str, int], ...]]
    """By agent: environment and seed of the scores that are left out so that all environments have as many seeds."""


def compare(runs: Sequence[Run], unreadable: Sequence[Unreadable] = (), frames: float | None = None) -> Comparison:
    """Group runs and score them.

    Args:
        runs: at least one.
        unreadable: passed on.
        frames: at which scores are taken; None takes the most that the runs of each environment have in common.
    """
    labels, shared = label_agents(runs)
    agents = tuple(dict.fromkeys(labels[agent_settings(run.config)] for run in runs))
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.environment, labels[agent_settings(run.config)]), []).append(run)
    doubles: list[Run] = []
    singles = {key: _one_a_seed(group, doubles) for key, group in groups.items()}
    places = []
    for name in dict.fromkeys(run.environment for run in runs):
        here = {agent: singles[name, agent] for agent in agents if (name, agent) in singles}
        at = common_frames([run for group in here.values() for run in group]) if frames is None else frames
        places.append(Environment(name, at, tuple(_entry(agent, name, group, at) for agent, group in here.items())))
    texts = tuple(setting_text(path, value) for path, value in shared.items())
    return Comparison(agents, tuple(places), tuple(unreadable), tuple(doubles), frames is not None, texts)


def label_agents(runs: Sequence[Run]) -> tuple[dict[Any, str], dict[str, Any]]:
    """Return labels by `agent_settings`, and the settings that all agents share and the labels leave out."""
    first = {agent_settings(run.config): run for run in reversed(runs)}
    shared = shared_settings([(run.config, run.preset, run.variant) for run in first.values()])
    return _labels(first, shared), shared


def common_frames(runs: Iterable[Run]) -> float:
    """The most frames that all runs have reached, but for those that got less than half as far as the longest."""
    reached = [run.frames for run in runs]
    return min(frames for frames in reached if frames >= COUNTED_SHARE * max(reached))


def matrix(comparison: Comparison, suite: Suite) -> Matrix | None:
    """Scores over the environments of a suite in which all agents have some; None if there are no such environments.

    In each environment an agent has as many seeds as in the one where it has the fewest: those of the lowest numbers.
    """
    places = [place for place in comparison.environments if _is_comparable(place.name, suite)]
    agents = [a for a in comparison.agents if any(e.agent == a and e.n for place in places for e in place.entries)]
    table = {(e.agent, place.name): e for place in places for e in place.entries if e.n}
    shared = [place.name for place in places if all((agent, place.name) in table for agent in agents)]
    if not shared or not agents:
        return None
    scores, unused = {}, {}
    for agent in agents:
        count = min(table[agent, name].n for name in shared)
        scores[agent] = np.stack([table[agent, name].values[:count] for name in shared], axis=1)
        rest = [(name, seed) for name in shared for seed in list(table[agent, name].scores)[count:]]
        if rest:
            unused[agent] = tuple(rest)
    without = tuple(place.name for place in places if place.name not in shared)
    return Matrix(suite, tuple(shared), scores, without, unused)


def _is_comparable(environment: str, suite: Suite) -> bool:
    found = task(environment)
    return found is not None and found.suite == suite and (suite == "dmc" or game_scores(environment) is not None)


def _labels(first: Mapping[Any, Run], shared: Mapping[str, Any]) -> dict[Any, str]:
    """Label by agent, without what all share; settings are spelt out in full where two would have the same label."""

    def label(run: Run, shown: int | None = SHOWN) -> str:
        return agent_label(run.config, run.preset, run.variant, shown, shared)

    short = {settings: label(run) for settings, run in first.items()}
    counts = Counter(short.values())
    return {settings: text if counts[text] == 1 else label(first[settings], None) for settings, text in short.items()}


def _one_a_seed(runs: Sequence[Run], doubles: list[Run]) -> tuple[Run, ...]:
    """The run of each seed that got farthest; the others are added to `doubles`."""
    best: dict[int, Run] = {}
    for run in runs:
        other = best.get(run.seed)
        if other is None or run.frames > other.frames:
            best[run.seed] = run
    doubles += [run for run in runs if best[run.seed] is not run]
    return tuple(best[seed] for seed in sorted(best))


def _entry(agent: str, name: str, runs: tuple[Run, ...], frames: float) -> Entry:
    counted = tuple(run for run in runs if run.frames >= frames)
    found = {run.seed: score_at(run, frames) for run in counted}
    return Entry(agent, name, runs, counted, {seed: score for seed, score in found.items() if score is not None})
