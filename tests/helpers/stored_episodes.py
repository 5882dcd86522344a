"""Stored episodes of failing environments, checked row by row."""

from pathlib import Path
from typing import Any

import numpy as np

from reverie.replay import ReplayReader


def check_stored(folder: Path, env: Any) -> int:
    """Check that each stored episode shows one environment from its reset; return the number of those cut short."""
    early = 0
    with ReplayReader(folder, env.spec.step) as reader:
        for stream, (first, stop) in enumerate(reader._limits.tolist()):
            rows = reader._read(np.array([stream]), np.array([first]), stop - first)
            observed = rows["vector"][:, 0]
            begins = np.flatnonzero(rows["is_first"][:, 0])
            assert begins[0] == 0
            for begin, end in zip(begins, [*begins[1:], stop - first], strict=True):
                episode = observed[begin:end]
                assert (episode[:, 0] == np.arange(len(episode))).all() and len(np.unique(episode[:, 1])) == 1
                flags = rows["is_last"][begin:end, 0], rows["is_terminal"][begin:end, 0]
                assert not flags[0][:-1].any() and not flags[1][:-1].any()
                whole = len(episode) == 21
                assert flags[1][-1] == whole
                if end < stop - first:
                    assert flags[0][-1]
                    early += not whole
    return early
