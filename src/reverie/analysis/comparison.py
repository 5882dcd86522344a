"""Runs grouped into agents and environments, and scored where they can be compared: at common frames.

In an environment all scores are taken at the same number of frames F, the least that every counted run has reached. A
run that reached less than half of what the longest one there did would shorten the comparison too much: it is not
counted, and a note says so. With frames that the user names, the runs that reached these are counted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie.analysis.labels import SHOWN, agent_label, agent_settings, setting_text, shared_settings
from reverie.analysis.published import Suite, game_scores, task
from reverie.analysis.runs import Run, Score, Unreadable, score_at

Floats = NDArray[np.float64]

COUNTED_SHARE = 0.5  # share of the longest run's frames below which a run does not take part


@dataclass(frozen=True)
class Entry:
    """One agent in one environment."""

    agent: str
    environment: str
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
        return float(self.values.mean()) if self.n else float("nan")

    @property
    def std(self) -> float:
        """Sample standard deviation over seeds (divided by n - 1); nan for fewer than two."""
        return float(self.values.std(ddof=1)) if self.n > 1 else float("nan")


class Environment(NamedTuple):
    """All agents in one environment, with scores at the same frames."""

    name: str
    frames: float
    entries: tuple[Entry, ...]

    @property
    def runs(self) -> list[Run]:
        """Runs of all agents, without doubles."""
        return [run for entry in self.entries for run in entry.runs]


@dataclass(frozen=True)
class Comparison:
    """The subject of a report."""

    agents: tuple[str, ...]  # labels, in the order of the first run of each
    environments: tuple[Environment, ...]
    unreadable: tuple[Unreadable, ...]
    doubles: tuple[Run, ...]  # runs of a seed of which another run of the same agent and environment got farther
    has_given_frames: bool
    shared: tuple[str, ...] = ()  # settings of all agents, unless their variant says otherwise; labels omit them

    @property
    def entries(self) -> list[Entry]:
        """Entries of all environments."""
        return [entry for place in self.environments for entry in place.entries]

    @property
    def runs(self) -> list[Run]:
        """All that were read, without doubles."""
        return [run for place in self.environments for run in place.runs]


class Matrix(NamedTuple):
    """Scores of several agents over the same environments, each agent with as many seeds in each of them."""

    suite: Suite
    environments: tuple[str, ...]
    scores: Mapping[str, Floats]  # by agent: raw scores, [seeds, environments]
    without: tuple[str, ...]  # environments of the suite in which some agent has no score
    unused: Mapping[str, tuple[tuple[str, int], ...]]  # by agent: environment and seed of scores that are left out


def compare(runs: Sequence[Run], unreadable: Sequence[Unreadable] = (), frames: float | None = None) -> Comparison:
    """Group runs and score them at some frames; None takes the most that the runs of an environment have in common."""
    labels, shared = label_agents(runs)
    groups: dict[str, dict[str, dict[int, Run]]] = {run.environment: {} for run in runs}
    for run in runs:
        seeds = groups[run.environment].setdefault(labels[agent_settings(run.config)], {})
        if run.seed not in seeds or run.frames > seeds[run.seed].frames:
            seeds[run.seed] = run
    agents = tuple(dict.fromkeys(labels[agent_settings(run.config)] for run in runs))
    places = []
    for name, here in groups.items():
        at = frames or common_frames([run for seeds in here.values() for run in seeds.values()])
        places.append(
            Environment(name, at, tuple(_entry(agent, name, here[agent], at) for agent in agents if agent in here))
        )
    kept = {id(run) for place in places for run in place.runs}
    doubles = tuple(run for run in runs if id(run) not in kept)
    texts = tuple(setting_text(path, value) for path, value in shared.items())
    return Comparison(agents, tuple(places), tuple(unreadable), doubles, frames is not None, texts)


def _entry(agent: str, name: str, seeds: Mapping[int, Run], frames: float) -> Entry:
    runs = tuple(seeds[seed] for seed in sorted(seeds))
    counted = tuple(run for run in runs if run.frames >= frames)
    return Entry(agent, name, runs, counted, {run.seed: score for run in counted if (score := score_at(run, frames))})


def label_agents(runs: Sequence[Run]) -> tuple[dict[Any, str], dict[str, Any]]:
    """Return labels by `agent_settings`, and the settings that all agents share and the labels leave out.

    Settings are spelt out in full where two agents would have the same label.
    """
    first = {agent_settings(run.config): run for run in reversed(runs)}
    shared = shared_settings([(run.config, run.preset, run.variant) for run in first.values()])

    def label(run: Run, shown: int | None) -> str:
        return agent_label(run.config, run.preset, run.variant, shown, shared)

    short = {settings: label(run, SHOWN) for settings, run in first.items()}
    counts = Counter(short.values())
    return {one: text if counts[text] == 1 else label(first[one], None) for one, text in short.items()}, shared


def common_frames(runs: Sequence[Run]) -> float:
    """Return the most frames that all runs have reached, except those that got less than half as far as the longest."""
    reached = [run.frames for run in runs]
    return min(frames for frames in reached if frames >= COUNTED_SHARE * max(reached))


def matrix(comparison: Comparison, suite: Suite) -> Matrix | None:
    """Return scores over the environments of a suite in which all agents have some; None if there are none.

    In each environment an agent has as many seeds as in the one where it has the fewest: those of the lowest numbers.
    """
    names = [place.name for place in comparison.environments if _is_comparable(place.name, suite)]
    table = {(entry.agent, entry.environment): entry for entry in comparison.entries if entry.n}
    agents = [agent for agent in comparison.agents if any((agent, name) in table for name in names)]
    shared = [name for name in names if all((agent, name) in table for agent in agents)]
    if not shared:
        return None
    scores, unused = {}, {}
    for agent in agents:
        count = min(table[agent, name].n for name in shared)
        scores[agent] = np.stack([table[agent, name].values[:count] for name in shared], axis=1)
        if rest := tuple((name, seed) for name in shared for seed in list(table[agent, name].scores)[count:]):
            unused[agent] = rest
    return Matrix(suite, tuple(shared), scores, tuple(name for name in names if name not in shared), unused)


def _is_comparable(environment: str, suite: Suite) -> bool:
    found = task(environment)
    return found is not None and found.suite == suite and (suite == "dmc" or game_scores(environment) is not None)
