"""Golden file 15: which windows the release draws (SPEC 45, 46), and that ours follow the same law.

The random generators differ, so nothing is compared draw by draw. Both the release's draws and ours are tested
against exact probabilities that are computed here by enumeration.
"""

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from reverie.config import ReplayConfig
from reverie.replay import ReplayBuffer, window_start
from reverie.specs import STEP_KEYS, ArraySpec
from tests.parity.compare import LoadGolden

P_VALUE = 1e-6
MIN_LENGTH, MAX_LENGTH = {"min5max10": 5, "eq6": 6, "nomax": 5}, {"min5max10": 10, "eq6": 6, "nomax": 10**6}
CASES = [f"{lengths}_{ends}" for lengths, ends in product(MIN_LENGTH, ("ends", "noends"))]

Law = NDArray[np.float64]


def settings(case: str) -> tuple[int, int, int]:
    """Least and greatest window length of a case, and the extra weight of an episode's last window."""
    lengths, ends = case.split("_")
    return MIN_LENGTH[lengths], MAX_LENGTH[lengths], MIN_LENGTH[lengths] if ends == "ends" else 0


def episode_totals(golden: LoadGolden) -> list[int]:
    """Steps of the episodes: with windows of 6, the last start that occurs is 6 steps before the end."""
    histogram = golden("15_replay")["eq6_ends/start_histogram"]
    return [int(np.flatnonzero(starts)[-1]) + 6 for starts in histogram]


def length_law(total: int, low: int, high: int) -> dict[int, float]:
    """Probability of each window length: min(total, high) - randint(low), at least low."""
    law: dict[int, float] = {}
    for shorter in range(low):
        length = max(min(total, high) - shorter, low)
        law[length] = law.get(length, 0) + 1 / low
    return law


def start_law(total: int, length: int, end_bonus: int, bins: int) -> Law:
    """Probability of each start, by going through all outcomes of the one integer that is drawn."""
    law = np.zeros(bins)
    outcomes = total - length + 1 + end_bonus
    for draw in range(outcomes):
        law[min(draw, total - length)] += 1 / outcomes
    return law


def joint_law(totals: list[int], case: str, bins: int) -> Law:
    """Probability of (episode, start), [E, bins]."""
    low, high, end_bonus = settings(case)
    return np.array(
        [
            sum(p * start_law(total, length, end_bonus, bins) for length, p in length_law(total, low, high).items())
            for total in totals
        ]
    ) / len(totals)


def assert_follows(histogram: NDArray[np.integer], law: Law) -> None:
    """No impossible outcome, and the others as often as they should be."""
    possible = law > 0
    assert histogram.shape == law.shape
    assert not histogram[~possible].any()
    assert stats.chisquare(histogram[possible], histogram.sum() * law[possible]).pvalue > P_VALUE


def our_starts(totals: list[int], case: str, count: int, bins: int, seed: int) -> NDArray[np.int64]:
    """Histogram like the release's, with our `window_start` for the lengths that the release draws."""
    low, high, end_bonus = settings(case)
    rng = np.random.default_rng(seed)
    episodes = rng.integers(len(totals), size=count)
    total = np.array(totals)[episodes]
    length = np.maximum(np.minimum(total, high) - rng.integers(low, size=count), low)
    histogram = np.zeros((len(totals), bins), np.int64)
    np.add.at(histogram, (episodes, window_start(total, length, end_bonus, rng)), 1)
    return histogram


@pytest.mark.parametrize("case", CASES)
def test_starts_of_the_release_and_ours_follow_one_law(golden: LoadGolden, case: str) -> None:
    official = golden("15_replay")[f"{case}/start_histogram"]
    totals, bins = episode_totals(golden), official.shape[1]
    law = joint_law(totals, case, bins)
    assert law.sum() == pytest.approx(1)
    assert_follows(official, law)
    ours = our_starts(totals, case, int(official.sum()), bins, seed=CASES.index(case))
    assert_follows(ours, law)
    possible = law > 0
    assert stats.chi2_contingency(np.stack([official[possible], ours[possible]])).pvalue > P_VALUE


@pytest.mark.parametrize("case", CASES)
def test_single_draws_of_the_release_are_possible_ones(golden: LoadGolden, case: str) -> None:
    """Each is (episode, start, length); episodes are uniform, starts given the length as in `window_start`."""
    draws = golden("15_replay")[f"{case}/draws"]
    totals, (low, high, end_bonus) = episode_totals(golden), settings(case)
    assert stats.chisquare(np.bincount(draws[:, 0], minlength=len(totals))).pvalue > P_VALUE
    at_end, expected, variance = 0, 0.0, 0.0
    for episode, start, length in draws.tolist():
        total = totals[episode]
        assert length in length_law(total, low, high)
        assert 0 <= start <= total - length
        at_end += start == total - length
        probability = (1 + end_bonus) / (total - length + 1 + end_bonus)
        expected, variance = expected + probability, variance + probability * (1 - probability)
    if variance:
        assert 2 * stats.norm.sf(abs(at_end - expected) / variance**0.5) > P_VALUE


def test_atari_windows_favour_the_end(golden: LoadGolden) -> None:
    """One episode of 201 steps: the last start has probability 51/202, each other one 1/202."""
    histogram = golden("15_replay")["atari50/start_histogram"]
    total = len(histogram)
    law = start_law(total, 50, 50, total)
    assert law[total - 50] == pytest.approx(51 / (total + 1))
    assert_follows(histogram, law)
    starts = window_start(np.full(int(histogram.sum()), total), 50, 50, np.random.default_rng(0))
    assert_follows(np.bincount(starts, minlength=total), law)


@pytest.fixture
def filled(tmp_path: Path, golden: LoadGolden) -> Callable[[ReplayConfig, list[int]], ReplayBuffer]:
    """A replay with episodes of given lengths, whose rewards are 1000 * episode + index as in the release's test."""

    def fill(config: ReplayConfig, totals: list[int]) -> ReplayBuffer:
        replay = ReplayBuffer(tmp_path / "replay.db", {"action": ArraySpec((1,), "float32"), **STEP_KEYS}, config, 1)
        for episode, total in enumerate(totals):
            for index in range(total):
                replay.add(
                    {
                        "action": np.zeros((1, 1), np.float32),
                        "reward": np.array([1000 * episode + index], np.float32),
                        "is_first": np.array([index == 0]),
                        "is_last": np.array([index == total - 1]),
                        "is_terminal": np.array([index == total - 1]),
                    }
                )
        return replay

    return fill


@pytest.mark.parametrize("case", ["eq6_ends", "eq6_noends"])
def test_the_replay_draws_as_the_release(
    golden: LoadGolden, filled: Callable[[ReplayConfig, list[int]], ReplayBuffer], case: str
) -> None:
    official, totals = golden("15_replay")[f"{case}/start_histogram"], episode_totals(golden)
    config = ReplayConfig(batch_size=6000, batch_length=6, prioritize_ends=case.endswith("_ends"))
    replay, rng = filled(config, totals), np.random.default_rng(CASES.index(case))
    histogram = np.zeros_like(official)
    for _ in range(5):
        batch = replay.sample(rng)
        assert (np.diff(batch["reward"], axis=0) == 1).all()
        assert batch["is_first"][0].all() and not batch["is_first"][1:].any()
        episodes, starts = np.divmod(batch["reward"][0].astype(int), 1000)
        np.add.at(histogram, (episodes, starts), 1)
    law = joint_law(totals, case, official.shape[1])
    assert_follows(histogram, law)
    assert stats.chi2_contingency(np.stack([official[law > 0], histogram[law > 0]])).pvalue > P_VALUE


def test_the_replay_favours_the_end_as_on_atari(
    golden: LoadGolden, filled: Callable[[ReplayConfig, list[int]], ReplayBuffer]
) -> None:
    histogram = golden("15_replay")["atari50/start_histogram"]
    total = len(histogram)
    # An episode of 50 steps besides, its reset step included, is never drawn (SPEC 45).
    replay = filled(ReplayConfig(batch_size=10_000, batch_length=50), [total, 50])
    starts = replay.sample(np.random.default_rng(0))["reward"][0].astype(int)
    assert_follows(np.bincount(starts, minlength=total), start_law(total, 50, 50, total))


def test_a_wrong_law_is_noticed(golden: LoadGolden) -> None:
    """The comparison itself can fail: without the priority of ends, or with the end one step off."""
    histogram = golden("15_replay")["eq6_ends/start_histogram"]
    totals, bins = episode_totals(golden), histogram.shape[1]
    with pytest.raises(AssertionError):
        assert_follows(histogram, joint_law(totals, "eq6_noends", bins))
    off_by_one = np.array([start_law(total, 6, 5, bins) for total in totals]) / len(totals)
    with pytest.raises(AssertionError):
        assert_follows(histogram, off_by_one)


def test_every_array_of_the_file_is_known(golden: LoadGolden) -> None:
    """Chunks are concatenations of windows of several lengths, which we do not build (SPEC 47)."""
    known = re.compile(r"\w+/(draws|start_histogram|chunks_action|chunks_is_first)")
    assert all(known.fullmatch(name) for name in golden("15_replay"))
