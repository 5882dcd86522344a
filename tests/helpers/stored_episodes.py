"""Stored episodes of failing environments, checked row by row."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from reverie.replay import ReplayReader


def check_stored(path: Path, env: Any) -> int:
    """Check that each stored episode shows one environment from its reset; return the number of those cut short."""
    early = 0
    with ReplayReader(path, env.spec.step) as reader:
        episodes = reader.episodes()
        for episode in episodes:
            parts = list(reader.steps(episode))
            rows = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            steps, made = rows["vector"].T
            assert (steps == np.arange(episode.length)).all() and len(np.unique(made)) == 1
            assert rows["is_first"].tolist() == [True] + [False] * (episode.length - 1)
            is_whole = episode.length == 21
            assert not rows["is_last"][:-1].any() and not rows["is_terminal"][:-1].any()
            assert rows["is_terminal"][-1] == is_whole
            if episode.finished is not None:
                assert rows["is_last"][-1]
                early += not is_whole
        for one, other in pairwise(episodes):
            assert one.env != other.env or one.finished is not None
    return early
