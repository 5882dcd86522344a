"""Numbers that show what a recording holds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reverie.data.episodes import Episode, Recording
from reverie.specs import Array

NUM_BINS = 10


@dataclass
class Statistics:
    """Mean, standard deviation and range of some numbers."""

    mean: float
    std: float
    min: float
    max: float

    @classmethod
    def of(cls, values: list[float]) -> "Statistics":
        """Return those of at least one number."""
        return cls(*(float(function(values)) for function in (np.mean, np.std, np.min, np.max)))


@dataclass
class Summary:
    """Contents of a recording. Steps are actions; the first row of an episode follows none."""

    episodes: int
    steps: int
    terminal: int
    """Episodes that the task ended; the others were cut short."""
    returns: Statistics
    lengths: Statistics
    """Steps of the episodes."""
    observations: dict[str, dict[str, Any]]
    """Shape, dtype and range by key."""
    action: dict[str, Any]
    """Kind and sizes, and the histogram of each categorical, or of each dimension in 10 bins from -1 to 1."""
    episode_returns: list[float] = field(default_factory=list)
    episode_lengths: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def summarize(recording: Recording, show: Callable[[int, Episode], None] | None = None) -> Summary | None:
    """Read a whole recording once; None if it has no episode.

    Args:
        recording: the episodes.
        show: called with the number of each episode and the episode, for example to draw it.
    """
    spec = recording.spec
    returns: list[float] = []
    lengths: list[int] = []
    terminal = 0
    ranges = {key: (np.inf, -np.inf) for key in spec.observations}
    histogram = [np.zeros(size, np.int64) for size in _bins(recording)]
    for number, episode in enumerate(recording):
        returns.append(float(episode["reward"].sum(dtype=np.float64)))
        lengths.append(len(episode["action"]) - 1)
        terminal += bool(episode["is_terminal"][-1])
        for key, (low, high) in ranges.items():
            ranges[key] = min(low, float(episode[key].min())), max(high, float(episode[key].max()))
        for total, counts in zip(histogram, _count(episode, recording), strict=True):
            total += counts
        if show is not None:
            show(number, episode)
    if not returns:
        return None
    return Summary(
        episodes=len(returns),
        steps=sum(lengths),
        terminal=terminal,
        returns=Statistics.of(returns),
        lengths=Statistics.of([float(each) for each in lengths]),
        observations={
            key: {"shape": list(entry.shape), "dtype": entry.dtype, "min": ranges[key][0], "max": ranges[key][1]}
            for key, entry in spec.observations.items()
        },
        action={
            "kind": spec.action.kind,
            "sizes": list(spec.action.sizes),
            "histogram": [counts.tolist() for counts in histogram],
        },
        episode_returns=returns,
        episode_lengths=lengths,
        notes=recording.notes,
    )


def _bins(recording: Recording) -> list[int]:
    action = recording.spec.action
    return list(action.sizes) if action.kind == "discrete" else [NUM_BINS] * action.size


def _count(episode: Episode, recording: Recording) -> list[Array]:
    """Count the actions of an episode: of each categorical by class, of each dimension by bin."""
    action, taken = recording.spec.action, episode["action"][1:]
    if action.kind == "discrete":
        return [part.sum(0).round().astype(np.int64) for part in np.split(taken, np.cumsum(action.sizes)[:-1], 1)]
    return [np.histogram(column.clip(-1, 1), NUM_BINS, (-1, 1))[0] for column in taken.T]
