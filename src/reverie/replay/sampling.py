"""Which windows of stored steps become training sequences: pure functions of a random generator."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Integers = NDArray[np.int64]


def window_start(total: ArrayLike, length: ArrayLike, end_bonus: int, rng: np.random.Generator) -> Integers:
    """Where a window of `length` steps begins in an episode of `total` steps (SPEC 46).

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


def window_in_streams(
    first: Integers, stop: Integers, length: int, count: int, rng: np.random.Generator
) -> tuple[Integers, Integers]:
    """Draw windows uniformly from all that fit into a stream, across the borders of episodes.

    Args:
        first: int64 [S], first stored row of each stream.
        stop: int64 [S], one past the last; at least one stream must hold `length` rows.
        length: steps of every window.
        count: B, windows to draw.
        rng: source of the draws, one integer per window.

    Returns:
        Stream and first row of each window, both [B].
    """
    before = np.concatenate(([0], np.cumsum(np.maximum(stop - first - length + 1, 0))))
    draws = rng.integers(before[-1], size=count)
    streams = np.searchsorted(before, draws, side="right") - 1
    return streams, first[streams] + draws - before[streams]
