"""The laws by which windows are drawn, against their closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reverie.replay import window_start
from reverie.replay.sampling import window_in_envs

P_VALUE = 1e-6


@pytest.mark.parametrize(
    ("total", "length", "end_bonus"), [(13, 6, 0), (13, 6, 6), (7, 6, 6), (201, 50, 50), (9, 9, 4)]
)
def test_starts_follow_the_closed_form(total: int, length: int, end_bonus: int) -> None:
    count = 100_000
    starts = window_start(np.full(count, total), length, end_bonus, np.random.default_rng(0))
    weights = np.ones(total - length + 1)
    weights[-1] += end_bonus
    observed = np.bincount(starts, minlength=len(weights))
    assert observed.sum() == count and len(observed) == len(weights)
    if len(weights) > 1:
        assert stats.chisquare(observed, count * weights / weights.sum()).pvalue > P_VALUE


def test_the_end_bonus_is_noticed() -> None:
    starts = window_start(np.full(10_000, 60), 50, 50, np.random.default_rng(0))
    uniform = np.full(11, 10_000 / 11)
    assert stats.chisquare(np.bincount(starts, minlength=11), uniform).pvalue < P_VALUE


def test_a_single_integer_gives_a_single_start() -> None:
    assert window_start(10, 10, 10, np.random.default_rng(0)).shape == ()


@given(
    spans=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=4),
    length=st.integers(2, 5),
    seed=st.integers(0, 5),
)
def test_windows_in_envs_are_all_those_that_fit(spans: list[tuple[int, int]], length: int, seed: int) -> None:
    first = np.array([begin for begin, _ in spans])
    stop = first + [steps for _, steps in spans]
    allowed = {(s, row) for s in range(len(spans)) for row in range(first[s], stop[s]) if row + length <= stop[s]}
    if not allowed:
        return
    assert (
        set(window_in_envs(first, stop, length, 400, np.random.default_rng(seed))) == allowed
    )  # At most 28 windows: each is missed with probability (27/28)**400 = 5e-7.


def test_windows_in_envs_are_uniform() -> None:
    first, stop = np.array([5, 0, 100]), np.array([15, 3, 120])
    streams, rows = np.array(window_in_envs(first, stop, 4, 24_000, np.random.default_rng(0))).T
    observed = [np.sum((streams == s) & (rows == row)) for s, row in [(0, r) for r in range(5, 12)]]
    observed += [np.sum((streams == 2) & (rows == row)) for row in range(100, 117)]
    assert sum(observed) == 24_000
    assert stats.chisquare(observed).pvalue > P_VALUE
