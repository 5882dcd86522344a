"""Draws windows of stored steps, and reads them as training sequences."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from reverie.config import ReplayConfig
from reverie.replay.index import EpisodeIndex, Integers, Segment
from reverie.specs import Array, Step

Read = Callable[[int, int, int], list[bytes]]
"""Returns the bytes of steps of an episode, by its id, the first step and one past the last."""


def window_start(total: ArrayLike, length: ArrayLike, end_bonus: int, rng: np.random.Generator) -> Integers:
    """Draw where a window of `length` steps begins in an episode of `total` steps, the reset step included (SPEC 46).

    An integer u is drawn uniformly from 0 .. total - length + end_bonus, and the start is min(u, total - length).
    With n = total - length + end_bonus + 1, each start before the last one has probability 1/n, and the last one,
    whose window contains the episode's end, has probability (1 + end_bonus)/n. The release uses its shortest length
    as `end_bonus`, or 0 without priority. `total` and `length` may be arrays.
    """
    last = np.asarray(total, np.int64) - np.asarray(length, np.int64)
    return np.asarray(np.minimum(rng.integers(0, last + 1 + end_bonus), last))


def window_in_envs(
    first: Integers, stop: Integers, length: int, count: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Draw `count` windows uniformly from all that fit into the steps of an environment, across episode borders.

    Each environment holds its steps `first` to `stop` - 1, int64 [N]; at least one must hold `length` of them. Returns
    environment and number of the first step of each window.
    """
    before = np.concatenate(([0], np.cumsum(np.maximum(stop - first - length + 1, 0))))
    draws = rng.integers(before[-1], size=count)
    envs = np.searchsorted(before, draws, side="right") - 1
    return list(zip(envs.tolist(), (first[envs] + draws - before[envs]).tolist(), strict=True))


def draw_windows(index: EpisodeIndex, config: ReplayConfig, rng: np.random.Generator) -> list[list[Segment]]:
    """Draw the windows of a batch, B lists of segments; at least one window must fit."""
    length, count = config.batch_length, config.batch_size
    if config.sampling == "steps":
        places = window_in_envs(*index.spans(), length, count, rng)
        return [index.segments(env, first, length) for env, first in places]
    episodes = [index.eligible[number] for number in rng.integers(len(index.eligible), size=count).tolist()]
    totals = np.array([episode.length for episode in episodes], np.int64)
    starts = window_start(totals, length, length if config.prioritize_ends else 0, rng).tolist()
    return [[(each, start, start + length)] for each, start in zip(episodes, starts, strict=True)]


def read_steps(read: Read, dtype: np.dtype[np.void], segments: Sequence[Segment]) -> Array:
    """Read steps as a structured array; the last one of a finished episode is marked `is_last`."""
    steps = np.empty(sum(stop - start for _, start, stop in segments), dtype)
    rows, number = steps.view(np.uint8).data, 0
    for episode, start, stop in segments:
        for row in read(episode.id, start, stop):
            rows[number * dtype.itemsize : (number + 1) * dtype.itemsize] = row
            number += 1
        if episode.finished is not None and stop == episode.length:
            steps["is_last"][number - 1] = True  # It does not say so itself where it was truncated afterwards.
    return steps


def read_windows(
    read: Read, dtype: np.dtype[np.void], windows: Sequence[Sequence[Segment]], out: Step | None = None
) -> Step:
    """Read B windows of T steps as arrays [T, B, …] by key; the first step of each is marked `is_first`."""
    for number, segments in enumerate(windows):
        steps = read_steps(read, dtype, segments)
        fields = {key: steps[key] for key in dtype.names or ()}
        if out is None:
            shape = len(steps), len(windows)
            out = {key: np.empty((*shape, *field.shape[1:]), field.dtype) for key, field in fields.items()}
        for key, field in fields.items():
            np.copyto(out[key][:, number], field, casting="no")
    assert out is not None  # there is at least one window
    out["is_first"][0] = True
    return out
