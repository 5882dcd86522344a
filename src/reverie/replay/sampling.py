"""Draws windows of stored steps, and reads them as training sequences."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie.config import ReplayConfig
from reverie.replay.index import STEP_BITS, EpisodeIndex, Segment
from reverie.specs import Array, Step

Integers = NDArray[np.int64]
Read = Callable[[int, int], list[bytes]]
"""Returns the bytes of all steps from one id up to another."""


def window_start(total: ArrayLike, length: ArrayLike, end_bonus: int, rng: np.random.Generator) -> Integers:
    """Draw where a window of `length` steps begins in an episode of `total` steps (SPEC 46).

    An integer u is drawn uniformly from 0 .. total - length + end_bonus, and the start is min(u, total - length).
    With n = total - length + end_bonus + 1, each start before the last one has probability 1/n, and the last one,
    whose window contains the episode's end, has probability (1 + end_bonus)/n.

    Args:
        total: steps of the episode, its reset step included; an integer or an array of any shape.
        length: steps of the window, at most `total`; broadcast against `total`.
        end_bonus: extra weight of the last window; the release uses its shortest length, or 0 without priority.
        rng: source of the draw, one integer per entry.

    Returns:
        Starts between 0 and total - length, in the common shape of `total` and `length`.
    """
    last = np.asarray(total, np.int64) - np.asarray(length, np.int64)
    return np.asarray(np.minimum(rng.integers(0, last + 1 + end_bonus), last))


def window_in_envs(
    first: Integers, stop: Integers, length: int, count: int, rng: np.random.Generator
) -> tuple[Integers, Integers]:
    """Draw windows uniformly from all that fit into the steps of an environment, across the borders of episodes.

    Args:
        first: int64 [N], number of each environment's first stored step.
        stop: int64 [N], one past the last; at least one environment must hold `length` steps.
        length: steps of every window.
        count: B, windows to draw.
        rng: source of the draws, one integer per window.

    Returns:
        Environment and number of the first step of each window, both [B].
    """
    before = np.concatenate(([0], np.cumsum(np.maximum(stop - first - length + 1, 0))))
    draws = rng.integers(before[-1], size=count)
    envs = np.searchsorted(before, draws, side="right") - 1
    return envs, first[envs] + draws - before[envs]


def why_not_sampleable(index: EpisodeIndex, config: ReplayConfig, frames_per_step: int) -> str:
    """Say why no sequence can be drawn; empty if one can."""
    length = config.batch_length
    if config.sampling == "steps":
        first, stop = index.spans()
        longest = (stop - first).max(initial=0)
        if longest >= length:
            return ""
        return (
            f"replay.batch_length={length} is longer than what the replay holds of any environment ({longest} steps). "
            "Lower replay.batch_length, or raise training.prefill or replay.capacity."
        )
    if index.eligible:
        return ""
    return why_too_short(index, config, frames_per_step) or (
        f"None of the {index.num_steps} steps in the replay belongs to a finished episode, so no sequence can be "
        "drawn. Raise training.prefill or replay.capacity, or set replay.sampling=steps."
    )


def why_too_short(index: EpisodeIndex, config: ReplayConfig, frames_per_step: int) -> str:
    """Say that all finished episodes are too short to be sampled; empty if one is not, or none has finished."""
    if config.sampling == "steps" or index.eligible or not index.finished:
        return ""
    longest = max(episode.num_steps for episode in index.finished)
    frames = ""
    if frames_per_step > 1:
        frames = f" ({(longest - 1) * frames_per_step} frames at env.action_repeat={frames_per_step})"
    return (
        f"replay.batch_length={config.batch_length} is too long for all of the {len(index.finished)} finished episodes:"
        f" one of at least {config.batch_length + 1} steps is needed, and the longest has {longest}{frames}. "
        "Lower replay.batch_length, or set replay.sampling=steps."
    )


def draw_windows(index: EpisodeIndex, config: ReplayConfig, rng: np.random.Generator) -> list[list[Segment]]:
    """Draw the windows of a batch, B lists of segments; at least one window must fit."""
    length, batch = config.batch_length, config.batch_size
    if config.sampling == "steps":
        return draw_across_episodes(index, length, batch, rng)
    episodes = [index.eligible[number] for number in rng.integers(len(index.eligible), size=batch).tolist()]
    totals = np.array([episode.num_steps for episode in episodes], np.int64)
    starts = window_start(totals, length, length if config.prioritize_ends else 0, rng).tolist()
    starts = [episode.start + start for episode, start in zip(episodes, starts, strict=True)]
    return [[Segment(each, start, start + length)] for each, start in zip(episodes, starts, strict=True)]


def draw_across_episodes(index: EpisodeIndex, length: int, count: int, rng: np.random.Generator) -> list[list[Segment]]:
    """Draw windows of consecutive steps of one environment, uniformly; at least one must fit."""
    places = zip(*window_in_envs(*index.spans(), length, count, rng), strict=True)
    return [index.segments(int(env), int(first), length) for env, first in places]


def read_segments(read: Read, dtype: np.dtype[np.void], segments: Sequence[Segment]) -> Array:
    """Read consecutive steps of one environment, a structured array [T].

    The last step of a finished episode is marked `is_last`, which it does not say itself where the episode was
    truncated afterwards. The first step of each segment but the first is marked `is_first`: those before it may have
    been evicted.
    """
    return _read(read, dtype, [segments])[0]


def read_windows(
    read: Read, dtype: np.dtype[np.void], windows: Sequence[Sequence[Segment]], out: Step | None = None
) -> Step:
    """Read windows of equal length as arrays [T, B, …] by key; the first step of each is marked `is_first`.

    Args:
        read: returns the bytes of steps.
        dtype: of one step.
        windows: B lists of segments.
        out: arrays to fill instead of new ones.
    """
    found = _read(read, dtype, windows).swapaxes(0, 1)
    assert dtype.names is not None
    if out is None:
        out = {key: np.empty_like(found[key], order="C") for key in dtype.names}
    for key in dtype.names:
        np.copyto(out[key], found[key], casting="no")
    out["is_first"][0] = True
    return out


def _read(read: Read, dtype: np.dtype[np.void], windows: Sequence[Sequence[Segment]]) -> Array:
    rows: list[bytes] = []
    first, last = [], []
    for segments in windows:
        for number, (episode, start, stop) in enumerate(segments):
            if number:
                first.append(len(rows))
            rows += read(*((episode.id << STEP_BITS) + t for t in (start, stop)))
            if episode.finished is not None and stop == episode.length:
                last.append(len(rows) - 1)
    steps = np.frombuffer(bytearray().join(rows), dtype)
    steps["is_first"][first] = True
    steps["is_last"][last] = True
    return steps.reshape(len(windows), -1)
